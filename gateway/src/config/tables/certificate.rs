//! Reads `[[certificate]]`, and every other pair of a certificate and its private key.

use crate::{
    config::{
        diagnostics::MISSING,
        reader::{Keys, Reader},
        table::Table,
    },
    diagnostic::Diagnostic,
    os::file::NamedFile,
    settings::{listener::Listener, tls::Certificate},
};

/// The keys of `[[certificate]]`.
pub(super) const KEYS: Keys = &[
    ("certificate", "The certificate chain in PEM, leaf first. Required."),
    ("private_key", "The private key of `certificate`, in PEM. Required."),
    ("ocsp", "The OCSP response to staple, in DER."),
];

pub(super) fn read(tables: Vec<Table<'_>>, reader: &Reader<'_>) -> Vec<Certificate> {
    let one = |table: Table<'_>| {
        if !table.has("certificate") && !table.has("private_key") {
            let wrong = Diagnostic::bare(MISSING);
            table.report("certificate", wrong.hint("write `certificate = \"server.crt\"` and `private_key`"));
        }
        let pair = pair(&table, true, reader);
        table.finish();
        pair
    };
    tables.into_iter().filter_map(one).collect()
}

/// `certificate`, `private_key` and, where it is shown to clients, `ocsp`.
pub(super) fn pair(table: &Table<'_>, to_clients: bool, reader: &Reader<'_>) -> Option<Certificate> {
    let certificate = table.file("certificate");
    let private_key = table.file("private_key");
    let ocsp = if to_clients { table.file("ocsp") } else { None };
    if certificate.is_some() && !table.has("private_key") {
        let wrong = Diagnostic::bare("is missing beside `certificate`");
        table.report("private_key", wrong.hint("write `private_key = \"server.key\"`"));
    }
    if private_key.is_some() && !table.has("certificate") {
        let wrong = Diagnostic::bare("is missing beside `private_key`");
        table.report("certificate", wrong.hint("write `certificate = \"server.crt\"`"));
    }
    let (certificate, private_key) = (certificate?, private_key?);
    warn_of_mode(&private_key, table.key("private_key"), reader);
    Some(Certificate { certificate, private_key, ocsp })
}

/// Warns where a secret is open to everybody on the machine.
pub(super) fn warn_of_mode(secret: &NamedFile, key: String, reader: &Reader<'_>) {
    if let Some(mode) = reader.mode(&secret.path).filter(|mode| mode & 0o007 != 0) {
        let shown = secret.path.display();
        let warning = Diagnostic::new(key, format!("{shown} is open to every user (mode {:04o})", mode & 0o7777));
        reader.warn(warning.hint(format!("chmod 0600 {shown}")));
    }
}

/// Warns where there are certificates and nobody is shown them.
pub(super) fn warn_of_unused(certificates: &[Certificate], listeners: &[Listener], reader: &Reader<'_>) {
    let speaks = listeners.iter().any(|listener| listener.tls.is_some());
    if !certificates.is_empty() && !speaks {
        let warning = Diagnostic::new("certificate", "is not used: no listener speaks TLS");
        reader.warn(warning.hint("write `tls = true` in a [[listener]]"));
    }
}
