//! `gateway whoami`: what whoever runs it may do with the running gateway.

use clap::Args;

use super::{
    context::Context,
    exit::Exit,
    table::{Table, clean, prose},
};
use crate::{
    guard::control::{self, ControlAnswer, ControlRequest},
    settings::operators::Role,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Root may do everything. Others may do what [[operator]] says of their user and
their groups. A command that is denied ends with 4.

Examples:
  gateway whoami
  gateway whoami --json | jq -r .roles[]")]
pub(super) struct WhoamiCommand {}

impl WhoamiCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        context.ask(&ControlRequest::Whoami, |answer| match answer {
            ControlAnswer::Whoami(whoami) => Some(render(whoami)),
            _ => None,
        })
    }
}

pub(super) fn render(whoami: &control::Whoami) -> String {
    let user = whoami.user.as_ref().map(|user| format!(" ({user})")).unwrap_or_default();
    let mut table = Table::new(["ROLE", "HELD", "BY"]);
    for (name, role) in Role::NAMES {
        let by = |grants: &[control::Grant]| {
            let names: Vec<&str> =
                grants.iter().filter(|grant| grant.role == role).map(|grant| grant.by.as_str()).collect();
            names.join(", ")
        };
        let (held, by) = match whoami.roles.contains(&role) {
            true => ("yes", by(&whoami.grants)),
            false => ("no", by(&whoami.missing)),
        };
        let by = if by.is_empty() { "root".to_owned() } else { by };
        table.row([name.to_owned(), held.to_owned(), by]);
    }
    format!("{}\n\n{}", prose(&clean(&format!("{}{user}", whoami.actor))), table.render())
}
