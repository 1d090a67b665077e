//! Reads `[client_certificates.NAME]`: which certificates clients may show.

use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{self, address, closest, form::described, word::simple_name},
    },
    diagnostic::Diagnostic,
    settings::{authz, listener::Listener, tls::ClientCertificates},
};

/// The keys of `[client_certificates.NAME]`.
pub(super) const KEYS: Keys = &[
    ("ca", "The authorities that sign these certificates, in PEM."),
    ("crl", "What these authorities have revoked, in PEM or DER. It must hold a list of every authority of a chain."),
    ("required", "`false`: clients without a certificate are served, too."),
    ("hosts", "The hosts that ask for these certificates, on every listener, exact or as `*.example.com`."),
    ("roles", "The roles of a client that shows such a certificate."),
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
        trusts.push(ClientCertificates { name, ca, crl, required, hosts, roles });
    }
    trusts
}

fn role(name: &str, roles: &authz::Settings) -> Result<String, Diagnostic> {
    if roles.contains_key(name) {
        return Ok(name.to_owned());
    }
    let wrong = Diagnostic::bare(format!("there is no role {name:?}"));
    Err(match closest(name, roles.keys().map(String::as_str)) {
        Some(near) => wrong.hint(format!("did you mean {near:?}?")),
        None => wrong.hint("add it to [roles], with what it may do"),
    })
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
