//! What identities are described by: claims of tokens, permissions, and conditions on who asks for what.

pub mod claim;
pub mod expression;
pub mod permission;
