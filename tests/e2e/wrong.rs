//! What is said of each wrong configuration, exactly: one fault, at its line and column, by its key, with its reason and
//! what would be right; and that a running gateway goes on with what it has.

use std::fs;

use serde_json::Value;
use support::{
    daemon::{Daemon, gateway},
    http1::Client,
    pki::PKI,
    report,
    settings::Settings,
    upstream::Upstream,
    world::{GOOD_V4, World},
};

mod identity;

use identity::Row;

/// The first `[[listener]]`.
const LISTENER: &str = "address = \"10.0.0.1:443\"\ncertificate = \"server.crt\"\nprivate_key = \"server.key\"\n";
const SERVERS: &str = "servers = [\"127.0.0.1:9000\"]\n";
const ITEM: &str = "path = \"/items/{id}\"\n";
const JWT: &str = "type = \"at+jwt\"\n";
const RULES: &str = "[[rule]]\n";

/// Replaced in front of the rules: whole tables.
macro_rules! table {
    ($text:literal) => {
        concat!($text, "\n[[rule]]\n")
    };
}

/// Behind the first listener's lines.
macro_rules! listener {
    ($text:literal) => {
        concat!("address = \"10.0.0.1:443\"\ncertificate = \"server.crt\"\nprivate_key = \"server.key\"\n", $text, "\n")
    };
}

/// Behind the upstream's servers.
macro_rules! upstream {
    ($text:literal) => {
        concat!("servers = [\"127.0.0.1:9000\"]\n", $text, "\n")
    };
}

/// Behind the path of a route.
macro_rules! item {
    ($text:literal) => {
        concat!("path = \"/items/{id}\"\n", $text, "\n")
    };
}

#[rustfmt::skip]
const ROWS: [Row; 85] = [
    // The file itself.
    ("[timeouts]", "[timeouts", "\n\n\n[[listener]]\naddress = \"10.0.0.1:443\"", "", "not TOML", ""),
    ("[proxy]", "[proxi]", "proxi]", "proxi", "unknown", "did you mean `proxy`?"),
    ("[timeouts]", "[timeouts]\nidle = \"1s\"\nidle = \"2s\"", "idle = \"2s\"", "", "duplicate", ""),
    // Guard.
    ("interfaces = [", "interfases = [", "interfases", "guard.interfases", "unknown", "`interfaces`"),
    ("interfaces = [\"gate0\"]", "interfaces = \"gate0\"", "\"gate0\"", "guard.interfaces", "expected an array", "brackets"),
    ("interfaces = [\"gate0\"]", "interfaces = [\"gate0\"]\nmode = \"nativ\"", "\"nativ\"", "guard.mode", "unknown", "mean \"native\"?"),
    ("interfaces = [\"gate0\"]", "interfaces = [\"gate0\"]\nallow = [\"10.0.0.9\", \"10.0.0.1/8\"]", "\"10.0.0.1/8\"", "guard.allow[1]", "beyond the prefix", "192.0.2.0/24"),
    ("interfaces = [\"gate0\"]", "interfaces = [\"gate0\"]\nmax_bans = 0", "0\nstate_dir", "guard.max_bans", "out of range", "from 1 to"),
    ("interfaces = [\"gate0\"]", "interfaces = [\"gate0\"]\ndefault_ban = 60", "60\nstate_dir", "guard.default_ban", "expected a duration", "\"60s\""),
    ("interfaces = [\"gate0\"]", "interfaces = [\"gate0\"]\nwidest_ipv6 = 128", "128\nstate_dir", "guard.widest_ipv6", "no IPv6 client", "at most 64"),
    (RULES, table!("[guard.packet_limit]\nburst = 5"), "[guard.packet_limit]", "guard.packet_limit.packets", "missing", "packets = "),
    (RULES, table!("[guard.byte_limit]\nbytes = \"64MB\""), "\"64MB\"", "guard.byte_limit.bytes", "not a size", "\"64KiB\""),
    (RULES, table!("[guard.breaker]\nshare = 101"), "101", "guard.breaker.share", "out of range", "from 0 to 100"),
    (RULES, table!("[guard.ladder]\nfactors = [3, 1]"), "[3, 1]", "guard.ladder.factors", "ascending", "from the smallest"),
    // Proxy and timeouts.
    ("user = \"nobody\"", "user = \"root\"", "\"root\"", "proxy.user", "is root", "without rights"),
    ("user = \"nobody\"", "user = \"nobody\"\nmax_body = \"2GiB\"", "\"2GiB\"", "proxy.max_body", "out of range", "to \"1GiB\""),
    ("user = \"nobody\"", "user = \"nobody\"\ntrusted_proxies = [\"::/0\"]", "\"::/0\"", "proxy.trusted_proxies[0]", "too wide", "load balancers"),
    ("user = \"nobody\"", "user = \"nobody\"\nclient_header = \"forwarded\"", "\"forwarded\"", "proxy.client_header", "there are none", "trusted_proxies"),
    ("[timeouts]", "[timeouts]\nheaders = \"10\"", "\"10\"", "timeouts.headers", "not a duration", "unit"),
    ("[timeouts]", "[timeouts]\nbody = \"0s\"", "\"0s\"", "timeouts.body", "out of range", "from \"10ms\""),
    // Listener.
    ("\"10.0.0.1:443\"", "\"10.0.0.1\"", "\"10.0.0.1\"", "listener[0].address", "invalid socket address", "\"0.0.0.0:443\""),
    ("\"[fd00::1]:443\"", "\"10.0.0.1:443\"", "\"10.0.0.1:443\"\ncertificate = \"server.crt\"\nprivate_key = \"server.key\"\n\n[up", "listener[1].address", "used by listener[0]", "of its own"),
    (LISTENER, "address = \"10.0.0.1:443\"\ncertificate = \"server.crt\"\n", "[[listener]]\naddress = \"10.0.0.1:443\"", "listener[0].private_key", "missing", "private_key = "),
    (LISTENER, listener!("ja4 = \"yes\""), "\"yes\"", "listener[0].ja4", "expected a boolean", "`true` or `false`"),
    (LISTENER, listener!("redirect = 443"), "443\n[[listener]]", "listener[0].redirect", "plain HTTP", "of its own"),
    (LISTENER, listener!("proxy_protocol = true"), "true\n[[listener]]", "listener[0].proxy_protocol", "there are none", "trusted_proxies"),
    // TLS.
    (LISTENER, listener!("min_tls = \"1.0\""), "\"1.0\"", "listener[0].min_tls", "unknown", "1.2"),
    (LISTENER, listener!("protocols = [\"h2\", \"h3\"]"), "\"h3\"", "listener[0].protocols[1]", "unknown", "http/1.1"),
    (LISTENER, listener!("[listener.hsts]\ninclude_subdomains = true"), "[listener.hsts]", "listener[0].hsts.max_age", "missing", "365d"),
    (LISTENER, "address = \"10.0.0.1:443\"\ncertificate = \"none.crt\"\nprivate_key = \"server.key\"\n", "\"none.crt\"", "listener[0].certificate", "cannot read", "relative paths"),
    (LISTENER, "address = \"10.0.0.1:443\"\ncertificate = \"item.schema.json\"\nprivate_key = \"server.key\"\n", "\"item.schema.json\"\nprivate_key", "listener[0].certificate", "no certificate", "PEM"),
    (LISTENER, "address = \"10.0.0.1:443\"\ncertificate = \"server.crt\"\nprivate_key = \"other.key\"\n", "\"other.key\"", "listener[0].private_key", "not the key of", "leaf"),
    (RULES, table!("[[certificate]]\nprivate_key = \"server.key\""), "[[certificate]]", "certificate[0].certificate", "missing", "certificate = "),
    (RULES, table!("[client_certificates.partners]\nhosts = [\"p.example\"]"), "[client_certificates.partners]", "client_certificates.partners.ca", "missing", "ca = "),
    (RULES, table!("[client_certificates.partners]\nca = \"ca.crt\"\nhosts = [\"p.example\"]\nroles = [\"raeder\"]"), "\"raeder\"", "client_certificates.partners.roles[0]", "no role", "mean \"reader\"?"),
    // Upstream.
    (SERVERS, "servers = []\n", "[]\n\n", "upstream.items.servers", "is empty", "127.0.0.1:9000"),
    (SERVERS, "servers = [\"127.0.0.1\"]\n", "\"127.0.0.1\"", "upstream.items.servers[0]", "no port", "host and port"),
    (SERVERS, "servers = [{ address = \"a:1\", weight = 0 }]\n", "{ address", "upstream.items.servers[0]", "out of range", "from 1 to 100"),
    (SERVERS, upstream!("balance = \"random\""), "\"random\"", "upstream.items.balance", "unknown", "round_robin"),
    (SERVERS, upstream!("hash_by = \"path\""), "\"path\"", "upstream.items.hash_by", "without balance", "balance = \"hash\""),
    (SERVERS, upstream!("max_requests = -1"), "-1", "upstream.items.max_requests", "out of range", "from 1"),
    (SERVERS, upstream!("[upstream.items.health]\ninterval = \"1s\""), "[upstream.items.health]", "upstream.items.health.path", "missing", "path = \"/health\""),
    (SERVERS, upstream!("[upstream.items.ejection]\nclients = 77"), "77", "upstream.items.ejection.clients", "out of range", "1 to 16"),
    (SERVERS, upstream!("[upstream.items.ejection]\nstatuses = [404]"), "404", "upstream.items.ejection.statuses[0]", "out of range", "500 to 599"),
    (SERVERS, upstream!("[upstream.items.ejection]\ntime = \"1m\"\nlongest = \"1s\""), "\"1s\"", "upstream.items.ejection.longest", "shorter", "leave it out"),
    (SERVERS, upstream!("[upstream.items.retry]\nstatuses = [502, 404]"), "404", "upstream.items.retry.statuses[1]", "out of range", "500 to 599"),
    (SERVERS, upstream!("[upstream.items.tls]\npins = [] # none"), "[] # none", "upstream.items.tls.pins", "is empty", "sha256:"),
    (RULES, table!("[cors.a]\norigins = [\"https://a.example\"]\nheader = [\"a\"]"), "header", "cors.a.header", "unknown", "mean `headers`?"),
    (RULES, table!("[cors.a]\norigins = [\"https://a.example\"]\nzzzz = 1"), "zzzz", "cors.a.zzzz", "unknown", "known here: credentials, origins, methods, headers, expose, max_age, refuse_others"),
    (SERVERS, upstream!("[upstream.items.tls]\nverify = false"), "verify", "upstream.items.tls.verify", "unknown", "known here"),
    // Auth.
    (JWT, "tipe = \"at+jwt\"\n", "tipe", "jwt.tipe", "unknown", "mean `type`?"),
    ("issuer = ", "isuer = ", "isuer", "jwt.isuer", "unknown", "mean `issuer`?"),
    ("audience = \"api\"", "audience = 7", "7\njwks", "jwt.audience", "expected a string", "quotation marks"),
    ("jwks = \"jwks.json\"", "jwks = \"server.crt\"", "\"server.crt\"\ntype", "jwt.jwks", "not acceptable as JSON", ""),
    (JWT, "type = \"at+jwt\"\nleeway = \"1h\"\n", "\"1h\"", "jwt.leeway", "out of range", "to \"10m\""),
    ("reader = [\"items:read\"]", "reader = [\"items:read\", \"items read\"]", "\"items read\"", "roles.reader[1]", "spaces", "one word"),
    ("reader = [\"items:read\"]", "reader = \"items:read\"", "\"items:read\"\neditor", "roles.reader", "expected an array", "brackets"),
    // Routes.
    (ITEM, "path = \"/items/{id\"\n", "\"/items/{id\"", "route[1].path", "no whole segment", "{name}"),
    (ITEM, "path = \"items\"\n", "\"items\"\nmethods", "route[1].path", "slash", "\"/items\""),
    (ITEM, item!("host = \"api.example.com:443\""), "\"api.example.com:443\"", "route[1].host", "port", "every port"),
    (ITEM, item!("when = [{ header = \"a\", present = true, equals = \"b\" }]"), "\"b\"", "route[1].when[0].equals", "exactly one of", "one of"),
    (ITEM, item!("max_body = -5"), "-5", "route[1].max_body", "out of range", "whole number"),
    (ITEM, item!("upgrade = [\"h2c\"]"), "\"h2c\"", "route[1].upgrade[0]", "cannot check", "leave it out"),
    ("require = [\"items:write\"]", "require = [\"items:wrote\"]", "\"items:wrote\"", "route[2].require[0]", "no role", "mean \"items:write\"?"),
    ("methods = [\"POST\"]", "methods = [\"POST\", \"post\"]", "\"post\"", "route[2].methods[1]", "not a method", "mean \"POST\"?"),
    ("schema = \"item.schema.json\"", "schema = \"server.crt\"", "\"server.crt\"\nmax_body", "route[2].schema", "not acceptable as JSON", ""),
    ("path = \"/me\"\nmethods = [\"GET\"]\nrequire = [\"authenticated\"]\nupstream = \"items\"", "path = \"/me\"\nmethods = [\"GET\"]\nrequire = [\"authenticated\"]\nupstream = \"itmes\"", "\"itmes\"", "route[3].upstream", "no upstream", "mean \"items\"?"),
    ("path = \"/me\"", "path = \"/health\"", "\"/health\"\nmethods = [\"GET\"]\nrequire = [\"authenticated\"]", "route[3].path", "the same requests as route[0]", "its own host"),
    // Limits.
    (RULES, table!("[limit.address]\nrequests = 0"), "0\n[[rule]]", "limit.address.requests", "out of range", "from 1 to"),
    (RULES, table!("[limit.address]\nburst = 5"), "[limit.address]", "limit.address.requests", "missing", "requests = 100"),
    (RULES, table!("[limit.a]\nrequest = 5\nrequests = 5"), "request = 5", "limit.a.request", "unknown", "mean `requests`?"),
    (RULES, table!("[limit.a]\nrequests = 5\nby = [\"adress\"]"), "\"adress\"", "limit.a.by[0]", "counted by", "mean \"address\"?"),
    (RULES, table!("[limit.a]\nrequests = 5\nroutes = [\"search\"]"), "[\"search\"]", "limit.a.routes", "no route has", "`name`"),
    // Detection.
    ("name = \"bad-tokens\"", "name = \"bad tokens\"", "\"bad tokens\"", "rule[0].name", "not a name", "letters, digits"),
    ("signals = [\"forged_token\"]", "signals = [\"forged_tokens\"]", "\"forged_tokens\"", "rule[0].signals[0]", "unknown", "mean \"forged_token\"?"),
    ("signals = [\"forged_token\"]", "signals = []", "[]\ncount", "rule[0].signals", "is empty", "forged_token"),
    ("count = 10", "count = 65", "65\nwithin", "rule[0].count", "out of range", "from 1 to 64"),
    ("ban = \"10m\"", "ban = \"10 minutes\"", "\"10 minutes\"", "rule[0].ban", "not a duration", "unit"),
    ("within = \"60s\"\n", "", "[[rule]]\nname", "rule[0].within", "missing", "within = \"60s\""),
    (RULES, table!("[detect]\ncapacity = \"many\""), "\"many\"", "detect.capacity", "expected an integer", "whole number"),
    // Lists.
    (RULES, table!("[[feed]]\nname = \"drop\""), "[[feed]]", "feed[0].path", "missing", "path = "),
    (RULES, table!("[[feed]]\nname = \"drop\"\npath = \"drop.txt\"\nformat = \"spam\""), "\"spam\"", "feed[0].format", "unknown", "spamhaus"),
    (RULES, table!("[[feed]]\nname = \"a\"\npath = \"a\"\n[[feed]]\nname = \"a\"\npath = \"b\""), "\"a\"\npath = \"b\"", "feed[1].name", "used by feed[0]", "of its own"),
    // Logs.
    ("path = \"/stream\"\n", "path = \"/stream\"\naccess_log = \"no\"\n", "\"no\"", "route[6].access_log", "expected a boolean", "without quotation marks"),
    (LISTENER, listener!("access_log = 0"), "0\n[[listener]]", "listener[0].access_log", "expected a boolean", "`true` or `false`"),
];

fn all_rows() -> impl Iterator<Item = Row> {
    ROWS.into_iter().chain(identity::ROWS)
}

fn spoiled(text: &str, (from, to, ..): Row) -> String {
    assert!(text.contains(from), "{from:?} is not in the configuration");
    text.replacen(from, to, 1)
}

/// Line and column, both from 1, of the last place where `at` is.
fn place(text: &str, at: &str) -> (u64, u64) {
    let found = text.rfind(at).unwrap_or_else(|| panic!("{at:?} is not in the configuration"));
    let before = &text[..found];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
    (u64::try_from(line).unwrap(), u64::try_from(column).unwrap())
}

#[test]
fn each_wrong_configuration_is_told_once_and_where() {
    if !report::may_run("wrong") {
        return;
    }
    let folder = std::env::temp_dir().join(format!("gwt-{}-wrong", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    PKI.write(&folder);
    fs::write(folder.join("other.key"), PKI.another().1).unwrap();
    identity::write_files(&folder);
    let file = folder.join("gateway.toml");
    let path = file.to_str().unwrap();
    let text = Settings::default().text(&folder, "/sys/fs/bpf/none".as_ref());
    let mut faults = Vec::new();
    for row in all_rows() {
        let (_, to, at, key, message, hint) = row;
        let text = spoiled(&text, row);
        fs::write(&file, &text).unwrap();
        let told = gateway(&["--config", path, "check"]);
        let errors = told.json["errors"].as_array().cloned().unwrap_or_default();
        let [error] = errors.as_slice() else {
            faults.push(format!("{to}: not told once: {}", told.json));
            continue;
        };
        let message_is = error["message"].as_str().is_some_and(|told| !message.is_empty() && told.contains(message));
        // A row without a hint says that there is none.
        let hint_is = error["hint"].as_str().map_or(hint.is_empty(), |told| !hint.is_empty() && told.contains(hint));
        let (line, column) = place(&text, at);
        let right = told.code == 1
            && error["file"] == path
            && error["line"] == line
            && error["column"] == column
            && error["key"] == key
            && message_is
            && hint_is;
        if !right {
            faults.push(format!("{to}: expected {line}:{column} {key} {message:?} {hint:?}, told {error}"));
        }
    }
    for (from, to, key, message, hint) in identity::WARNINGS {
        fs::write(&file, spoiled(&text, (from, to, "", key, message, hint))).unwrap();
        let told = gateway(&["--config", path, "check"]);
        let is = |warning: &Value| {
            let has = |member: &str, piece: &str| warning[member].as_str().is_some_and(|told| told.contains(piece));
            warning["key"] == key && warning["line"].is_u64() && has("message", message) && has("hint", hint)
        };
        if told.code != 0 || !told.json["warnings"].as_array().is_some_and(|warnings| warnings.iter().any(is)) {
            faults.push(format!("{to}: not warned of {key} {message:?} {hint:?}: {}", told.json));
        }
    }
    for (table, key, message, hint) in identity::UNREACHABLE {
        fs::write(&file, text.replacen("[roles]\n", &format!("{table}\n[roles]\n"), 1)).unwrap();
        let told = gateway(&["--config", path, "check", "--online"]);
        let is = |one: &Value| {
            let has = |member: &str, piece: &str| one[member].as_str().is_some_and(|told| told.contains(piece));
            one["key"] == key && one["ok"] == false && has("told", message) && has("hint", hint)
        };
        if told.code != 5 || !told.json["online"].as_array().is_some_and(|probed| probed.iter().any(is)) {
            faults.push(format!("{table}: not told of {key} {message:?} {hint:?}: {}", told.json));
        }
    }
    fs::remove_dir_all(folder).unwrap();
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), all_rows().count(), faults.join("\n"));
}

#[test]
fn each_wrong_configuration_leaves_a_running_gateway_as_it_is() {
    if !report::may_run("wrong::reload") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings::default());
    fs::write(world.folder.join("other.key"), PKI.another().1).unwrap();
    identity::write_files(&world.folder);
    let proxy = daemon.proxy_pid();
    let client = Client::new(&world, GOOD_V4);
    let text = fs::read_to_string(&daemon.config).unwrap();
    for row in all_rows() {
        fs::write(&daemon.config, spoiled(&text, row)).unwrap();
        let told = daemon.cli(&["reload"]);
        let message = told.json["message"].as_str().unwrap_or_default();
        assert_eq!(told.json["answer"], "refused", "{}: {}", row.1, told.json);
        assert_eq!(told.code, 1, "{}: {}", row.1, told.json);
        assert_eq!(told.errors.contains("note: "), row.3.is_empty(), "{}: {}", row.1, told.errors);
        assert!(message.contains(row.3) && message.contains("gateway.toml:"), "{}: {message}", row.1);
    }
    assert_eq!(daemon.status()["proxy_pid"], proxy, "another proxy serves");
    assert_eq!(client.get("/health", "").unwrap().status, 200);
    fs::write(&daemon.config, &text).unwrap();
    daemon.done(&["reload"]);
}
