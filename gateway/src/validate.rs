//! Decides whether a body is what its route takes.

pub mod media_type;
pub mod schema;
