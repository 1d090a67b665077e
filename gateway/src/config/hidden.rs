//! What of a configuration is not repeated in its faults: values that may be secrets. Secrets belong into files of their own,
//! and are pasted in the place of a file's name or of a public key all the same.

use std::ops::Range;

/// In place of a value.
pub(super) const HIDDEN: &str = "(not shown)";

/// Parts of names of keys whose values are secrets, or the files of secrets.
const SECRETS: [&str; 4] = ["passw", "pepper", "secret", "credential"];

/// Parts of names of keys whose values may be confused with secrets: keys and tokens.
const KEYS: [&str; 3] = ["key", "minisign", "token"];

/// So short a value is no key and no token.
const SHORTEST: usize = 16;

/// So short a value is looked for in the words of a fault only with its quotes.
const SHORTEST_TOLD: usize = 6;

/// The value of `key` in `text` at `span`, and where it is in the text, if it may be a secret.
pub(super) fn secret<'a>(key: &str, text: &'a str, span: &Range<usize>) -> Option<(&'a str, Range<usize>)> {
    let written = text.get(span.clone())?;
    let quote = written.chars().next().filter(|letter| matches!(letter, '"' | '\''))?;
    let value = written.trim_matches(quote);
    let start = span.start + written.len() - written.trim_start_matches(quote).len();
    may_be_secret(key, value).then(|| (value, start..start + value.len()))
}

fn may_be_secret(key: &str, value: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or_default().to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    // The names in this table are those of machines, and their values are public keys.
    let is_key = key.starts_with("cluster.nodes.") || has(&KEYS);
    let is_url = value.contains("://") && (value.contains(['@', '?']) || key.starts_with("receiver."));
    let is_long = value.chars().count() >= SHORTEST;
    // So are files named, in the folder of the configuration.
    let is_word =
        name.ends_with("_file") && !is_long && value.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'-' | b'_'));
    is_url
        || !value.is_empty()
            && !is_path(value)
            && (has(&SECRETS) && !is_word || is_key && is_long || value.contains("-----BEGIN"))
}

/// Whether it looks like a file's path.
fn is_path(value: &str) -> bool {
    const LONGEST: usize = 8;
    let is_token = value.starts_with("eyJ") || value.contains("://");
    let has_folder = ["/", "./", "../"].iter().any(|start| value.starts_with(start));
    let name = value.rsplit('/').next().unwrap_or_default();
    let has_ending = name.rsplit_once('.').is_some_and(|(name, end)| !name.is_empty() && end.len() <= LONGEST);
    !is_token && !value.contains(char::is_whitespace) && (has_folder || has_ending)
}

/// A fault's words without the value.
pub(super) fn without(message: &str, value: &str) -> String {
    let escaped = format!("{value:?}");
    let message = message.replace(&escaped, HIDDEN);
    // Without its quotes, a short one may be a part of any word.
    if value.chars().count() < SHORTEST_TOLD {
        return message;
    }
    message.replace(escaped.trim_matches('"'), HIDDEN).replace(value, HIDDEN)
}

/// The text with other letters in these places, each as long as before: other places stay where they are.
pub(super) fn masked(text: &str, places: &[Range<usize>]) -> String {
    let mut masked = text.to_owned();
    for place in places {
        if let Some(value) = text.get(place.clone()) {
            // A line stays a line.
            let stars: String = value.bytes().map(|byte| if byte == b'\n' { '\n' } else { '*' }).collect();
            masked.replace_range(place.clone(), &stars);
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret() {
        const KEY: &str = "RWRTY0IyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlcw";
        for (key, value, expect) in [
            ("feed[0].minisign", KEY, true),
            ("cluster.nodes.edge-1", KEY, true),
            ("cluster.nodes.edge-1", "ed25519", false),
            ("listener[0].private_key", "-----BEGIN PRIVATE KEY-----\\nMC4CAQ", true),
            ("listener[0].certificate", "-----BEGIN PRIVATE KEY-----\\nMC4CAQ", true),
            ("listener[0].private_key", "/etc/gateway/server.key", false),
            ("listener[0].private_key", "server-of-the-whole-company.key", false),
            ("crowdsec.key_file", "0123456789abcdef0123456789abcdef", true),
            ("crowdsec.key_file", TOKEN, true),
            ("crowdsec.key_file", "bouncer", false),
            ("crowdsec.password", "hunter2", true),
            ("receiver.mail.password_file", "hunter2", true),
            ("receiver.mail.password_file", "mail-password", false),
            ("crowdsec.password", "mail-password", true),
            ("receiver.mail.password_file", "mail.password", false),
            ("receiver.chat.url", "https://hooks.example.com/services/T00/B00/XXXX", true),
            ("jwt.jwks_url", "https://id.example.com/keys", false),
            ("jwt.jwks_url", "https://ada:hunter2@id.example.com/keys", true),
            ("feed[0].url", "https://lists.example.com/a?token=hunter2", true),
            ("jwt.issuer", "https://issuer.example", false),
            ("proxy.user", "somebody-with-a-long-name", false),
        ] {
            assert_eq!(may_be_secret(key, value), expect, "{key} = {value}");
        }
    }

    #[test]
    fn a_hidden_value_is_nowhere() {
        let text = "[a]\ntoken_file = \"0123456789abcdefg\" # here\n";
        let span = 17..36;
        let (value, place) = secret("a.token_file", text, &span).unwrap();
        assert_eq!(value, "0123456789abcdefg");
        assert_eq!(masked(text, &[place]), "[a]\ntoken_file = \"*****************\" # here\n");
        for (message, expect) in [
            ("cannot read /etc/0123456789abcdefg: none", "cannot read /etc/(not shown): none"),
            ("\"0123456789abcdefg\" is no file", "(not shown) is no file"),
            ("is no file", "is no file"),
        ] {
            assert_eq!(without(message, value), expect);
        }
        assert_eq!(secret("a.token_file", "token_file = 7", &(13..14)), None);
    }
}
