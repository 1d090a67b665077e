//! Splits a file in SecLang into directives and their arguments.

/// One directive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    /// Where it begins, from 1.
    pub(super) line: usize,
}

/// All directives of a file.
///
/// # Errors
/// A line, and what is wrong in it.
pub(super) fn directives(text: &str) -> Result<Vec<Directive>, (usize, String)> {
    let mut found = Vec::new();
    let (mut joined, mut begins) = (String::new(), 0);
    for (index, line) in text.lines().enumerate() {
        if joined.is_empty() {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            begins = index + 1;
        }
        if let Some(part) = line.trim_end().strip_suffix('\\') {
            // What stands before the next line belongs to this one; indentation is no part of it.
            joined.push_str(if joined.is_empty() { part } else { part.trim_start() });
            continue;
        }
        joined.push_str(if joined.is_empty() { line } else { line.trim_start() });
        if let Some(directive) = directive(&joined, begins)? {
            found.push(directive);
        }
        joined.clear();
    }
    if joined.is_empty() { Ok(found) } else { Err((begins, "the last line ends with a backslash".to_owned())) }
}

fn directive(text: &str, line: usize) -> Result<Option<Directive>, (usize, String)> {
    let mut words = words(text).map_err(|wrong| (line, wrong))?.into_iter();
    let Some(name) = words.next() else { return Ok(None) };
    Ok(Some(Directive { name, arguments: words.collect(), line }))
}

/// Words, and what stands in double quotes as one. In quotes, `\"` is a quote; other backslashes stay.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (word, length) = quoted_word(quoted).ok_or("a quote does not end")?;
            found.push(word);
            rest = quoted.get(length..).unwrap_or_default().trim_start();
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            found.push(word.to_owned());
            rest = after.trim_start();
        }
    }
    Ok(found)
}

fn quoted_word(text: &str) -> Option<(String, usize)> {
    let mut word = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((word, at + 1)),
            '\\' => match characters.next()? {
                (_, '"') => word.push('"'),
                (_, other) => word.extend(['\\', other]),
            },
            _ => word.push(character),
        }
    }
    None
}

/// The parts of a list that commas separate, as far as they are not in single quotes.
pub(super) fn actions(text: &str) -> Vec<String> {
    let (mut found, mut part, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if is_quoted => {
                let next = characters.next();
                if next != Some('\'') {
                    part.push('\\');
                }
                part.extend(next);
            }
            '\'' => is_quoted = !is_quoted,
            ',' if !is_quoted => found.push(std::mem::take(&mut part)),
            _ => part.push(character),
        }
    }
    found.push(part);
    found.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_have_arguments() {
        let text =
            "# a comment\nSecRule ARGS|!ARGS:a \"@rx \\\"x\\\\d\" \\\n    \"id:1,\\\n    t:none\"\n\nSecMarker END\n";
        let expect = [
            Directive {
                name: "SecRule".to_owned(),
                arguments: ["ARGS|!ARGS:a", "@rx \"x\\\\d", "id:1,t:none"].map(str::to_owned).to_vec(),
                line: 2,
            },
            Directive { name: "SecMarker".to_owned(), arguments: vec!["END".to_owned()], line: 6 },
        ];
        assert_eq!(directives(text).unwrap(), expect);
        assert_eq!(directives("SecRule \"x").unwrap_err().0, 1);
        assert_eq!(actions("id:1, msg:'a, \\'b\\'',t:none"), ["id:1", "msg:a, 'b'", "t:none"]);
    }
}
