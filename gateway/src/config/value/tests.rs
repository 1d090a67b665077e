//! Texts, and what they come to.

use super::*;

#[track_caller]
fn millis(text: &str, expect: Option<u64>) {
    assert_eq!(duration(text).ok(), expect.map(Duration::from_millis), "{text:?}");
}

#[test]
fn durations() {
    millis("500ms", Some(500));
    millis("0s", Some(0));
    millis("10s", Some(10_000));
    millis("5m", Some(300_000));
    millis("1h30m", Some(5_400_000));
    millis("7d", Some(604_800_000));
    millis("1d2h3m4s5ms", Some(93_784_005));
    for text in ["", "10", "s", "10 s", "-1s", "+1s", "1.5h", "30m1h", "1h1h", "1w", "1H", "99999999999999d", "１s"] {
        millis(text, None);
    }
    for text in ["500ms", "1h30m", "7d", "0s", "1m15s"] {
        assert_eq!(show_duration(duration(text).unwrap()), text);
    }
}

#[track_caller]
fn bytes(text: &str, expect: Option<u64>) {
    assert_eq!(size(text).ok(), expect, "{text:?}");
}

#[test]
fn sizes() {
    bytes("0", Some(0));
    bytes("1048576", Some(1 << 20));
    bytes("12B", Some(12));
    bytes("64KiB", Some(64 << 10));
    bytes("1MiB", Some(1 << 20));
    bytes("1GiB", Some(1 << 30));
    for text in ["", "KiB", "1 KiB", "1KB", "1kib", "1K", "-1", "1.5MiB", "99999999999GiB", "1KiBKiB"] {
        bytes(text, None);
    }
    for text in ["64KiB", "1MiB", "1GiB", "1000", "0"] {
        assert_eq!(show_size(size(text).unwrap()), text);
    }
}

#[track_caller]
fn named(text: &str, expect: Option<&str>) {
    assert_eq!(address::host(text).ok().as_deref(), expect, "{text:?}");
}

#[test]
fn hosts() {
    named("API.Example.com", Some("api.example.com"));
    named("127.0.0.1", Some("127.0.0.1"));
    named("[::1]", Some("[::1]"));
    named("my_api", Some("my_api"));
    for text in ["", ".", "a.", "a..b", "-a", "a-", "a b", "::1", "[::1", "[x]", "a:1", "*.a", "http://a", "a/b", "ä"]
    {
        named(text, None);
    }
    named(&"a".repeat(64), None);
}

#[test]
fn what_values_say_of_themselves() {
    let words = [("auto", 1), ("none", 2)];
    for (takes, expect) in [
        (boolean().takes(), "boolean"),
        (integer(1..=64_u8).takes(), "integer from 1 to 64"),
        (duration_in(Duration::ZERO..=Duration::from_secs(60)).takes(), "duration from 0s to 1m"),
        (size_in(1..=1 << 20).takes(), "size from 1 to 1MiB"),
        (choice(&words).takes(), "`\"auto\"`, `\"none\"`"),
        (line.takes(), "string"),
    ] {
        assert_eq!(takes, expect);
    }
    assert_eq!(choice(&words).write(&2).as_deref(), Some("\"none\""));
    assert_eq!(
        duration_in(Duration::ZERO..=Duration::MAX).write(&Duration::from_secs(90)).as_deref(),
        Some("\"1m30s\"")
    );
}
