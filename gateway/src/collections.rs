//! Collections that others lack: a table of fixed capacity, a value that is replaced as a whole.

pub mod bounded;
pub(crate) mod mix;
pub mod swap;
