//! `gateway run`, the main process: it keeps the listening sockets, starts guard, proxy and observer, and starts again
//! what dies.
//!
//! *Invariant:* it reads commands of one fixed length, from the guard alone: no configuration, no content of a file, nothing
//! from the network. What it keeps for the guard it never looks into. It runs only programs that it has opened and judged
//! itself, and only the guard as root. It has next to nothing to die of.

mod children;
mod event_loop;
mod guard;
mod programs;
mod sockets;

pub use event_loop::main;
