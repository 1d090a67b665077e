//! Reads the names of fields and of headers that a line may have.

use http::HeaderName;

use crate::{
    config::value::closest,
    diagnostic::Diagnostic,
    settings::access_log::{Field, SECRET_HEADERS},
};

/// The field of this name.
pub(super) fn field(name: &str) -> Result<Field, Diagnostic> {
    let names = || Field::ALL.into_iter().map(|(name, _, _)| name);
    Field::named(name).ok_or_else(|| {
        let wrong = Diagnostic::bare(format!("{name:?} is not a field"));
        match closest(name, names()) {
            Some(near) => wrong.hint(format!("did you mean {near:?}?")),
            None => wrong.hint(format!("write one of: {}", names().collect::<Vec<_>>().join(", "))),
        }
    })
}

/// A header that a line may have.
pub(super) fn header(name: &HeaderName) -> Result<(), Diagnostic> {
    if SECRET_HEADERS.contains(&name.as_str()) {
        let wrong = Diagnostic::bare(format!("{name} holds secrets, and is never logged"));
        return Err(wrong.hint("leave it out; `principal` says who the client is"));
    }
    Ok(())
}
