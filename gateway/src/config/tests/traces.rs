//! Wrong `[traces]` tables, each with what must be said about it.

use super::{BASE, load, wrong};

const ADMIN: &str = "[admin]\naddress = \"127.0.0.1:9901\"\n";

/// A configuration with this table, whose faulty line is `line` lines below its head.
#[track_caller]
fn traces(lines: &str, line: usize, key: &str, message: &str, hint: &str) {
    let first = BASE.lines().position(|line| line == "[guard]").unwrap() + 3;
    let to = format!("{ADMIN}[traces]\n{lines}\n[guard]\n");
    wrong("[guard]\n", &to, first + line, &format!("traces.{key}"), message, hint);
}

#[test]
fn spans_have_somewhere_to_go() {
    let endpoint = "endpoint = \"http://127.0.0.1:4318/v1/traces\"";
    traces("", 0, "endpoint", "missing", "4318");
    traces("endpoint = \"127.0.0.1:4318\"", 1, "endpoint", "begins with http://", "4318");
    traces("endpoint = \"https://collector/v1/traces\"", 0, "ca", "is missing", "ca-certificates.crt");
    traces("endpoint = \"https://a:b@collector/v1/traces\"\nca = \"ca.pem\"", 1, "endpoint", "user name", "4318");
    traces(&format!("{endpoint}\nca = \"ca.pem\""), 2, "ca", "no effect without TLS", "https://");
    let far = "endpoint = \"http://192.0.2.1:4318/v1/traces\"\nheaders_file = \"a.secret\"";
    traces(far, 2, "headers_file", "over the network as it is", "https://");
    traces("endpoint = \"http://a b/\"", 1, "endpoint", "not a host name", "");
    traces(&format!("{endpoint}\nsample = 1.5"), 2, "sample", "out of range", "0.01");
    traces(&format!("{endpoint}\nsample = \"1%\""), 2, "sample", "found a string", "0.01");
    traces(&format!("{endpoint}\naccept = \"all\""), 2, "accept", "\"all\" is unknown", "everybody");
    let without = format!("[traces]\n{endpoint}\n[guard]\n");
    wrong("[guard]\n", &without, 2, "traces.endpoint", "needs the observer", "[admin]");
    for (lines, sample) in [("", 0), ("sample = 0.01", 10_000), ("sample = 1", 1_000_000), ("sample = 1e-6", 1)] {
        let text = BASE.replacen("[guard]\n", &format!("{ADMIN}[traces]\n{endpoint}\n{lines}\n[guard]\n"), 1);
        let config = load(&text).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.traces.map(|traces| traces.sample), Some(sample), "{lines}");
    }
}
