//! `gateway token`: what is in a token, and which tokens are revoked.

use std::{path::Path, time::Duration};

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{
    arguments::{id, lifetime, reason},
    context::Context,
    exit::Exit,
    table::Table,
};
use crate::guard::control::{
    ControlAnswer, ControlRequest, RevocationPage, RevocationShown, TokensOf, client::Conversation,
};

mod inspect;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gateway token revoke --issuer jwt --jti 4f1c2a --for 1h
  gateway token revoke --issuer staff --subject ada --issued-before now
  gateway token revocations list
  gateway token revocations del 3")]
pub(super) enum TokenCommand {
    /// Explain a token: whose it is, when it is good, by which key, which roles
    Inspect(inspect::Inspect),
    /// Revoke tokens, at once
    Revoke(Revoke),
    /// List revocations and lift them
    #[command(subcommand)]
    Revocations(Revocations),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Without --jti, --kid and --subject, all tokens of the issuer are revoked.
A revocation can end when the last token of its kind has expired: --for.

Examples:
  gateway token revoke --issuer jwt --jti 4f1c2a --for 1h
  gateway token revoke --issuer staff --subject ada
  gateway token revoke --issuer staff --kid 2026-01 --reason leaked
  gateway token revoke --issuer staff --issued-before now --for 1d")]
pub(super) struct Revoke {
    /// Whose tokens: `jwt`, the NAME of [issuer.NAME], or the token's `iss`
    #[arg(long, value_name = "ISSUER")]
    issuer: String,
    /// The one token with this `jti`
    #[arg(long, value_name = "ID", conflicts_with_all = ["subject", "issued_before", "kid"])]
    jti: Option<String>,
    /// All that is signed by the issuer's key of this `kid`
    #[arg(long, value_name = "KID", conflicts_with_all = ["subject", "issued_before"])]
    kid: Option<String>,
    /// The tokens of this subject
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Only those issued before a time: now, 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = before)]
    issued_before: Option<u64>,
    /// How long: 1h, 7d [default: until it is lifted]
    #[arg(long = "for", value_name = "DURATION", value_parser = lifetime)]
    duration: Option<Duration>,
    /// The reason, for the record
    #[arg(long, default_value = "by hand", value_parser = reason)]
    reason: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum Revocations {
    /// List what is revoked
    List,
    /// Lift a revocation
    Del {
        /// Its number, as the list shows it
        #[arg(value_parser = id)]
        number: u64,
    },
}

impl TokenCommand {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let request = match self {
            Self::Revoke(Revoke { issuer, jti, kid, subject, issued_before, duration, reason }) => {
                ControlRequest::TokenRevoke {
                    what: TokensOf { issuer, id: jti, subject, before: issued_before, kid },
                    seconds: duration.map(|duration| duration.as_secs()),
                    reason,
                }
            }
            Self::Inspect(inspect) => return inspect.execute(context),
            Self::Revocations(Revocations::List) => return list(context),
            Self::Revocations(Revocations::Del { number }) => ControlRequest::TokenRevocationDel { number },
        };
        context.ask(&request, |_answer| None)
    }
}

/// A moment in seconds since 1970: the next whole one, as tokens say in whole seconds when they were issued.
fn before(text: &str) -> Result<u64, String> {
    let time = if text == "now" { Ok(Timestamp::now()) } else { text.parse::<Timestamp>() };
    let time = time.map_err(|_error| "write `now`, or a time as 2026-01-31T12:00:00Z".to_owned())?;
    let up = i64::from(time.subsec_nanosecond() > 0);
    u64::try_from(time.as_second() + up).map_err(|_error| "write a time after 1970".to_owned())
}

/// All pages.
fn list(context: &Context) -> Exit {
    let socket = match context.socket() {
        Ok(socket) => socket,
        Err(exit) => return exit,
    };
    let asked = Conversation::open(&socket).and_then(|mut guard| {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            match guard.ask(&ControlRequest::TokenRevocations { after })? {
                ControlAnswer::Revocations(page) => {
                    all.extend(page.revocations);
                    match page.next {
                        Some(next) => after = next,
                        None => {
                            return Ok(ControlAnswer::Revocations(Box::new(RevocationPage {
                                revocations: all,
                                next: None,
                            })));
                        }
                    }
                }
                other => return Ok(other),
            }
        }
    });
    match asked {
        Ok(answer) => context.tell(&answer, Path::new(&socket), |answer| match answer {
            ControlAnswer::Revocations(page) => Some(table(&page.revocations)),
            _ => None,
        }),
        Err(error) => context.unreachable(&error),
    }
}

pub(super) fn table(revocations: &[RevocationShown]) -> String {
    if revocations.is_empty() {
        return "no token is revoked".to_owned();
    }
    let mut table = Table::new(["ID", "REVOKED", "UNTIL", "BY", "REASON"]);
    for one in revocations {
        let until = one.expires.clone().unwrap_or_else(|| "lifted".to_owned());
        table.row([one.number.to_string(), one.what.clone(), until, one.actor.clone(), one.reason.clone()]);
    }
    table.render()
}
