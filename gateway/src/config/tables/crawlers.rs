//! Reads `[crawler.NAME]` and `[crawlers]`: well-known crawlers, and how they are verified.

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
};

use toml::de::DeValue;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{self, address, closest, form::described, word::simple_name},
    },
    diagnostic::Diagnostic,
    settings::{
        crawlers::{self, Crawler, MAX_CRAWLERS},
        feed::{Feed, FeedPurpose},
    },
};

/// The keys of `[crawler.NAME]`.
pub(super) const KEYS: Keys = &[
    (
        "agents",
        "A request whose `User-Agent` contains one of these texts says that it is this crawler. Capitals do not matter.",
    ),
    (
        "hosts",
        "The domains of the crawler's host names, such as `.googlebot.com`. A client is verified if its address has a name in \
         one of them (PTR), and if that name has the address (A, AAAA).",
    ),
    ("feeds", "The names of `[[feed]]` tables with `use = \"crawlers\"`. A client in one of their ranges is verified."),
];

/// The keys of `[crawlers]`.
pub(super) const ALL_KEYS: Keys = &[(
    "resolvers",
    "The name servers that are asked about crawlers, as addresses with or without a port. Without it: those of \
     `/etc/resolv.conf`.",
)];

/// The most of each list.
const MOST: usize = 32;

/// The port of name servers.
const DNS: u16 = 53;

pub(super) fn read(
    tables: Vec<(String, Table<'_>)>,
    all: Table<'_>,
    feeds: &[Feed],
    reader: &Reader<'_>,
) -> crawlers::Settings {
    let resolvers = all.list("resolvers", described("address of a name server", resolver));
    too_many(&all, "resolvers", resolvers.len(), 8);
    if tables.is_empty() && all.has("resolvers") {
        let wrong = Diagnostic::bare("has no effect: there is no crawler");
        all.report("resolvers", wrong.hint("add `[crawler.NAME]`, or leave it out"));
    }
    all.finish();
    if tables.len() > MAX_CRAWLERS {
        let wrong = Diagnostic::new("crawler", format!("there are more than {MAX_CRAWLERS} of them"));
        reader.report(wrong.hint("remove crawlers that need no exception from rules"));
    }
    let crawlers: Vec<Crawler> = tables.into_iter().map(|(name, table)| crawler(name, table, feeds, reader)).collect();
    warn_of_unused(&crawlers, feeds, reader);
    crawlers::Settings { resolvers: resolvers.into_iter().map(|(_, resolver)| resolver).collect(), crawlers }
}

fn crawler(name: String, table: Table<'_>, feeds: &[Feed], reader: &Reader<'_>) -> Crawler {
    if let Err(wrong) = simple_name(&name) {
        reader.report(wrong.at(table.own_key()));
    }
    let agents = table.required_list("agents", "[\"Googlebot\"]", described("part of a `User-Agent`", agent));
    let is_wrong = Cell::new(false);
    let of_host = |value: &DeValue<'_>| domain(value).inspect_err(|_| is_wrong.set(true));
    let hosts = table.list("hosts", described("domain", of_host));
    let of_feed = described("name of a feed", |value| {
        let name = value::text(value).inspect_err(|_| is_wrong.set(true))?;
        simple_name(name).map(|()| name.to_owned()).inspect_err(|_| is_wrong.set(true))
    });
    let names = table.list("feeds", of_feed);
    for (key, length) in [("agents", agents.len()), ("hosts", hosts.len()), ("feeds", names.len())] {
        too_many(&table, key, length, MOST);
    }
    for (key, feed) in &names {
        if let Err(wrong) = judge_feed(feed, feeds) {
            reader.report(wrong.at(key));
        }
    }
    if hosts.is_empty() && names.is_empty() && !is_wrong.get() && !table.has_unknown() && !reader.is_reference() {
        let wrong = Diagnostic::bare("is missing: nobody could be verified");
        table.report("hosts", wrong.hint("write `hosts = [\".googlebot.com\"]`, or `feeds`, or both"));
    }
    table.finish();
    let values = |all: Vec<(String, String)>| all.into_iter().map(|(_, value)| value).collect();
    Crawler { name, agents: values(agents), hosts: values(hosts), feeds: values(names) }
}

fn too_many(table: &Table<'_>, key: &'static str, length: usize, most: usize) {
    if length > most {
        table.report(key, Diagnostic::bare(format!("has over {most} entries")).hint("leave some of them out"));
    }
}

/// Whether a feed names ranges of crawlers.
fn judge_feed(name: &str, feeds: &[Feed]) -> Result<(), Diagnostic> {
    match feeds.iter().find(|feed| feed.name == name) {
        Some(feed) if feed.purpose == FeedPurpose::Crawlers => Ok(()),
        Some(_) => Err(Diagnostic::bare(format!("the feed {name} bans whom it names"))
            .hint("write `use = \"crawlers\"` in that [[feed]]")),
        None => {
            let wrong = Diagnostic::bare(format!("there is no feed {name:?}"));
            Err(match closest(name, feeds.iter().map(|feed| feed.name.as_str())) {
                Some(near) => wrong.hint(format!("did you mean {near:?}?")),
                None => wrong.hint(format!("add `[[feed]]` with `name = {name:?}` and `use = \"crawlers\"`")),
            })
        }
    }
}

/// Warns of ranges that nobody is held against.
fn warn_of_unused(crawlers: &[Crawler], feeds: &[Feed], reader: &Reader<'_>) {
    let is_used = |feed: &Feed| crawlers.iter().any(|crawler| crawler.feeds.contains(&feed.name));
    let unused = |(_, feed): &(usize, &Feed)| feed.purpose == FeedPurpose::Crawlers && !is_used(feed);
    for (index, _) in feeds.iter().enumerate().filter(unused) {
        let warning = Diagnostic::new(format!("feed[{index}].use"), "is for crawlers, and no crawler names this feed");
        reader.warn(warning.hint("name it in `feeds` of a [crawler.NAME], or remove it"));
    }
}

/// What browsers say that they are, and the beginning of an address in it.
const BROWSERS: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; Macintosh; Intel Mac OS X 10_15_7; X11; Linux x86_64; iPhone; \
    Android 10; K; Mobile) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/ Safari/537.36 Firefox/ Edg/ OPR/ Version/ compatible; \
    +https:// +http://";

/// Part of a `User-Agent`: long enough that browsers do not have it by chance.
fn agent(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let text = value::line(value)?;
    if text.len() < 4 || text.len() > 128 || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(Diagnostic::bare(format!("{text:?} is not part of a crawler's `User-Agent`"))
            .hint("write 4 to 128 letters of ASCII: \"Googlebot\""));
    }
    if BROWSERS.to_ascii_lowercase().contains(&text.to_ascii_lowercase()) {
        return Err(Diagnostic::bare(format!("{text:?} is part of the `User-Agent` of browsers"))
            .hint("write what this crawler alone has: \"Googlebot\""));
    }
    Ok(text)
}

/// A domain, with a dot before it: nobody else can have names in it.
fn domain(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    const HINT: &str = "write a domain with a dot before it: \".googlebot.com\"";
    let text = value::text(value)?;
    let Some(name) = text.strip_prefix('.') else {
        return Err(Diagnostic::bare(format!("{text:?} does not begin with a dot")).hint(HINT));
    };
    let name = address::host(name).map_err(|wrong| wrong.hint(HINT))?;
    let is_address = name.starts_with('[') || name.rsplit('.').next().is_some_and(|label| label.parse::<u64>().is_ok());
    if is_address || !name.contains('.') {
        let wrong = Diagnostic::bare(format!("{text:?} is no domain of a crawler: too many could have names in it"));
        return Err(wrong.hint(HINT));
    }
    Ok(format!(".{name}"))
}

fn resolver(value: &DeValue<'_>) -> Result<SocketAddr, Diagnostic> {
    let text = value::text(value)?;
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    address.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, DNS))).ok_or_else(|| {
        Diagnostic::bare(format!("{text:?} is no address of a name server"))
            .hint("write \"192.0.2.53\", \"[2001:db8::53]:53\" or \"127.0.0.1:5353\"")
    })
}
