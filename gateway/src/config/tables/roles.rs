//! Reads `[roles]`: which role may do what.

use std::collections::BTreeMap;

use crate::{
    config::{
        document::join,
        reader::{Keys, Reader},
        table::{Entry, Table, values},
        value::{
            closest,
            form::{Form, described},
            word,
        },
    },
    diagnostic::Diagnostic,
    identity::permission,
    settings::authz,
};

/// What stands for the keys of `[roles]`, which are the operator's own.
pub(super) const KEYS: Keys =
    &[("ROLE", "The permissions of the role `ROLE`. A `*` stands for a segment: `items:*`. Or a table, as below.")];

/// The keys of `[roles.ROLE]`.
pub(super) const ROLE: Keys = &[
    ("permissions", "The permissions of the role. A `*` stands for a segment: `items:*`."),
    ("inherits", "Roles whose permissions it has as well."),
];

/// What a role is written as.
#[derive(Default)]
struct RoleTable {
    permissions: Vec<String>,
    /// Each with its key.
    inherits: Vec<(String, String)>,
}

pub(super) fn read(table: Table<'_>, reader: &Reader<'_>) -> authz::Settings {
    let own_key = table.own_key().to_owned();
    let mut roles = BTreeMap::new();
    for (name, entry) in table.named_entries(given(), ROLE) {
        if name.is_empty() || name.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            let diagnostic = Diagnostic::new(join(&own_key, &name), format!("{name:?} is not a role name"));
            reader.report(diagnostic.hint("write one word, as tokens name it"));
        }
        let (permissions, inherits) = match entry {
            Entry::List(permissions) => (permissions, Vec::new()),
            Entry::Table(role) => {
                let permissions = role.list("permissions", given());
                let inherits = role.list("inherits", described("name of a role", crate::config::value::line));
                role.finish();
                (permissions, inherits)
            }
        };
        for (key, word) in permissions.iter().filter(|(_, word)| is_reserved(word)) {
            let diagnostic = Diagnostic::new(key, format!("{word:?} is reserved for a route's `require`"));
            reader.report(diagnostic.hint("choose another name, as in \"items:read\""));
        }
        roles.insert(name, RoleTable { permissions: values(permissions), inherits });
    }
    resolve(&roles, reader)
}

/// A permission that a role has, or a pattern of them.
fn given() -> impl Form<String> {
    described("permission, with `*` for any segment", |value| {
        let word = word::permission(value)?;
        if permission::is_well_formed(&word) {
            return Ok(word);
        }
        let wrong = Diagnostic::bare(format!("{word:?} has a `*` within a segment"));
        Err(wrong.hint("a `*` stands for a whole segment, as in \"items:*\""))
    })
}

/// Words that `route.require` reads as something else than permissions.
fn is_reserved(word: &str) -> bool {
    matches!(word, "public" | "authenticated" | "certificate")
}

/// What is said of a role that is not among `roles`.
pub(super) fn no_such<T>(role: &str, roles: &BTreeMap<String, T>) -> Diagnostic {
    let wrong = Diagnostic::bare(format!("there is no role {role:?}"));
    match closest(role, roles.keys().map(String::as_str)) {
        Some(near) => wrong.hint(format!("did you mean {near:?}?")),
        None => wrong.hint("add it to [roles], with what it may do"),
    }
}

/// Gives every role what it inherits.
fn resolve(roles: &BTreeMap<String, RoleTable>, reader: &Reader<'_>) -> authz::Settings {
    for (key, inherited) in roles.values().flat_map(|role| &role.inherits) {
        if !roles.contains_key(inherited) {
            reader.report(no_such(inherited, roles).at(key));
        }
    }
    let all = |name: &String| (name.clone(), everything(name, roles, reader));
    roles.keys().map(all).collect()
}

/// The permissions of a role and of all that it inherits, each once. A role that inherits itself is reported.
fn everything(name: &str, roles: &BTreeMap<String, RoleTable>, reader: &Reader<'_>) -> Vec<String> {
    let (mut permissions, mut seen, mut next) = (Vec::new(), vec![name], vec![name]);
    while let Some(role) = next.pop().and_then(|name| roles.get(name)) {
        for permission in role.permissions.iter().filter(|one| !permissions.contains(*one)).collect::<Vec<_>>() {
            permissions.push(permission.clone());
        }
        for (key, inherited) in &role.inherits {
            if inherited == name {
                let wrong = Diagnostic::new(key, format!("the role {name:?} inherits itself"));
                reader.report(wrong.hint("leave out one of the `inherits` of this circle"));
            }
            if !seen.contains(&inherited.as_str()) {
                seen.push(inherited);
                next.push(inherited);
            }
        }
    }
    permissions
}
