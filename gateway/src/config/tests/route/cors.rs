//! Wrong CORS, each with what must be said about it.

use crate::config::tests::{BASE, load, wrong};

const ROUTE: &str = "[[route]]\n";

/// BASE with this group in front of its routes, whose line `line` is wrong.
#[track_caller]
fn group(text: &str, line: usize, key: &str, message: &str, hint: &str) {
    let before = BASE[..BASE.find(ROUTE).unwrap()].lines().count() + 1;
    wrong(ROUTE, &format!("[cors.app]\n{text}\n{ROUTE}"), before + line, &format!("cors.app.{key}"), message, hint);
}

#[test]
fn groups() {
    group("credentials = true", 0, "origins", "is missing", "origins = ");
    group("origins = []", 1, "origins", "is empty", "origins = ");
    for (origin, message, hint) in [
        ("app.example.com", "is not an origin", "write scheme and host"),
        ("https://", "is not an origin", "write scheme and host"),
        ("://a.example", "is not an origin", "write scheme and host"),
        ("https://a.example/", "has a path", "write scheme and host"),
        ("https://a@b.example", "has a path or more", "write scheme and host"),
        ("https://a.example:443", "no browser sends it", "\"https://a.example\""),
        ("http://a.example:80", "no browser sends it", "\"http://a.example\""),
        ("https://a.example:0", "no port from 1", ""),
        ("https://a.example:x", "no port from 1", ""),
        ("https://*.com", "every site of a top-level domain", "a domain of yours"),
        ("https://*", "wildcard", ""),
        ("https://a.*.example.com", "wildcard", ""),
        ("https://*.*.example.com", "wildcard", ""),
        ("https://app*.example.com", "wildcard", ""),
        ("*.example.com", "is not an origin", "write scheme and host"),
        ("https://b\u{fc}cher.example", "beyond ASCII", ""),
    ] {
        group(&format!("origins = [{origin:?}]"), 1, "origins[0]", message, hint);
    }
    for origin in ["*", "null"] {
        let text = format!("origins = [\"https://a.example\", {origin:?}]\ncredentials = true");
        group(&text, 1, "origins[1]", "a visitor's cookies", "name the origins");
    }
    group("origins = [\"https://a.example\", \"*\"]", 1, "origins", "which it covers", "[\"*\"] alone");
    let app = |line: &str| format!("origins = [\"https://a.example\"]\n{line}");
    group(&app("credentials = true\nheaders = [\"*\"]"), 3, "headers[0]", "not a wildcard", "name the headers");
    group(&app("credentials = true\nexpose = [\"*\"]"), 3, "expose[0]", "not a wildcard", "name the headers");
    group(&app("headers = [\"*\", \"x-a\"]"), 2, "headers", "which it covers", "alone");
    group(&app("headers = [\"a b\"]"), 2, "headers[0]", "is not a header name", "name alone");
    group(&app("methods = [\"get\"]"), 2, "methods[0]", "is not a method", "GET");
    group(&app("max_age = \"25h\""), 2, "max_age", "out of range", "1d");
    group(&app("age = \"1h\""), 2, "age", "unknown", "");
    group("origins = [\"*\"]\nrefuse_others = true", 2, "refuse_others", "has no effect", "leave it out");
}

const LINE: &str = "upstream = \"items\"\n";

#[test]
fn routes() {
    let number = BASE[..BASE.find(LINE).unwrap()].lines().count() + 2;
    let line = |text: &str, key: &str, message: &str, hint: &str| {
        wrong(LINE, &format!("{LINE}{text}\n"), number, &format!("route[0].{key}"), message, hint);
    };
    line("cors = \"app\"", "cors", "there is no [cors.app]", "add `[cors.app]`");
    line("cors = true", "cors", "found a boolean", "");
    let with = |name: &str, line: &str| {
        let text = BASE.replacen(LINE, &format!("{LINE}{line}\n"), 1);
        load(&format!("{text}\n[cors.{name}]\norigins = [\"https://A.example\", \"https://*.b.example:8443\"]\n"))
    };
    let errors = with("app", "cors = \"apps\"").unwrap_err().to_string();
    assert!(errors.contains("did you mean \"app\"?"), "{errors}");
    let errors = with("none", "").unwrap_err().to_string();
    assert!(errors.contains("choose another name"), "{errors}");
    let sets = "response_headers = { set = { Access-Control-Allow-Origin = \"*\" } }";
    let errors = with("default", sets).unwrap_err().to_string();
    assert!(errors.contains("route[0].response_headers") && errors.contains("cors = \"none\""), "{errors}");
    with("default", &format!("{sets}\ncors = \"none\"")).unwrap();
    for (name, line, expect) in [
        ("app", "cors = \"app\"", "app"),
        ("app", "", "none"),
        ("default", "", "default"),
        ("default", "cors = \"none\"", "none"),
    ] {
        let config = with(name, line).unwrap();
        let effective = config.effective();
        assert_eq!(effective["route"][0]["cors"], expect, "{name} {line}");
        assert_eq!(effective["cors"][name]["origins"][0], "https://a.example");
        let unused = config.warnings.iter().any(|warning| warning.key == format!("cors.{name}"));
        assert_eq!(unused, name == "app" && line.is_empty(), "{:?}", config.warnings);
        let again = load(&toml::to_string_pretty(&effective).unwrap()).unwrap();
        assert_eq!(again.effective(), effective);
    }
    assert!(load(BASE).unwrap().effective()["route"][0].get("cors").is_none());
}
