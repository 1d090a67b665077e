//! What every message of syslog (RFC 5424) has, whoever writes it.

/// A name in the header of a message: printable ASCII without blanks, at most `most` letters, `-` where none is left.
pub(crate) fn name(text: &str, most: usize) -> String {
    let name: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// The name of a host.
pub(crate) fn host(text: &str) -> String {
    name(text, 255)
}
