//! Memory that is used again: the buffers of a worker, and slots with stable numbers.

pub(super) mod buffer_pool;
pub(super) mod slab;
