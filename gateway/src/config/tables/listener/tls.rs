//! Reads what a `[[listener]]` says of TLS.

use std::time::Duration;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        tables::certificate,
        value::{self, address, closest, form::described},
    },
    diagnostic::Diagnostic,
    settings::{
        proxy::Trust,
        tls::{AlpnProtocol, ClientCertificates, Hsts, ListenerTls},
    },
};

/// The keys of `[listener.hsts]`.
const HSTS_KEYS: Keys = &[
    ("max_age", "How long browsers come by HTTPS only."),
    ("include_subdomains", "Whether that includes subdomains."),
    ("hosts", "The hosts that tell it, exact or as `*.example.com`. Empty: every host."),
];

/// The longest that browsers are told to come by HTTPS alone.
const LONGEST_HSTS: Duration = Duration::from_secs(3_650 * 86_400);

/// What a listener's TLS refers to.
pub(in crate::config::tables) struct TlsReferences<'a> {
    pub(in crate::config::tables) client_certificates: &'a [ClientCertificates],
    /// Whether there is a `[[certificate]]`.
    pub(in crate::config::tables) certificates: bool,
}

/// The parts of a `[[listener]]`; `None`: it speaks no TLS. Then what it tells browsers that come to a trusted proxy by
/// HTTPS.
pub(super) fn read(
    table: &Table<'_>,
    known: &TlsReferences<'_>,
    trusted: &Trust,
    reader: &Reader<'_>,
) -> (Option<ListenerTls>, Option<Hsts>) {
    let asked = table.optional("tls", value::boolean());
    let default = certificate::pair(table, true, reader);
    let best_first = vec![AlpnProtocol::Http2, AlpnProtocol::Http1];
    let protocols = table.list_or(
        "protocols",
        best_first.clone(),
        value::choice(&[("h2", AlpnProtocol::Http2), ("http/1.1", AlpnProtocol::Http1)]),
    );
    let only_tls13 = table.or("min_tls", false, value::choice(&[("1.2", false), ("1.3", true)]));
    let client_certificates = table.optional(
        "client_certificates",
        described("name of a `[client_certificates.NAME]`", |value| trust(value::text(value)?, known)),
    );
    let ja4 = table.or("ja4", true, value::boolean());
    let hsts = hsts(table.table("hsts", HSTS_KEYS));
    let names_one = table.has("certificate") || table.has("private_key");
    if asked == Some(false) && names_one {
        table.report("tls", Diagnostic::bare("is false, but there is a certificate").hint("leave one of them out"));
    }
    if asked == Some(true) && !names_one && !known.certificates {
        let wrong = Diagnostic::bare("is true, but there is no certificate");
        table.report("tls", wrong.hint("add `certificate` and `private_key`, or `[[certificate]]`"));
    }
    if asked != Some(true) && !names_one {
        let is_behind_others = !trusted.proxies.is_empty();
        for name in ["protocols", "min_tls", "client_certificates", "ja4", "ocsp", "hsts"] {
            if table.has(name) && !(name == "hsts" && is_behind_others) {
                let hint = "add `certificate` and `private_key`, or `tls = true` with `[[certificate]]`";
                table.report(name, Diagnostic::bare("has no effect without TLS").hint(hint));
            }
        }
        return (None, hsts);
    }
    let mut protocols = values(protocols);
    if protocols.is_empty() {
        protocols = best_first;
    }
    let tls = ListenerTls { default, protocols, only_tls13, client_certificates, hsts, ja4 };
    ((tls.default.is_some() || !names_one).then_some(tls), None)
}

fn hsts(table: Table<'_>) -> Option<Hsts> {
    if !table.is_present() {
        return None;
    }
    let range = Duration::ZERO..=LONGEST_HSTS;
    let max_age = table.required("max_age", "\"365d\"", value::duration_in(range));
    let include_subdomains = table.or("include_subdomains", false, value::boolean());
    let hosts = values(
        table.list("hosts", described("host name or wildcard", |value| address::host_or_wildcard(value::text(value)?))),
    );
    table.finish();
    Some(Hsts { max_age: max_age?, include_subdomains, hosts })
}

fn trust(name: &str, known: &TlsReferences<'_>) -> Result<usize, Diagnostic> {
    let names = || known.client_certificates.iter().map(|trust| trust.name.as_str());
    if let Some(index) = names().position(|known| known == name) {
        return Ok(index);
    }
    let wrong = Diagnostic::bare(format!("there is no client_certificates.{name}"));
    Err(match closest(name, names()) {
        Some(near) => wrong.hint(format!("did you mean {near:?}?")),
        None => wrong.hint(format!("add `[client_certificates.{name}]` with `ca`")),
    })
}
