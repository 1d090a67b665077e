//! What the kernel program and the daemon agree on, and nothing else.
//!
//! *Invariant:* no dependency, no allocation, no clock: every function here runs in the kernel and on the host alike.
#![no_std]

pub mod limit;
pub mod maps;
pub mod packet;
pub mod presence;
pub mod sketch;
pub mod source;
pub mod trace;
pub mod verdict;
