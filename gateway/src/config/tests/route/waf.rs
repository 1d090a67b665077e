//! `[waf.NAME]`, `route.graphql`, `route.form` and `route.content_encoding`: what is refused, and where.

use super::super::{BASE, load};

#[track_caller]
fn check(table: &str, route: &str, expect: &[&str]) {
    let text = format!("{BASE}\n{table}").replace("schema = \"item.schema.json\"", route);
    let told = match load(&text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.shown().map(|one| format!("{}: {}", one.key, one.message)).collect(),
    };
    assert_eq!(told.len(), expect.len(), "{table}\n{route}: {told:?}");
    for (told, expect) in told.iter().zip(expect) {
        assert!(told.contains(expect), "{table}\n{route}: {expect:?} is not in {told:?}");
    }
}

#[test]
fn what_means_nothing_is_refused() {
    let exclude = |rest: &str| format!("[waf.a]\n[[waf.a.exclude]]\n{rest}");
    let waf = "waf = \"a\"";
    check("[waf.a]", waf, &[]);
    check("[waf.a]\nmode = \"block\"", waf, &["waf.a.mode: "]);
    check("[waf.a]\nbuiltin = false", waf, &["waf.a.builtin: leaves no rules"]);
    check("[waf.a]\nbuiltin = false\nrules = [\"crs.conf\"]", waf, &[]);
    check("[waf.a]\nrules = [\"missing.conf\"]", waf, &["waf.a.rules[0]: cannot read /etc/gateway/missing.conf"]);
    check("[waf.a]\nrules = [\"none/*.conf\"]", waf, &["waf.a.rules[0]: no file is /etc/gateway/none/*.conf"]);
    check("[waf.a]\nparanoia = 5", waf, &["waf.a.paranoia: "]);
    check("[waf.a]", "waf = \"b\"", &["].waf: there is no [waf.b]"]);
    check("[waf.a]", "waf_threshold = 3", &["].waf_threshold: has no effect without `waf`"]);
    check(
        &exclude("rules = [\"xss\", \"1-9\", \"tag:x\", \"*\"]\nparameters = [\"a\", \"cookie:b*\", \"header:\"]"),
        waf,
        &[],
    );
    check(&exclude("rules = []"), waf, &["waf.a.exclude[0].rules: is empty"]);
    check(&exclude("rules = [\"9-1\"]"), waf, &["waf.a.exclude[0].rules[0]: \"9-1\" ends before it begins"]);
    check(&exclude("rules = [\"a b\"]"), waf, &["waf.a.exclude[0].rules[0]: \"a b\" names no rule"]);
    let parameter = |name: &str| exclude(&format!("rules = [\"xss\"]\nparameters = [\"{name}\"]"));
    check(&parameter("*:form:a"), waf, &[]);
    check(&parameter("query:form:a"), waf, &[]);
    check(&parameter("quer:a"), waf, &["waf.a.exclude[0].parameters[0]: there is no place \"quer\""]);
    check(&parameter("form:a"), waf, &["waf.a.exclude[0].parameters[0]: there is no place \"form\""]);
    check(
        &exclude("rules = [\"xss\"]\nroutes = [\"no\"]"),
        waf,
        &["waf.a.exclude[0].routes: no route has the name \"no\""],
    );
    check("", "graphql = { max_depth = 0 }", &["].graphql.max_depth: "]);
    check("", "graphql = { depth = 1 }", &["].graphql.depth: is unknown"]);
    check("", "graphql = {}", &[]);
}

#[test]
fn what_means_nothing_of_bodies_is_refused() {
    for (table, route, expect) in [
        ("", "content_encoding = \"decode\"", &[][..]),
        ("", "content_encoding = \"gzip\"", &["].content_encoding: "]),
        ("", "content_encoding = \"inspect\"", &["].content_encoding: has no effect, as nothing of this route reads"]),
        ("[waf.a]", "waf = \"a\"\ncontent_encoding = \"inspect\"", &["].content_encoding: has no effect, as"]),
        ("[waf.a]\ninspect_body = \"1KiB\"", "waf = \"a\"\ncontent_encoding = \"inspect\"", &[]),
        ("", "form.a = {}\ncontent_encoding = \"inspect\"", &[]),
        ("", "form.a = { type = \"integer\", minimum = 1 }\nunknown_fields = \"allow\"\nmax_fields = 1", &[]),
        ("", "form.a = { type = \"text\" }", &["].form.a.type: "]),
        ("", "form.a = { max_size = \"1KiB\" }", &["].form.a.max_size: is for a file"]),
        ("", "form.a = { type = \"file\", pattern = \"a\" }", &["].form.a.pattern: is not for a file"]),
        (
            "",
            "form.a = { type = \"file\", content_types = [\"png\"] }",
            &["].form.a.content_types[0]: \"png\" is no media"],
        ),
        ("", "form.a = { max_items = 2 }", &["].form.a.max_items: has no effect"]),
        ("", "max_fields = 3", &["].max_fields: has no effect without `form`"]),
        ("", "form.a = {}\ngraphql = {}", &["].form: cannot be beside `graphql`"]),
    ] {
        check(table, route, expect);
    }
}
