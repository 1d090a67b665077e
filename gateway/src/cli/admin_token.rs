//! `gateway admin-token`: tokens by which operators command the gateway over the admin listener.

use std::time::Duration;

use clap::Subcommand;

use super::{
    arguments::name,
    context::Context,
    exit::Exit,
    table::{Table, clean},
};
use crate::{
    config::value,
    guard::{
        LONGEST_ADMIN_TOKEN,
        control::{self, ControlAnswer, ControlRequest},
    },
    settings::operators::{Role, names},
};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
A token is shown once; the gateway keeps its hash. Whoever has it may do what
its roles allow, by POST /v1/COMMAND to the admin listener: docs/admin-api.md.
Tokens are made and revoked on this host alone, by whoever has the role
configure and every role that the token is to have.

Examples:
  gateway admin-token new --name ada --role view --role block --expires 30d
  gateway admin-token new --name ci --role view > /run/secrets/gateway-token
  gateway admin-token list
  gateway admin-token revoke ada")]
pub(super) enum AdminTokenCommand {
    /// Make a token, and show it once
    New {
        /// Whose it is; records name them token:NAME
        #[arg(long, value_parser = name)]
        name: String,
        /// What it allows: view, block, allow, configure; more than once for more
        #[arg(long = "role", value_name = "ROLE", required = true, value_parser = role)]
        roles: Vec<Role>,
        /// After this time nobody can use it: at most 366d
        #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = lifetime)]
        expires: Duration,
    },
    /// List tokens: whose they are, what they allow, until when
    List,
    /// End a token at once
    Revoke {
        /// Whose it is
        #[arg(value_parser = name)]
        name: String,
    },
}

impl AdminTokenCommand {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let request = match self {
            Self::New { name, roles, expires } => {
                ControlRequest::AdminTokenNew { name, roles: roles.into_iter().collect(), seconds: expires.as_secs() }
            }
            Self::List => ControlRequest::AdminTokenList,
            Self::Revoke { name } => ControlRequest::AdminTokenRevoke { name },
        };
        context.ask(&request, |answer| match answer {
            ControlAnswer::AdminToken(made) => {
                let roles: Vec<Role> = made.roles.iter().copied().collect();
                let (name, roles, expires) = (clean(&made.name), names(&roles), clean(&made.expires));
                let note = format!("the token of {name} ({roles}), until {expires}; it is not shown again:");
                context.out.complain(&note, Exit::Done);
                Some(clean(&made.token))
            }
            ControlAnswer::AdminTokens { tokens } => Some(render(tokens)),
            _ => None,
        })
    }
}

pub(super) fn render(tokens: &[control::AdminToken]) -> String {
    if tokens.is_empty() {
        return "there is no token; `gateway admin-token new` makes one".to_owned();
    }
    let mut table = Table::new(["NAME", "ROLES", "EXPIRES", "USED", "CREATED", "BY"]);
    for token in tokens {
        let roles: Vec<Role> = token.roles.iter().copied().collect();
        table.row([
            token.name.clone(),
            names(&roles),
            if token.expired { format!("{} (expired)", token.expires) } else { token.expires.clone() },
            token.used.clone().unwrap_or_else(|| "-".to_owned()),
            token.created.clone(),
            token.by.clone(),
        ]);
    }
    table.render()
}

fn role(text: &str) -> Result<Role, String> {
    let found = Role::NAMES.into_iter().find(|(name, _)| *name == text).map(|(_, role)| role);
    found.ok_or_else(|| "write view, block, allow or configure".to_owned())
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let duration = value::duration(text).map_err(|wrong| wrong.hint.unwrap_or(wrong.message))?;
    let is_fine = duration.subsec_nanos() == 0 && (1..=LONGEST_ADMIN_TOKEN).contains(&duration.as_secs());
    is_fine.then_some(duration).ok_or_else(|| "write 1s to 366d, in whole seconds".to_owned())
}
