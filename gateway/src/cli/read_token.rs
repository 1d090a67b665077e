//! Reads a token from a file or from standard input, for commands that look at one.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read, Write as _},
};

use super::exit::Exit;

/// The longest file that is read for a token, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Reads a token from a file, or from standard input where the name is `-`. What is around it goes: blanks, and the
/// scheme of the header that it was copied from.
///
/// # Errors
/// There is none. Nothing of it is told.
pub(super) fn read_token(file: &str) -> Result<Vec<u8>, (String, Exit)> {
    let wrong = |what: String| (what, Exit::Usage);
    let mut bytes = Vec::new();
    let read = if file == "-" {
        if io::stdin().is_terminal() {
            ask_for_token();
        }
        io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes)
    } else if file.starts_with("eyJ") && file.contains('.') {
        let what = "that is a token, and every user of this host can see arguments: write it to a file, or pipe it to \
                    standard input (-); take it as known to others now";
        return Err(wrong(what.to_owned()));
    } else {
        File::open(file).and_then(|opened| opened.take(MAX_FILE + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| (format!("cannot read {file}: {error}"), Exit::of_file(&error, Exit::Usage)))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(wrong(format!("{file} is over 64 KiB: it holds more than one token")));
    }
    let token = bytes.trim_ascii();
    let token = match token.split_at_checked(7) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"Bearer ") => rest.trim_ascii(),
        _ => token,
    };
    if token.is_empty() {
        return Err(wrong(format!("there is no token in {file}")));
    }
    Ok(token.to_vec())
}

/// Tells whoever sits there what is waited for.
fn ask_for_token() {
    // There is nobody to tell if that fails.
    drop(writeln!(io::stderr(), "paste the token, then press Ctrl-D"));
}
