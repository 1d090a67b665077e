//! Validation: whether a request is what its route accepts, and whether it carries an attack.

pub mod coding;
pub mod form_rules;
pub mod graphql;
pub mod media_type;
pub mod openapi;
pub mod route_rules;
pub mod schema;
pub mod waf;

mod body;
mod parameter;

#[cfg(any(test, fuzzing))]
#[path = "validate/tests/reading.rs"]
pub mod reading;
