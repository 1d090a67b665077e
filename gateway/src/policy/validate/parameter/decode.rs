//! Decodes what stands in URLs and forms.

/// Why a parameter cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy::validate) struct ParameterError {
    pub(in crate::policy::validate) rule: &'static str,
    pub(in crate::policy::validate) expected: &'static str,
}

impl ParameterError {
    pub(in crate::policy::validate) const fn new(rule: &'static str, expected: &'static str) -> Self {
        Self { rule, expected }
    }
}

/// Decodes percent signs; in forms `+` is a space.
pub(in crate::policy::validate) fn decode(text: &str, is_form: bool) -> Result<String, ParameterError> {
    let bad = ParameterError::new("encoding", "must be percent-encoded UTF-8 without NUL");
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit =
                    |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                match (digit(bytes.next()), digit(bytes.next())) {
                    (Some(high), Some(low)) => high << 4 | low,
                    _ => return Err(bad),
                }
            }
            b'+' if is_form => b' ',
            byte => byte,
        });
    }
    if decoded.contains(&0) {
        return Err(bad);
    }
    String::from_utf8(decoded).map_err(|_invalid| bad)
}
