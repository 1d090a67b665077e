//! Reads a line of Spamhaus DROP, as text (`192.0.2.0/24 ; SBL123`) and as JSON
//! (`{"cidr":"192.0.2.0/24","sblid":"SBL123","rir":"..."}`; the last line is about the list itself).

use serde::Deserialize;

use super::{
    line::{Listed, reason, shortened},
    range::sources,
};

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, default)]
    cidr: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    sblid: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<std::borrow::Cow<'a, str>>,
}

pub(super) fn line(line: &str, each: &mut dyn FnMut(Listed)) -> Result<(), String> {
    if line.starts_with('{') {
        let object: Object<'_> =
            serde_json::from_str(line).map_err(|error| format!("not a JSON object of DROP: {error}"))?;
        return match (object.cidr, object.kind) {
            (Some(cidr), _) => listed(&cidr, object.sblid.as_deref(), each),
            (None, Some(kind)) if kind == "metadata" => Ok(()),
            _ => Err(format!("there is no \"cidr\" in {:?}", shortened(line))),
        };
    }
    let (prefix, note) = line.split_once(';').map_or((line, None), |(prefix, note)| (prefix, Some(note)));
    let prefix = prefix.split('#').next().unwrap_or_default().trim();
    if prefix.is_empty() { Ok(()) } else { listed(prefix, note, each) }
}

fn listed(prefix: &str, note: Option<&str>, each: &mut dyn FnMut(Listed)) -> Result<(), String> {
    let why = note.and_then(reason);
    sources(prefix, |source| each(Listed { source, seconds: None, reason: why.clone() }))
}
