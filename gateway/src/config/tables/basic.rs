//! Reads `[basic]`: whose names and passwords are good.

use std::{collections::BTreeMap, time::Duration};

use toml::de::DeValue;

use super::{certificate::warn_of_mode, roles::no_such};
use crate::{
    config::{
        document::join,
        reader::{Keys, Reader},
        table::{Table, values},
        value::{self, form::described},
    },
    diagnostic::Diagnostic,
    settings::{authz, basic},
};

/// The keys of `[basic]`.
pub(super) const KEYS: Keys = &[
    ("users", "The file with users and the hashes of their passwords, as `htpasswd -B` writes it: argon2id or bcrypt."),
    ("realm", "What browsers show when they ask for the password."),
    ("roles", "The roles of each user."),
    ("default_roles", "The roles of users that `roles` does not name."),
    ("cache", "The number of results that are remembered."),
    ("remember", "How long a password that was right is not compared again."),
    ("max_waiting", "How many comparisons wait at most. Above it, the answer is 503."),
    ("max_waiting_per_source", "How many comparisons of one source wait at most. Above it, the answer is 429."),
    ("forward", "`true`: the upstream gets the name and the password, too."),
];

/// What stands for the keys of `[basic.roles]`, which are the users' own.
pub(super) const ROLES: Keys = &[("USER", "The roles of the user `USER`.")];

const SECOND: Duration = Duration::from_secs(1);

/// `None`: there is no such table.
pub(super) fn read(table: Table<'_>, roles: &authz::Settings, reader: &Reader<'_>) -> Option<basic::Settings> {
    if !table.is_present() {
        return None;
    }
    let users = table.required_file("users", "\"users.htpasswd\"");
    warn_of_mode(&users, table.key("users"), reader);
    let realm =
        table.or("realm", "gateway".to_owned(), described("string", realm).written(|realm| format!("{realm:?}")));
    let of_users = of_users(table.table("roles", ROLES), roles, reader);
    let role = described("role", |value| known(value::text(value)?, roles));
    let default_roles = values(table.list("default_roles", role));
    let cache = table.or("cache", 10_000, value::count(1..=1_000_000));
    let remember = table.or("remember", 300 * SECOND, value::duration_in(SECOND..=86_400 * SECOND));
    let max_waiting = table.or("max_waiting", 256, value::count(1..=10_000));
    let max_waiting_per_source = table.or("max_waiting_per_source", 8, value::count(1..=1_000));
    let forward = table.or("forward", false, value::boolean());
    table.finish();
    Some(basic::Settings {
        users,
        realm,
        roles: of_users,
        default_roles,
        cache,
        remember,
        max_waiting,
        max_waiting_per_source,
        forward,
    })
}

fn of_users(table: Table<'_>, roles: &authz::Settings, reader: &Reader<'_>) -> BTreeMap<String, Vec<String>> {
    let own_key = table.own_key().to_owned();
    let mut users = BTreeMap::new();
    let form = described("array of: role", |value: &DeValue<'_>| list(value, roles));
    for (_, name, listed) in table.named_values(form) {
        match listed {
            Ok(listed) => drop(users.insert(name, listed)),
            Err(wrong) => reader.report(wrong.at(join(&own_key, &name))),
        }
    }
    users
}

fn list(value: &DeValue<'_>, roles: &authz::Settings) -> Result<Vec<String>, Diagnostic> {
    let DeValue::Array(elements) = value else {
        let wrong = Diagnostic::bare(format!("expected an array, found {}", value::kind(value)));
        return Err(wrong.hint("put the roles in brackets: `[\"reader\"]`"));
    };
    elements.iter().map(|element| known(value::text(element.get_ref())?, roles)).collect()
}

fn known(name: &str, roles: &authz::Settings) -> Result<String, Diagnostic> {
    if roles.contains_key(name) { Ok(name.to_owned()) } else { Err(no_such(name, roles)) }
}

/// What can stand between quotation marks in a header (RFC 9110 5.6.4) as it is.
fn realm(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let text = value::line(value)?;
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        return Ok(text);
    }
    Err(Diagnostic::bare(format!("{text:?} has quotation marks, backslashes or letters beyond ASCII"))
        .hint("write plain words, as in \"Staff only\""))
}
