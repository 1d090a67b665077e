//! Reads `upstream.NAME.tls`: how servers are reached by TLS, and whom to believe.

use data_encoding::{BASE64, DecodeError, HEXLOWER_PERMISSIVE};
use toml::de::DeValue;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Switch, Table},
        tables::{certificate, outbound::system},
        value::{self, address, form::described},
    },
    diagnostic::Diagnostic,
    os::file::NamedFile,
    settings::tls::{Pin, UpstreamTls},
};

/// The keys of `[upstream.NAME.tls]`.
const KEYS: Keys = &[
    ("ca", "The authorities to believe, in PEM. Without it: those that this system trusts."),
    ("server_name", "The name that the server's certificate must have. Without it: the server's own name."),
    ("certificate", "The client certificate that the gateway shows, in PEM."),
    ("private_key", "The private key of `certificate`, in PEM."),
    (
        "dangerous_accept_any_certificate",
        "`true` accepts every certificate: anybody on the path can read and change everything.",
    ),
    ("pins", "The server's certificate must match one of these SHA-256 pins. Beside `ca`, both must hold."),
];

/// `upstream.NAME.tls`: `true`, or a table.
pub(in crate::config::tables) fn read(table: &Table<'_>, reader: &Reader<'_>) -> Option<UpstreamTls> {
    let inner = match table.switch("tls", KEYS) {
        Switch::Table(inner) => inner,
        Switch::Plain(false) => return None,
        Switch::Plain(true) => {
            return Some(UpstreamTls {
                ca: system(table, "tls", reader),
                server_name: None,
                certificate: None,
                accepts_any: false,
                pins: Vec::new(),
            });
        }
    };
    let ca = inner.file("ca");
    let server_name =
        inner.optional("server_name", described("host name or address", |value| address::host(value::text(value)?)));
    let certificate = certificate::pair(&inner, false, reader).map(|pair| (pair.certificate, pair.private_key));
    let accepts_any = inner.or("dangerous_accept_any_certificate", false, value::boolean());
    if accepts_any {
        let key = inner.key("dangerous_accept_any_certificate");
        let warning = Diagnostic::new(key, "anybody on the path can read and change everything");
        reader.warn(warning.hint("name the authority instead: `ca`"));
    }
    let one = |value: &DeValue<'_>| pin(value::text(value)?);
    // An empty list would mean that none is asked for.
    let pins = if inner.has("pins") {
        inner.required_list("pins", "[\"sha256:AB:CD:...\"]", one)
    } else {
        inner.list("pins", one)
    };
    let pins: Vec<_> = pins.into_iter().map(|(_, pin)| pin).collect();
    if accepts_any && inner.has("pins") {
        let hint = "leave `dangerous_accept_any_certificate` out: pins need no `ca`";
        inner.report("pins", Diagnostic::bare("has no effect where every certificate is accepted").hint(hint));
    }
    inner.finish();
    let none = || NamedFile { path: std::path::PathBuf::new(), bytes: std::sync::Arc::default() };
    let is_open = accepts_any || !pins.is_empty();
    let ca = ca.unwrap_or_else(|| if is_open { none() } else { system(table, "tls", reader) });
    Some(UpstreamTls { ca, server_name, certificate, accepts_any, pins })
}

/// `sha256:` and the certificate's fingerprint in hexadecimal digits, with or without colons, or `sha256//` and the
/// public key's in base64, as curl writes it.
fn pin(text: &str) -> Result<Pin, Diagnostic> {
    const HINT: &str = "`openssl x509 -in server.crt -noout -fingerprint -sha256` shows it: \"sha256:AB:CD:...\"";
    let wrong = |what: &str| Diagnostic::bare(format!("{text:?} {what}")).hint(HINT);
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
