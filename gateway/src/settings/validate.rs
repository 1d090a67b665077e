//! `[validate]` and `[api.NAME]`: how requests are checked, and by which documents.

use serde_json::Value;

use super::auth::Method;
use crate::{os::file::NamedFile, refusal::violation::RequestPart};

/// What becomes of a `format` that nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Formats {
    /// It says something to readers, and nothing is checked.
    #[default]
    Annotate,
    /// The schema is refused.
    Strict,
}

/// How much a client is told of why its request is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Details {
    /// Where, and what is expected there.
    #[default]
    All,
    /// That it is refused.
    None,
    /// Where.
    Places,
}

/// What becomes of bodies with a `Content-Encoding`. `route.content_encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentEncoding {
    /// They are decoded, and the upstream gets them decoded.
    Decode,
    /// They are decoded to be judged, and the upstream gets them as they came.
    Inspect,
    /// They are refused.
    Refuse,
}

impl ContentEncoding {
    /// The name in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Inspect => "inspect",
            Self::Refuse => "refuse",
        }
    }
}

/// What a parameter of a route's requests must be. `route.query.NAME` and its like.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterRule {
    /// Where it is.
    pub part: RequestPart,
    /// Its name.
    pub name: String,
    /// Whether it must be there.
    pub required: bool,
    /// What it must be, as JSON Schema.
    pub schema: Value,
}

/// What requests of a route may not have unless it is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusesUnknown {
    /// Cookies that `route.cookie` does not name. `route.unknown_cookies`.
    pub cookies: bool,
    /// Headers that are neither usual nor named. `route.unknown_headers`.
    pub headers: bool,
    /// Parameters that `route.query` does not name. `route.unknown_query`.
    pub query: bool,
}

/// What the forms of a route must be. `route.form`.
#[derive(Clone, Debug, Default)]
pub struct FormSettings {
    /// Their fields.
    pub fields: Vec<FieldRule>,
    /// Whether they may have no others. `route.unknown_fields`.
    pub refuses_unknown: bool,
    /// How many fields one may have. `route.max_fields`.
    pub max_fields: usize,
}

/// What a field of a form must be. `route.form.NAME`.
#[derive(Clone, Debug)]
pub struct FieldRule {
    /// Its name.
    pub name: String,
    /// Whether it must be there.
    pub required: bool,
    /// What it must be, as JSON Schema.
    pub schema: Value,
    /// What it must be besides, where it is a file; `None`: it is text.
    pub file: Option<FileRule>,
}

/// What a file in a form must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileRule {
    /// Its media types; empty: any. `content_types`.
    pub content_types: Vec<String>,
    /// Its largest size, in bytes. `max_size`.
    pub max_size: Option<u64>,
    /// A regular expression that its name matches. `file_name`.
    pub file_name: Option<String>,
}

/// One API that a document describes. `[api.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// How routes call it.
    pub name: String,
    /// `api.NAME.openapi`.
    pub document: NamedFile,
    /// Where it is served; `None`: as the document's servers say. `api.NAME.base_path`.
    pub base_path: Option<String>,
    /// Which method proves a security scheme. `api.NAME.security`.
    pub security: Vec<(String, Method)>,
    /// What requests may not have unless the document declares it. `api.NAME.unknown_query` and its like.
    pub refuses_unknown: RefusesUnknown,
    /// Whether requests may have members that are read-only. `api.NAME.read_only`.
    pub allows_read_only: bool,
    /// Media types that pass although nobody can judge them. `api.NAME.unvalidated`.
    pub unvalidated: Vec<String>,
    /// Whether what breaks the contract is only reported. `api.NAME.report_only`.
    pub report_only: bool,
    /// Whether responses that break it are reported. `api.NAME.responses`.
    pub reports_responses: bool,
}
