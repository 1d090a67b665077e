//! Reads how a server is asked by HTTP that is not behind the gateway: the keys that every table of such a server has.

use std::time::Duration;

use toml::de::DeValue;

use super::certificate;
use crate::{
    config::{reader::Reader, table::Table, value},
    diagnostic::Diagnostic,
    os::file::NamedFile,
    settings::{
        outbound::{OutboundServer, UrlRefusal},
        tls::UpstreamTls,
    },
    web::url::Url,
};

/// The keys.
pub(super) const KEYS: &[(&str, &str); 6] = &[
    ("ca", "The authorities to believe, in PEM. Without it: those that this system trusts."),
    ("certificate", "The client certificate that the gateway shows, in PEM."),
    ("private_key", "The private key of `certificate`, in PEM."),
    ("allow_private", "Whether the server may have a private, link-local or loopback address."),
    ("allow_http", "Whether the server may be asked by `http`. It must be on this host."),
    ("timeout", "How long one answer may take, with resolving the name and connecting."),
];

/// [`KEYS`], and those that the table has besides.
pub(super) const fn with<const MORE: usize, const ALL: usize>(
    more: &[(&'static str, &'static str); MORE],
) -> [(&'static str, &'static str); ALL] {
    let mut keys = [("", ""); ALL];
    let (first, rest) = keys.split_at_mut(KEYS.len());
    first.copy_from_slice(KEYS);
    rest.copy_from_slice(more);
    keys
}

/// The server. `url`: where it is, as far as that is known.
pub(super) fn read(table: &Table<'_>, url: Option<&Url>, reader: &Reader<'_>) -> OutboundServer {
    read_within(table, url, reader, (Duration::from_secs(5), Duration::from_secs(60)))
}

/// The same, with another usual and longest `timeout`.
pub(super) fn read_within(
    table: &Table<'_>,
    url: Option<&Url>,
    reader: &Reader<'_>,
    (usual, longest): (Duration, Duration),
) -> OutboundServer {
    let ca = table.file("ca");
    let certificate = certificate::pair(table, false, reader).map(|pair| (pair.certificate, pair.private_key));
    let allow_private = table.or("allow_private", false, value::boolean());
    let allow_http = table.or("allow_http", false, value::boolean());
    let timeout = table.or("timeout", usual, value::duration_in(Duration::from_millis(100)..=longest));
    // Where it is asked by http alone, nobody needs to be believed.
    let needs_authority = url.is_none_or(Url::is_https) && !reader.is_reference();
    let none = || NamedFile { path: std::path::PathBuf::new(), bytes: std::sync::Arc::default() };
    let ca = ca.unwrap_or_else(|| if needs_authority { system(table, "ca", reader) } else { none() });
    let tls = UpstreamTls { ca, server_name: None, certificate, accepts_any: false, pins: Vec::new() };
    OutboundServer { tls, allow_private, allow_http, timeout }
}

/// Reports a URL that would never be asked. `table`: what stands before the names of the keys, as `fetch.`.
pub(super) fn judge(url: &Url, server: &OutboundServer, table: &str) -> Result<(), Diagnostic> {
    server.judge(url).map_err(|refusal| refused(refusal, &format!("\"{url}\""), table))
}

/// What is said of a server that is never asked.
pub(super) fn refused(refusal: UrlRefusal, whom: &str, table: &str) -> Diagnostic {
    let wrong = |what: String| Diagnostic::bare(format!("{whom} {what}"));
    match refusal {
        UrlRefusal::Private(what) => wrong(format!("{what}, and is not connected to"))
            .hint(format!("name a server on the internet, or allow this one: `{table}allow_private = true`")),
        UrlRefusal::Never(why) => wrong(format!("{why}, and is never connected to")).hint("name another server"),
        UrlRefusal::Http => wrong("is http: anybody on the path could read what is sent, and answer".to_owned())
            .hint(format!("write https://; `{table}allow_http = true` allows http to this host alone")),
        UrlRefusal::HttpHere => wrong("is http".to_owned())
            .hint(format!("write https://, or allow it on this host: `{table}allow_http = true`")),
    }
}

/// An absolute URL.
pub(super) fn url(value: &DeValue<'_>) -> Result<Url, Diagnostic> {
    url_like(value, "https://id.example.com/keys")
}

/// An absolute URL, such as `example`.
pub(super) fn url_like(value: &DeValue<'_>, example: &str) -> Result<Url, Diagnostic> {
    let text = value::line(value)?;
    let wrong = |wrong| Diagnostic::bare(format!("{text:?} {wrong}"));
    Url::parse(&text).map_err(|what| wrong(what).hint(format!("write an absolute URL: \"{example}\"")))
}

/// Where distributions keep the authorities that they trust: Debian, Fedora, openSUSE, Alpine.
const SYSTEM: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whom this system trusts; where it trusts nobody, that is a fault of `key`.
pub(super) fn system(table: &Table<'_>, key: &str, reader: &Reader<'_>) -> NamedFile {
    reader.first_of(&SYSTEM).unwrap_or_else(|| {
        let wrong = Diagnostic::bare("this system has no list of trusted authorities");
        let hint = if key == "tls" { "`tls = { ca = \"internal-ca.pem\" }`" } else { "`ca = \"internal-ca.pem\"`" };
        table.report(key, wrong.hint(format!("install ca-certificates, or write {hint}")));
        NamedFile { path: SYSTEM.first().copied().unwrap_or_default().into(), bytes: std::sync::Arc::default() }
    })
}
