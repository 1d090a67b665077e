//! Writes cells of CSV (RFC 4180) that people open in spreadsheets. What is in them may come from strangers.

/// A cell. One that a spreadsheet would compute gets an apostrophe before it.
pub(super) fn cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if guard.is_empty() && !text.contains(['"', ',', '\n', '\r']) {
        return text.to_owned();
    }
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_text() {
        for (text, expect) in [
            ("", ""),
            ("203.0.113.7", "203.0.113.7"),
            ("scraping; again", "scraping; again"),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("a\r\nb", "\"a\r\nb\""),
            ("=HYPERLINK(\"https://a.example\")", "\"'=HYPERLINK(\"\"https://a.example\"\")\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@a", "\"'@a\""),
            ("'=1", "'=1"),
            ("1=1", "1=1"),
        ] {
            assert_eq!(cell(text), expect, "{text:?}");
        }
    }
}
