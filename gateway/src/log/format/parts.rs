//! Place lines are put together from: members of a JSON object, parts of a text, and the headers that they say.

use http::HeaderName;

use super::placeholder::Placeholder;

/// A member of a JSON object.
pub(super) struct JsonMember {
    /// Up to its value, the quotation mark of a string included.
    pub(super) begins: Box<str>,
    pub(super) place: Placeholder,
    pub(super) is_text: bool,
}

/// A part of a line of text.
pub(super) enum TextPart {
    Text(Box<str>),
    /// It stands between quotation marks, so it may have spaces.
    Quoted(Placeholder),
    Plain(Placeholder),
}

/// The headers that are noted, and where.
#[derive(Default)]
pub(super) struct LoggedHeaders {
    pub(super) request: Vec<HeaderName>,
    pub(super) response: Vec<HeaderName>,
}

impl LoggedHeaders {
    pub(super) fn of_request(&mut self, name: &HeaderName) -> Placeholder {
        Placeholder::RequestHeader(place(&mut self.request, name))
    }

    pub(super) fn of_response(&mut self, name: &HeaderName) -> Placeholder {
        Placeholder::ResponseHeader(place(&mut self.response, name))
    }
}

fn place(names: &mut Vec<HeaderName>, name: &HeaderName) -> usize {
    names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.clone());
        names.len() - 1
    })
}

impl JsonMember {
    pub(super) fn new(name: &str, place: Placeholder) -> Self {
        let is_text = place.is_text();
        let begins = format!(",\"{name}\":{}", if is_text { "\"" } else { "" });
        Self { begins: begins.into(), place, is_text }
    }
}
