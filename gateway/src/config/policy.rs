//! Decides who may do what, how often, and what gets a source banned: `[jwt]`, `[roles]`, `[limit]`, `[detect]` and
//! `[[rule]]`.

use std::time::Duration;

use gateway_common::limit::Rate;

use super::{
    errors::MISSING,
    process::LONGEST_BAN,
    route::permission,
    service::simple_name,
    table::{Reader, Table},
    value::{self, Wrong},
};
use crate::{
    fault::Fault,
    settings::{
        authz,
        detect::{self, MAX_EVIDENCE, Rule},
        guard::{Feed, Format},
        jwt, limit, proxy,
    },
    signal::{FORMER, Signal},
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn jwt(mut table: Table<'_>) -> Option<jwt::Settings> {
    if !table.is_present() {
        return None;
    }
    let issuer = table.required("issuer", "\"https://issuer.example\"", value::line);
    let audience = table.required("audience", "\"api\"", value::line);
    let jwks = table.required_file("jwks", "\"jwks.json\"");
    let leeway = table.or("leeway", 30 * SECOND, value::duration_in(Duration::ZERO..=600 * SECOND));
    let max_lifetime = table.optional("max_lifetime", value::duration_in(SECOND..=365 * DAY));
    let typ = table.optional("type", value::line);
    let roles_claim = table.or("roles_claim", "roles".to_owned(), value::line);
    let cache = table.or("cache", 10_000, value::count(1..=10_000_000));
    // Only a configuration with a fault has none of these, and it is refused in the end.
    let settings = jwt::Settings {
        issuer: issuer.unwrap_or_default(),
        audience: audience.unwrap_or_default(),
        jwks,
        leeway,
        max_lifetime,
        typ,
        roles_claim,
        cache,
    };
    table.finish();
    Some(settings)
}

pub(super) fn roles(table: Table<'_>, reader: &Reader<'_>) -> authz::Settings {
    let own_key = table.own_key().to_owned();
    let mut roles = authz::Settings::new();
    for (role, permissions) in table.named_lists(permission) {
        if role.is_empty() || role.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            let fault = Fault::new(super::document::join(&own_key, &role), format!("{role:?} is no role"));
            reader.report(fault.hint("write one word, as tokens name it"));
        }
        for (key, word) in permissions.iter().filter(|(_, word)| matches!(word.as_str(), "public" | "authenticated")) {
            let fault = Fault::new(key, format!("{word:?} means something else in a route's `require`"));
            reader.report(fault.hint("choose another name, as in \"items:read\""));
        }
        roles.insert(role, permissions.into_iter().map(|(_, permission)| permission).collect());
    }
    roles
}

pub(super) fn address_limit(mut table: Table<'_>) -> Option<limit::Settings> {
    let mut address = table.table("address");
    table.finish();
    if !address.is_present() {
        return None;
    }
    let requests = address.required("requests", "100", value::integer(1..=1_000_000_000));
    let per = address.or("per", SECOND, value::duration_in(Duration::from_millis(1)..=DAY));
    let burst = address.optional("burst", value::integer(1..=1_000_000_000));
    let capacity = address.or("capacity", 100_000, value::count(1..=10_000_000));
    let shadow = address.or("shadow", false, value::boolean);
    let requests: u64 = match requests {
        Some(requests) => requests,
        None => {
            address.finish();
            return None;
        }
    };
    let period = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
    let rate = Rate::per(requests, period, burst.unwrap_or(requests));
    if rate.is_none() {
        let wrong = Wrong::new("is more than one request per nanosecond");
        address.report("requests", wrong.hint("write fewer requests, or a longer `per`"));
    }
    address.finish();
    Some(limit::Settings { rate: rate?, capacity, shadow })
}

/// Warns where whoever guesses tokens may go on for ever.
pub(super) fn guessing(proxy: &proxy::Settings, reader: &Reader<'_>) {
    let counts = |rule: &Rule| rule.signals.contains(&Signal::ForgedToken);
    if proxy.jwt.is_some() && proxy.address_limit.is_none() && !proxy.detect.rules.iter().any(counts) {
        let warning = Fault::new("jwt", "nothing limits how many tokens an address may try");
        reader.warn(warning.hint("add [limit.address], or a [[rule]] with signals = [\"forged_token\"]"));
    }
}

pub(super) fn detect(mut table: Table<'_>, rules: Vec<Table<'_>>, reader: &Reader<'_>) -> detect::Settings {
    let capacity = table.or("capacity", 100_000, value::count(1..=10_000_000));
    table.finish();
    let mut read: Vec<Rule> = Vec::new();
    for mut table in rules {
        let name = table.required("name", "\"bad-tokens\"", |value| {
            let name = value::text(value)?;
            simple_name(name).map(|()| name.to_owned())
        });
        if let Some(earlier) = read.iter().position(|rule| Some(&rule.name) == name.as_ref()) {
            let wrong = Wrong::new(format!("rule[{earlier}] has this name already"));
            table.report("name", wrong.hint("give each rule a name of its own"));
        }
        let rule = Rule {
            name: name.unwrap_or_default(),
            signals: signals(&mut table, reader),
            count: table.required("count", "10", value::integer(1..=EVIDENCE)).unwrap_or(1),
            within: table.required("within", "\"60s\"", value::duration_in(SECOND..=DAY)).unwrap_or(SECOND),
            ban: table.required("ban", "\"10m\"", value::duration_in(SECOND..=LONGEST_BAN)).unwrap_or(SECOND),
            shadow: table.or("shadow", false, value::boolean),
        };
        table.finish();
        read.push(rule);
    }
    detect::Settings { capacity, rules: read }
}

/// `[[feed]]`.
pub(super) fn feeds(tables: Vec<Table<'_>>) -> Vec<Feed> {
    let mut read: Vec<Feed> = Vec::new();
    for mut table in tables {
        let name = table.required("name", "\"firehol-level1\"", |value| {
            let name = value::text(value)?;
            simple_name(name).map(|()| name.to_owned())
        });
        if let Some(earlier) = read.iter().position(|feed| Some(&feed.name) == name.as_ref()) {
            let wrong = Wrong::new(format!("feed[{earlier}] has this name already"));
            table.report("name", wrong.hint("give each feed a name of its own"));
        }
        if !table.has("path") {
            table.report("path", Wrong::new(MISSING).hint("write, for example, `path = \"/var/lib/lists/drop.txt\"`"));
        }
        let feed = Feed {
            name: name.unwrap_or_default(),
            path: table.path("path").unwrap_or_default(),
            format: table.optional("format", value::choice(&Format::NAMES)),
            ban: table.optional("ban", value::duration_in(SECOND..=LONGEST_BAN)),
            shadow: table.or("shadow", false, value::boolean),
        };
        table.finish();
        read.push(feed);
    }
    read
}

/// Every signal that fills a rule's bucket is evidence, and a ban names at most this many.
#[expect(clippy::cast_possible_truncation, reason = "64")]
const EVIDENCE: u32 = MAX_EVIDENCE as u32;

fn signals(table: &mut Table<'_>, reader: &Reader<'_>) -> Vec<Signal> {
    let words = Signal::ALL.map(|signal| (signal.name(), signal));
    let example = format!("[{}]", words.map(|(name, _)| format!("{name:?}")).join(", "));
    let is_former = std::cell::Cell::new(false);
    let known = value::choice(&words);
    let read = |value: &toml::de::DeValue<'_>| {
        if value::text(value).is_ok_and(|name| name == FORMER.0) {
            is_former.set(true);
            return Ok(FORMER.1);
        }
        known(value)
    };
    let signals = table.required_list("signals", &example, read);
    if let Some((key, _)) = signals.first().filter(|_| is_former.get()) {
        let key = key.rsplit_once('[').map_or(key.as_str(), |(list, _)| list);
        let warning =
            Fault::new(key, format!("{:?} is called {:?} by now: only forgeries count", FORMER.0, FORMER.1.name()));
        let others = "expired_token, not_yet_valid, unknown_key, unfit_token, wrong_audience, wrong_issuer";
        reader.warn(
            warning.hint(format!("write the new name; what else is not valid are signals of their own: {others}")),
        );
    }
    for (index, (key, signal)) in signals.iter().enumerate() {
        if signals.iter().take(index).any(|(_, earlier)| earlier == signal) {
            let fault = Fault::new(key, format!("{:?} is there already", signal.name()));
            reader.report(fault.hint("name each signal once"));
        }
    }
    signals.into_iter().map(|(_, signal)| signal).collect()
}
