//! Characters that a terminal would obey, or that change how other text is read: they stand in no log as they are.

use std::borrow::Cow;

/// Whether a terminal would obey it (control characters of both sets), or it would turn the direction of writing or end a
/// line where others see none.
#[must_use]
pub fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{061c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON with every such character as `\uXXXX`. What JSON itself asks to be escaped is so already, and nothing else of it
/// but texts can have one. A line end at its end stays.
#[must_use]
pub fn escape_json(json: &str) -> Cow<'_, str> {
    let (text, end) = json.strip_suffix('\n').map_or((json, ""), |text| (text, "\n"));
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) || !text.chars().any(is_obeyed) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for letter in text.chars() {
        if is_obeyed(letter) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            escaped.push(letter);
        }
    }
    escaped.push_str(end);
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn json_says_the_same_and_no_terminal_obeys_it() {
        for text in
            ["plain", "\u{1b}[31m\r\n", "\u{9b}31m", "\u{7f}", "a\u{202e}b\u{2066}", "\u{2028}", "h\u{e9} \u{1f600}"]
        {
            let written = json!({ "text": text }).to_string();
            let escaped = escape_json(&written).into_owned();
            assert!(!escaped.chars().any(is_obeyed), "{escaped:?}");
            assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap()["text"], text);
        }
        assert!(matches!(escape_json("{\"a\":1}\n"), Cow::Borrowed("{\"a\":1}\n")));
        assert_eq!(escape_json("{\"a\":\"\u{9b}\"}\n"), "{\"a\":\"\\u009b\"}\n");
    }
}
