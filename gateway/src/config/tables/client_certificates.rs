//! Reads `[client_certificates.NAME]`: which certificates clients may show.

use toml::de::DeValue;

use super::roles::no_such;
use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{self, address, form::described, word::simple_name},
    },
    diagnostic::Diagnostic,
    settings::{
        authz,
        listener::Listener,
        tls::{CertificateMapping, ClientCertificates, NameKind},
    },
};

/// The keys of `[client_certificates.NAME]`.
pub(super) const KEYS: Keys = &[
    ("ca", "The authorities that sign these certificates, in PEM."),
    ("crl", "What these authorities have revoked, in PEM or DER. It must hold a list of every authority of a chain."),
    ("required", "`false`: clients without a certificate are served, too."),
    ("hosts", "The hosts that ask for these certificates, on every listener, exact or as `*.example.com`."),
    ("roles", "The roles of a client that shows such a certificate."),
    (
        "principal",
        "Which of its names is the principal, the best kind first. Without it: a URI, else any alternative name.",
    ),
    ("trust_domain", "The SPIFFE trust domain: ids of others do not count."),
    ("map", "Which names stand for whom: each of these gives roles, or another name."),
    ("only_mapped", "`true`: a certificate that no `map` fits names nobody."),
];

/// The keys of `[[client_certificates.NAME.map]]`.
pub(super) const MAP: Keys = &[
    ("common_name", "The common name, with `*` for anything. A map has exactly one of these kinds of names."),
    ("dns", "A host name: `*.partners.example`. A `*` stands for one label."),
    ("email", "A mail address: `*@partners.example`."),
    ("fingerprint", "The SHA-256 of the certificate in lower-case hexadecimal digits."),
    ("ip", "An address."),
    ("serial", "The serial number in lower-case hexadecimal digits."),
    ("spiffe", "The SPIFFE id: `spiffe://example.org/ns/*/sa/billing`. A `*` stands for a segment, `**` for several."),
    ("subject", "The whole subject as RFC 4514 writes it: `CN=*,O=Acme`. A `*` stands for a value."),
    ("uri", "A URI. A `*` stands for a segment, `**` for several."),
    ("roles", "Roles that such a client has besides those of the group."),
    ("name", "What such a client is called: `cert:NAME:` and this."),
];

pub(super) fn read(
    tables: Vec<(String, Table<'_>)>,
    roles: &authz::Settings,
    reader: &Reader<'_>,
) -> Vec<ClientCertificates> {
    let mut trusts: Vec<ClientCertificates> = Vec::new();
    for (name, table) in tables {
        if let Err(wrong) = simple_name(&name) {
            reader.report(wrong.at(table.own_key()));
        }
        let ca = table.required_file("ca", "\"partners-ca.pem\"");
        let crl = table.file("crl");
        let required = table.or("required", true, value::boolean());
        let hosts = table
            .list("hosts", described("host name or wildcard", |value| address::host_or_wildcard(value::text(value)?)));
        let known = table.list("roles", described("role", |value| role(value::text(value)?, roles)));
        let principal = values(table.list("principal", value::choice(&NameKind::NAMES)));
        let trust_domain = table.optional("trust_domain", described("name of a trust domain", trust_domain));
        let map: Vec<_> = table.tables("map", MAP).into_iter().filter_map(|table| mapping(table, roles)).collect();
        let only_mapped = table.or("only_mapped", false, value::boolean());
        let is_spiffe = |kind: &NameKind| *kind == NameKind::Spiffe;
        if trust_domain.is_some() && !principal.iter().chain(map.iter().map(|one| &one.kind)).any(is_spiffe) {
            let wrong = Diagnostic::bare("has no effect: no SPIFFE id is looked at");
            table.report("trust_domain", wrong.hint("write principal = [\"spiffe\"] beside it, or leave it out"));
        }
        if only_mapped && map.is_empty() && !table.has("map") && !reader.is_reference() {
            let wrong = Diagnostic::bare("lets nobody be anybody: there is no `map`");
            let hint = format!("add a [[client_certificates.{name}.map]], or leave it out");
            table.report("only_mapped", wrong.hint(hint));
        }
        for (index, (key, host)) in hosts.iter().enumerate() {
            let earlier = trusts.iter().find(|trust| trust.hosts.contains(host)).map(|trust| trust.name.clone());
            let here = hosts.iter().take(index).any(|(_, earlier)| earlier == host).then(|| name.clone());
            if let Some(earlier) = earlier.or(here) {
                let diagnostic = Diagnostic::new(key, format!("{host:?} is already in client_certificates.{earlier}"));
                reader.report(diagnostic.hint("name each host in one group only"));
            }
        }
        table.finish();
        let (hosts, roles) = (values(hosts), values(known));
        trusts.push(ClientCertificates {
            name,
            ca,
            crl,
            required,
            hosts,
            roles,
            principal,
            trust_domain,
            map,
            only_mapped,
        });
    }
    trusts
}

/// One `map`.
fn mapping(table: Table<'_>, roles: &authz::Settings) -> Option<CertificateMapping> {
    let patterns = NameKind::NAMES.map(|(key, kind)| {
        let pattern = described("string", move |value| pattern(kind, value::line(value)?));
        Some((kind, table.optional(key, pattern)?))
    });
    let given: Vec<&str> = NameKind::NAMES.iter().map(|(key, _)| *key).filter(|key| table.has(key)).collect();
    if let [_, second, ..] = given.as_slice() {
        let wrong = Diagnostic::bare(format!("is beside `{}`, and a map has one kind of name", given.join("`, `")));
        table.report(second, wrong.hint("write a map for each"));
    } else if given.is_empty() && !table.has_unknown() {
        let wrong = Diagnostic::bare("is missing, or another kind of name");
        table.report("uri", wrong.hint("write, for example, `dns = \"*.partners.example\"`"));
    }
    let known = values(table.list("roles", described("role", |value| role(value::text(value)?, roles))));
    let name = table.optional("name", described("string", own_name));
    if !table.has("roles") && !table.has("name") && !table.has_unknown() {
        let wrong = Diagnostic::bare("is missing, and there is no `name`: the map changes nothing");
        table.report("roles", wrong.hint("write, for example, `roles = [\"reader\"]`"));
    }
    table.finish();
    let (kind, pattern) = patterns.into_iter().flatten().next()?;
    Some(CertificateMapping { kind, pattern, roles: known, name })
}

/// A pattern that some name of its kind could fit.
fn pattern(kind: NameKind, text: String) -> Result<String, Diagnostic> {
    let wrong = |message: &str, hint: &str| Err(Diagnostic::bare(format!("{text:?} {message}")).hint(hint));
    let plain = text.replace('*', "");
    match kind {
        _ if text.contains("***") => wrong("has three `*` in a row", "write `*` for a part, `**` for several"),
        _ if plain.is_empty() => wrong("fits everything", "give everybody of the group these roles by its own `roles`"),
        NameKind::Spiffe if !text.starts_with("spiffe://") => {
            wrong("is no SPIFFE id", "write it whole: \"spiffe://example.org/ns/*/sa/billing\"")
        }
        NameKind::Uri if !text.contains("://") && !text.contains(':') => {
            wrong("has no scheme", "write it whole: \"https://example.org/*\"")
        }
        NameKind::Dns if text.chars().any(|letter| letter.is_ascii_uppercase()) => {
            wrong("has capitals, and names are compared in lower case", "write it in lower case")
        }
        NameKind::Fingerprint | NameKind::Serial
            if !plain.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) =>
        {
            wrong(
                "has other letters than lower-case hexadecimal digits",
                "write it as x-client-certificate-serial has it, without colons",
            )
        }
        NameKind::Subject if text.contains("**") => wrong(
            "has a `**`, which could stand for another part of a subject",
            "write each part: \"CN=*,OU=*,O=Acme\"",
        ),
        NameKind::Subject if !text.contains('=') => wrong("is no subject", "write it as in \"CN=*,O=Acme\""),
        _ => Ok(text),
    }
}

/// What a client is called: one word that reads the same everywhere.
fn own_name(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let text = value::line(value)?;
    simple_name(&text).map(|()| text)
}

fn trust_domain(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let text = value::line(value)?;
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    if text.len() <= 255 && text.bytes().all(fine) {
        return Ok(text);
    }
    Err(Diagnostic::bare(format!("{text:?} is no trust domain")).hint("write its name alone: \"example.org\""))
}

fn role(name: &str, roles: &authz::Settings) -> Result<String, Diagnostic> {
    if roles.contains_key(name) { Ok(name.to_owned()) } else { Err(no_such(name, roles)) }
}

/// Warns of groups that nobody is asked for.
pub(super) fn warn_of_unused(trusts: &[ClientCertificates], listeners: &[Listener], reader: &Reader<'_>) {
    for (index, trust) in trusts.iter().enumerate() {
        let is_used =
            |listener: &Listener| listener.tls.as_ref().is_some_and(|tls| tls.client_certificates == Some(index));
        if trust.hosts.is_empty() && !listeners.iter().any(is_used) {
            let key = format!("client_certificates.{}", trust.name);
            let warning = Diagnostic::new(key, "is not used: no listener and no host asks for it");
            reader.warn(warning.hint("name `hosts`, or name it in a listener's `client_certificates`"));
        }
    }
}
