//! Wrong configurations, each with what must be said about it; and right ones.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Config, Diagnostics, Disk, Files, Locations, RecordingFiles};
use crate::message::Bundle;

/// Valid. The tests below spoil one place each.
const BASE: &str = r#"[guard]
interfaces = ["eth0"]
mode = "auto"
allow = ["192.0.2.0/24"]
ipv6_prefix = 64
widest_ipv6 = 32
default_ban = "1h"

[guard.packet_limit]
packets = 20000

[proxy]
user = "gateway"
workers = 2
max_body = "1MiB"

[timeouts]
idle = "75s"

[[listener]]
address = "0.0.0.0:443"
certificate = "server.crt"
private_key = "server.key"

[upstream.items]
servers = ["127.0.0.1:9000"]

[jwt]
issuer = "https://issuer.example"
audience = "api"
jwks = "jwks.json"

[roles]
reader = ["items:read"]

[limit.address]
requests = 100

[[route]]
host = "api.example.com"
path = "/items/{id}"
methods = ["GET", "HEAD"]
require = ["items:read"]
upstream = "items"
schema = "item.schema.json"

[[rule]]
name = "bad-tokens"
signals = ["forged_token"]
count = 10
within = "60s"
ban = "10m"
"#;

/// Every file is there, but for some.
struct Fake<'a>(&'a str);

impl Files for Fake<'_> {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        if path.ends_with("gateway.toml") {
            return Ok(self.0.as_bytes().into());
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match name.split('.').next() {
            Some("missing") => Err(io::Error::from_raw_os_error(2)),
            Some("forbidden") => Err(io::Error::from_raw_os_error(13)),
            _ => Ok(name.as_bytes().into()),
        }
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        Some(if path.ends_with("open.key") { 0o100_644 } else { 0o100_600 })
    }
}

fn load(text: &str) -> Result<Config, Diagnostics> {
    Config::load(Path::new("/etc/gateway/gateway.toml"), &Fake(text))
}

fn spoiled(from: &str, to: &str) -> String {
    assert_eq!(BASE.matches(from).count(), 1, "{from:?} must be in BASE once");
    BASE.replace(from, to)
}

/// BASE with `from` replaced by `to` has exactly one fault: at `line` and `key`, with these words in it.
#[track_caller]
fn wrong(from: &str, to: &str, line: usize, key: &str, message: &str, hint: &str) {
    let errors = load(&spoiled(from, to)).expect_err(to);
    let shown: Vec<_> = errors.shown().collect();
    let [diagnostic] = shown.as_slice() else { panic!("{to:?}: not one fault:\n{errors}") };
    assert_eq!((diagnostic.line, diagnostic.key), (Some(line), key), "{to:?}:\n{errors}");
    assert!(diagnostic.message.contains(message), "{to:?}: {message:?} is not in:\n{errors}");
    assert!(diagnostic.hint.unwrap_or_default().contains(hint), "{to:?}: {hint:?} is not in:\n{errors}");
    let place = format!("/etc/gateway/gateway.toml:{line}:");
    assert!(errors.to_string().contains(&place), "{to:?}: {place} is not in:\n{errors}");
}

#[test]
fn the_base_is_valid() {
    let config = load(BASE).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let tls = config.proxy.listeners[0].tls.as_ref().unwrap();
    assert_eq!(tls.default.as_ref().unwrap().private_key.path, Path::new("/etc/gateway/server.key"));
}

#[test]
fn wrong_in_general() {
    wrong("[guard]\n", "[gard]\n", 1, "gard", "unknown", "did you mean `guard`?");
    wrong("mode = ", "mods = ", 3, "guard.mods", "unknown", "did you mean `mode`?");
    wrong("workers = ", "zzz = ", 14, "proxy.zzz", "unknown", "known here: user, workers");
    wrong("idle = \"75s\"", "idle = 75", 18, "timeouts.idle", "expected a duration", "\"75s\"");
    wrong("idle = \"75s\"", "idle = \"75\"", 18, "timeouts.idle", "not a duration", "a unit");
    wrong("idle = \"75s\"", "idle = \"2h\"", 18, "timeouts.idle", "out of range", "to \"1h\"");
    wrong("idle = \"75s\"", "idle = ", 18, "", "not TOML", "");
    wrong("\"gateway\"", "\"gateway\nx\"", 13, "", "not TOML", "");
    wrong("workers = 2", "workers = 2\nworkers = 3", 15, "", "duplicate", "");
    wrong("idle = \"75s\"", "least_rate = \"2MiB\"", 18, "timeouts.least_rate", "out of range", "to \"1MiB\"");
    wrong("[timeouts]\n", "[[timeouts]]\n", 17, "timeouts", "expected a table, found an array", "[timeouts]");
}

#[test]
fn wrong_guards() {
    wrong("\"auto\"", "\"nativ\"", 3, "guard.mode", "\"nativ\" is unknown", "did you mean \"native\"?");
    wrong("\"auto\"", "true", 3, "guard.mode", "expected a string, found a boolean", "quotation marks");
    wrong("[\"eth0\"]", "\"eth0\"", 2, "guard.interfaces", "expected an array", "brackets");
    wrong("[\"eth0\"]", "[\"eth0\", \"eth/1\"]", 2, "guard.interfaces[1]", "not an interface name", "ip link");
    wrong("[\"eth0\"]", "[\"eth0\", \"eth0\"]", 2, "guard.interfaces[1]", "twice", "once");
    wrong("192.0.2.0/24", "192.0.2.1/24", 4, "guard.allow[0]", "beyond the prefix length", "192.0.2.0/24");
    wrong("192.0.2.0/24", "example.com", 4, "guard.allow[0]", "not an IP address", "2001:db8::/32");
    wrong("ipv6_prefix = 64", "ipv6_prefix = 65", 5, "guard.ipv6_prefix", "65 is out of range", "from 1 to 64");
    wrong("widest_ipv6 = 32", "widest_ipv6 = 65", 6, "guard.widest_ipv6", "no IPv6 client", "at most 64");
    wrong("\"1h\"", "\"0s\"", 7, "guard.default_ban", "out of range", "from \"1s\"");
    wrong("\"1h\"", "\"1h\"\npin_dir = \"/sys/fs/bpf\"", 8, "guard.pin_dir", "root of bpffs", "/sys/fs/bpf/gateway");
    wrong("\"1h\"", "\"1h\"\npin_dir = \"/sys/fs/bpf/a.b\"", 8, "guard.pin_dir", "dot", "without dots");
    wrong("packets = 20000", "packets = 0", 10, "guard.packet_limit.packets", "out of range", "from 1 to");
    wrong("packets = 20000", "burst = 1", 9, "guard.packet_limit.packets", "missing", "packets = 20000");
}

#[test]
fn wrong_proxies() {
    wrong("\"gateway\"", "\"root\"", 13, "proxy.user", "is root", "without rights");
    wrong("\"gateway\"", "1000", 13, "proxy.user", "expected a string", "as a string");
    wrong("workers = 2", "workers = -1", 14, "proxy.workers", "-1 is out of range", "from 0 to 1024");
    wrong("\"1MiB\"", "\"1MB\"", 15, "proxy.max_body", "not a size", "\"1MiB\"");
    wrong("\"1MiB\"", "\"2GiB\"", 15, "proxy.max_body", "2GiB is out of range", "to \"1GiB\"");
    wrong("\"1MiB\"", "\"1MiB\"\nmax_memory = \"1MiB\"", 16, "proxy.max_memory", "out of range", "\"64MiB\"");
    wrong("\"1MiB\"", "\"1MiB\"\nmax_header_bytes = 100", 16, "proxy.max_header_bytes", "out of range", "8192");
}

#[test]
fn wrong_trust() {
    let (proxies, header) = ("proxy.trusted_proxies[0]", "proxy.client_header");
    let with = |line: &str| format!("\"1MiB\"\n{line}");
    wrong("\"1MiB\"", &with("trusted_proxies = [\"balancer\"]"), 16, proxies, "not an IP address", "10.0.0.0/24");
    wrong("\"1MiB\"", &with("trusted_proxies = [\"0.0.0.0/0\"]"), 16, proxies, "too wide", "load balancers");
    wrong("\"1MiB\"", &with("client_header = \"forwarded\""), 16, header, "there are none", "trusted_proxies");
    let known = "trusted_proxies = [\"10.0.0.2\"]\nclient_header = \"x-forwarded-fr\"";
    wrong("\"1MiB\"", &with(known), 17, header, "unknown", "mean \"x-forwarded-for\"?");
    let protocol = "listener[0].proxy_protocol";
    wrong("\"0.0.0.0:443\"", "\"0.0.0.0:443\"\nproxy_protocol = true", 22, protocol, "none", "trusted_proxies");
    wrong("\"0.0.0.0:443\"", "\"0.0.0.0:443\"\nproxy_protocol = 1", 22, protocol, "expected a boolean", "`true`");
    let out = "upstream.items.proxy_protocol";
    let one = "[\"127.0.0.1:9000\"]";
    wrong(one, &format!("{one}\nproxy_protocol = \"v3\""), 27, out, "unknown", "one of: v1, v2");
}

#[test]
fn wrong_listeners() {
    wrong("\"0.0.0.0:443\"", "\"443\"", 21, "listener[0].address", "invalid socket address", "\"[::]:443\"");
    wrong("\"0.0.0.0:443\"", "\"0.0.0.0:0\"", 21, "listener[0].address", "port 0", "1 to 65535");
    wrong("address = \"0.0.0.0:443\"\n", "", 20, "listener[0].address", "missing", "address = ");
    wrong("private_key = \"server.key\"\n", "", 20, "listener[0].private_key", "missing", "private_key = ");
    wrong("certificate = \"server.crt\"\n", "", 20, "listener[0].certificate", "missing", "certificate = ");
    let (crt, key) = ("listener[0].certificate", "listener[0].private_key");
    wrong("server.crt", "missing.crt", 22, crt, "/etc/gateway/missing.crt: No such file", "folder of the config");
    wrong("server.crt", "/x/missing.crt", 22, crt, "cannot read /x/missing.crt", "check the path");
    wrong("server.key", "forbidden.key", 23, key, "Permission denied", "run as root");
    let twice = "\"server.key\"\n[[listener]]\naddress = \"0.0.0.0:443\"\ncertificate = \"a\"\nprivate_key = \"b\"";
    wrong("\"server.key\"", twice, 25, "listener[1].address", "used by listener[0]", "of its own");
    let start = BASE.find("[[listener]]").unwrap();
    let section = &BASE[start..BASE.find("[upstream").unwrap()];
    wrong(section, "", 1, "listener", "missing", "[[listener]]");
    wrong("[[listener]]", "[listener]", 20, "listener", "several", "two brackets");
}

#[test]
fn wrong_upstreams() {
    let one = "[\"127.0.0.1:9000\"]";
    let server = "upstream.items.servers[0]";
    let (balance, hash_by) = ("upstream.items.balance", "upstream.items.hash_by");
    let of = |entry: &str| format!("[{entry}]");
    wrong(one, &of("{ addres = \"a:1\" }"), 26, server, "`addres` is unknown", "mean `address`?");
    wrong(one, &of("{ weight = 2 }"), 26, server, "no `address`", "weight = 3");
    wrong(one, &of("{ address = \"a:1\", weight = 0 }"), 26, server, "weight: 0 is out", "from 1 to 100");
    wrong(one, &of("{ address = \"a\" }"), 26, server, "no port", "host and port");
    wrong(one, &of("\"a:1\", { address = \"a:1\" }"), 26, "upstream.items.servers[1]", "twice", "once");
    let many: Vec<_> = (0..65).map(|port| format!("\"a:{}\"", 9_000 + port)).collect();
    wrong(one, &of(&many.join(", ")), 26, "upstream.items.servers[64]", "more than 64", "another upstream");
    let with = |line: &str| format!("{one}\n{line}");
    wrong(one, &with("balance = \"round-robin\""), 27, balance, "unknown", "mean \"round_robin\"?");
    wrong(one, &with("hash_by = \"path\""), 27, hash_by, "without balance", "balance = \"hash\"");
    let by = |by: &str| with(&format!("balance = \"hash\"\nhash_by = \"{by}\""));
    wrong(one, &by("cookie"), 28, hash_by, "unknown", "\"header:x-tenant\"");
    wrong(one, &by("header:a b"), 28, hash_by, "unknown", "\"header:x-tenant\"");
}

#[test]
fn wrong_resilience() {
    let one = "[\"127.0.0.1:9000\"]";
    let of = |key: &str| format!("upstream.items.{key}");
    let with = |line: &str| format!("{one}\n{line}");
    wrong(one, &with("when_down = \"open\""), 27, &of("when_down"), "unknown", "refuse, try");
    wrong(one, &with("resolve = \"0s\""), 27, &of("resolve"), "out of range", "from \"100ms\"");
    wrong(one, &with("max_requests = 0"), 27, &of("max_requests"), "out of range", "from 1");
    wrong(one, &with("max_pending = \"many\""), 27, &of("max_pending"), "expected an integer", "whole number");
    wrong(one, &with("slow_start = \"2h\""), 27, &of("slow_start"), "out of range", "to \"1h\"");
    let table = |name: &str, line: &str| with(&format!("[upstream.items.{name}]\n{line}"));
    wrong(one, &table("health", "interval = \"5s\""), 27, &of("health.path"), "missing", "path = \"/health\"");
    wrong(one, &table("health", "path = \"health\""), 28, &of("health.path"), "not a path", "\"/health\"");
    wrong(one, &table("health", "path = \"/\"\nexpect = [99]"), 29, &of("health.expect[0]"), "out of", "100 to 599");
    wrong(one, &table("health", "path = \"/\"\nintervall = \"1s\""), 29, &of("health.intervall"), "unknown", "mean");
    wrong(one, &table("ejection", "share = 101"), 28, &of("ejection.share"), "out of range", "1 to 100");
    let shorter = "time = \"1m\"\nlongest = \"1s\"";
    wrong(one, &table("ejection", shorter), 29, &of("ejection.longest"), "shorter", "leave it out");
    wrong(one, &table("retry", "tries = 0"), 28, &of("retry.tries"), "out of range", "from 1 to 10");
    wrong(one, &table("retry", "statuses = [404]"), 28, &of("retry.statuses[0]"), "out of range", "500 to 599");
    wrong(one, &table("retry", "statuses = [501]"), 28, &of("retry.statuses[0]"), "does not mean", "502, 503");
    wrong(one, &with("protocol = \"h2\""), 27, &of("protocol"), "unknown", "http1, http2");
    wrong(one, &with("protocol = \"auto\""), 27, &of("protocol"), "needs TLS", "`tls = true`");
    wrong(one, &table("http2", "streams = 10"), 27, &of("http2"), "without HTTP/2", "protocol = \"http2\"");
    let http2 = |line: &str| with(&format!("protocol = \"http2\"\n[upstream.items.http2]\n{line}"));
    wrong(one, &http2("streams = 0"), 29, &of("http2.streams"), "out of range", "from 1 to 1000");
    wrong(one, &http2("connections = 0"), 29, &of("http2.connections"), "out of range", "from 1");
    wrong(one, &http2("ping = \"10ms\""), 29, &of("http2.ping"), "out of range", "from \"1s\"");
    wrong(one, &http2("pings = \"10s\""), 29, &of("http2.pings"), "unknown", "mean `ping`?");
}

#[test]
fn wrong_routes() {
    let key = |name: &str| format!("route[0].{name}");
    let item = "no upstream \"item\"";
    wrong("upstream = \"items\"", "upstream = \"item\"", 44, &key("upstream"), item, "mean \"items\"?");
    wrong("upstream = \"items\"", "upstream = \"xyz\"", 44, &key("upstream"), "no upstream", "[upstream.xyz]");
    wrong("upstream = \"items\"\n", "", 39, &key("upstream"), "missing", "upstream = \"items\"");
    wrong("127.0.0.1:9000", "127.0.0.1", 26, "upstream.items.servers[0]", "no port", "host and port");
    wrong("127.0.0.1:9000", "http://a:1", 26, "upstream.items.servers[0]", "URL", "items.internal:9000");
    wrong("127.0.0.1:9000", "a:70000", 26, "upstream.items.servers[0]", "1 to 65535", "host and port");
    wrong("[\"127.0.0.1:9000\"]", "[]", 26, "upstream.items.servers", "empty", "127.0.0.1:9000");
    wrong("\"api.example.com\"", "\"api.example.com:443\"", 40, &key("host"), "port", "\"api.example.com\"");
    wrong("\"api.example.com\"", "\"a*.example.com\"", 40, &key("host"), "wildcard", "first label");
    wrong("\"api.example.com\"", "\"bücher.example\"", 40, &key("host"), "ASCII", "xn--");
    wrong("\"/items/{id}\"", "\"items\"", 41, &key("path"), "slash", "\"/items\"");
    wrong("\"/items/{id}\"", "\"/a//b\"", 41, &key("path"), "not canonical", "\"//\"");
    wrong("\"/items/{id}\"", "\"/a?b\"", 41, &key("path"), "query", "path alone");
    wrong("\"/items/{id}\"", "\"/a/{id}.json\"", 41, &key("path"), "whole segment", "{*rest}");
    wrong("\"/items/{id}\"", "\"/{*rest}/a\"", 41, &key("path"), "goes on", "at the end");
    wrong("\"/items/{id}\"", "\"/{a}/{a}\"", 41, &key("path"), "one name", "of its own");
    wrong("\"HEAD\"", "\"head\"", 42, &key("methods[1]"), "not a method", "mean \"HEAD\"?");
    wrong("\"HEAD\"", "\"TRACE\"", 42, &key("methods[1]"), "not supported", "leave it out");
    wrong("\"HEAD\"", "\"GET\"", 42, &key("methods[1]"), "twice", "once");
    wrong("require = [\"items:read\"]", "require = [\"items:raed\"]", 43, &key("require[0]"), "no role", "items:read");
    wrong("require = [\"items:read\"]", "require = [\"pubic\"]", 43, &key("require[0]"), "no role", "mean \"public\"?");
    wrong("require = [\"items:read\"]", "require = \"public\"", 43, &key("require"), "expected an array", "brackets");
    let two = "require = [\"items:read\", \"authenticated\"]";
    wrong("require = [\"items:read\"]", two, 43, &key("require[1]"), "other words", "alone");
    wrong("item.schema.json", "missing.json", 45, &key("schema"), "cannot read", "relative paths");
    let start = BASE.find("[jwt]").unwrap();
    let section = &BASE[start..BASE.find("[roles]").unwrap()];
    wrong(section, "", 38, "route[0].require[0]", "no [jwt]", "add a [jwt]");
}

#[test]
fn wrong_policies() {
    wrong("reader = ", "\"a reader\" = ", 34, "roles.\"a reader\"", "not a role name", "one word");
    wrong(
        "reader = [\"items:read\"]",
        "reader = [\"items:read\", \"a b\"]",
        34,
        "roles.reader[1]",
        "spaces",
        "one word",
    );
    wrong(
        "reader = [\"items:read\"]",
        "reader = [\"items:read\", \"public\"]",
        34,
        "roles.reader[1]",
        "reserved",
        "another",
    );
    wrong("requests = 100", "requests = 0", 37, "limit.address.requests", "out of range", "from 1 to");
    wrong("requests = 100", "burst = 100", 36, "limit.address.requests", "missing", "requests = 100");
    let fast = "requests = 1_000_000_000\nper = \"1ms\"";
    wrong("requests = 100", fast, 37, "limit.address.requests", "per nanosecond", "longer `per`");
    wrong("\"forged_token\"", "\"forged_tokens\"", 49, "rule[0].signals[0]", "unknown", "mean \"forged_token\"?");
    wrong("[\"forged_token\"]", "[]", 49, "rule[0].signals", "empty", "forged_token");
    wrong("count = 10", "count = 65", 50, "rule[0].count", "65 is out of range", "from 1 to 64");
    wrong("count = 10", "count = \"10\"", 50, "rule[0].count", "found a string", "from 1 to 64");
    wrong("within = \"60s\"\n", "", 47, "rule[0].within", "missing", "within = \"60s\"");
    wrong("\"10m\"", "\"-10m\"", 52, "rule[0].ban", "not a duration", "number and a unit");
    wrong("\"bad-tokens\"", "\"bad tokens\"", 48, "rule[0].name", "not a name", "letters, digits");
    let again =
        "\"10m\"\n[[rule]]\nname = \"bad-tokens\"\nsignals = [\"forbidden\"]\ncount = 1\nwithin = \"1s\"\nban = \"1m\"";
    wrong("\"10m\"", again, 54, "rule[1].name", "used by rule[0]", "of its own");
}

#[test]
fn all_faults_are_told_at_once_in_order() {
    let text = BASE.replace("\"auto\"", "7").replace("workers", "wokers").replace("\"10m\"", "\"ten\"");
    let errors = load(&text).expect_err("three faults");
    let keys: Vec<_> = errors.shown().map(|diagnostic| diagnostic.key.to_owned()).collect();
    assert_eq!(keys, ["guard.mode", "proxy.wokers", "rule[0].ban"]);
    let json = serde_json::to_value(&errors).unwrap();
    assert_eq!(
        json[1],
        serde_json::json!({
            "file": "/etc/gateway/gateway.toml", "line": 14, "column": 1, "key": "proxy.wokers",
            "message": "is unknown", "hint": "did you mean `workers`?",
        })
    );
}

#[test]
fn shown_with_the_line_itself() {
    let errors = load(&spoiled("\"auto\"", "\"nativ\"")).expect_err("a fault");
    let expect = "\
error: guard.mode: \"nativ\" is unknown
 --> /etc/gateway/gateway.toml:3:8
  |
3 | mode = \"nativ\"
  |        ^^^^^^^
  |
  = help: did you mean \"native\"?";
    assert_eq!(errors.to_string(), expect);
    assert!(errors.render(true).contains('\u{1b}'));
}

#[test]
fn what_cannot_be_read() {
    struct Nothing;
    impl Files for Nothing {
        fn read(&self, _: &Path) -> io::Result<Arc<[u8]>> {
            Err(io::Error::from_raw_os_error(2))
        }
    }
    let errors = Config::load(Path::new("x.toml"), &Nothing).expect_err("no file");
    assert!(!errors.readable());
    let text = errors.to_string();
    assert!(text.contains("cannot read x.toml: No such file") && text.contains("--config"), "{text}");

    struct Latin1;
    impl Files for Latin1 {
        fn read(&self, _: &Path) -> io::Result<Arc<[u8]>> {
            Ok(b"[guard]\nmode = \"\xfc\"".as_slice().into())
        }
    }
    let errors = Config::load(Path::new("x.toml"), &Latin1).expect_err("not UTF-8");
    let diagnostic = errors.shown().next().unwrap();
    assert_eq!((diagnostic.line, diagnostic.column), (Some(2), Some(9)));

    let errors = Config::load(Path::new("/"), &Disk).expect_err("a folder");
    assert!(errors.to_string().contains("not a regular file"), "{errors}");
}

/// BASE with `from` replaced by `to` is valid, with one warning.
#[track_caller]
fn warned(from: &str, to: &str, key: &str, message: &str) {
    let config = load(&spoiled(from, to)).unwrap_or_else(|errors| panic!("{errors}"));
    let [warning] = config.warnings.as_slice() else { panic!("{to:?}: not one warning: {:?}", config.warnings) };
    assert_eq!(warning.key, key, "{to:?}");
    assert!(warning.message.contains(message) && warning.hint.is_some(), "{to:?}: {warning:?}");
}

#[test]
fn warnings() {
    warned("server.key", "open.key", "listener[0].private_key", "mode 0644");
    warned("certificate = \"server.crt\"\nprivate_key = \"server.key\"\n", "", "listener[0].address", "plain HTTP");
    warned("\"1h\"", "\"1h\"\npin_dir = \"/run/bpf\"", "guard.pin_dir", "not below /sys/fs/bpf");
    warned("require = [\"items:read\"]\n", "", "route[0].require", "nobody");
    let schema = "schema = \"item.schema.json\"";
    let inspected = format!("{schema}\ncontent_encoding = \"inspect\"");
    warned(schema, &inspected, "route[0].content_encoding", "reads other bytes");
    let start = BASE.find("[limit.address]").unwrap();
    let rest = &BASE[start..BASE.find("[[route]]").unwrap()];
    let unlimited = BASE.replace(rest, "");
    assert!(load(&unlimited).unwrap().warnings.is_empty(), "a rule is enough");
    let warnings = load(&unlimited.replace("\"forged_token\"", "\"forbidden\"")).unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].key == "jwt" && warnings[0].hint.is_some(), "{warnings:?}");
    for (tables, is_told) in [("", true), ("[api_keys]\n", false)] {
        let text = "[[listener]]\naddress = \"127.0.0.1:80\"\n[revocation]\nfile = \"revoked.txt\"\n";
        let told = load(&format!("{text}{tables}")).unwrap().warnings;
        assert_eq!(told.iter().any(|told| told.key == "revocation.file"), is_told, "{tables:?} {told:?}");
    }
    warned("[jwt]", "[upstream.b]\nservers = [\"b:1\"]\n[jwt]", "upstream.b", "any route");
}

#[test]
fn examples_are_valid() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"));
    let mut seen = 0;
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let config = load(&text).unwrap_or_else(|errors| panic!("{}:\n{errors}", path.display()));
        assert!(config.effective()["guard"]["pin_dir"].is_string());
        seen += 1;
    }
    assert!(seen > 0, "no example in {}", folder.display());
}

/// The comments of `examples/gateway.toml` promise that it shows the defaults: what is left out comes to the same.
#[test]
fn defaults_are_those_of_the_example() {
    let example = load(include_str!("../../../examples/gateway.toml")).unwrap().effective();
    let bare =
        load("[[listener]]\naddress = \"127.0.0.1:80\"\n[jwt]\nissuer = \"i\"\naudience = \"a\"\njwks = \"j\"\n")
            .unwrap()
            .effective();
    for (table, key, value) in ["guard", "proxy", "timeouts", "jwt", "validate", "detect"]
        .into_iter()
        .flat_map(|table| bare[table].as_object().unwrap().iter().map(move |(key, value)| (table, key, value)))
    {
        let own = ["interfaces", "allow", "trusted_proxies", "issuer", "audience", "jwks", "control_mode"];
        if !own.contains(&key.as_str()) {
            assert_eq!(value, &example[table][key], "{table}.{key}");
        }
    }
}

/// What `gateway check` prints is a configuration itself, which comes to the same.
#[test]
fn what_is_in_force_can_be_written_down() {
    let effective = load(BASE).unwrap().effective();
    let text = toml::to_string_pretty(&effective).unwrap();
    let again = load(&text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(again.effective(), effective, "{text}");
}

#[test]
fn the_gateway_is_found_by_a_wrong_configuration() {
    let text = BASE.replace("\"1h\"", "7\ncontrol_socket = \"run/c.sock\"");
    let found = Locations::load(Path::new("/etc/gateway/gateway.toml"), &Fake(&text)).unwrap();
    assert_eq!(found.control_socket, Path::new("/etc/gateway/run/c.sock"));
    assert_eq!(found.state_dir, Path::new("/var/lib/gateway"));
}

#[test]
fn a_bundle_gives_the_same_configuration() {
    let (files, path) = (Fake(BASE), Path::new("/etc/gateway/gateway.toml"));
    let recorder = RecordingFiles::new(&files);
    let config = Config::load(path, &recorder).unwrap();
    let bundle = Bundle::new(&config.document, recorder.contents());
    assert_eq!(bundle.files.len(), 4, "certificate, key, key set, schema");
    let again = Config::load(path, &bundle).unwrap();
    assert_eq!(format!("{:?}", again.proxy), format!("{:?}", config.proxy));
    assert_eq!(again.guard, config.guard);
    let empty = Bundle { path: path.to_owned(), text: BASE.to_owned(), ..Bundle::default() };
    assert_eq!(Config::load(path, &empty).expect_err("no files").shown().len(), 4);
}

mod access_log;
mod admin;
mod alerts;
mod conditions;
mod crawlers;
mod crowdsec;
mod feeds;
mod identity;
mod limit;
mod operator;
mod route;
mod rule;
mod secrets;
mod tls;
mod traces;
mod upgrade;
