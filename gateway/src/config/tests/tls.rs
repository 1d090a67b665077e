//! Wrong TLS, each with what must be said about it.

use super::{BASE, load, warned, wrong};

const KEY: &str = "private_key = \"server.key\"\n";

/// A listener with this line too, which is line 24.
#[track_caller]
fn line(line: &str, key: &str, message: &str, hint: &str) {
    wrong(KEY, &format!("{KEY}{line}\n"), 24, &format!("listener[0].{key}"), message, hint);
}

#[test]
fn listeners() {
    line("protocols = [\"h3\"]", "protocols[0]", "\"h3\" is unknown", "h2, http/1.1");
    line("min_tls = \"1.1\"", "min_tls", "\"1.1\" is unknown", "1.3");
    line("min_tls = 1.2", "min_tls", "found a float", "quotation marks");
    line("ja4 = \"yes\"", "ja4", "expected a boolean", "without quotation marks");
    line("tls = false", "tls", "false, but there is a certificate", "leave one of them out");
    line("health = \"live\"", "health", "not a plain path", "/healthz");
    line("health = \"/a//b\"", "health", "not a plain path", "/healthz");
    line("health = \"/a?b\"", "health", "not a plain path", "/healthz");
    line("redirect = 443", "redirect", "plain HTTP", "of its own");
    line("redirect = 0", "redirect", "out of range", "from 1 to 65535");
    line("ocsp = \"missing.ocsp\"", "ocsp", "cannot read", "relative paths");
    line("client_certificates = \"partner\"", "client_certificates", "no client_certificates.partner", "`ca`");
    line("hsts = { max_age = 60 }", "hsts.max_age", "expected a duration", "\"60s\"");
    line("hsts = { max_age = \"1y\" }", "hsts.max_age", "not a duration", "number and a unit");
    line("hsts = { max_age = \"1d\", hosts = [\"a b\"] }", "hsts.hosts[0]", "not a host name", "no dot at the end");
    line("hsts = { include_subdomains = true }", "hsts.max_age", "missing", "365d");
    line("hsts = { max_age = \"1d\", preload = true }", "hsts.preload", "unknown", "known here");
    let plain = "certificate = \"server.crt\"\nprivate_key = \"server.key\"\n";
    let key = |name: &str| format!("listener[0].{name}");
    wrong(plain, "tls = true\n", 22, &key("tls"), "there is no certificate", "[[certificate]]");
    let loopback = BASE.replace("0.0.0.0:443", "127.0.0.1:443").replace(plain, "ja4 = true\n");
    let errors = load(&loopback).expect_err("no TLS");
    assert!(errors.to_string().contains("has no effect without TLS"), "{errors}");
}

#[test]
fn certificates() {
    let certificate = |text: &str| format!("{KEY}[[certificate]]\n{text}");
    let (crt, key) = ("certificate[0].certificate", "certificate[0].private_key");
    wrong(KEY, &certificate("certificate = \"a.crt\"\n"), 24, key, "missing", "private_key = ");
    wrong(KEY, &certificate("private_key = \"a.key\"\n"), 24, crt, "missing", "certificate = ");
    wrong(KEY, &certificate(""), 24, crt, "missing", "private_key");
    let missing = certificate("certificate = \"missing.crt\"\nprivate_key = \"a.key\"\n");
    wrong(KEY, &missing, 25, crt, "cannot read", "relative paths");
    let name = certificate("certificate = \"a.crt\"\nprivate_key = \"a.key\"\nname = \"a\"\n");
    wrong(KEY, &name, 27, "certificate[0].name", "unknown", "known here: certificate, private_key, ocsp");
}

#[test]
fn client_certificates() {
    let trust = |text: &str| format!("{KEY}[client_certificates.partners]\nhosts = [\"p.example\"]\n{text}\n");
    let key = |name: &str| format!("client_certificates.partners.{name}");
    wrong(KEY, &trust(""), 24, &key("ca"), "missing", "partners-ca.pem");
    wrong(KEY, &trust("ca = \"ca.pem\"\ncrl = \"missing.crl\""), 27, &key("crl"), "cannot read", "relative paths");
    wrong(KEY, &trust("ca = \"ca.pem\"\nrequired = 1"), 27, &key("required"), "found an integer", "`true` or `false`");
    wrong(KEY, &trust("ca = \"ca.pem\"\nroles = [\"raeder\"]"), 27, &key("roles[0]"), "no role", "mean \"reader\"?");
    let again =
        "ca = \"ca.pem\"\n[client_certificates.quests]\nca = \"ca.pem\"\nhosts = [\"q.example\", \"P.example\"]";
    let host = "client_certificates.quests.hosts[1]";
    wrong(KEY, &trust(again), 29, host, "already in client_certificates.partners", "one group");
    let wild = trust("ca = \"ca.pem\"").replace("p.example", "p.*.example");
    wrong(KEY, &wild, 25, &key("hosts[0]"), "wildcard", "first label");
    let unused = trust("ca = \"ca.pem\"").replace("\"p.example\"", "");
    warned(KEY, &unused, "client_certificates.partners", "no listener and no host");
    let ca = |line: &str| trust(&format!("ca = \"ca.pem\"\n{line}"));
    wrong(KEY, &ca("principal = [\"spife\"]"), 27, &key("principal[0]"), "unknown", "mean \"spiffe\"?");
    wrong(KEY, &ca("trust_domain = \"example.org\""), 27, &key("trust_domain"), "no effect", "principal = ");
    let domain = "principal = [\"spiffe\"]\ntrust_domain = \"spiffe://example.org\"";
    wrong(KEY, &ca(domain), 28, &key("trust_domain"), "no trust domain", "\"example.org\"");
    wrong(KEY, &ca("only_mapped = true"), 27, &key("only_mapped"), "nobody", "[[client_certificates.partners.map]]");
    let map = |text: &str| ca(&format!("map = [{{ {text} }}]"));
    for (text, at, message, hint) in [
        ("roles = [\"reader\"]", "uri", "is missing", "dns = "),
        ("dns = \"a.example\"", "roles", "changes nothing", "roles = "),
        ("dns = \"a.example\", uri = \"a:b\", name = \"a\"", "uri", "one kind of name", "a map for each"),
        ("dns = \"a.example\", roles = [\"raeder\"]", "roles[0]", "no role", "mean \"reader\"?"),
        ("dns = \"A.example\", name = \"a\"", "dns", "capitals", "lower case"),
        ("dns = \"*\", name = \"a\"", "dns", "fits everything", "own `roles`"),
        ("dns = \"***.a\", name = \"a\"", "dns", "three `*`", "`**` for several"),
        ("spiffe = \"example.org/a\", name = \"a\"", "spiffe", "no SPIFFE id", "spiffe://example.org"),
        ("uri = \"example\", name = \"a\"", "uri", "no scheme", "https://"),
        ("serial = \"01:AB\", name = \"a\"", "serial", "hexadecimal", "without colons"),
        ("fingerprint = \"AB\", name = \"a\"", "fingerprint", "hexadecimal", "without colons"),
        ("subject = \"CN=**,O=Acme\", name = \"a\"", "subject", "has a `**`", "CN=*,OU=*"),
        ("subject = \"Acme\", name = \"a\"", "subject", "no subject", "CN=*,O=Acme"),
        ("common_name = \"a\", name = \"a b\"", "name", "not a name", "letters"),
        ("comon_name = \"a\", name = \"a\"", "comon_name", "unknown", "mean `common_name`?"),
    ] {
        wrong(KEY, &map(text), 27, &key(&format!("map[0].{at}")), message, hint);
    }
    let require = "require = [\"items:read\"]";
    wrong(
        require,
        "require = [\"certificate\"]",
        43,
        "route[0].require[0]",
        "no [client_certificates",
        "`ca` and `hosts`",
    );
}

#[test]
fn upstreams() {
    const SERVERS: &str = "servers = [\"127.0.0.1:9000\"]";
    let tls = |tls: &str| format!("{SERVERS}\ntls = {tls}");
    let key = |name: &str| format!("upstream.items.tls{name}");
    wrong(SERVERS, &tls("\"yes\""), 27, &key(""), "expected a boolean", "`true` or `false`");
    wrong(SERVERS, &tls("{ ca = \"missing.pem\" }"), 27, &key(".ca"), "cannot read", "relative paths");
    wrong(SERVERS, &tls("{ verify = false }"), 27, &key(".verify"), "unknown", "known here: ca, server_name");
    wrong(SERVERS, &tls("{ server_name = \"a:443\" }"), 27, &key(".server_name"), "port", "\"a\"");
    wrong(SERVERS, &tls("{ certificate = \"a.crt\" }"), 27, &key(".private_key"), "missing", "private_key = ");
    wrong(SERVERS, &tls("{ ocsp = \"a\" }"), 27, &key(".ocsp"), "unknown", "known here");
    let any = "dangerous_accept_any_certificate";
    warned(SERVERS, &tls(&format!("{{ {any} = true }}")), &key(&format!(".{any}")), "can read and change everything");
    let pins = |pins: &str| tls(&format!("{{ pins = [{pins}] }}"));
    for (pin, message, hint) in [
        ("AB:CD", "does not begin with", "-fingerprint -sha256"),
        ("sha256:AB:CD", "has 2 bytes, and SHA-256 has 32", "-fingerprint -sha256"),
        ("sha256:xy", "cannot be read", "-fingerprint -sha256"),
        ("sha256//AAAA", "has 3 bytes, and SHA-256 has 32", "-fingerprint -sha256"),
        ("sha256//!", "cannot be read", "-fingerprint -sha256"),
    ] {
        wrong(SERVERS, &pins(&format!("{pin:?}")), 27, &key(".pins[0]"), message, hint);
    }
    let both = tls(&format!("{{ {any} = true, pins = [\"sha256:{}\"] }}", "ab".repeat(32)));
    wrong(SERVERS, &both, 27, &key(".pins"), "has no effect where every certificate is accepted", "pins need no `ca`");
    let https = "servers = [\"https://items.internal\"]";
    wrong(SERVERS, https, 26, "upstream.items.servers[0]", "`tls = true`", "host and port");
}
