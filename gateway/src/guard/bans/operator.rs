//! What operators ask for: blocks, allowances, confirmations, promotions, and the program in or out of the kernel.

pub(super) mod allow;
pub(super) mod block;
pub(super) mod block_request;
pub(super) mod confirm;
pub(super) mod detach;
pub(super) mod promote;
pub(super) mod would_refuse;
