//! Validation of request bodies: whether a body is what its route accepts.

pub mod media_type;
pub mod schema;
