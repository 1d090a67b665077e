//! Reads what `ipset save` prints: the members of one set of addresses, as wide as the set's mask, with their timeouts.
//!
//! *Invariant:* a file of several sets is refused: one of them may be for friends.

use gateway_common::source::Source;

use super::{
    line::{Each, Listed, Unreadable, reason, shortened, text},
    plain,
    range::sources,
};
use crate::text::digits::decimal;

/// What the set was made with.
#[derive(Default)]
struct Set {
    name: Option<String>,
    /// Why its members cannot be read.
    unfit: Option<String>,
    /// How many bits of each member count.
    netmask: Option<u8>,
    /// How long members last that do not say so; `None`: until removed.
    seconds: Option<u64>,
}

pub(super) fn read(bytes: &[u8], each: &mut Each<'_>) -> Result<(), Unreadable> {
    let mut set = Set::default();
    for (number, line) in (1_u32..).zip(bytes.split(|byte| *byte == b'\n')) {
        let line = match text(line) {
            Ok(line) => line.strip_prefix("-exist ").unwrap_or(line).trim_start(),
            Err(message) => {
                each(number, Err(message));
                continue;
            }
        };
        let name = ["create ", "add ", "del "].into_iter().find_map(|word| line.strip_prefix(word));
        if let Some(name) = name.and_then(|rest| rest.split_ascii_whitespace().next()) {
            let known = set.name.get_or_insert_with(|| name.to_owned());
            if known != name {
                return Err(Unreadable(format!(
                    "holds several sets ({:?}, {:?}): write one alone with `ipset save {}`",
                    shortened(known),
                    shortened(name),
                    shortened(name)
                )));
            }
        }
    }
    for (number, line) in (1_u32..).zip(bytes.split(|byte| *byte == b'\n')) {
        // What is no text is told above.
        let Ok(line) = text(line) else { continue };
        if let Err(message) = self::line(line, &mut set, &mut |listed| each(number, Ok(listed))) {
            each(number, Err(message));
        }
    }
    Ok(())
}

fn line(line: &str, set: &mut Set, each: &mut dyn FnMut(Listed)) -> Result<(), String> {
    let line = line.strip_prefix("-exist ").unwrap_or(line).trim_start();
    if let Some(created) = line.strip_prefix("create ") {
        return create(created, set);
    }
    let Some(added) = line.strip_prefix("add ") else {
        if line.starts_with("del ") {
            return Err("takes a member out of the set: write `ipset save` of the set as it is".to_owned());
        }
        // FireHOL writes the members alone.
        return plain::line(line, each);
    };
    if let Some(unfit) = &set.unfit {
        return Err(unfit.clone());
    }
    let mut words = added.split_ascii_whitespace();
    let (_set, Some(member)) = (words.next(), words.next()) else {
        return Err("`add` wants a set and a member".to_owned());
    };
    let (mut seconds, mut comment) = (set.seconds, None);
    while let Some(word) = words.next() {
        match word {
            "timeout" => {
                let text = words.next().unwrap_or_default();
                let timeout: u64 = decimal(text).ok_or("`timeout` wants seconds")?;
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
    let netmask = set.netmask;
    sources(member, |source| {
        let wide = netmask.filter(|netmask| *netmask < source.length());
        let source = wide.and_then(|netmask| Source::network(source.address(), netmask)).unwrap_or(source);
        each(Listed { source, seconds, reason: comment.clone() });
    })
}

fn create(created: &str, set: &mut Set) -> Result<(), String> {
    let mut words = created.split_ascii_whitespace();
    let kind = words.nth(1).unwrap_or_default();
    if !matches!(kind, "hash:ip" | "hash:net" | "bitmap:ip") {
        let unfit = format!("a set of type {:?} is no list of addresses", shortened(kind));
        set.unfit = Some(unfit.clone());
        return Err(unfit);
    }
    while let Some(word) = words.next() {
        match word {
            "netmask" => {
                let netmask = words.next().and_then(decimal);
                set.netmask = Some(netmask.ok_or("`netmask` wants a number of bits")?);
            }
            "bitmask" => {
                let unfit = "a set with a bitmask has members that are no prefixes".to_owned();
                set.unfit = Some(unfit.clone());
                return Err(unfit);
            }
            "timeout" => {
                let seconds = words.next().and_then(decimal::<u64>);
                set.seconds = Some(seconds.ok_or("`timeout` wants seconds")?).filter(|seconds| *seconds > 0);
            }
            _ => {}
        }
    }
    Ok(())
}
