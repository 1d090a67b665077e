//! Reads `[crowdsec]`: decisions of CrowdSec, and bans that are told to it.

use std::time::Duration;

use super::{certificate, outbound};
use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{self, form::described, word::simple_name},
    },
    diagnostic::Diagnostic,
    lists::MAX_BYTES,
    settings::{
        crowdsec::{self, LIST, LocalApi, Machine},
        feed::Feed,
        outbound::Dial,
    },
};

/// What only this table has.
const OWN: [(&str, &str); 7] = [
    ("url", "The URL of CrowdSec's Local API, without `/v1`."),
    ("key_file", "A file with the key of a bouncer, in one line. Without it: decisions are not put in force."),
    ("machine", "The name of a machine that CrowdSec knows. Without it: CrowdSec is not told of bans."),
    ("password_file", "A file with the password of `machine`, in one line."),
    ("every", "How often CrowdSec is asked for news."),
    ("max_size", "A longer answer is refused."),
    ("shadow", "`true` counts what would be dropped and drops nothing."),
];

/// The keys of `[crowdsec]`.
pub(super) const KEYS: Keys = &outbound::with::<7, 13>(&OWN);

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn read(
    table: Table<'_>,
    has_admin: bool,
    feeds: &[Feed],
    reader: &Reader<'_>,
) -> Option<crowdsec::Settings> {
    let is_present = table.is_present();
    if !is_present && !reader.is_reference() {
        return None;
    }
    let url = table.required(
        "url",
        "\"http://127.0.0.1:8080\"",
        described("URL", |value| outbound::url_like(value, "https://crowdsec.example:8080")),
    );
    let secret = |key| {
        let file = table.file(key)?;
        certificate::warn_of_mode(&file, table.key(key), reader);
        Some(file)
    };
    let (key, password) = (secret("key_file"), secret("password_file"));
    let name = described("name of a machine", |value| {
        let name = value::text(value)?;
        simple_name(name).map(|()| name.to_owned())
    });
    let name = table.optional("machine", name);
    let usual = (Duration::from_secs(30), Duration::from_secs(600));
    let server = outbound::read_within(&table, url.as_ref(), reader, usual);
    let every = table.or("every", 10 * SECOND, value::duration_in(SECOND..=3_600 * SECOND));
    let largest = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    let max_size = table.or("max_size", 64 << 20, value::size_in(1_024..=largest));
    let shadow = table.or("shadow", false, value::boolean());
    if is_present && !table.has_unknown() {
        judge(&table, has_admin, feeds);
    }
    if let Some(url) = &url
        && let Err(wrong) = outbound::judge(url, &server, "")
    {
        table.report("url", wrong);
    }
    table.finish();
    let machine = name.zip(password).map(|(name, password)| Machine { name, password });
    let url = url?.to_string().trim_end_matches('/').to_owned();
    let api = LocalApi { url, key, machine, max_size, dial: Dial::new(server) };
    is_present.then_some(crowdsec::Settings { api, every, shadow })
}

/// Reports keys that do not go together.
fn judge(table: &Table<'_>, has_admin: bool, feeds: &[Feed]) {
    if table.has("machine") != table.has("password_file") {
        let key = if table.has("machine") { "password_file" } else { "machine" };
        let wrong = Diagnostic::bare("is missing: `machine` and `password_file` belong together");
        table.report(key, wrong.hint("`cscli machines add NAME --auto --file FILE` makes both"));
    }
    if !table.has("key_file") && !table.has("machine") && !table.has("password_file") {
        let wrong = Diagnostic::bare("is missing: CrowdSec would neither be asked nor told anything");
        let hint = "write `key_file` (`cscli bouncers add NAME`), or `machine` and `password_file`";
        table.report("key_file", wrong.hint(hint));
    }
    if !has_admin {
        let wrong = Diagnostic::bare("is asked by the observer, and there is none without [admin]");
        table.report("url", wrong.hint("add `[admin]` with `address = \"127.0.0.1:9901\"`"));
    }
    if feeds.iter().any(|feed| feed.name == LIST) {
        let wrong = Diagnostic::bare(format!("needs the list {LIST}, and a [[feed]] has this name"));
        table.report("key_file", wrong.hint("give the feed another name"));
    }
}
