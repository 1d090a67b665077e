//! Wrong `[admin]` tables, each with what must be said about it.

use super::{BASE, load, wrong};

/// A configuration with this table, whose second line is the faulty one or `line` lines below.
#[track_caller]
fn admin(lines: &str, line: usize, key: &str, message: &str, hint: &str) {
    let key = format!("admin.{key}");
    let first = BASE.lines().position(|line| line == "[guard]").unwrap() + 1;
    wrong("[guard]\n", &format!("[admin]\n{lines}\n[guard]\n"), first + line, &key, message, hint);
}

#[test]
fn whoever_can_be_reached_is_guarded() {
    admin("", 0, "address", "neither `address` nor `socket`", "127.0.0.1:9901");
    admin("adress = \"127.0.0.1:9901\"", 1, "adress", "unknown", "mean `address`");
    admin("address = \"127.0.0.1\"", 1, "address", "127.0.0.1", "127.0.0.1:9901");
    admin("address = \"127.0.0.1:0\"", 1, "address", "port 0", "1 to 65535");
    admin("address = \"127.0.0.1:443\"", 1, "address", "already used by listener[0]", "another port");
    let tls = "certificate = \"server.crt\"\nprivate_key = \"server.key\"";
    admin(&format!("address = \"10.0.0.1:9901\"\n{tls}"), 1, "address", "by anybody", "token_file");
    admin("address = \"10.0.0.1:9901\"\ntoken_file = \"token\"", 1, "address", "without TLS", "private_key");
    admin(
        "address = \"127.0.0.1:9901\"\nclient_ca = \"ca.pem\"",
        2,
        "client_ca",
        "no effect without TLS",
        "certificate",
    );
    admin("address = \"127.0.0.1:9901\"\ndashboard = 1", 2, "dashboard", "expected a boolean", "");
    admin("address = \"127.0.0.1:9901\"\nsocket = \"a\"", 2, "socket", "beside `address`", "one of them");
    admin(&format!("socket = \"/{}\"", "a".repeat(107)), 1, "socket", "longer than the 107 bytes", "shorter");
    admin("address = \"127.0.0.1:9901\"\nhosts = [\"a:1\"]", 2, "hosts[0]", "it has a port", "every port");
    admin("address = \"127.0.0.1:9901\"\ncertificate = \"server.crt\"", 0, "private_key", "missing", "private_key");
    let good = |lines: &str| load(&BASE.replacen("[guard]\n", &format!("[admin]\n{lines}\n[guard]\n"), 1));
    for lines in [
        "address = \"[::1]:9901\"",
        "address = \"127.0.0.1:9901\"\ntoken_file = \"token\"",
        &format!("address = \"10.0.0.1:9901\"\n{tls}\ntoken_file = \"token\""),
        &format!("address = \"10.0.0.1:9901\"\n{tls}\nclient_ca = \"ca.pem\""),
        "socket = \"/run/gateway/admin.sock\"",
    ] {
        assert!(good(lines).is_ok_and(|config| config.admin.is_some()), "{lines}");
    }
}
