//! Decides whether a body is what its route takes.
