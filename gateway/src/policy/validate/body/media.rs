//! Media types as requests name them, and ranges of them as documents do.

use std::cmp::Reverse;

use http::HeaderValue;

use crate::refusal::{Refusal, Reject};

/// A media type in its plain form: parsers differ on the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy::validate) struct MediaType {
    kind: String,
    subtype: String,
    parameters: Vec<(String, String)>,
}

/// Media types: one, those of a kind, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy::validate) struct MediaRange {
    /// `None`: any.
    kind: Option<String>,
    subtype: Option<String>,
    /// What a media type has to have besides, by name.
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// Reads the `Content-Type` of a request.
    ///
    /// # Errors
    /// [`Reject::UnsupportedMediaType`]: there is none, or it is not in the plain form.
    pub(in crate::policy::validate) fn of(content_type: Option<&HeaderValue>) -> Result<Self, Refusal> {
        let unsupported = |why| Refusal::new(Reject::UnsupportedMediaType, why);
        let text = content_type.ok_or_else(|| unsupported("no Content-Type"))?.to_str();
        let text = text.map_err(|_other| unsupported("Content-Type is not ASCII"))?;
        Self::read(text).map_err(unsupported)
    }

    /// Reads a `Content-Type` (RFC 9110 8.3).
    pub(in crate::policy::validate) fn read(text: &str) -> Result<Self, &'static str> {
        let (essence, rest) = text.split_once(';').map_or((text, ""), |(essence, rest)| (essence, rest));
        let (kind, subtype) = essence.trim_matches([' ', '\t']).split_once('/').unwrap_or_default();
        if !is_token(kind) || !is_token(subtype) {
            return Err("Content-Type is not type/subtype");
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        for parameter in rest.split(';').map(|parameter| parameter.trim_matches([' ', '\t'])) {
            if parameter.is_empty() {
                continue;
            }
            let bad = "Content-Type has a bad parameter";
            let (name, value) = parameter.split_once('=').ok_or(bad)?;
            let value = match value.strip_prefix('"') {
                Some(quoted) => quoted.strip_suffix('"').filter(|value| is_plain(value)).ok_or(bad)?,
                None => Some(value).filter(|value| is_token(value)).ok_or(bad)?,
            };
            let name = name.to_ascii_lowercase();
            if !is_token(&name) || parameters.iter().any(|(known, _)| *known == name) {
                return Err(bad);
            }
            parameters.push((name, value.to_owned()));
        }
        Ok(Self { kind: kind.to_ascii_lowercase(), subtype: subtype.to_ascii_lowercase(), parameters })
    }

    pub(in crate::policy::validate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(in crate::policy::validate) fn is_utf_8(&self) -> bool {
        self.parameter("charset").is_none_or(|charset| is_utf_8(charset.as_bytes()))
    }

    /// Whether it says of what has it that it is text.
    pub(in crate::policy::validate) fn is_text(&self) -> bool {
        let subtype = self.subtype.as_str();
        self.kind == "text"
            || ["json", "xml", "javascript", "x-www-form-urlencoded"].iter().any(|it| subtype.ends_with(it))
    }

    /// Whether it says of what has it that it is no text.
    pub(in crate::policy::validate) fn is_binary(&self) -> bool {
        const APPLICATION: [&str; 17] = [
            "gzip",
            "java-archive",
            "msword",
            "octet-stream",
            "ogg",
            "pdf",
            "wasm",
            "x-7z-compressed",
            "x-bzip2",
            "x-gzip",
            "x-rar-compressed",
            "x-xz",
            "x-zip-compressed",
            "zip",
            "zstd",
            "epub+zip",
            "x-tar",
        ];
        let subtype = self.subtype.as_str();
        if subtype.ends_with("xml") || subtype.ends_with("json") {
            return false;
        }
        match self.kind.as_str() {
            "audio" | "font" | "image" | "video" => true,
            "application" => APPLICATION.contains(&subtype) || subtype.starts_with("vnd."),
            _ => false,
        }
    }

    pub(in crate::policy::validate) fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind == kind && self.subtype == subtype
    }
}

impl MediaRange {
    /// Reads a media type or a range of them: `application/json`, `image/*`, `*/*`. Parameters say nothing here.
    pub(in crate::policy::validate) fn read(text: &str) -> Option<Self> {
        let essence = text.split(';').next()?.trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        let part = |part: &str| if part == "*" { Some(None) } else { is_token(part).then(|| Some(part.to_owned())) };
        Some(Self { kind: part(kind)?, subtype: part(subtype)?, parameters: Vec::new() })
    }

    /// Reads a key of `content`. Its parameters may tell it from another: `application/json; version=2`. Those that say
    /// how a body is written (`charset`, `boundary`) do not.
    pub(in crate::policy::validate) fn read_key(text: &str) -> Option<Self> {
        let range = Self::read(text)?;
        let mut parameters = MediaType::read(text.trim()).map_or_else(|_bad| Vec::new(), |read| read.parameters);
        parameters.retain(|(name, _)| !matches!(name.as_str(), "boundary" | "charset"));
        parameters.sort_unstable();
        Some(Self { parameters, ..range })
    }

    /// The same, whatever its parameters are.
    pub(in crate::policy::validate) fn without_parameters(&self) -> Self {
        Self { parameters: Vec::new(), ..self.clone() }
    }

    /// The value that it asks of a parameter.
    fn wanted(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(in crate::policy::validate) fn has(&self, media_type: &MediaType) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == media_type.kind)
            && self.subtype.as_ref().is_none_or(|subtype| *subtype == media_type.subtype)
            && self.parameters.iter().all(|(name, wanted)| {
                media_type.parameter(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted))
            })
    }

    /// Whether each media type of `other` is among its own.
    pub(in crate::policy::validate) fn covers(&self, other: &Self) -> bool {
        let has = |(name, value): &(String, String)| {
            other.wanted(name).is_some_and(|theirs| theirs.eq_ignore_ascii_case(value))
        };
        (self.kind.is_none() || self.kind == other.kind)
            && (self.subtype.is_none() || self.subtype == other.subtype)
            && self.parameters.iter().all(has)
    }

    /// Whether a media type is among both.
    pub(in crate::policy::validate) fn overlaps(&self, other: &Self) -> bool {
        let overlap = |one: &Option<String>, other: &Option<String>| one.is_none() || other.is_none() || one == other;
        // A parameter is there once.
        let are_apart = |(name, value): &(String, String)| {
            other.wanted(name).is_some_and(|theirs| !theirs.eq_ignore_ascii_case(value))
        };
        overlap(&self.kind, &other.kind)
            && overlap(&self.subtype, &other.subtype)
            && !self.parameters.iter().any(are_apart)
    }

    /// How open it is: the more exact comes first.
    pub(in crate::policy::validate) fn openness(&self) -> (usize, Reverse<usize>) {
        let open = usize::from(self.kind.is_none()) + usize::from(self.subtype.is_none());
        (open, Reverse(self.parameters.len()))
    }

    pub(in crate::policy::validate) fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.as_deref() == Some(kind) && self.subtype.as_deref() == Some(subtype)
    }

    /// Whether `text/plain` is among them.
    pub(in crate::policy::validate) fn has_text(&self) -> bool {
        self.kind.as_deref().is_none_or(|kind| kind == "text") && self.subtype.as_deref().is_none_or(|it| it == "plain")
    }

    /// `application/json` and types that end in `+json`.
    pub(in crate::policy::validate) fn is_json(&self) -> bool {
        self.subtype.as_deref().is_some_and(|subtype| subtype.ends_with("+json"))
            || self.is("application", "json")
            || self.is("text", "json")
    }

    /// One JSON text a line.
    pub(in crate::policy::validate) fn is_json_lines(&self) -> bool {
        ["jsonl", "x-ndjson", "ndjson"].iter().any(|subtype| self.is("application", subtype))
    }

    /// JSON texts, each behind a record separator (RFC 7464, RFC 8091).
    pub(in crate::policy::validate) fn is_json_sequence(&self) -> bool {
        self.is("application", "json-seq") || self.subtype.as_deref().is_some_and(|it| it.ends_with("+json-seq"))
    }

    pub(in crate::policy::validate) fn is_xml(&self) -> bool {
        self.subtype.as_deref().is_some_and(|subtype| subtype == "xml" || subtype.ends_with("+xml"))
    }

    pub(in crate::policy::validate) fn is_text(&self) -> bool {
        self.kind.as_deref() == Some("text")
    }
}

/// Whether a charset is UTF-8, or a part of it.
pub(super) fn is_utf_8(charset: &[u8]) -> bool {
    charset.eq_ignore_ascii_case(b"utf-8") || charset.eq_ignore_ascii_case(b"us-ascii")
}

/// RFC 9110 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// What may stand between quotes without an escape, and every parser reads alike.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' ' | 0x21 | 0x23..=0x5b | 0x5d..=0x7e) && byte != b';')
}
