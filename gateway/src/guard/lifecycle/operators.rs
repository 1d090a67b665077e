//! Commands of operators in the guard's loop: who may give them, how many are recorded, and those that others answer.

pub(in crate::guard::lifecycle) mod admin_tokens;
pub(in crate::guard::lifecycle) mod alerts;
pub(in crate::guard::lifecycle) mod authorize;
pub(in crate::guard::lifecycle) mod denials;
pub(in crate::guard::lifecycle) mod limits;
pub(in crate::guard::lifecycle) mod pace;
