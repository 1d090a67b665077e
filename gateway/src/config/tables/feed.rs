//! Reads `[[feed]]`: lists of sources to ban, in files or fetched by URL.

use std::time::Duration;

use toml::de::DeValue;

use super::{certificate, outbound};
use crate::{
    config::{
        reader::{Keys, Reader},
        table::{self, Table},
        value::{self, form::described, word::simple_name},
    },
    diagnostic::Diagnostic,
    lists::MAX_BYTES,
    settings::{
        feed::{Feed, FeedPlace, FeedPurpose, FeedSignature, FeedSource, FetchedFeed, ListFormat},
        guard::{self, LONGEST_BAN},
        outbound::{Dial, SecretUrl},
        route::Route,
    },
    web::url::Url,
};

/// What only this table has.
const OWN: [(&str, &str); 17] = [
    ("name", "The list's name."),
    ("path", "The file of the list. It is loaded again when it changes."),
    ("url", "The URL of the list, where it is no file. It is fetched again and again."),
    ("url_file", "A file with the URL, in one line, where the URL is a secret."),
    ("token_file", "A file with the bearer token that the server of `url` asks for, in one line."),
    ("sha256_url", "The URL of the list's SHA-256, as `sha256sum` writes it. A list with another one is refused."),
    (
        "minisign",
        "The public key that the list must be signed by: the line of `minisign.pub` that begins with `RW`. A list without a \
         valid signature is refused.",
    ),
    ("signature_url", "The URL of the signature. Without it: the URL of the list, with `.minisig` added to its path."),
    ("every", "How often the list is fetched. Up to a tenth of it is added at random."),
    (
        "stale_after",
        "A list that its server has not confirmed, or whose file was not written, for so long causes a warning and an alert. \
         Without it: three times `every`; never for a file.",
    ),
    ("max_size", "A longer list is refused."),
    ("max_shrink", "The share of its entries that a list may lose at once. `1`: all of them."),
    ("format", "The format of the list. Without it: recognised by its content."),
    ("ban", "How long an entry lasts after it was loaded. Without it: as long as it is listed."),
    ("shadow", "`true` counts what would be dropped and drops nothing."),
    (
        "use",
        "What the entries are for. `ban`: they are banned. `crawlers`: they are ranges that `[crawler.NAME]` refers to, and \
         ban nobody. `never_ban`: nobody in them is banned.",
    ),
    (
        "services",
        "Of a JSON list, only the entries whose `service` is one of these, as in AWS's `ip-ranges.json`. Without it: all.",
    ),
];

/// The keys of `[[feed]]`.
pub(super) const KEYS: Keys = &outbound::with::<17, 23>(&OWN);

/// What belongs to a list that is fetched, besides how its server is connected to.
const OF_URL: [&str; 7] = ["token_file", "sha256_url", "minisign", "signature_url", "every", "max_size", "max_shrink"];

const SECOND: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

const MIB: u64 = 1 << 20;

/// What a URL of a list looks like.
const EXAMPLE: &str = "https://lists.example/drop.txt";

/// More lists than this are not fetched: each may be in any second. There may be any number of files.
const MOST: usize = 64;

pub(super) fn read(tables: Vec<Table<'_>>, has_admin: bool, reader: &Reader<'_>) -> Vec<Feed> {
    let mut read: Vec<Feed> = Vec::new();
    for table in tables {
        let is_fetched = table.has("url") || table.has("url_file");
        if is_fetched && read.iter().filter(|feed| feed.fetched().is_some()).count() == MOST {
            table.report("name", Diagnostic::bare(format!("there are more than {MOST} feeds that are fetched")));
        }
        let name = table.required(
            "name",
            "\"firehol-level1\"",
            described("name", |value| {
                let name = value::text(value)?;
                simple_name(name).map(|()| name.to_owned())
            }),
        );
        if let Some(earlier) = read.iter().position(|feed| Some(&feed.name) == name.as_ref()) {
            let wrong = Diagnostic::bare(format!("the name is already used by feed[{earlier}]"));
            table.report("name", wrong.hint("give each feed a name of its own"));
        }
        let name = name.unwrap_or_default();
        let path = table.path("path");
        let fetched = fetched(&name, &table, has_admin, reader);
        let place = match (path, fetched) {
            (path, None) => {
                if !table.has("path") && !table.has("url") && !table.has("url_file") && !table.has_unknown() {
                    let wrong = Diagnostic::bare("is missing: nobody knows where the list is");
                    let hint = "write `path = \"/var/lib/lists/drop.txt\"`, or `url = \"https://...\"`";
                    table.report("path", wrong.hint(hint));
                }
                FeedPlace::File(path.unwrap_or_default())
            }
            (_, Some(fetched)) => FeedPlace::Url(Box::new(fetched)),
        };
        let of_service = described("name of a service", value::line);
        let services = table::values(table.list("services", of_service));
        let of_file = if matches!(place, FeedPlace::File(_)) && !reader.is_reference() {
            table.optional("stale_after", value::duration_in(SECOND..=365 * DAY))
        } else {
            None
        };
        let feed = Feed {
            name,
            place,
            format: table.optional("format", value::choice(&ListFormat::NAMES)),
            ban: table.optional("ban", value::duration_in(SECOND..=LONGEST_BAN)),
            shadow: table.or("shadow", false, value::boolean()),
            purpose: table.or("use", FeedPurpose::Ban, value::choice(&FeedPurpose::NAMES)),
            services,
            file_stale_after: of_file,
        };
        if feed.purpose != FeedPurpose::Ban {
            for key in ["ban", "shadow"].into_iter().filter(|key| table.has(key)) {
                let name = feed.purpose.name();
                let wrong = Diagnostic::bare(format!("has no effect beside `use = \"{name}\"`: nobody is banned"));
                table.report(key, wrong.hint("leave it out"));
            }
        }
        if !feed.services.is_empty() && feed.format.is_some_and(|format| format != ListFormat::Json) {
            let wrong = Diagnostic::bare(
                "has no effect beside this `format`: only JSON lists say which service an entry is of",
            );
            table.report("services", wrong.hint("leave it out, or write `format = \"json\"`"));
        }
        table.finish();
        read.push(feed);
    }
    read
}

/// Warns of lists, and of CrowdSec's decisions, where no interface is guarded: only the kernel looks at them. A list that a
/// route names is of use all the same.
pub(super) fn warn_without_xdp(guard: &guard::Settings, routes: &[Route], reader: &Reader<'_>) {
    if !guard.interfaces.is_empty() || reader.is_reference() {
        return;
    }
    let texts: Vec<&String> = routes.iter().flat_map(|route| &route.sources).flat_map(|it| &it.texts).collect();
    let lists = guard
        .feeds
        .iter()
        .enumerate()
        .filter(|(_, feed)| feed.purpose == FeedPurpose::Ban && !texts.contains(&&feed.name));
    let lists = lists.map(|(index, _)| (format!("feed[{index}]"), "its sources"));
    let crowdsec =
        guard.crowdsec.as_ref().filter(|crowdsec| crowdsec.pulls()).map(|_| ("crowdsec".to_owned(), "its decisions"));
    for (key, what) in lists.chain(crowdsec) {
        let message = format!("blocks nobody: XDP alone enforces {what}, and no interface is guarded");
        reader.warn(Diagnostic::new(key, message).hint("name the interface in [guard]: interfaces = [\"eth0\"]"));
    }
}

/// How a list is fetched; `None`: it is a file.
fn fetched(name: &str, table: &Table<'_>, has_admin: bool, reader: &Reader<'_>) -> Option<FetchedFeed> {
    let is_fetched = table.has("url") || table.has("url_file");
    if !is_fetched && !reader.is_reference() {
        let of_server = outbound::KEYS.iter().map(|(key, _)| *key);
        for key in OF_URL.into_iter().chain(of_server).filter(|key| table.has(key)) {
            let wrong =
                Diagnostic::bare("has no effect without `url`").hint("leave it out, or name the URL of the list");
            table.report(key, wrong);
        }
        return None;
    }
    let url = table.optional("url", described("URL", |value| outbound::url_like(value, EXAMPLE)));
    let secret = |key| {
        let file = table.file(key)?;
        certificate::warn_of_mode(&file, table.key(key), reader);
        Some(file)
    };
    let (url_file, token) = (secret("url_file"), secret("token_file"));
    let of_sum = |value: &DeValue<'_>| outbound::url_like(value, "https://lists.example/drop.txt.sha256");
    let checksum = table.optional("sha256_url", described("URL", of_sum));
    let key = table.optional("minisign", described("public key of minisign", public_key));
    let of_signature = |value: &DeValue<'_>| outbound::url_like(value, "https://lists.example/drop.txt.minisig");
    let signature = table.optional("signature_url", described("URL", of_signature));
    let server =
        outbound::read_within(table, url.as_ref(), reader, (Duration::from_secs(30), Duration::from_secs(600)));
    if !reader.is_reference() {
        judge(table, has_admin);
        let urls: [(&str, Option<&Url>); 3] =
            [("url", url.as_ref()), ("sha256_url", checksum.as_ref()), ("signature_url", signature.as_ref())];
        for (key, url) in urls.into_iter().filter_map(|(key, url)| Some((key, url?))) {
            if let Err(wrong) = outbound::judge(url, &server, "") {
                table.report(key, wrong);
            }
        }
    }
    let every = table.or("every", Duration::from_secs(3_600), value::duration_in(SECOND..=30 * DAY));
    let stale_after = table.optional("stale_after", value::duration_in(SECOND..=365 * DAY));
    let largest = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    let source = FeedSource {
        name: name.to_owned(),
        url: SecretUrl { text: url.map(|url| url.to_string()).unwrap_or_default(), file: url_file },
        token,
        checksum: checksum.map(|url| url.to_string()),
        signed: key.map(|key| FeedSignature { key, url: signature.map(|url| url.to_string()) }),
        max_size: table.or("max_size", 32 * MIB, value::size_in(1_024..=largest)),
        dial: Dial::new(server),
    };
    let max_shrink =
        table.or("max_shrink", 500_000, described("number from 0 to 1", value::share).written(|_| "0.5".to_owned()));
    if let Some(stale_after) = stale_after.filter(|stale_after| *stale_after < every) {
        let wrong = Diagnostic::bare(format!(
            "is shorter than `every`: the list would always be old after {} s",
            stale_after.as_secs()
        ));
        table.report("stale_after", wrong.hint("write three times `every`, or leave it out"));
    }
    let stale_after = stale_after.unwrap_or_else(|| every.saturating_mul(3));
    is_fetched.then_some(FetchedFeed { source, every, stale_after, max_shrink })
}

/// A public key of minisign, without the comment above it.
fn public_key(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let key = value::line(value)?;
    match minisign_verify::PublicKey::from_base64(&key) {
        Ok(_) => Ok(key),
        // It may be the secret key: it is not repeated.
        Err(_malformed) => Err(Diagnostic::bare("is no public key of minisign")
            .hint("write the line of `minisign.pub` that begins with \"RW\" and has 56 letters")),
    }
}

/// Reports keys that do not go together.
fn judge(table: &Table<'_>, has_admin: bool) {
    if table.has("path") {
        let wrong = Diagnostic::bare("cannot be set beside `url`: a list is a file, or is fetched");
        table.report("path", wrong.hint("leave one of them out"));
    }
    if table.has("url") && table.has("url_file") {
        table.report("url_file", Diagnostic::bare("cannot be set beside `url`").hint("leave one of them out"));
    }
    if table.has("signature_url") && !table.has("minisign") {
        let wrong = Diagnostic::bare("has no effect without `minisign`: nobody knows by which key the list is signed");
        table.report("signature_url", wrong.hint("add `minisign`, the public key of whoever signs the list"));
    }
    if !has_admin {
        let key = if table.has("url") { "url" } else { "url_file" };
        let wrong = Diagnostic::bare("is fetched by the observer, and there is none without [admin]");
        table.report(key, wrong.hint("add `[admin]` with `address = \"127.0.0.1:9901\"`"));
    }
}
