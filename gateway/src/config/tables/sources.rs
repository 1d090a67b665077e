//! Reads `[sources]`: networks with a name, which routes refer to.

use std::collections::BTreeMap;

use gateway_common::source::Source;
use toml::de::DeValue;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{
            self,
            form::{Form as _, described},
            kind, parsed,
            word::simple_name,
        },
    },
    diagnostic::Diagnostic,
    lists,
    os::file::NamedFile,
    settings::{feed::ListFormat, route::Route},
};

/// What stands for the keys of `[sources]`, which are the operator's own.
pub(super) const KEYS: Keys = &[(
    "NAME",
    "The networks of the set `NAME`: addresses and prefixes, or `{ file = PATH }`, a list that is read again when it changes.",
)];

/// The most networks in one set.
const MAX_NETWORKS: usize = 10_000;

/// What a network is written as.
pub(super) const HINT: &str = "write addresses and prefixes: [\"192.0.2.0/24\", \"2001:db8::/32\"]";

pub(super) fn read(table: Table<'_>, reader: &Reader<'_>) -> BTreeMap<String, Vec<Source>> {
    let mut sources = BTreeMap::new();
    let form = described("array of addresses and prefixes, or `{ file = PATH }`", written);
    for (key, name, written) in table.named_values(form) {
        let networks = written.and_then(|written| match written {
            Written::Networks(networks) => Ok(networks),
            Written::File(path, format) => {
                let list = list(&reader.file(&path)?, format, &[])?;
                list.unread.into_iter().for_each(|unread| reader.warn(unread.at(&key)));
                Ok(list.networks)
            }
        });
        let wrong = simple_name(&name).err().or_else(|| {
            // In `source in NAME` it would be a network.
            let is_network = name.parse::<Source>().is_ok();
            is_network.then(|| {
                Diagnostic::bare(format!("{name:?} is a network, and names a set")).hint("choose another name")
            })
        });
        if let Some(wrong) = wrong {
            reader.report(wrong.at(&key));
        }
        match networks {
            Ok(networks) => {
                sources.insert(name, networks);
            }
            Err(wrong) => {
                reader.report(wrong.at(key));
                // Routes that name it have no fault.
                sources.insert(name, Vec::new());
            }
        }
    }
    sources
}

/// What a set is written as.
enum Written {
    Networks(Vec<Source>),
    File(String, Option<ListFormat>),
}

fn written(value: &DeValue<'_>) -> Result<Written, Diagnostic> {
    let DeValue::Table(table) = value else { return networks(value).map(Written::Networks) };
    const FORM: &str = "write `{ file = \"office.txt\" }`, and `format` beside it where it is not recognised";
    let (mut file, mut format) = (None, None);
    for (name, value) in table {
        match &**name.get_ref() {
            "file" => file = Some(value::path(value.get_ref())?),
            "format" => format = Some(value::choice(&ListFormat::NAMES).read(value.get_ref())?),
            other => return Err(Diagnostic::bare(format!("{other:?} is unknown here")).hint(FORM)),
        }
    }
    match file {
        Some(file) => Ok(Written::File(file, format)),
        None => Err(Diagnostic::bare("names no `file`").hint(FORM)),
    }
}

/// The networks of a list.
pub(super) struct List {
    pub(super) networks: Vec<Source>,
    /// That some of it cannot be read.
    pub(super) unread: Option<Diagnostic>,
}

/// Reads a list in a file, whoever made it: all of it, or what belongs to these services.
///
/// # Errors
/// Nothing of it can be read, or it has no networks.
pub(super) fn list(file: &NamedFile, format: Option<ListFormat>, services: &[String]) -> Result<List, Diagnostic> {
    let shown = file.path.display();
    let (mut networks, mut unread, mut first) = (Vec::new(), 0_u64, None);
    let read = lists::read_services(&file.bytes, format, services, |line, entry| match entry {
        Ok(listed) => networks.push(listed.source),
        Err(why) => {
            unread += 1;
            first.get_or_insert((line, why));
        }
    });
    read.map_err(|why| Diagnostic::bare(format!("{shown} {why}")).hint("write addresses and prefixes, one a line"))?;
    if networks.is_empty() {
        let wrong = Diagnostic::bare(format!("{shown} has no networks: nobody is in it"));
        return Err(wrong.hint("write addresses and prefixes to it, one a line"));
    }
    let unread = first.map(|(line, why)| {
        let what = match unread {
            1 => format!("line {line} is passed over"),
            _ => format!("{unread} lines are passed over, the first is line {line}"),
        };
        let told = Diagnostic::bare(format!("{shown}: {what}: {why}"));
        told.hint("who is in what is passed over is not in the set: correct the file")
    });
    Ok(List { networks, unread })
}

fn networks(value: &DeValue<'_>) -> Result<Vec<Source>, Diagnostic> {
    let DeValue::Array(elements) = value else {
        return Err(Diagnostic::bare(format!("expected an array, found {}", kind(value))).hint(HINT));
    };
    if elements.is_empty() {
        return Err(Diagnostic::bare("is empty: nobody is in it").hint(HINT));
    }
    if elements.len() > MAX_NETWORKS {
        return Err(Diagnostic::bare(format!("has over {MAX_NETWORKS} networks")).hint("split it into several sets"));
    }
    elements.iter().map(|element| parsed::<Source>(HINT).read(element.get_ref())).collect()
}

/// Warns of sets that no route refers to.
pub(super) fn warn_of_unused(sources: &BTreeMap<String, Vec<Source>>, routes: &[Route], reader: &Reader<'_>) {
    let is_used = |name: &String| {
        let in_condition = |text: &str| text.split(|letter: char| !is_of_name(letter)).any(|word| word == name);
        routes.iter().any(|route| {
            route.sources.iter().flat_map(|sources| &sources.texts).any(|text| text == name)
                || route.allow_if.iter().any(|condition| in_condition(&condition.text))
        })
    };
    for name in sources.keys().filter(|name| !is_used(name)) {
        let warning = Diagnostic::new(format!("sources.{name}"), "is not used by any route");
        reader.warn(warning.hint("remove it, or name it in a route's `sources`"));
    }
}

const fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')
}
