//! Reads `route.require`: who is let through.

use super::known::Known;
use crate::{
    config::{
        reader::Reader,
        table::Table,
        value::{closest, word::permission},
    },
    diagnostic::Diagnostic,
    settings::authz::Requirement,
};

pub(super) fn read(table: &Table<'_>, known: &Known<'_>, reader: &Reader<'_>) -> Requirement {
    if !table.has("require") {
        let warning = Diagnostic::new(table.key("require"), "is missing: nobody has access");
        reader.warn(warning.hint("write [\"public\"], [\"authenticated\"], or the permissions it takes"));
    }
    let words = table.list("require", permission);
    let Some((key, first)) = words.first() else { return Requirement::Nobody };
    let special = |word: &str| matches!(word, "public" | "authenticated" | "certificate");
    if let Some((key, word)) = words.iter().find(|(_, word)| words.len() > 1 && special(word)) {
        let hint = format!("write [{word:?}] alone, or permissions alone");
        reader.report(Diagnostic::new(key, format!("{word:?} cannot be combined with other words")).hint(hint));
    }
    if first == "public" {
        return Requirement::Public;
    }
    if first == "certificate" {
        if !known.certificates {
            let diagnostic =
                Diagnostic::new(key, "requires a client certificate, but there is no [client_certificates.NAME]");
            reader.report(diagnostic.hint("add one with `ca` and `hosts`"));
        }
        return Requirement::Certificate;
    }
    if !known.jwt && !known.certificates {
        let diagnostic = Diagnostic::new(key, "requires a token, but there is no [jwt]");
        reader.report(diagnostic.hint("add a [jwt] table, or write require = [\"public\"]"));
    }
    if first == "authenticated" {
        return Requirement::Authenticated;
    }
    for (key, word) in words.iter().filter(|(_, word)| !special(word)) {
        let granted = || known.roles.values().flatten().map(String::as_str);
        if granted().any(|permission| permission == word) {
            continue;
        }
        let diagnostic =
            Diagnostic::new(key, format!("no role grants the permission {word:?}: nobody would have access"));
        let words = ["public", "authenticated", "certificate"].into_iter().chain(granted());
        reader.report(match closest(word, words) {
            Some(near) => diagnostic.hint(format!("did you mean {near:?}?")),
            None => diagnostic.hint("add it to a role under [roles]"),
        });
    }
    Requirement::Permissions(words.into_iter().map(|(_, word)| word).collect())
}
