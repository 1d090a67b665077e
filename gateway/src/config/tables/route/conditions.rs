//! Reads `route.sources` and `route.allow_if`: where clients must be, and what must be true of their requests.

use gateway_common::source::Source;
use http::Method;

use super::{
    super::sources::{HINT, list},
    references::RouteReferences,
};
use crate::{
    config::{
        reader::Reader,
        table::{Table, values},
        value::{choice, closest, form::described, line},
    },
    diagnostic::Diagnostic,
    identity::expression::{
        ComparisonKind, Expression, ExpressionError, NoNetworks, Operand, RouteScope, contradiction, networks,
    },
    net::{
        geo::{Country, Geo, asn},
        source_set::SourceSet,
    },
    settings::{
        auth::Methods,
        authz::{Requirement, RequirementPart},
        route::Sources,
    },
};

/// What a route's conditions are about.
pub(super) struct ConditionContext<'a> {
    pub(super) path: Option<&'a str>,
    pub(super) methods: &'a [Method],
    pub(super) require: &'a Requirement,
}

pub(super) fn sources(table: &Table<'_>, known: &RouteReferences<'_>, reader: &Reader<'_>) -> Option<Sources> {
    let texts = table.list(
        "sources",
        described("address, prefix, name of a set in `[sources]` or of a feed, `country:DE` or `asn:64500`", line),
    );
    if !table.has("sources") {
        return None;
    }
    if texts.is_empty() {
        table.report("sources", Diagnostic::bare("is empty: nobody could be let in").hint(HINT));
    }
    let mut found: Vec<Source> = Vec::new();
    let mut sources = Sources { geo: known.geo.clone(), ..Sources::default() };
    for (key, text) in &texts {
        if let Some(placed) = place(text, known.geo, &mut sources) {
            placed.unwrap_or_else(|wrong| reader.report(wrong.at(key)));
            continue;
        }
        let feed = known.feeds.iter().find(|feed| feed.name == *text && !known.sources.contains_key(text));
        if let Some(feed) = feed {
            let Some(path) = feed.path() else {
                let wrong = Diagnostic::bare(format!("the feed {text} is fetched: routes know feeds in files alone"));
                reader.report(wrong.at(key).hint("fetch it into a file, and name that file by `path`"));
                continue;
            };
            let list = reader.file_at(path.clone(), false).and_then(|file| list(&file, feed.format, &feed.services));
            match list {
                Ok(list) => {
                    list.unread.into_iter().for_each(|unread| reader.warn(unread.at(key)));
                    found.extend(list.networks);
                }
                Err(wrong) => reader.report(wrong.at(key)),
            }
            continue;
        }
        match networks(text, known.sources) {
            Ok(networks) => found.extend(networks),
            Err(wrong) => {
                let sets = known.sources.keys().map(String::as_str);
                let hint = match closest(text, sets.chain(known.feeds.iter().map(|feed| feed.name.as_str()))) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => HINT.to_owned(),
                };
                let message = match wrong {
                    NoNetworks::Unnamed(_) => format!("{wrong}, and no [[feed]] has that name"),
                    NoNetworks::Malformed(why) => why,
                };
                reader.report(Diagnostic::new(key, message).hint(hint));
            }
        }
    }
    let overlaps = |proxy: &&Source| found.iter().any(|network| network.covers(proxy) || proxy.covers(network));
    if let Some(proxy) = known.trusted_proxies.iter().find(overlaps) {
        let warning = Diagnostic::new(table.key("sources"), format!("overlaps with the trusted proxy {proxy}"));
        reader.warn(warning.hint("a trusted proxy that does not name its client is let in by no `sources`"));
    }
    Some(Sources { texts: values(texts), set: SourceSet::new(&found), ..sources })
}

/// Adds the country or system that a text names; `None`: it names neither.
fn place(text: &str, geo: &Geo, sources: &mut Sources) -> Option<Result<(), Diagnostic>> {
    let (kind, name) = text.split_once(':')?;
    let wrong = match kind {
        "country" => match Country::parse(name) {
            Some(country) => {
                sources.countries.push(country);
                None
            }
            None => Some(
                Diagnostic::bare(format!("{name:?} is no country")).hint("write two capital letters: \"country:DE\""),
            ),
        },
        "asn" => match asn(name) {
            Some(asn) => {
                sources.asns.push(asn);
                None
            }
            None => Some(
                Diagnostic::bare(format!("{name:?} is no autonomous system")).hint("write its number: \"asn:64500\""),
            ),
        },
        _ => return None,
    };
    let unknown = || {
        let wrong = Diagnostic::bare("there is no database to look it up in");
        (!geo.is_configured()).then(|| wrong.hint("name one by `database` in [geo]"))
    };
    Some(wrong.or_else(unknown).map_or(Ok(()), Err))
}

pub(super) fn allow_if(
    table: &Table<'_>,
    asked: &ConditionContext<'_>,
    authenticate: &Methods,
    known: &RouteReferences<'_>,
    reader: &Reader<'_>,
) -> Vec<Expression> {
    let texts = table.list("allow_if", described("condition", line));
    let scope = RouteScope::new(asked.path.unwrap_or_default(), asked.methods, known.sources);
    let mut read: Vec<Expression> = Vec::new();
    let mut keys: Vec<&str> = Vec::new();
    for (key, text) in &texts {
        match Expression::parse(text, &scope) {
            Ok(condition) => {
                judge_identity(key, &condition, asked.require, authenticate, reader);
                warn_of_several_issuers(key, &condition, known.issuers, reader);
                keys.push(key);
                read.push(condition);
            }
            // Without its path nothing is known of a route's parameters.
            Err(_) if asked.path.is_none() => {}
            Err(error) => report(key, text, error, reader),
        }
    }
    if let Some((index, error)) = contradiction(&read)
        && let (Some(key), Some(condition)) = (keys.get(index), read.get(index))
    {
        report(key, &condition.text, error, reader);
    }
    if *asked.require == Requirement::Nobody && !read.is_empty() {
        let wrong = Diagnostic::bare("has no effect: nobody is let through");
        table.report("allow_if", wrong.hint("write require = [\"authenticated\"], or permissions"));
    }
    read
}

/// Reports a fault at its place within the text.
fn report(key: &str, text: &str, error: ExpressionError, reader: &Reader<'_>) {
    let ExpressionError { at, message, hint } = error;
    let column = text.get(..at.start).unwrap_or(text).chars().count() + 1;
    let diagnostic = Diagnostic::new(key, format!("at character {column}: {message}")).hint(hint);
    reader.report_within(diagnostic, text, at);
}

/// Reports conditions that can never be true as the route does not look at what they ask for.
fn judge_identity(
    key: &str,
    condition: &Expression,
    require: &Requirement,
    authenticate: &Methods,
    reader: &Reader<'_>,
) {
    let wrong = match require {
        Requirement::Public if condition.needs_identity() => "can never be true: the route asks for no identity",
        Requirement::Certificate if condition.claims().next().is_some() => {
            "can never be true: no token is looked at, and certificates have no claims"
        }
        Requirement::Authenticated | Requirement::Permissions(_)
            if condition.claims().next().is_some() && !authenticate.may_prove_by_token() =>
        {
            "can never be true: the route accepts no tokens, and nothing else has claims"
        }
        _ => return,
    };
    reader.report(Diagnostic::new(key, wrong).hint("write require = [\"authenticated\"], or permissions"));
}

/// Two issuers may each have an `ada`: a parameter that is compared with a claim alone is both of them.
fn warn_of_several_issuers(key: &str, condition: &Expression, issuers: usize, reader: &Reader<'_>) {
    let compares = condition.comparisons().any(|comparison| {
        let is_claim = |operand: &Operand| matches!(operand, Operand::Claim(_));
        let is_parameter = |operand: &Operand| matches!(operand, Operand::Parameter(_));
        matches!(&comparison.kind, ComparisonKind::Compare(one, _, other)
            if is_claim(one) && is_parameter(other) || is_parameter(one) && is_claim(other))
    });
    let tells_apart = || {
        condition.claims().any(|claim| claim.to_string() == "iss")
            || condition.comparisons().any(|comparison| comparison.looks_at_principal())
    };
    if issuers > 1 && compares && !tells_apart() {
        let warning = Diagnostic::new(key, "issuers may name different clients alike in this claim");
        reader.warn(warning.hint("compare with `principal`, which begins with the issuer, or add claim.iss == '...'"));
    }
}

/// Which requirements of the route only count.
pub(super) fn shadow(table: &Table<'_>, name: Option<&str>, require: &Requirement) -> Vec<RequirementPart> {
    let parts = values(table.list("shadow", choice(&RequirementPart::NAMES)));
    let wrong = |what: String, hint: &str| table.report("shadow", Diagnostic::bare(what).hint(hint));
    if !parts.is_empty() && name.is_none() && !table.has("name") {
        wrong(
            "needs a `name` for the route, by which it is reported and promoted".to_owned(),
            "write name = \"items\"",
        );
    }
    for (index, part) in parts.iter().enumerate() {
        let key = part.name();
        if parts.iter().take(index).any(|earlier| earlier == part) {
            wrong(format!("lists {key:?} twice"), "name each requirement once");
        } else if *part == RequirementPart::Require && matches!(require, Requirement::Nobody | Requirement::Public) {
            let hint = "write require = [\"authenticated\"], or permissions, which are then counted only";
            wrong("has no effect: `require` denies nobody, or everybody for ever".to_owned(), hint);
        } else if !table.has(key) {
            wrong(format!("has no effect: the route has no `{key}`"), "leave it out, or add what is to be counted");
        }
    }
    parts
}
