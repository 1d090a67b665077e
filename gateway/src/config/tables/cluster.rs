//! Reads `[cluster]`: the machines that share limits, and the store between them.

use std::time::Duration;

use data_encoding::BASE64;
use toml::de::DeValue;

use super::{certificate::warn_of_mode, upstream::tls};
use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{self, address, closest, form::described, word::simple_name},
    },
    diagnostic::Diagnostic,
    net::reach::{Reach, reach},
    settings::cluster::{self, ClusterNode, ClusterStore, KEY_BYTES, MAX_NODES, Stale, StoreMode},
};

/// The keys of `[cluster]`.
pub(super) const KEYS: Keys = &[
    ("node", "The name of this machine: one of those in `[cluster.nodes]`."),
    ("key_file", "The private key of this machine. `gateway cluster key new` makes it. Only the guard reads it."),
    (
        "secret_file",
        "The file with at least 32 random bytes that all machines of the cluster have, and nobody else. \
         `gateway cluster secret new` makes it.",
    ),
    ("nodes", "Every machine of the cluster by its name, this one as well, with its public key."),
    ("bans", "Whether the machines tell each other of bans, unblocks and allowances."),
    ("revocations", "Whether the machines tell each other of revoked tokens and API keys."),
    (
        "api_keys",
        "Whether an API key that one machine makes is good on all: they need the same pepper (`api_keys.pepper_file`). Whoever \
         has one machine can make keys for all of them then.",
    ),
    (
        "ticket_keys",
        "Whether a client resumes its TLS session on every machine. Whoever has one machine can read what resumed sessions of \
         all of them say then.",
    ),
    (
        "revocation_stale",
        "What becomes of requests with tokens and API keys while no other machine is heard: `\"serve\"`, or `\"refuse\"` \
         with status 503.",
    ),
    ("revocation_stale_after", "For how long no other machine has to be unheard until `revocation_stale` counts."),
    ("store", "The Redis or Valkey server through which the machines know of each other."),
];

/// What stands for the keys of `[cluster.nodes]`, which are the operator's own.
const NODE_KEYS: Keys = &[("NAME", "The public key of this machine, as `gateway cluster key show` prints it.")];

/// The keys of `[cluster.store]`.
const STORE_KEYS: Keys = &[
    ("servers", "Host and port of the server; of its Sentinels; or of some nodes of a Redis Cluster."),
    ("mode", "What is behind `servers`."),
    ("primary", "The name by which the Sentinels know the primary. For `mode = \"sentinel\"` alone."),
    ("user", "The user of the store's ACL. Without it: the default user."),
    ("password_file", "The file with the password of `user`, in one line."),
    (
        "sentinel_password_file",
        "The file with the password of the Sentinels, in one line. Without it: they ask for none.",
    ),
    ("tls", "`true`: TLS with the authorities that this system trusts. A table: TLS with these settings."),
    ("prefix", "How the names of all keys in the store begin."),
    ("timeout", "How long one call may take. Then each machine enforces its share of shared limits by itself."),
];

/// How public keys begin.
const ED25519: &str = "ed25519:";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Cluster,
    Sentinel,
    Standalone,
}

/// `None`: there is no such table, or what is wrong with it was reported.
pub(super) fn read(table: Table<'_>, reader: &Reader<'_>) -> Option<cluster::Settings> {
    if !table.is_present() && !reader.is_reference() {
        return None;
    }
    let node = table.required("node", "\"edge-1\"", described("name", name));
    let key_file = table.required_path("key_file", "\"/etc/gateway/cluster.key\"");
    let secret = table.required_file("secret_file", "\"/etc/gateway/cluster.secret\"");
    // How long it is is asked where it is used: whoever only reads the configuration may not be allowed to read it.
    if table.has("secret_file") {
        warn_of_mode(&secret, table.key("secret_file"), reader);
    }
    let nodes = nodes(&table, reader);
    if let Some(node) = &node
        && !reader.is_reference()
        && !nodes.iter().any(|known| known.name == *node)
    {
        let wrong = Diagnostic::bare(format!("{node:?} is not in [cluster.nodes]"));
        table.report(
            "node",
            match closest(node, nodes.iter().map(|known| known.name.as_str())) {
                Some(near) => wrong.hint(format!("did you mean {near:?}?")),
                None => wrong.hint("add its public key there: `gateway cluster key show`"),
            },
        );
    }
    let bans = table.or("bans", true, value::boolean());
    let revocations = table.or("revocations", true, value::boolean());
    let api_keys = table.or("api_keys", false, value::boolean());
    let ticket_keys = table.or("ticket_keys", false, value::boolean());
    let stale = [("serve", Stale::Serve), ("refuse", Stale::Refuse)];
    let revocation_stale = table.or("revocation_stale", Stale::Serve, value::choice(&stale));
    let after = value::duration_in(Duration::from_secs(15)..=Duration::from_secs(86_400));
    let revocation_stale_after = table.or("revocation_stale_after", Duration::from_secs(60), after);
    if !revocations && !reader.is_reference() {
        for key in ["revocation_stale", "revocation_stale_after"].into_iter().filter(|key| table.has(key)) {
            let wrong = Diagnostic::bare("has no effect with revocations = false");
            table.report(key, wrong.hint("leave it out, or write `revocations = true`"));
        }
    }
    let inner = table.table("store", STORE_KEYS);
    if !inner.is_present() && !reader.is_reference() {
        let wrong = Diagnostic::bare("is missing: the machines know of each other through it alone");
        table.report("store", wrong.hint("write `[cluster.store]` with `servers = [\"10.0.0.5:6379\"]`"));
        table.finish();
        return None;
    }
    let store = store(&inner, reader);
    inner.finish();
    table.finish();
    Some(cluster::Settings {
        node: node?,
        key_file,
        secret,
        nodes,
        bans,
        revocations,
        api_keys,
        ticket_keys,
        revocation_stale,
        revocation_stale_after,
        store,
    })
}

fn name(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let text = value::text(value)?;
    simple_name(text).map(|()| text.to_owned())
}

fn nodes(table: &Table<'_>, reader: &Reader<'_>) -> Vec<ClusterNode> {
    let mut nodes: Vec<ClusterNode> = Vec::new();
    for (key, name, public) in table.table("nodes", NODE_KEYS).named_values(described("public key", public_key)) {
        if reader.is_reference() {
            continue;
        }
        if let Err(wrong) = simple_name(&name) {
            reader.report(wrong.at(&key));
        }
        match public {
            Err(wrong) => reader.report(wrong.at(key)),
            Ok(public) => {
                if let Some(twin) = nodes.iter().find(|known| known.key == public) {
                    let wrong = Diagnostic::new(&key, format!("has the key of {:?}", twin.name));
                    reader.report(wrong.hint("make a key for each machine: `gateway cluster key new`"));
                }
                nodes.push(ClusterNode { name, key: public });
            }
        }
    }
    if nodes.len() > MAX_NODES {
        let wrong = Diagnostic::bare(format!("there are {} machines", nodes.len()));
        table.report("nodes", wrong.hint(format!("at most {MAX_NODES} share a store")));
    }
    if nodes.is_empty() && !table.has("nodes") && !reader.is_reference() {
        let wrong = Diagnostic::bare("is missing: nobody's word would count");
        table.report("nodes", wrong.hint("write, for example, `[cluster.nodes]` with `edge-1 = \"ed25519:...\"`"));
    }
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    nodes
}

fn public_key(value: &DeValue<'_>) -> Result<[u8; KEY_BYTES], Diagnostic> {
    const HINT: &str = "`gateway cluster key show` prints it: \"ed25519:...\"";
    let text = value::line(value)?;
    // It may be a private key: it is not repeated.
    let wrong = |what: &str| Diagnostic::bare(what).hint(HINT);
    let encoded = text.strip_prefix(ED25519).ok_or_else(|| wrong("does not begin with \"ed25519:\""))?;
    let bytes = BASE64.decode(encoded.as_bytes()).map_err(|_not_base64| wrong("is not base64"))?;
    bytes.try_into().map_err(|_other| wrong("is not 32 bytes long"))
}

fn store(table: &Table<'_>, reader: &Reader<'_>) -> ClusterStore {
    let server = described("host:port", |value: &DeValue<'_>| address::server(value::text(value)?));
    let servers = values(table.required_list("servers", "[\"10.0.0.5:6379\"]", server));
    for server in &servers {
        let host = server.rsplit_once(':').map_or("", |(host, _)| host.trim_matches(['[', ']']));
        if let Ok(Reach::Never(why)) = host.parse().map(reach) {
            let wrong = Diagnostic::bare(format!("{server:?} {why}, and is never connected to"));
            table.report("servers", wrong.hint("name another server"));
        }
    }
    let kinds = [("standalone", Kind::Standalone), ("sentinel", Kind::Sentinel), ("cluster", Kind::Cluster)];
    let kind = table.or("mode", Kind::Standalone, value::choice(&kinds));
    let primary = table.optional("primary", described("string", value::line));
    let mode = match kind {
        Kind::Cluster => StoreMode::Cluster,
        Kind::Sentinel => StoreMode::Sentinel(primary.unwrap_or_default()),
        Kind::Standalone => StoreMode::Standalone,
    };
    if kind == Kind::Sentinel && !table.has("primary") {
        let wrong = Diagnostic::bare("is missing: the Sentinels know primaries by their names");
        table.report("primary", wrong.hint("write, for example, `primary = \"mymaster\"`"));
    }
    for (key, is_used) in [("primary", kind == Kind::Sentinel), ("sentinel_password_file", kind == Kind::Sentinel)] {
        if table.has(key) && !is_used {
            let wrong = Diagnostic::bare(format!("has no effect with mode = \"{}\"", mode.name()));
            table.report(key, wrong.hint("leave it out, or write `mode = \"sentinel\"`"));
        }
    }
    if kind == Kind::Standalone && servers.len() > 1 {
        let wrong = Diagnostic::bare("names several servers, and mode = \"standalone\" has one");
        table.report("servers", wrong.hint("write `mode = \"sentinel\"` or `mode = \"cluster\"`, or one server"));
    }
    let user = table.optional("user", described("string", value::line));
    let password = table.file("password_file");
    let sentinel_password = table.file("sentinel_password_file");
    if user.is_some() && !table.has("password_file") {
        let wrong = Diagnostic::bare("has no password");
        table.report("user", wrong.hint("write `password_file = \"/etc/gateway/store.password\"`"));
    }
    for (key, file) in [("password_file", &password), ("sentinel_password_file", &sentinel_password)] {
        if let Some(file) = file {
            warn_of_mode(file, table.key(key), reader);
        }
    }
    let tls = tls::read(table, reader);
    let is_near = |server: &String| {
        server.rsplit_once(':').is_some_and(|(host, _)| {
            let host = host.trim_matches(['[', ']']);
            host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        })
    };
    if tls.is_none() && !table.has("tls") && !servers.iter().all(is_near) {
        let warning = Diagnostic::new(
            table.key("tls"),
            "is not set: whoever is on the path to the store sees its password and can spend shared limits",
        );
        reader.warn(warning.hint("write `tls = true`, or `tls = { ca = \"store-ca.pem\" }`"));
    }
    let timeouts = value::duration_in(Duration::from_millis(5)..=Duration::from_secs(5));
    ClusterStore {
        servers,
        mode,
        user,
        password,
        sentinel_password,
        tls,
        prefix: table.or("prefix", "gateway".to_owned(), described("name", name).written(|text| format!("{text:?}"))),
        timeout: table.or("timeout", Duration::from_millis(50), timeouts),
    }
}
