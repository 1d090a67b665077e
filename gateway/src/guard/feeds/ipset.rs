//! Decides what a line of `ipset save` or of a .netset says: members of address sets, with their timeouts.

use super::{Listed, plain, reason, sources};

pub(super) fn line(line: &str, each: &mut dyn FnMut(Listed)) -> Result<(), String> {
    let line = line.strip_prefix("-exist ").unwrap_or(line).trim_start();
    if let Some(created) = line.strip_prefix("create ") {
        let kind = created.split_ascii_whitespace().nth(1).unwrap_or_default();
        return match kind {
            "hash:ip" | "hash:net" | "bitmap:ip" => Ok(()),
            other => Err(format!("a set of type {:?} is no list of addresses", super::shortened(other))),
        };
    }
    let Some(added) = line.strip_prefix("add ") else {
        // FireHOL writes the members alone.
        return plain::line(line, each);
    };
    let mut words = added.split_ascii_whitespace();
    let (_set, Some(member)) = (words.next(), words.next()) else {
        return Err("`add` wants a set and a member".to_owned());
    };
    let (mut seconds, mut comment) = (None, None);
    while let Some(word) = words.next() {
        match word {
            "timeout" => {
                let text = words.next().unwrap_or_default();
                let timeout: u64 = text.parse().map_err(|_error| "`timeout` wants seconds".to_owned())?;
                // 0 is ipset's word for "until removed".
                seconds = (timeout > 0).then_some(timeout);
            }
            "comment" => {
                comment = added.split_once(" comment ").and_then(|(_, rest)| reason(rest.trim_matches('"')));
                break;
            }
            "nomatch" => return Err("an exception from a set: use `gateway allow add` for it".to_owned()),
            _ => {}
        }
    }
    sources(member, |source| each(Listed { source, seconds, reason: comment.clone() }))
}
