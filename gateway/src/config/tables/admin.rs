//! Reads `[admin]`: where metrics and health are served.

use std::{net::SocketAddr, path::PathBuf};

use super::certificate;
use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{self, address, form::described},
    },
    diagnostic::Diagnostic,
    settings::{
        admin::{self, Listen},
        listener::Listener,
    },
};

/// The keys of `[admin]`.
pub(super) const KEYS: Keys = &[
    (
        "address",
        "The address and port of the admin listener. Other than loopback it needs TLS and a token or `client_ca`.",
    ),
    ("socket", "Instead of `address`: the path of a Unix socket, for root and the group of `proxy.user`."),
    (
        "user",
        "The user that the observer runs as: a name, or a number as a string. Not root. Without it: `proxy.user`. One of its \
         own keeps a proxy in wrong hands farther from it.",
    ),
    ("hosts", "Host names that requests may name, besides addresses and `localhost`. Others are refused."),
    ("certificate", "The certificate chain in PEM, leaf first. Without a certificate the listener speaks plain HTTP."),
    ("private_key", "The private key of `certificate`, in PEM."),
    ("client_ca", "The authorities whose client certificates are accepted, in PEM. Then every client must show one."),
    ("token_file", "A file with the bearer token that every request must send: one line of at least 16 characters."),
    (
        "dashboard",
        "Whether there is a page for browsers at `/dashboard`. Whoever opens it signs in with a token of `gateway admin-token`.",
    ),
];

/// `None`: there is no admin listener.
pub(super) fn read(table: Table<'_>, listeners: &[Listener], reader: &Reader<'_>) -> Option<admin::Settings> {
    if !table.is_present() {
        return None;
    }
    let hint = "write an address and a port: \"127.0.0.1:9901\", \"[::1]:9901\"";
    let address = table.optional(
        "address",
        described("address and port", |value| {
            let address: SocketAddr = value::parsed(hint)(value)?;
            if address.port() == 0 {
                return Err(Diagnostic::bare("has port 0").hint("name a port from 1 to 65535"));
            }
            Ok(address)
        }),
    );
    let socket = table.path("socket");
    let user = table.optional("user", described("string", value::line));
    let hosts = values(table.list("hosts", described("host name", |value| address::host(value::text(value)?))));
    let certificate = certificate::pair(&table, false, reader);
    let client_ca = table.file("client_ca");
    let token = table.file("token_file");
    if let Some(token) = &token {
        certificate::warn_of_mode(token, table.key("token_file"), reader);
    }
    let dashboard = table.or("dashboard", false, value::boolean());
    let listen = listen(&table, address, socket, listeners);
    if table.has("client_ca") && !table.has("certificate") {
        let wrong = Diagnostic::bare("has no effect without TLS");
        table.report("client_ca", wrong.hint("add `certificate` and `private_key`"));
    }
    if let Some(Listen::Tcp(address)) = listen.as_ref().filter(|_| !table.has_unknown())
        && !address.ip().is_loopback()
    {
        if !table.has("certificate") {
            let wrong = Diagnostic::bare(format!("{address} can be reached by other machines, without TLS"));
            table.report("address", wrong.hint("add `certificate` and `private_key`, or write \"127.0.0.1:9901\""));
        }
        if !table.has("token_file") && !table.has("client_ca") {
            let wrong = Diagnostic::bare(format!("{address} can be reached by other machines, by anybody"));
            table.report("address", wrong.hint("add `token_file` or `client_ca`, or write \"127.0.0.1:9901\""));
        }
    }
    table.finish();
    Some(admin::Settings { listen: listen?, user, hosts, certificate, client_ca, token, dashboard })
}

fn listen(
    table: &Table<'_>,
    address: Option<SocketAddr>,
    socket: Option<PathBuf>,
    listeners: &[Listener],
) -> Option<Listen> {
    if table.has("address") && table.has("socket") {
        let wrong = Diagnostic::bare("cannot be set beside `address`: there is one admin listener");
        table.report("socket", wrong.hint("leave one of them out"));
        return None;
    }
    if !table.has("address") && !table.has("socket") && !table.has_unknown() {
        let wrong = Diagnostic::bare("is missing: the admin listener has neither `address` nor `socket`");
        table.report(
            "address",
            wrong.hint("write `address = \"127.0.0.1:9901\"` or `socket = \"/run/gateway/admin.sock\"`"),
        );
    }
    if let Some(address) = address {
        let same = |listener: &Listener| {
            listener.address.port() == address.port()
                && (listener.address.ip() == address.ip() || listener.address.ip().is_unspecified())
        };
        if let Some(taken) = listeners.iter().position(same) {
            let wrong = Diagnostic::bare(format!("{address} is already used by listener[{taken}]"));
            table.report("address", wrong.hint("metrics are never served to clients: choose another port"));
        }
        return Some(Listen::Tcp(address));
    }
    let socket = socket?;
    // `sun_path` holds 108 bytes, the last of which is zero.
    if socket.as_os_str().len() > 107 {
        let wrong = Diagnostic::bare("is longer than the 107 bytes that a socket's path may have");
        table.report("socket", wrong.hint("choose a shorter path"));
    }
    Some(Listen::Unix(socket))
}
