//! What tests ask of an answer.

use serde_json::Value;

use super::Response;

impl Response {
    /// The first value of a header, named in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str())
    }

    /// The request's id in the logs.
    ///
    /// # Panics
    /// If the answer has none: every answer must.
    #[must_use]
    #[track_caller]
    pub fn id(&self) -> String {
        self.header("x-request-id").expect("every answer carries x-request-id").to_owned()
    }

    /// The content as JSON.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// The content as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
