//! The default rules: what an attacker does and a customer does not, whatever the API. `docs/detection.md` explains each.
//!
//! None of them bans for what happens to customers when something of ours is wrong: expired tokens, tokens by unknown keys,
//! tokens of other issuers or for others, missing tokens. One counts such tokens in shadow mode, so that the guard notices when
//! good clients fail together. A signal that is new belongs into the rule that it fits, or into one
//! of its own here.

use std::time::Duration;

use crate::{
    settings::detect::{Defaults, Distinct, Rule},
    signal::Signal,
};

const MINUTE: Duration = Duration::from_secs(60);

/// The rule that is in force only where it is named: it looks at every request.
const SCRAPING: &str = "scraping";

/// Whether a default rule is in force only where it is named.
pub(super) fn is_asked_for(rule: &Rule) -> bool {
    rule.name == SCRAPING
}

/// Every default rule, in force as `defaults` says. `with_keys`: there are API keys.
pub(super) fn all(defaults: Defaults, with_keys: bool) -> Vec<Rule> {
    use Signal as S;
    let mut guessed = vec![S::WrongPassword];
    if with_keys {
        guessed.extend([S::ForgedToken, S::UnknownKey]);
    }
    let rules = [
        // One source tries many accounts.
        Rule {
            distinct: Some(Distinct::Principals),
            share: Some(50),
            ..rule("credential-stuffing", &guessed, 10, 10, 60)
        },
        // One source tries many passwords.
        Rule { share: Some(80), ..rule("password-guessing", &[S::WrongPassword], 30, 5, 10) },
        // The same, where an upstream looks at passwords. A client that has lost its session may do so, too.
        Rule { share: Some(80), shadow: true, ..rule("upstream-logins", &[S::UpstreamUnauthorized], 30, 1, 10) },
        // Many sources try one account. Among them may be its owner's.
        Rule { distinct: Some(Distinct::Sources), shadow: true, ..rule("account-under-attack", &guessed, 20, 10, 10) },
        rule("token-forging", &[S::ForgedToken], 10, 1, 10),
        // A key, a clock or an issuer is wrong, and it is customers who suffer. The guard tells when good clients fail together.
        Rule {
            share: Some(80),
            shadow: true,
            ..rule(
                "refused-tokens",
                &[S::ExpiredToken, S::NotYetValid, S::UnknownKey, S::WrongAudience, S::WrongIssuer],
                10,
                5,
                10,
            )
        },
        // Looks for what it may have.
        Rule {
            distinct: Some(Distinct::Paths),
            share: Some(50),
            ..rule("forbidden-probing", &[S::Forbidden, S::UpstreamForbidden], 10, 5, 10)
        },
        // Asks for one object of others after the other (BOLA).
        Rule {
            distinct: Some(Distinct::Objects),
            share: Some(50),
            ..rule("object-enumeration", &[S::Forbidden, S::UpstreamForbidden], 30, 5, 10)
        },
        // The same, of an upstream that does not tell what is there. A client that synchronises may do so, too.
        Rule {
            distinct: Some(Distinct::Objects),
            share: Some(80),
            shadow: true,
            ..rule("object-guessing", &[S::UpstreamNotFound], 60, 1, 10)
        },
        Rule {
            distinct: Some(Distinct::Paths),
            share: Some(80),
            ..rule("path-scan", &[S::UnknownRoute, S::UpstreamNotFound], 20, 1, 10)
        },
        Rule { distinct: Some(Distinct::Objects), ..rule("vulnerability-scan", &[S::ScanPath], 5, 5, 60) },
        // Only where a firewall enforces: what it reports is no signal.
        Rule { share: Some(80), ..rule("injection", &[S::Injection], 20, 1, 10) },
        Rule { share: Some(80), ..rule("malformed-requests", &[S::BadRequest], 20, 1, 10) },
        Rule { share: Some(80), ..rule("slow-clients", &[S::SlowClient], 10, 5, 10) },
        Rule { share: Some(80), ..rule("handshake-abuse", &[S::BadHandshake, S::HandshakeAbuse], 30, 1, 10) },
        // Whoever tries a site as a search engine sees it does so, too.
        Rule { shadow: true, ..rule("false-crawler", &[S::FalseCrawler], 10, 1, 10) },
        // An upstream's errors are seldom the client's fault.
        Rule { share: Some(80), shadow: true, ..rule("error-storm", &[S::UpstreamError], 30, 1, 10) },
        Rule {
            distinct: Some(Distinct::Objects),
            within: Duration::from_secs(10),
            shadow: true,
            ..rule(SCRAPING, &[S::Served], 64, 1, 10)
        },
    ];
    let enforces = defaults == Defaults::Enforce;
    rules.into_iter().map(|rule| Rule { shadow: rule.shadow || !enforces, ..rule }).collect()
}

/// `count` signals within so many minutes are a ban of so many minutes.
fn rule(name: &str, signals: &[Signal], count: u32, within: u32, ban: u32) -> Rule {
    let (name, signals) = (name.to_owned(), signals.to_vec());
    Rule { name, signals, count, within: MINUTE * within, ban: MINUTE * ban, ..Rule::default() }
}
