//! A collector of OpenTelemetry, as the observer is told of it.

use std::fmt;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::{
    diagnostic::Diagnostic,
    settings::{self, audit::AnchorUrl},
    tls,
};

/// The most headers that a file may have.
const MOST_HEADERS: usize = 32;

/// Headers that say how a request is framed, or whom it is for: they are not the operator's.
const OWN: [&str; 7] =
    ["connection", "content-encoding", "content-length", "content-type", "host", "te", "transfer-encoding"];

/// A collector.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collector {
    /// Where it is.
    pub endpoint: AnchorUrl,
    /// Who vouches for its certificate, in PEM; `None`: TLS is not spoken.
    pub ca: Option<Vec<u8>>,
    /// Headers of each request. They may be secret.
    pub headers: Vec<(String, Vec<u8>)>,
    /// `service.name`.
    pub service: String,
}

/// Without the headers.
impl fmt::Debug for Collector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Collector({:?}, {} headers)", self.endpoint, self.headers.len())
    }
}

impl Collector {
    /// What the observer needs of it, once it is known that it can be used.
    ///
    /// # Errors
    /// Files that are not what they should be, by their keys.
    pub(in crate::message) fn new(settings: &settings::otlp::OtlpCollector) -> Result<Self, Diagnostic> {
        let ca = settings.ca.as_ref().map(|file| file.bytes.to_vec());
        ca.as_deref().map(tls::outgoing).transpose()?;
        let headers = settings.headers.as_ref().map_or_else(|| Ok(Vec::new()), |file| headers(&file.bytes))?;
        Ok(Self { endpoint: settings.endpoint.clone(), ca, headers, service: settings.service.clone() })
    }
}

/// The headers of a file, a line each. Lines that are empty or begin with `#` say nothing.
fn headers(text: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Diagnostic> {
    let mut headers = Vec::new();
    for (number, line) in (1_usize..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        // What the line holds may be secret.
        let wrong = |what: &str| {
            let wrong = Diagnostic::new("headers_file", format!("line {number} {what}"));
            wrong.hint("write a header a line: `Authorization: Bearer TOKEN`")
        };
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(|| wrong("is no header"))?;
        let (name, value) = line.split_at_checked(colon).ok_or_else(|| wrong("is no header"))?;
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let name = HeaderName::from_bytes(name).map_err(|_error| wrong("has no name of a header"))?;
        if OWN.contains(&name.as_str()) {
            return Err(wrong("names a header that the gateway sets itself"));
        }
        HeaderValue::from_bytes(value).map_err(|_error| wrong("has no value of a header"))?;
        headers.push((name.as_str().to_owned(), value.to_vec()));
    }
    if headers.len() > MOST_HEADERS {
        return Err(Diagnostic::new("headers_file", format!("has more than {MOST_HEADERS} headers")));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<&[(&str, &str)], &str>) {
        match (headers(text.as_bytes()), expect) {
            (Ok(read), Ok(expect)) => {
                let read: Vec<_> =
                    read.iter().map(|(name, value)| (&**name, std::str::from_utf8(value).unwrap())).collect();
                assert_eq!(read, expect, "{text:?}");
            }
            (Err(fault), Err(expect)) => {
                let told = fault.to_string();
                assert!(told.contains(expect) && !told.contains("s3cret"), "{text:?}: {told}");
            }
            (read, _) => panic!("{text:?}: {read:?}"),
        }
    }

    #[test]
    fn a_header_a_line() {
        check("", Ok(&[]));
        check("Authorization: Bearer a:b\n", Ok(&[("authorization", "Bearer a:b")]));
        check("# them\r\nX-Scope-OrgID:1\r\n\r\nx-b : c", Err("line 4 has no name"));
        check("# them\r\nX-Scope-OrgID:1\r\n\r\nx-b: c", Ok(&[("x-scope-orgid", "1"), ("x-b", "c")]));
        check("s3cret", Err("line 1 is no header"));
        check("a: b\nx: s3cret\u{7f}", Err("line 2 has no value"));
        check("Content-Length: 3", Err("sets itself"));
        check(&"a: b\n".repeat(33), Err("more than 32"));
    }
}
