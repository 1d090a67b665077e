//! The access log: what a line says, which requests get one, and how lines get out of the process.

pub mod access;
pub mod drops;
pub mod line;
pub mod rotated;
pub mod sink;
pub mod text;

mod format;
mod output;
mod redact;
