//! Decides what is configured of TLS: the parts of a `[[listener]]`, `[[certificate]]` and `[client_certificates.NAME]`.

use std::time::Duration;

use data_encoding::{BASE64, DecodeError, HEXLOWER_PERMISSIVE};
use toml::de::DeValue;

use super::{
    errors::MISSING,
    service::simple_name,
    table::{Reader, Table},
    value::{self, Wrong, closest},
};
use crate::{
    fault::Fault,
    file::NamedFile,
    settings::{
        authz,
        listener::Listener,
        proxy::Trust,
        tls::{Certificate, Client, ClientCertificates, Hsts, Pin, Protocol, Tls},
    },
};

/// The longest that browsers are told to come by HTTPS alone.
const LONGEST_HSTS: Duration = Duration::from_secs(3_650 * 86_400);

/// What a listener's TLS refers to.
pub(super) struct Known<'a> {
    pub(super) client_certificates: &'a [ClientCertificates],
    /// Whether there is a `[[certificate]]`.
    pub(super) certificates: bool,
}

/// The parts of a `[[listener]]`; `None`: it speaks no TLS. Then what it tells browsers that come to a trusted proxy by
/// HTTPS.
pub(super) fn listener(
    table: &mut Table<'_>,
    known: &Known<'_>,
    trusted: &Trust,
    reader: &Reader<'_>,
) -> (Option<Tls>, Option<Hsts>) {
    let asked = table.optional("tls", value::boolean);
    let default = pair(table, true, reader);
    let protocols = table.list("protocols", value::choice(&[("h2", Protocol::Http2), ("http/1.1", Protocol::Http1)]));
    let only_tls13 = table.or("min_tls", false, value::choice(&[("1.2", false), ("1.3", true)]));
    let client_certificates = table.optional("client_certificates", |value| trust(value::text(value)?, known));
    let ja4 = table.or("ja4", true, value::boolean);
    let hsts = hsts(table.table("hsts"));
    let names_one = table.has("certificate") || table.has("private_key");
    if asked == Some(false) && names_one {
        table.report("tls", Wrong::new("is false beside a certificate").hint("leave one of them out"));
    }
    if asked == Some(true) && !names_one && !known.certificates {
        let wrong = Wrong::new("is true, and there is no certificate to show");
        table.report("tls", wrong.hint("add `certificate` and `private_key`, or `[[certificate]]`"));
    }
    if asked != Some(true) && !names_one {
        let is_behind_others = !trusted.proxies.is_empty();
        for name in ["protocols", "min_tls", "client_certificates", "ja4", "ocsp", "hsts"] {
            if table.has(name) && !(name == "hsts" && is_behind_others) {
                let hint = "add `certificate` and `private_key`, or `tls = true` with `[[certificate]]`";
                table.report(name, Wrong::new("is for TLS, which this listener does not speak").hint(hint));
            }
        }
        return (None, hsts);
    }
    let mut protocols: Vec<_> = protocols.into_iter().map(|(_, protocol)| protocol).collect();
    if protocols.is_empty() {
        protocols = vec![Protocol::Http2, Protocol::Http1];
    }
    let tls = Tls { default, protocols, only_tls13, client_certificates, hsts, ja4 };
    ((tls.default.is_some() || !names_one).then_some(tls), None)
}

/// `certificate`, `private_key` and, where it is shown to clients, `ocsp`.
fn pair(table: &mut Table<'_>, to_clients: bool, reader: &Reader<'_>) -> Option<Certificate> {
    let certificate = table.file("certificate");
    let private_key = table.file("private_key");
    let ocsp = if to_clients { table.file("ocsp") } else { None };
    if certificate.is_some() && !table.has("private_key") {
        let wrong = Wrong::new("is missing beside `certificate`");
        table.report("private_key", wrong.hint("write `private_key = \"server.key\"`"));
    }
    if private_key.is_some() && !table.has("certificate") {
        let wrong = Wrong::new("is missing beside `private_key`");
        table.report("certificate", wrong.hint("write `certificate = \"server.crt\"`"));
    }
    let (certificate, private_key) = (certificate?, private_key?);
    warn_of_mode(&private_key, table.key("private_key"), reader);
    Some(Certificate { certificate, private_key, ocsp })
}

/// Warns where a private key is open to everybody on the machine.
pub(super) fn warn_of_mode(private_key: &NamedFile, key: String, reader: &Reader<'_>) {
    if let Some(mode) = reader.mode(&private_key.path).filter(|mode| mode & 0o007 != 0) {
        let shown = private_key.path.display();
        let warning = Fault::new(key, format!("{shown} is open to every user (mode {:04o})", mode & 0o7777));
        reader.warn(warning.hint(format!("chmod 0600 {shown}")));
    }
}

fn hsts(mut table: Table<'_>) -> Option<Hsts> {
    if !table.is_present() {
        return None;
    }
    let range = Duration::ZERO..=LONGEST_HSTS;
    let max_age = table.required("max_age", "\"365d\"", value::duration_in(range));
    let include_subdomains = table.or("include_subdomains", false, value::boolean);
    let hosts = second(table.list("hosts", |value| value::host_or_wildcard(value::text(value)?)));
    table.finish();
    Some(Hsts { max_age: max_age?, include_subdomains, hosts })
}

fn trust(name: &str, known: &Known<'_>) -> Result<usize, Wrong> {
    let names = || known.client_certificates.iter().map(|trust| trust.name.as_str());
    if let Some(index) = names().position(|known| known == name) {
        return Ok(index);
    }
    let wrong = Wrong::new(format!("there is no client_certificates.{name}"));
    Err(match closest(name, names()) {
        Some(near) => wrong.hint(format!("did you mean {near:?}?")),
        None => wrong.hint(format!("add `[client_certificates.{name}]` with `ca`")),
    })
}

pub(super) fn certificates(tables: Vec<Table<'_>>, reader: &Reader<'_>) -> Vec<Certificate> {
    let read = |mut table: Table<'_>| {
        if !table.has("certificate") && !table.has("private_key") {
            let wrong = Wrong::new(MISSING);
            table.report("certificate", wrong.hint("write `certificate = \"server.crt\"` and `private_key`"));
        }
        let pair = pair(&mut table, true, reader);
        table.finish();
        pair
    };
    tables.into_iter().filter_map(read).collect()
}

pub(super) fn client_certificates(
    tables: Vec<(String, Table<'_>)>,
    roles: &authz::Settings,
    reader: &Reader<'_>,
) -> Vec<ClientCertificates> {
    let mut trusts: Vec<ClientCertificates> = Vec::new();
    for (name, mut table) in tables {
        if let Err(wrong) = simple_name(&name) {
            reader.report(wrong.at(table.own_key()));
        }
        let ca = table.required_file("ca", "\"partners-ca.pem\"");
        let crl = table.file("crl");
        let required = table.or("required", true, value::boolean);
        let hosts = table.list("hosts", |value| value::host_or_wildcard(value::text(value)?));
        let known = table.list("roles", |value| role(value::text(value)?, roles));
        for (index, (key, host)) in hosts.iter().enumerate() {
            let earlier = trusts.iter().find(|trust| trust.hosts.contains(host)).map(|trust| trust.name.clone());
            let here = hosts.iter().take(index).any(|(_, earlier)| earlier == host).then(|| name.clone());
            if let Some(earlier) = earlier.or(here) {
                let fault = Fault::new(key, format!("{host:?} is in client_certificates.{earlier} already"));
                reader.report(fault.hint("each host asks for one kind of certificate"));
            }
        }
        table.finish();
        let (hosts, roles) = (second(hosts), second(known));
        trusts.push(ClientCertificates { name, ca, crl, required, hosts, roles });
    }
    trusts
}

fn second(pairs: Vec<(String, String)>) -> Vec<String> {
    pairs.into_iter().map(|(_, value)| value).collect()
}

fn role(name: &str, roles: &authz::Settings) -> Result<String, Wrong> {
    if roles.contains_key(name) {
        return Ok(name.to_owned());
    }
    let wrong = Wrong::new(format!("there is no role {name:?}"));
    Err(match closest(name, roles.keys().map(String::as_str)) {
        Some(near) => wrong.hint(format!("did you mean {near:?}?")),
        None => wrong.hint("add it to [roles], with what it may do"),
    })
}

/// Where distributions keep the authorities that they trust: Debian, Fedora, openSUSE, Alpine.
const SYSTEM: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// `upstream.NAME.tls`: `true`, or a table.
pub(super) fn upstream(table: &mut Table<'_>, reader: &Reader<'_>) -> Option<Client> {
    if !table.is_table("tls") {
        return if table.or("tls", false, value::boolean) {
            Some(Client {
                ca: system(table, reader),
                server_name: None,
                certificate: None,
                accepts_any: false,
                pins: Vec::new(),
            })
        } else {
            None
        };
    }
    let mut inner = table.table("tls");
    let ca = inner.file("ca");
    let server_name = inner.optional("server_name", |value| value::host(value::text(value)?));
    let certificate = pair(&mut inner, false, reader).map(|pair| (pair.certificate, pair.private_key));
    let accepts_any = inner.or("dangerous_accept_any_certificate", false, value::boolean);
    if accepts_any {
        let key = inner.key("dangerous_accept_any_certificate");
        let warning = Fault::new(key, "whoever is in between can read and change everything");
        reader.warn(warning.hint("name the authority instead: `ca`"));
    }
    let read = |value: &DeValue<'_>| pin(value::text(value)?);
    // An empty list would mean that none is asked for.
    let pins = if inner.has("pins") {
        inner.required_list("pins", "[\"sha256:AB:CD:...\"]", read)
    } else {
        inner.list("pins", read)
    };
    let pins: Vec<_> = pins.into_iter().map(|(_, pin)| pin).collect();
    if accepts_any && inner.has("pins") {
        let hint = "leave `dangerous_accept_any_certificate` out: pins need no `ca`";
        inner.report("pins", Wrong::new("says nothing where any certificate will do").hint(hint));
    }
    inner.finish();
    let none = || NamedFile { path: std::path::PathBuf::new(), bytes: std::sync::Arc::default() };
    let is_open = accepts_any || !pins.is_empty();
    let ca = ca.unwrap_or_else(|| if is_open { none() } else { system(table, reader) });
    Some(Client { ca, server_name, certificate, accepts_any, pins })
}

/// `sha256:` and the certificate's fingerprint in hexadecimal digits, with or without colons, or `sha256//` and the
/// public key's in base64, as curl writes it.
fn pin(text: &str) -> Result<Pin, Wrong> {
    const HINT: &str = "`openssl x509 -in server.crt -noout -fingerprint -sha256` shows it: \"sha256:AB:CD:...\"";
    let wrong = |what: &str| Wrong::new(format!("{text:?} {what}")).hint(HINT);
    let hash = |decoded: Result<Vec<u8>, DecodeError>| {
        let decoded = decoded.map_err(|error| wrong(&format!("cannot be read: {error}")))?;
        let length = decoded.len();
        <[u8; 32]>::try_from(decoded).map_err(|_other| wrong(&format!("has {length} bytes, and SHA-256 has 32")))
    };
    if let Some(base64) = text.strip_prefix("sha256//") {
        return hash(BASE64.decode(base64.as_bytes())).map(Pin::PublicKey);
    }
    let Some(hexadecimal) = text.strip_prefix("sha256:") else {
        return Err(wrong("does not begin with \"sha256:\" (of a certificate) or \"sha256//\" (of a key)"));
    };
    hash(HEXLOWER_PERMISSIVE.decode(hexadecimal.replace(':', "").as_bytes())).map(Pin::Certificate)
}

/// Whom this system trusts.
fn system(table: &Table<'_>, reader: &Reader<'_>) -> NamedFile {
    reader.first_of(&SYSTEM).unwrap_or_else(|| {
        let wrong = Wrong::new("this system has no list of authorities that it trusts");
        table.report("tls", wrong.hint("install ca-certificates, or write `tls = { ca = \"internal-ca.pem\" }`"));
        NamedFile { path: SYSTEM.first().copied().unwrap_or_default().into(), bytes: std::sync::Arc::default() }
    })
}

/// Warns of what is configured and does nothing.
pub(super) fn warn(listeners: &[Listener], trusts: &[ClientCertificates], certificates: bool, reader: &Reader<'_>) {
    let speaks = listeners.iter().any(|listener| listener.tls.is_some());
    if certificates && !speaks {
        let warning = Fault::new("certificate", "no listener speaks TLS: nobody is shown it");
        reader.warn(warning.hint("write `tls = true` in a [[listener]]"));
    }
    for (index, trust) in trusts.iter().enumerate() {
        let is_used =
            |listener: &Listener| listener.tls.as_ref().is_some_and(|tls| tls.client_certificates == Some(index));
        if trust.hosts.is_empty() && !listeners.iter().any(is_used) {
            let key = format!("client_certificates.{}", trust.name);
            let warning = Fault::new(key, "no listener and no host asks for these");
            reader.warn(warning.hint("name `hosts`, or name it in a listener's `client_certificates`"));
        }
    }
}
