//! The bodies that `cargo xtask bench validation` sends, and the scripts by which wrk sends them. All of them are valid, and
//! no attacks.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde_json::json;

/// What a note consists of: words that are no attack.
const NOTE: &str = "The quick brown fox jumps over the lazy dog while seven green parrots watch from a tall old tree. ";

/// How long a note may be.
const LONGEST_NOTE: usize = 400;

/// Stands between the parts of a multipart body.
const BOUNDARY: &str = "----boundary7MA4YWxkTrZu0gW";

/// How a body is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyKind {
    Form,
    Graphql,
    /// JSON that has its size once it is decoded.
    Gzip,
    Json,
    /// A title, and a file that is all the rest.
    Multipart,
}

impl BodyKind {
    pub(super) const ALL: [Self; 5] = [Self::Form, Self::Graphql, Self::Gzip, Self::Json, Self::Multipart];

    const fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Graphql => "graphql",
            Self::Gzip => "gzip",
            Self::Json => "json",
            Self::Multipart => "multipart",
        }
    }

    fn content_type(self) -> String {
        match self {
            Self::Form => "application/x-www-form-urlencoded".to_owned(),
            Self::Graphql | Self::Gzip | Self::Json => "application/json".to_owned(),
            Self::Multipart => format!("multipart/form-data; boundary={BOUNDARY}"),
        }
    }

    /// A body of about so many bytes.
    fn text(self, bytes: usize) -> String {
        match self {
            Self::Form => form(bytes),
            Self::Graphql => graphql(bytes),
            Self::Gzip | Self::Json => json(bytes),
            Self::Multipart => multipart(bytes),
        }
    }

    fn file(self, bytes: usize) -> String {
        format!("body-{}-{bytes}", self.name())
    }

    /// The name of the script by which wrk sends it.
    pub(super) fn script(self, bytes: usize) -> String {
        format!("send-{}-{bytes}.lua", self.name())
    }

    /// Writes the body and its script.
    pub(super) fn write(self, folder: &Path, bytes: usize) -> anyhow::Result<()> {
        let file = self.file(bytes);
        let path = folder.join(&file);
        fs::write(&path, self.text(bytes)).with_context(|| file.clone())?;
        let mut coding = "";
        if self == Self::Gzip {
            let coded = folder.join(format!("{file}.gz"));
            // From standard input, the head has no file name.
            let mut gzip = Command::new("gzip");
            gzip.args(["-n", "-c"]).stdin(File::open(&path)?);
            let status = gzip.stdout(Stdio::from(File::create(&coded)?)).status().context("gzip")?;
            ensure!(status.success(), "gzip failed");
            fs::rename(coded, path)?;
            coding = "wrk.headers[\"Content-Encoding\"] = \"gzip\"\n";
        }
        let script = format!(
            "wrk.method = \"POST\"\nwrk.headers[\"Host\"] = \"localhost\"\nwrk.headers[\"Accept\"] = \"*/*\"\n\
             wrk.headers[\"User-Agent\"] = \"Mozilla/5.0 (X11; Linux x86_64)\"\nwrk.headers[\"X-Trace\"] = \"7\"\n\
             wrk.headers[\"Content-Type\"] = \"{}\"\n{coding}local file = io.open(\"{file}\", \"rb\")\n\
             wrk.body = file:read(\"*a\")\nfile:close()\n",
            self.content_type()
        );
        let name = self.script(bytes);
        fs::write(folder.join(&name), script).context(name)
    }
}

/// Words of so many bytes, and no more than a note may have.
fn note(bytes: usize) -> String {
    NOTE.chars().cycle().take(bytes.min(LONGEST_NOTE)).collect()
}

/// An array of items. It has fewer than a thousand values: firewalls judge no more.
fn json(bytes: usize) -> String {
    let mut body = "[".to_owned();
    for number in 0.. {
        let comma = if number == 0 { "" } else { "," };
        let item = |note: &str| format!("{comma}{{\"id\":{number},\"name\":\"item {number}\",\"note\":\"{note}\"}}");
        let left = bytes.saturating_sub(body.len() + item("").len() + 1);
        body.push_str(&item(&note(left)));
        // What is left is too short for another.
        if left < LONGEST_NOTE + 100 {
            break;
        }
    }
    body + "]"
}

/// A number, and notes until it is full.
fn form(bytes: usize) -> String {
    let mut body = "id=7".to_owned();
    while bytes.saturating_sub(body.len()) > 20 {
        let left = bytes - body.len() - "&note=".len();
        body.push_str("&note=");
        body.push_str(&note(left).replace(' ', "+"));
    }
    body
}

fn multipart(bytes: usize) -> String {
    let part = |name: &str, content: &str| {
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    };
    let before = part("id", "7") + &part("note", &note(60));
    let head = "Content-Disposition: form-data; name=\"file\"; filename=\"notes.txt\"\r\nContent-Type: text/plain";
    let around = before.len() + head.len() + 2 * BOUNDARY.len() + "--\r\n\r\n\r\n\r\n----\r\n".len();
    let file: String = NOTE.chars().cycle().take(bytes.saturating_sub(around)).collect();
    format!("{before}--{BOUNDARY}\r\n{head}\r\n\r\n{file}\r\n--{BOUNDARY}--\r\n")
}

/// A query that asks for one item after the other.
fn graphql(bytes: usize) -> String {
    let mut query = "query Items {".to_owned();
    for number in 0.. {
        if query.len() + 60 > bytes {
            break;
        }
        query.push_str(&format!(" item{number}: item(id: {number}) {{ id name note }}"));
    }
    json!({ "query": query + " }" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::{BOUNDARY, BodyKind};

    #[test]
    fn bodies_have_the_size_that_is_told() {
        for bytes in [1_024, 102_400] {
            for kind in BodyKind::ALL {
                let body = kind.text(bytes);
                assert!(body.len().abs_diff(bytes) < 100, "{} of {bytes}: {}", kind.name(), body.len());
            }
            let items: serde_json::Value = serde_json::from_str(&BodyKind::Json.text(bytes)).unwrap();
            let items = items.as_array().unwrap();
            assert!(items.len() * 3 < 1_000, "{bytes}: {} items", items.len());
            assert_eq!(BodyKind::Multipart.text(bytes).matches(BOUNDARY).count(), 4, "{bytes}");
        }
    }
}
