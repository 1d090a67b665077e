//! What formats take: what they name, and nothing beside it.

use super::*;

#[track_caller]
fn check_text(format: &str, text: &str, is_valid: bool) {
    let schema = format!(r#"{{"type":"string","format":"{format}"}}"#);
    let expect = (!is_valid).then_some((Reject::InvalidBody, "body: format"));
    check(&schema, &Value::from(text).to_string(), expect);
}

#[test]
fn nothing_stands_beside_the_value_of_a_format() {
    for (format, value, takes_nothing) in [
        ("date", "2026-01-02", false),
        ("date-time", "2026-01-02T03:04:05Z", false),
        ("duration", "P1DT2H", false),
        ("email", "ann@example.com", false),
        ("hostname", "www.example.com", false),
        ("idn-email", "ann@example.com", false),
        ("idn-hostname", "www.example.com", false),
        ("ipv4", "192.0.2.1", false),
        ("ipv6", "2001:db8::1", false),
        ("iri", "https://example.com/a", false),
        ("iri-reference", "/a", true),
        ("relative-json-pointer", "1", false),
        ("time", "03:04:05Z", false),
        ("uri", "https://example.com/a", false),
        ("uri-reference", "/a", true),
        ("uri-template", "https://example.com/{a}", true),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", false),
    ] {
        check_text(format, value, true);
        check_text(format, "", takes_nothing);
        for beside in ["\r\nBcc: all", "\n", " ", "\t", "\0"] {
            check_text(format, &format!("{value}{beside}"), false);
            check_text(format, &format!("{beside}{value}"), false);
        }
    }
}

#[test]
fn an_email_is_an_address_alone() {
    let long = format!("{}@example.com", "a".repeat(65));
    for (text, is_valid) in [
        ("ann.b+c@example.com", true),
        ("ann@localhost", true),
        ("\"ann b\"@example.com", true),
        ("ann@[192.0.2.1]", true),
        ("ann@[IPv6:2001:db8::1]", true),
        ("' OR 1=1 -- <script>\r\nBcc: all <ann@example.com>", false),
        ("Ann <ann@example.com>", false),
        ("<ann@example.com>", false),
        (" <ann@example.com>", false),
        ("\r\n <ann@example.com>\r\n", false),
        ("\u{a0} <ann@example.com>", false),
        ("\u{2003}\u{3000} <ann@example.com> ", false),
        ("\"ann\rb\"@example.com", false),
        ("ann@example.com, bob@example.com", false),
        ("ann@[192.0.2.1", false),
        ("ann@[a]", false),
        ("ann", false),
        ("@example.com", false),
        ("ann@", false),
        (&long, false),
    ] {
        check_text("email", text, is_valid);
        check_text("idn-email", text, is_valid);
    }
    check_text("email", "änn@example.com", false);
    check_text("idn-email", "änn@exämple.com", true);
    check_text("idn-email", "\"ä\u{1}\"@example.com", false);
    check_text("idn-email", "ä\u{85}@example.com", true);
}
