//! Reads `[limit.NAME]`: how many requests whoever it counts may make.

use std::time::Duration;

use gateway_common::source::Source;
use toml::de::DeValue;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{
            self, closest,
            form::described,
            word::{self, simple_name},
        },
    },
    diagnostic::Diagnostic,
    identity::claim::ClaimPath,
    net::geo::Geo,
    settings::{
        limit::{Allowance, Cost, Except, KeyPart, Limit, MAX_LIMITS, Rate},
        route::Route,
    },
    text::digits::decimal,
    web::path::pattern::PatternParameter,
};

pub(super) mod clamp;

/// The keys of `[limit.NAME]`.
pub(super) const KEYS: Keys = &[
    ("name", "The limit's name, where it is written as `[[limit]]`. In `[limit.NAME]` it is `NAME`."),
    ("by", "What requests must have in common to share a counter. What a request lacks is replaced by its address."),
    ("requests", "The requests per `per`. A limit has exactly one of `requests`, `units` and `concurrent`."),
    ("units", "The units per `per` of a `cost` that is not `requests`: a number, or a size of bytes."),
    ("concurrent", "The requests in flight at once."),
    ("per", "The period of `requests` or `units`."),
    ("burst", "How much may come at once. Without it: as much as in `per`."),
    ("cost", "What is counted. Other than requests, it is charged once the request is over, and may exceed the burst."),
    (
        "routes",
        "The names and tags of the routes that are limited. Without it: every request, also without a \
         route, unless `by`, a plan or `except` need to know the client. `[]`: operations that name the limit.",
    ),
    ("weights", "How much one request of a route counts, by name or tag: `{ search = 10, status = 0 }`."),
    ("except", "Who is not counted."),
    ("capacity", "The number of counters that are kept at once."),
    ("delay", "How long a request over the limit may wait for its turn. Without it: it is refused at once."),
    ("clamp", "When the kernel lets a source that goes on over this limit send less. Without this table: never."),
    ("headers", "Whether answers have `RateLimit` and `RateLimit-Policy`."),
    ("shadow", "`true` counts what would be refused and serves it."),
    ("shared", "`true`: all machines of `[cluster]` count together."),
];

/// The keys of `[limit.NAME.except]`.
pub(super) const EXCEPT_KEYS: Keys = &[
    ("sources", "Addresses and prefixes."),
    ("principals", "Principals: the subjects of tokens, `key:NAME`, and others as the access log has them."),
    ("roles", "Roles."),
];

/// What stands for the keys of `weights`, which are the operator's own.
const WEIGHT_KEYS: Keys = &[("ROUTE", "How much one request counts. 0: nothing.")];

/// What makes an allowance: here and in the limits of plans.
pub(super) const ALLOWANCE: [&str; 3] = ["requests", "units", "concurrent"];

const SECOND: Duration = Duration::from_secs(1);

/// The longest that a request waits.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

const DAY: Duration = Duration::from_secs(86_400);

/// The most requests per `per`, and at once.
pub(super) const MOST: u64 = 1_000_000_000;

/// The most units: a pebibyte.
pub(super) const MOST_UNITS: u64 = 1 << 50;

/// What limits refer to.
pub(super) struct LimitReferences<'a> {
    /// Whether there is a `[cluster]`.
    pub(super) is_in_cluster: bool,
    pub(super) routes: &'a [Route],
    /// Where addresses are.
    pub(super) geo: &'a Geo,
    /// Whether a listener computes JA4 fingerprints.
    pub(super) ja4: bool,
    /// What the kernel has of limits.
    pub(super) kernel: clamp::PacketLimits,
}

pub(super) fn read(
    tables: Vec<(Option<String>, Table<'_>)>,
    known: &LimitReferences<'_>,
    reader: &Reader<'_>,
) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    for (name, table) in tables {
        let key = table.own_key().to_owned();
        let listed = |value: &DeValue<'_>| value::text(value).map(ToOwned::to_owned);
        let name = match name {
            Some(name) => {
                // Reads it for the reference, too.
                if table.optional("name", described("name", listed)).is_some() {
                    table.report(
                        "name",
                        Diagnostic::bare("is said twice: the table is named already").hint("leave it out"),
                    );
                }
                Some(name)
            }
            None => table.required("name", "\"per-tenant\"", described("name", listed)),
        };
        if let Some(Err(wrong)) = name.as_deref().filter(|_| !reader.is_reference()).map(simple_name) {
            reader.report(wrong.at(&key));
        }
        if limits.iter().any(|limit| Some(&limit.name) == name.as_ref()) {
            let wrong = Diagnostic::bare("has the name of an earlier limit");
            table.report("name", wrong.hint("give each limit a name of its own"));
        }
        limits.extend(one(&table, name.unwrap_or_default(), known, reader));
        table.finish();
    }
    if limits.len() > MAX_LIMITS {
        let wrong = Diagnostic::new("limit", format!("there are {} limits", limits.len()));
        reader.report(wrong.hint(format!("at most {MAX_LIMITS} are judged")));
    }
    warn_of_choice(&limits, known.routes, reader);
    limits
}

/// Warns where nothing but what clients choose decides which counter a request meets. A limit of other routes helps nobody.
fn warn_of_choice(limits: &[Limit], routes: &[Route], reader: &Reader<'_>) {
    let (of_choice, firm): (Vec<_>, Vec<_>) =
        limits.iter().partition(|limit| limit.by.iter().any(KeyPart::is_of_choice));
    if firm.is_empty() && !of_choice.is_empty() {
        let warning = Diagnostic::new(
            "limit",
            "every limit counts by something that clients choose: whoever changes it gets another counter",
        );
        reader.warn(warning.hint("add a limit by = [\"address\"], too"));
        return;
    }
    // Which operations name a limit, the documents say.
    let has_no_names = |limit: &Limit| limit.routes.as_ref().is_some_and(Vec::is_empty);
    let counts = |limit: &Limit, route: &Route| {
        limit.routes.as_ref().is_none_or(|names| names.iter().any(|name| route.is_called(name)))
    };
    let is_firm = |route: &Route| firm.iter().any(|limit| has_no_names(limit) || counts(limit, route));
    for limit in of_choice {
        let Some((index, _)) = routes.iter().enumerate().find(|(_, route)| counts(limit, route) && !is_firm(route))
        else {
            continue;
        };
        let warning = Diagnostic::new(
            format!("limit.{}", limit.name),
            format!(
                "counts by something that clients choose, and is the only kind of limit of route[{index}]: whoever changes \
                 it gets another counter"
            ),
        );
        reader.warn(warning.hint("add a limit by = [\"address\"] that counts the same routes"));
    }
}

fn one(table: &Table<'_>, name: String, known: &LimitReferences<'_>, reader: &Reader<'_>) -> Option<Limit> {
    let routes = table.has("routes").then(|| {
        let names = values(table.list("routes", described("name or tag of a route", value::line)));
        for wrong in names.iter().filter_map(|name| no_route(name, known.routes)) {
            table.report("routes", wrong);
        }
        names
    });
    let by = by(table, routes.as_deref(), known);
    let form = described(COSTS, cost).written(|cost| format!("{:?}", cost.text()));
    let cost =
        if table.has("cost") { table.optional("cost", form) } else { Some(table.or("cost", Cost::Requests, form)) };
    let allowance = allowance(table, cost.as_ref());
    let weights = weights(table, allowance, known.routes, reader);
    let except = except(table);
    let capacity = table.or("capacity", 100_000, value::count(1..=10_000_000));
    let delay = table.or("delay", Duration::ZERO, value::duration_in(Duration::ZERO..=LONGEST_DELAY));
    let is_delayed = !delay.is_zero() && matches!(allowance, Some(Allowance::Rate(_)));
    if !delay.is_zero() && (!is_delayed || cost.as_ref().is_some_and(Cost::is_later)) {
        let wrong = Diagnostic::bare("is for rates of requests alone");
        table.report("delay", wrong.hint("leave it out, or count requests by `requests` and `per`"));
    }
    let clamp = clamp::read(table, known.kernel, reader);
    let headers = table.or("headers", true, value::boolean());
    let shadow = table.or("shadow", false, value::boolean());
    let shared = table.or("shared", false, value::boolean());
    if shared {
        let is_rate = matches!(allowance, None | Some(Allowance::Rate(_)));
        let wrong = if !known.is_in_cluster {
            Some(("there is nobody to share it with", "configure [cluster], or leave it out"))
        } else if !is_rate {
            Some(("requests at once are counted on each machine alone", "leave it out, or limit `requests`"))
        } else if !delay.is_zero() {
            Some(("a request cannot wait for other machines", "leave `delay` or `shared` out"))
        } else {
            None
        };
        if let Some((wrong, hint)) = wrong {
            table.report("shared", Diagnostic::bare(wrong).hint(hint));
        }
    }
    if !table.has("routes") {
        // For the reference alone.
        table.list("routes", described("name or tag of a route", value::line));
    }
    Some(Limit {
        name,
        by,
        allowance: allowance?,
        cost: cost?,
        routes,
        weights,
        except,
        capacity,
        delay,
        clamp,
        headers,
        shadow,
        shared,
        quota: None,
    })
}

const PARTS: &str = "`\"address\"`, `\"address/48\"`, `\"principal\"`, `\"api_key\"`, `\"roles\"`, `\"plan\"`, \
                     `\"claim:PATH\"`, `\"route\"`, `\"path:NAME\"`, `\"host\"`, `\"header:NAME\"`, `\"ja4\"`, \
                     `\"asn\"`, `\"country\"`";

pub(super) const COSTS: &str =
    "`\"requests\"`, `\"request_bytes\"`, `\"response_bytes\"`, `\"grpc_messages\"`, `\"header:NAME\"`";

pub(super) fn by(table: &Table<'_>, routes: Option<&[String]>, known: &LimitReferences<'_>) -> Vec<KeyPart> {
    let form = described(PARTS, part).written(|part: &KeyPart| format!("{:?}", part.to_string()));
    let listed = if table.has("by") {
        table.required_list("by", "[\"address\"]", form)
    } else {
        table.list_or("by", vec![KeyPart::Address(None)], form)
    };
    let mut by: Vec<KeyPart> = Vec::new();
    for part in values(listed) {
        let part = match part {
            KeyPart::Asn(_) => KeyPart::Asn(known.geo.clone()),
            KeyPart::Country(_) => KeyPart::Country(known.geo.clone()),
            part => part,
        };
        let wrong = match &part {
            _ if by.contains(&part) => Some(Diagnostic::bare(format!("\"{part}\" is listed twice"))),
            KeyPart::Asn(_) | KeyPart::Country(_) if !known.geo.is_configured() => Some(
                Diagnostic::bare("there is no database to look it up in")
                    .hint("name one by `database` in [geo], or count by a wider prefix: \"address/48\""),
            ),
            KeyPart::Ja4 if !known.ja4 => Some(
                Diagnostic::bare("no listener computes JA4 fingerprints")
                    .hint("write `ja4 = true` in a listener's TLS"),
            ),
            KeyPart::PathParameter(name) => {
                let mut counted = known
                    .routes
                    .iter()
                    .filter(|route| routes.is_none_or(|names| names.iter().any(|name| route.is_called(name))));
                let has = counted.any(|route| PatternParameter::named(name, &route.path).is_some());
                (!has).then(|| {
                    Diagnostic::bare(format!("no route of this limit has a path parameter {name:?}"))
                        .hint("write the name of a parameter, as in the route's path \"/items/{id}\"")
                })
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            table.report("by", wrong);
        }
        by.push(part);
    }
    by
}

/// `None`, and it is reported: more than one of the `keys` that say how much is allowed is there. What has no effect with
/// `concurrent` is reported, too.
pub(super) fn is_one_allowance(table: &Table<'_>, keys: &[&str]) -> Option<()> {
    let mut said = keys.iter().filter(|key| table.has(key));
    if let (Some(first), Some(second)) = (said.next(), said.next()) {
        let wrong = Diagnostic::bare(format!("cannot be beside `{first}`"));
        table.report(second, wrong.hint("make it a limit of its own"));
        return None;
    }
    if let Some(key) = ["per", "burst"].into_iter().find(|key| table.has("concurrent") && table.has(key)) {
        table.report(key, Diagnostic::bare("has no effect with `concurrent`").hint("leave it out"));
    }
    Some(())
}

/// `address`, or `address/N` with the bits that count of an IPv6 address.
pub(super) fn address_part(text: &str) -> Option<KeyPart> {
    let length = match text.strip_prefix("address")? {
        "" => None,
        rest => Some(decimal(rest.strip_prefix('/')?).filter(|bits| (16..=128).contains(bits))?),
    };
    Some(KeyPart::Address(length))
}

fn part(value: &DeValue<'_>) -> Result<KeyPart, Diagnostic> {
    const PLAIN: [(&str, KeyPart); 8] = [
        ("address", KeyPart::Address(None)),
        ("api_key", KeyPart::ApiKey),
        ("host", KeyPart::Host),
        ("ja4", KeyPart::Ja4),
        ("plan", KeyPart::Plan),
        ("principal", KeyPart::Principal),
        ("roles", KeyPart::Roles),
        ("route", KeyPart::Route),
    ];
    let text = value::line(value)?;
    if let Some((_, part)) = PLAIN.into_iter().find(|(name, _)| *name == text) {
        return Ok(part);
    }
    match &*text {
        "asn" => return Ok(KeyPart::Asn(Geo::default())),
        "country" => return Ok(KeyPart::Country(Geo::default())),
        _ => {}
    }
    let wrong = || Diagnostic::bare(format!("{text:?} is nothing that requests are counted by"));
    let hint = || wrong().hint(format!("write one of {}", PARTS.replace('`', "")));
    if let Some(part) = address_part(&text) {
        return Ok(part);
    }
    match text.split_once([':', '/']) {
        Some(("address", _)) if text.starts_with("address/") => {
            Err(wrong().hint("write how many bits of an IPv6 address count, from 16 to 128: \"address/48\""))
        }
        Some(("claim", path)) => ClaimPath::parse(path)
            .map(KeyPart::Claim)
            .ok_or_else(|| wrong().hint("write the path of a claim, as in \"claim:tenant\" or \"claim:org.id\"")),
        Some(("header", name)) => header(name).map(KeyPart::Header),
        Some(("path", name)) if !name.is_empty() => Ok(KeyPart::PathParameter(name.to_owned())),
        _ => Err(match closest(&text, PLAIN.iter().map(|(name, _)| *name)) {
            Some(near) => wrong().hint(format!("did you mean {near:?}?")),
            None => hint(),
        }),
    }
}

fn header(name: &str) -> Result<http::HeaderName, Diagnostic> {
    word::header(&DeValue::String(name.into()))
}

pub(super) fn cost(value: &DeValue<'_>) -> Result<Cost, Diagnostic> {
    let text = value::line(value)?;
    match text.as_str() {
        "grpc_messages" => Ok(Cost::GrpcMessages),
        "request_bytes" => Ok(Cost::RequestBytes),
        "requests" => Ok(Cost::Requests),
        "response_bytes" => Ok(Cost::ResponseBytes),
        _ => match text.strip_prefix("header:") {
            Some(name) => header(name).map(Cost::Header),
            None => Err(Diagnostic::bare(format!("{text:?} is nothing that is counted"))
                .hint(format!("write one of {}", COSTS.replace('`', "")))),
        },
    }
}

/// How much there is of what `cost` says; `None`: nothing says so, or it is wrong.
pub(super) fn allowance(table: &Table<'_>, cost: Option<&Cost>) -> Option<Allowance> {
    let is_needed = !ALLOWANCE.iter().any(|key| table.has(key));
    let requests = if is_needed {
        table.required("requests", "100", value::integer(1..=MOST))
    } else {
        table.optional("requests", value::integer(1..=MOST))
    };
    let units = table.optional("units", value::size_in(1..=MOST_UNITS));
    let concurrent = table.optional("concurrent", value::integer(1..=MOST));
    let per = table.or("per", SECOND, value::duration_in(Duration::from_millis(1)..=DAY));
    let burst = if table.has("units") {
        table.optional("burst", value::size_in(1..=MOST_UNITS))
    } else {
        table.optional("burst", value::integer(1..=MOST))
    };
    is_one_allowance(table, &ALLOWANCE)?;
    let is_plain = cost.is_none_or(|cost| *cost == Cost::Requests);
    if let Some(cost) = cost.filter(|_| table.has("requests") && !is_plain) {
        let wrong = Diagnostic::bare(format!("a limit of \"{}\" does not count requests", cost.text()));
        table.report("requests", wrong.hint("write `units` instead"));
    }
    if table.has("units") && is_plain && cost.is_some() {
        let wrong = Diagnostic::bare("a limit of requests has no other units");
        table.report("units", wrong.hint("write `requests` instead, or say by `cost` what is counted"));
    }
    if let Some(most) = concurrent {
        if !is_plain {
            table.report("concurrent", Diagnostic::bare("counts requests alone").hint("leave `cost` out"));
        }
        return Some(Allowance::Concurrent(most));
    }
    let units = requests.or(units)?;
    let rate = Rate { units, per, burst: burst.unwrap_or(units) };
    if u128::from(units) > per.as_nanos() && is_plain {
        let wrong = Diagnostic::bare("is more than one request per nanosecond");
        table.report("requests", wrong.hint("write fewer requests, or a longer `per`"));
        return None;
    }
    if rate.pace().is_none() {
        let wrong = Diagnostic::bare("a burst would take over a year to come back");
        table.report("burst", wrong.hint("write a smaller burst"));
        return None;
    }
    Some(Allowance::Rate(rate))
}

/// The names and tags of routes, each of which there is.
pub(super) fn routes(table: &Table<'_>, routes: &[Route]) -> Vec<String> {
    let names = values(table.required_list("routes", "[\"search\"]", described("name or tag of a route", value::line)));
    for name in &names {
        if let Some(wrong) = no_route(name, routes) {
            table.report("routes", wrong);
        }
    }
    names
}

/// What is wrong with a name that no route has; `None`: one has it.
pub(super) fn no_route(name: &String, routes: &[Route]) -> Option<Diagnostic> {
    if routes.iter().any(|route| route.is_called(name)) {
        return None;
    }
    let known = || routes.iter().flat_map(|route| route.name.iter().chain(&route.tags)).map(String::as_str);
    let wrong = Diagnostic::bare(format!("no route has the name or tag {name:?}"));
    Some(match closest(name, known()) {
        Some(near) => wrong.hint(format!("did you mean {near:?}?")),
        None => wrong.hint("give the route a `name`, or several routes one of their `tags`"),
    })
}

pub(super) fn weights(
    table: &Table<'_>,
    allowance: Option<Allowance>,
    routes: &[Route],
    reader: &Reader<'_>,
) -> Vec<(String, u64)> {
    let most = allowance.map_or(MOST, |allowance| allowance.most());
    let mut weights = Vec::new();
    for (key, name, weight) in table.table("weights", WEIGHT_KEYS).named_values(value::integer(0..=MOST)) {
        let weight = weight.and_then(|weight| match no_route(&name, routes) {
            Some(wrong) => Err(wrong),
            None if weight > most => Err(Diagnostic::bare("is more than is ever let through at once")
                .hint(format!("write at most {most}, or a larger `burst`"))),
            None => Ok(weight),
        });
        match weight {
            Ok(weight) => weights.push((name, weight)),
            Err(wrong) => reader.report(wrong.at(key)),
        }
    }
    weights
}

pub(super) fn except(table: &Table<'_>) -> Except {
    let table = table.table("except", EXCEPT_KEYS);
    let source = value::parsed::<Source>("write an address or a prefix: \"192.0.2.7\", \"2001:db8::/32\"");
    let except = Except {
        sources: values(table.list("sources", described("address or prefix", source))),
        principals: values(table.list("principals", described("principal", value::line))),
        roles: values(table.list("roles", described("role", value::line))),
    };
    table.finish();
    except
}
