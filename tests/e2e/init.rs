//! `gateway init` writes what `gateway check` accepts, and nothing else.

use std::fs;

use support::daemon::gateway;

#[test]
fn a_first_configuration_is_valid() {
    let folder = std::env::temp_dir().join(format!("gwt-{}-init", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("jwks.json"), r#"{"keys":[]}"#).unwrap();
    fs::write(folder.join("taken.toml"), "# mine").unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let [plain, taken, jwks, none, nowhere] =
        ["plain.toml", "taken.toml", "jwks.json", "none.pem", "none/gateway.toml"].map(path);
    let server = ["--upstream", "127.0.0.1:9000"];
    let tokens = ["--issuer", "https://issuer.example", "--audience", "api", "--jwks"];
    for (file, flags, code) in [
        (&plain, vec!["--public"], 0),
        (&plain, vec!["--public"], 1),
        (
            &plain,
            vec!["--public", "--listen", "[::1]:8443", "--interface", "eth0", "--interface", "eth1", "--force"],
            0,
        ),
        (&plain, vec!["--public", "--upstream", "nowhere", "--force"], 1),
        (&taken, vec!["--public"], 1),
        (&nowhere, vec!["--public"], 1),
        (&nowhere, vec![], 2),
        (&nowhere, [tokens.as_slice(), &[&none]].concat(), 1),
        (&nowhere, vec!["--public", "--certificate", &none, "--private-key", &none], 1),
        (&nowhere, vec!["--public", "--certificate", &none], 2),
        (&nowhere, [tokens.as_slice(), &[&jwks, "--public"]].concat(), 2),
        (&nowhere, vec!["--issuer", "https://issuer.example"], 2),
        (&nowhere, vec!["--public", "--listen", "8080"], 2),
    ] {
        let before = fs::read_to_string(file).ok();
        let server = if flags.contains(&"--upstream") { &[] } else { server.as_slice() };
        let told = gateway(&[&["init", file], server, &flags].concat());
        assert_eq!(told.code, code, "{flags:?}: {} {}", told.json, told.errors);
        if code == 0 {
            let check = gateway(&["--config", file, "check"]);
            assert_eq!((check.code, &check.json["valid"]), (0, &true.into()), "{flags:?}: {}", check.errors);
        } else {
            assert_eq!(fs::read_to_string(file).ok(), before, "{flags:?} changed {file}");
        }
    }
    let shown = gateway(&[&["init", "-", "--public"], server.as_slice()].concat());
    assert!(shown.json["text"].as_str().is_some_and(|text| text.contains("127.0.0.1:9000")), "{}", shown.json);
    // The observer has a user of its own where there is one.
    let has_one = fs::read_to_string("/etc/passwd").unwrap().lines().any(|line| line.starts_with("gateway-observer:"));
    for (flags, is_named) in [(&[][..], has_one), (&["--observer-user", "daemon"][..], true)] {
        let shown = gateway(&[&["init", "-", "--public"], server.as_slice(), flags].concat());
        let read: toml::Table = shown.json["text"].as_str().unwrap().parse().unwrap();
        assert_eq!(read["admin"].get("user").is_some(), is_named, "{flags:?}: {}", shown.json);
    }
    fs::remove_dir_all(folder).unwrap();
}
