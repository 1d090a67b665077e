//! Reads where a packet comes from and goes to.
