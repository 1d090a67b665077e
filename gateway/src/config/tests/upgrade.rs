//! Wrong upgrades, each with what must be said about it.

use super::{BASE, load, warned, wrong};

const LINE: &str = "upstream = \"items\"\n";

/// The first route with this line too.
#[track_caller]
fn line(line: &str, key: &str, message: &str, hint: &str) {
    let number = BASE[..BASE.find(LINE).unwrap()].lines().count() + 2;
    wrong(LINE, &format!("{LINE}{line}\n"), number, &format!("route[0].{key}"), message, hint);
}

#[test]
fn routes() {
    line("upgrade = [\"h2c\"]", "upgrade[0]", "cannot check", "leave it out");
    line("upgrade = [\"HTTP/2.0\"]", "upgrade[0]", "cannot check", "leave it out");
    line("upgrade = [\"web socket\"]", "upgrade[0]", "not a protocol", "websocket");
    line("upgrade = \"websocket\"", "upgrade", "", "");
    line("origins = [\"https://a.example\"]", "origins", "without `upgrade`", "leave it out");
    line("outlives_token = true", "outlives_token", "without `upgrade`", "leave it out");
    for origin in ["a.example", "https://", "https://a.example/", "null"] {
        let text = format!("upgrade = [\"websocket\"]; origins = [{origin:?}]").replace("; ", "\n");
        let number = BASE[..BASE.find(LINE).unwrap()].lines().count() + 3;
        wrong(
            LINE,
            &format!("{LINE}{text}\n"),
            number,
            "route[0].origins[0]",
            "not an origin",
            "https://app.example.com",
        );
    }
    let text = BASE.replacen("[\"127.0.0.1:9000\"]", "[\"127.0.0.1:9000\"]\nprotocol = \"http2\"", 1);
    let spoilt = text.replacen(LINE, &format!("{LINE}upgrade = [\"websocket\"]\n"), 1);
    let errors = load(&spoilt).unwrap_err().to_string();
    assert!(errors.contains("route[0].upgrade") && errors.contains("uses HTTP/2"), "{errors}");
    line("websocket_token = [\"protocol\"]", "websocket_token", "without `upgrade`", "leave it out");
    let may = "upgrade = [\"websocket\"]\norigins = [\"https://a.example\"]";
    for (text, place, message, hint) in [
        ("websocket_token = [\"query:token\"]", "[0]", "not a place for a token", "ends up in logs"),
        ("websocket_token = [\"header\"]", "[0]", "not a place for a token", "`Authorization` always counts"),
        ("websocket_token = [\"cookie:\"]", "[0]", "not a place for a token", "__Host-session"),
        ("websocket_token = [\"cookie:a=b\"]", "[0]", "not a place for a token", "__Host-session"),
        ("websocket_token = [\"cookie:a\", \"cookie:b\"]", "", "same kind of place twice", "one \"cookie:NAME\""),
        ("websocket_token = [\"protocol\", \"protocol\"]", "", "same kind of place twice", "or both"),
    ] {
        let number = BASE[..BASE.find(LINE).unwrap()].lines().count() + 4;
        let key = format!("route[0].websocket_token{place}");
        wrong(LINE, &format!("{LINE}{may}\n{text}\n"), number, &key, message, hint);
    }
    for (text, message) in [
        ("upgrade = [\"websocket\"]\nwebsocket_token = [\"cookie:a\"]", "pages of any origin"),
        ("upgrade = [\"own\"]\nwebsocket_token = [\"protocol\"]", "without WebSockets"),
    ] {
        let errors = load(&BASE.replacen(LINE, &format!("{LINE}{text}\n"), 1)).unwrap_err().to_string();
        assert!(errors.contains("route[0].websocket_token") && errors.contains(message), "{errors}");
    }
    let good = "upgrade = [\"WebSocket\"]\norigins = [\"https://A.example:8443\"]\noutlives_token = true\n\
                websocket_token = [\"protocol\", \"cookie:__Host-session\"]\n";
    let effective = load(&BASE.replacen(LINE, &format!("{LINE}{good}"), 1)).unwrap().effective();
    assert_eq!(effective["route"][0]["upgrade"][0], "websocket");
    assert_eq!(effective["route"][0]["origins"][0], "https://a.example:8443");
    assert_eq!(effective["route"][0]["outlives_token"], true);
    assert_eq!(effective["route"][0]["websocket_token"][1], "cookie:__Host-session");
    assert_eq!(load(&toml::to_string_pretty(&effective).unwrap()).unwrap().effective(), effective);
}

#[test]
fn what_names_meant_before_is_told() {
    warned("\"forged_token\"", "\"bad_token\"", "rule[0].signals", "is now called \"forged_token\"");
}
