//! Reads `[[operator]]`: who may do what with the running gateway, besides root.

use toml::de::DeValue;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{self, form::described},
    },
    diagnostic::Diagnostic,
    settings::operators::{ControlMode, Member, Operator, Role},
};

/// The keys of `[[operator]]`.
pub(super) const KEYS: Keys = &[
    ("group", "The Unix group whose members these roles are for: a name, or a number as a string."),
    ("user", "The user whom these roles are for, in place of a group: a name, or a number as a string."),
    (
        "roles",
        "What they may do. `view`: see status, lists and events. `block`: block sources. `allow`: let sources through, \
         unblock. `configure`: reload, attach, promote, and set safety rules aside. No role includes another.",
    ),
];

pub(super) fn read(tables: Vec<Table<'_>>, mode: ControlMode, reader: &Reader<'_>) -> Vec<Operator> {
    let mut read: Vec<Operator> = Vec::new();
    for table in tables {
        let group = table.optional("group", described("string", account).written(|name| format!("{name:?}")));
        let user = table.optional("user", described("string", account).written(|name| format!("{name:?}")));
        if user.as_deref().is_some_and(|user| matches!(user, "root" | "0")) {
            let wrong = Diagnostic::bare("is root, who may do everything");
            table.report("user", wrong.hint("leave this table out"));
        }
        let roles = table.required_list("roles", "[\"view\"]", value::choice(&Role::NAMES));
        let who = match (group, user) {
            (Some(group), None) => Some(Member::Group(group)),
            (None, Some(user)) => Some(Member::User(user)),
            (Some(_), Some(_)) => {
                let wrong = Diagnostic::bare("cannot stand beside `group`");
                table.report("user", wrong.hint("write a table of its own for the user"));
                None
            }
            // One that is wrong has been reported.
            (None, None) if table.has("group") || table.has("user") || table.has_unknown() => None,
            (None, None) => {
                let wrong = Diagnostic::bare("is missing");
                table
                    .report("group", wrong.hint("write whom the roles are for: group = \"edge\", or user = \"alice\""));
                None
            }
        };
        if let Some(earlier) = read.iter().position(|operator| Some(&operator.who) == who.as_ref()) {
            let name = if matches!(who, Some(Member::User(_))) { "user" } else { "group" };
            let wrong = Diagnostic::bare(format!("has its roles from operator[{earlier}] already"));
            table.report(name, wrong.hint("write all roles in one table"));
        }
        if mode == ControlMode::Owner {
            let key = if table.has("user") { table.key("user") } else { table.key("group") };
            let warning = Diagnostic::new(key, "has no effect: only root may open the control socket");
            reader.warn(warning.hint("name a group that may open it: guard.control_group = \"edge\""));
        }
        table.finish();
        let roles = roles.into_iter().map(|(_, role)| role).collect();
        read.extend(who.map(|who| Operator { who, roles }));
    }
    read
}

/// The name or the number of a user or group.
pub(super) fn account(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    const HINT: &str = "write a name or a number, as a string: \"edge\", \"1001\"";
    let name = value::line(value).map_err(|wrong| wrong.hint(HINT))?;
    if name.len() > 256 || name.contains([':', '/', ' ', ',']) {
        return Err(Diagnostic::bare(format!("{name:?} is no name of a user or group")).hint(HINT));
    }
    Ok(name)
}
