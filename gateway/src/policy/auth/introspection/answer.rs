//! What an introspection server answered (RFC 7662 2.2), plain or as a JWT (RFC 9701).
//!
//! *Invariant:* a token is active where the answer says `"active": true`, the boolean. Whatever is not plainly an answer
//! is a failure of the server, and never one of the client (O01).

use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use serde_json::{Map, Value};

use crate::json;

/// The largest answer, in bytes.
pub const MAX_ANSWER: usize = 64 * 1024;

/// The `typ` of an answer that is signed.
pub(super) const SIGNED_TYPE: &str = "token-introspection+jwt";

/// The media type of an answer that is signed.
const SIGNED: &str = "application/token-introspection+jwt";

/// What a server says of a token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum IntrospectionResult {
    /// It is good, and this is what it says.
    Active(Map<String, Value>),
    /// It is not, or not for the gateway to know about.
    Inactive,
    /// It is of a kind that the server says nothing about (RFC 7009 2.2.1).
    Unsupported,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server does not take the gateway for its client: secret, key or certificate are wrong.
    Credentials(StatusCode),
    /// It does not like this question. It may like others: it says nothing about how the server is.
    Question(StatusCode),
    /// Anything else.
    Server(&'static str),
}

impl Failure {
    /// For the log.
    pub(super) fn why(self) -> String {
        match self {
            Self::Credentials(status) => {
                format!("the server does not accept the gateway's own credentials: status {}", status.as_u16())
            }
            Self::Question(status) => format!("the server refused the question: status {}", status.as_u16()),
            Self::Server(why) => why.to_owned(),
        }
    }
}

/// Verifies what is signed, and says what it claims.
pub(super) type Verify<'a> = &'a dyn Fn(&[u8]) -> Result<Map<String, Value>, &'static str>;

/// Reads an answer. `verify` is given what is signed, and returns its claims; `None`: answers are not signed.
///
/// # Errors
/// It is none, whatever the reason.
pub(super) fn read(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    verify: Option<Verify<'_>>,
) -> Result<IntrospectionResult, Failure> {
    match status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => return Err(Failure::Credentials(status)),
        StatusCode::BAD_REQUEST => {
            return match error(body).as_str() {
                "access_denied" | "invalid_client" | "unauthorized_client" => Err(Failure::Credentials(status)),
                "unsupported_token_type" => Ok(IntrospectionResult::Unsupported),
                _ => Err(Failure::Question(status)),
            };
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            return Err(Failure::Server("there is no such endpoint: status 404 or 410"));
        }
        StatusCode::TOO_MANY_REQUESTS => return Err(Failure::Server("the server is asked too often: status 429")),
        // A token that looks like an attack is refused by a firewall before the server: whoever shows it must not be able
        // to make others wait.
        _ if status.is_client_error() => return Err(Failure::Question(status)),
        _ => return Err(Failure::Server("the server failed: its status is neither 200 nor a refusal")),
    }
    let media_type = media_type(headers);
    let mut claims = match verify {
        Some(_) if media_type != SIGNED => return Err(Failure::Server("the answer is not signed, and has to be")),
        Some(verify) => {
            let mut claims = verify(body.trim_ascii()).map_err(Failure::Server)?;
            match claims.remove("token_introspection") {
                Some(Value::Object(said)) => said,
                _ => return Err(Failure::Server("the signed answer has no token_introspection")),
            }
        }
        None if media_type != "application/json" => return Err(Failure::Server("the answer is not application/json")),
        None => match json::parse(body) {
            Ok(Value::Object(said)) => said,
            Ok(_) | Err(_) => return Err(Failure::Server("the answer is no acceptable JSON object")),
        },
    };
    match claims.get("active") {
        Some(Value::Bool(true)) => {
            // Some servers name what they have nothing to say about.
            claims.retain(|_, said| !said.is_null());
            Ok(IntrospectionResult::Active(claims))
        }
        Some(Value::Bool(false)) => Ok(IntrospectionResult::Inactive),
        _ => Err(Failure::Server("the answer's `active` is neither true nor false")),
    }
}

/// Whether an answer says that it is signed.
pub(super) fn is_signed(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::OK && media_type(headers) == SIGNED
}

/// Without its parameters, in lower case.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Why a server refuses (RFC 6749 5.2).
fn error(body: &[u8]) -> String {
    let problem = json::parse(body).unwrap_or_default();
    problem.get("error").and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const JSON: &str = "application/json";

    #[track_caller]
    fn check(status: u16, media_type: &str, body: &str, expect: &str) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(media_type).unwrap());
        let said = read(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), None);
        shown(said, expect, body);
    }

    #[track_caller]
    fn check_signed(media_type: &str, verified: Result<&str, &'static str>, expect: &str) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(media_type).unwrap());
        let verify = |signed: &[u8]| {
            assert_eq!(signed, b"a.b.c");
            verified.map(|text| serde_json::from_str(text).unwrap())
        };
        shown(read(StatusCode::OK, &headers, b"a.b.c\n", Some(&verify)), expect, media_type);
    }

    #[track_caller]
    fn shown(said: Result<IntrospectionResult, Failure>, expect: &str, case: &str) {
        let shown = match said {
            Ok(IntrospectionResult::Active(claims)) => format!("active {}", claims.len()),
            Ok(IntrospectionResult::Inactive) => "inactive".to_owned(),
            Ok(IntrospectionResult::Unsupported) => "unsupported".to_owned(),
            Err(Failure::Credentials(_)) => "credentials".to_owned(),
            Err(Failure::Question(_)) => "question".to_owned(),
            Err(Failure::Server(why)) => why.to_owned(),
        };
        assert!(shown.contains(expect) && !expect.is_empty(), "{case}: {shown}");
    }

    #[test]
    fn o01_plain_answers() {
        check(200, JSON, r#"{"active":true,"sub":"ada"}"#, "active 2");
        check(200, "Application/JSON; charset=utf-8", r#"{"active":true}"#, "active 1");
        check(200, JSON, r#"{"active":true,"sub":"ada","exp":null,"scope":null}"#, "active 2");
        check(200, JSON, r#"{"active":false}"#, "inactive");
        check(200, JSON, r#"{"active":false,"sub":"ada"}"#, "inactive");
        let neither = "neither true nor false";
        check(200, JSON, r#"{"active":"true"}"#, neither);
        check(200, JSON, r#"{"active":1}"#, neither);
        check(200, JSON, r#"{"active":null}"#, neither);
        check(200, JSON, r#"{"active":[true]}"#, neither);
        check(200, JSON, r#"{"sub":"ada"}"#, neither);
        check(200, JSON, r#"{"Active":true}"#, neither);
        let garbage = "no acceptable JSON";
        check(200, JSON, "", garbage);
        check(200, JSON, "true", garbage);
        check(200, JSON, "<html>", garbage);
        check(200, JSON, r#"{"active":false,"active":true}"#, garbage);
        check(200, JSON, r#"{"active":true}{"active":true}"#, garbage);
        check(200, JSON, "\u{feff}{\"active\":true}", garbage);
        check(200, "text/html", r#"{"active":true}"#, "not application/json");
        check(200, SIGNED, r#"{"active":true}"#, "not application/json");
        check(204, JSON, r#"{"active":true}"#, "the server failed");
        check(206, JSON, r#"{"active":true}"#, "the server failed");
        check(500, JSON, r#"{"active":true}"#, "the server failed");
        check(404, JSON, r#"{"active":true}"#, "no such endpoint");
        check(429, JSON, r#"{"active":true}"#, "asked too often");
        check(401, JSON, r#"{"active":true}"#, "credentials");
        check(410, JSON, "", "no such endpoint");
        check(403, JSON, "", "question");
        check(413, JSON, "", "question");
        check(414, JSON, "", "question");
        check(431, JSON, "", "question");
        check(403, "text/html", "<html>", "question");
        check(400, JSON, r#"{"error":"invalid_client"}"#, "credentials");
        check(400, JSON, r#"{"error":"unauthorized_client"}"#, "credentials");
        check(400, JSON, r#"{"error":"unsupported_token_type"}"#, "unsupported");
        check(400, JSON, r#"{"error":"invalid_request"}"#, "question");
        check(400, JSON, r#"{"error":["invalid_client"]}"#, "question");
        check(400, JSON, "", "question");
    }

    #[test]
    fn signed_answers() {
        check_signed(SIGNED, Ok(r#"{"token_introspection":{"active":true,"sub":"ada"}}"#), "active 2");
        check_signed(SIGNED, Ok(r#"{"token_introspection":{"active":false}}"#), "inactive");
        check_signed(SIGNED, Ok(r#"{"active":true}"#), "no token_introspection");
        check_signed(SIGNED, Ok(r#"{"token_introspection":true,"active":true}"#), "no token_introspection");
        check_signed(SIGNED, Ok(r#"{"token_introspection":{"active":"true"}}"#), "neither true nor false");
        check_signed(SIGNED, Err("its signature is not its key's"), "signature");
        check_signed("application/json", Ok(r#"{"token_introspection":{"active":true}}"#), "not signed");
        check_signed("application/jwt", Ok(r#"{"token_introspection":{"active":true}}"#), "not signed");
    }
}
