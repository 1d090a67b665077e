//! Reads `[roles]`: which role may do what.

use crate::{
    config::{
        document::join,
        reader::{Keys, Reader},
        table::Table,
        value::word::permission,
    },
    diagnostic::Diagnostic,
    settings::authz::Settings,
};

/// What stands for the keys of `[roles]`, which are the operator's own.
pub(super) const KEYS: Keys = &[("ROLE", "The permissions of the role `ROLE`.")];

pub(super) fn read(table: Table<'_>, reader: &Reader<'_>) -> Settings {
    let own_key = table.own_key().to_owned();
    let mut roles = Settings::new();
    for (role, permissions) in table.named_lists(permission) {
        if role.is_empty() || role.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            let diagnostic = Diagnostic::new(join(&own_key, &role), format!("{role:?} is not a role name"));
            reader.report(diagnostic.hint("write one word, as tokens name it"));
        }
        for (key, word) in permissions.iter().filter(|(_, word)| matches!(word.as_str(), "public" | "authenticated")) {
            let diagnostic = Diagnostic::new(key, format!("{word:?} is reserved for a route's `require`"));
            reader.report(diagnostic.hint("choose another name, as in \"items:read\""));
        }
        roles.insert(role, permissions.into_iter().map(|(_, permission)| permission).collect());
    }
    roles
}
