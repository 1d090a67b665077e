//! `gateway key`: API keys, from creation to rotation and revocation.

use std::{path::Path, time::Duration};

use clap::{Args, Subcommand};
use gateway_common::source::Source;

use super::{
    arguments::{lifetime, name, reason, whole_seconds},
    context::Context,
    exit::Exit,
    table::{Table, clean, item, prose},
};
use crate::{
    guard::control::{ControlAnswer, ControlRequest, KeyMade, KeyPage, KeyShown, NewKey, client::Conversation},
    policy::auth::api_key::record::Network,
};

mod import;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
A key is shown once, when it is made. The gateway keeps a hash of it.

Examples:
  gateway key new --name deploy --roles editor --expires 90d
  gateway key new --name ci --roles reader --from 192.0.2.0/24
  gateway key new --name acme --roles reader --plan gold
  gateway key list
  gateway key rotate deploy --overlap 24h
  gateway key revoke deploy --reason \"seen in a log\"
  gateway key import keys.jsonl")]
pub(super) enum KeyCommand {
    /// Make a key, and show it once
    New(New),
    /// List all keys
    List,
    /// Show one key, or all keys of a name
    Show {
        /// The key's id or name
        what: String,
    },
    /// Make a key in the place of another, which stays good for a while
    Rotate {
        /// The key's id or name
        what: String,
        /// How long the old key stays good: 0s, 24h, 7d
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = overlap)]
        overlap: Duration,
        /// How long the new key is good [default: as long as the old one]
        #[arg(long, value_name = "DURATION", value_parser = whole_seconds)]
        expires: Option<Duration>,
    },
    /// Revoke a key, or all keys of a name, at once and for good
    Revoke {
        /// The key's id or name
        what: String,
        /// The reason, for the record
        #[arg(long, default_value = "by hand", value_parser = reason)]
        reason: String,
    },
    /// Take over keys that were made elsewhere, by their hashes
    Import(import::Import),
}

#[derive(Debug, Args)]
pub(super) struct New {
    /// Whom the key is for: the principal is key:NAME
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: String,
    /// Its roles, with commas between
    #[arg(long, value_name = "ROLES", value_delimiter = ',')]
    roles: Vec<String>,
    /// How long it is good: 90d, 12h [default: until it is revoked]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    expires: Option<Duration>,
    /// Addresses and prefixes that it may be used from [default: all]
    #[arg(long, value_name = "SOURCES", value_delimiter = ',')]
    from: Vec<Source>,
    /// Hosts that it may be used for: api.example, *.example [default: all]
    #[arg(long, value_name = "HOSTS", value_delimiter = ',')]
    hosts: Vec<String>,
    /// What limits allow it: the NAME of [plan.NAME] [default: by its roles and its name]
    #[arg(long, value_name = "NAME", visible_alias = "limit")]
    plan: Option<String>,
}

impl KeyCommand {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let request = match self {
            Self::New(New { name, roles, expires, from, hosts, plan }) => ControlRequest::KeyNew(NewKey {
                name,
                roles,
                seconds: expires.map(|expires| expires.as_secs()),
                from: from.into_iter().map(Network).collect(),
                hosts,
                plan,
            }),
            Self::List => return list(context),
            Self::Show { what } => ControlRequest::KeyShow { what },
            Self::Rotate { what, overlap, expires } => ControlRequest::KeyRotate {
                what,
                overlap: overlap.as_secs(),
                seconds: expires.map(|expires| expires.as_secs()),
            },
            Self::Revoke { what, reason } => ControlRequest::KeyRevoke { what, reason },
            Self::Import(import) => return import.execute(context),
        };
        context.ask(&request, |answer| match answer {
            ControlAnswer::KeyMade(made) => Some(render(made)),
            ControlAnswer::Keys(page) => Some(page.keys.iter().map(describe).collect::<Vec<_>>().join("\n\n")),
            _ => None,
        })
    }
}

/// Zero is a time here: the old key ends at once.
fn overlap(text: &str) -> Result<Duration, String> {
    if text == "0s" { Ok(Duration::ZERO) } else { whole_seconds(text) }
}

/// All pages.
fn list(context: &Context) -> Exit {
    let socket = match context.socket() {
        Ok(socket) => socket,
        Err(exit) => return exit,
    };
    let asked = Conversation::open(&socket).and_then(|mut guard| {
        let mut all = KeyPage { keys: Vec::new(), next: None };
        loop {
            match guard.ask(&ControlRequest::KeyList { after: all.next.take() })? {
                ControlAnswer::Keys(page) => {
                    all.keys.extend(page.keys);
                    all.next = page.next;
                }
                other => return Ok(other),
            }
            if all.next.is_none() {
                return Ok(ControlAnswer::Keys(Box::new(all)));
            }
        }
    });
    match asked {
        Ok(answer) => context.tell(&answer, Path::new(&socket), |answer| match answer {
            ControlAnswer::Keys(page) => Some(table(&page.keys)),
            _ => None,
        }),
        Err(error) => context.unreachable(&error),
    }
}

/// The key stands on a line of its own, so that it can be copied.
pub(super) fn render(made: &KeyMade) -> String {
    let KeyMade { id, name, key, expires, replaces, replaced_until, warning } = made;
    let mut text = format!("{key}\n\nKeep it now: it is not shown again.\nid: {id}\nprincipal: key:{name}");
    text.extend(expires.iter().map(|expires| format!("\nexpires: {expires}")));
    if let (Some(old), Some(until)) = (replaces, replaced_until) {
        text.push_str(&format!("\nin the place of {old}, which is good until {until}"));
    }
    text.extend(warning.iter().map(|warning| format!("\nwarning: {warning}")));
    prose(&text)
}

fn state(key: &KeyShown) -> &'static str {
    let now = i64::try_from(key.expires_seconds.unwrap_or(u64::MAX)).unwrap_or(i64::MAX);
    match key {
        KeyShown { revoked: Some(_), .. } => "revoked",
        _ if now <= jiff::Timestamp::now().as_second() => "expired",
        KeyShown { replaced_by: Some(_), .. } => "replaced",
        _ => "good",
    }
}

pub(super) fn table(keys: &[KeyShown]) -> String {
    if keys.is_empty() {
        return prose("there are no API keys; make one with `gateway key new --name NAME --roles ROLES`");
    }
    let mut table = Table::new(["NAME", "KEY", "STATE", "ROLES", "PLAN", "EXPIRES", "LAST USED"]);
    let or_never = |time: &Option<String>| time.clone().unwrap_or_else(|| "never".to_owned());
    for key in keys {
        table.row([
            key.name.clone(),
            key.id.clone(),
            state(key).to_owned(),
            key.roles.join(","),
            key.plan.clone().unwrap_or_default(),
            or_never(&key.expires),
            or_never(&key.used),
        ]);
    }
    table.render()
}

pub(super) fn describe(key: &KeyShown) -> String {
    let KeyShown { id, name, roles, from, hosts, plan, created, actor, expires, used, revoked, replaced_by, .. } = key;
    let listed = |words: &[String], none: &str| if words.is_empty() { none.to_owned() } else { words.join(", ") };
    let mut lines = vec![
        format!("{name} ({id}): {}", state(key)),
        format!("  roles: {}", listed(roles, "none")),
        format!("  from: {}", listed(from, "everywhere")),
        format!("  hosts: {}", listed(hosts, "all")),
        format!("  plan: {}", plan.as_deref().unwrap_or("by its roles and its name")),
        format!("  made: {created} by {actor}"),
        format!("  expires: {}", expires.as_deref().unwrap_or("never")),
        format!("  last used (to an hour): {}", used.as_deref().unwrap_or("never")),
    ];
    lines.extend(revoked.iter().map(|revoked| format!("  revoked: {revoked}")));
    lines.extend(replaced_by.iter().map(|other| format!("  replaced by: {other}")));
    lines.iter().map(|line| item(&clean(line))).collect::<Vec<_>>().join("\n")
}
