//! Wrong `[api.NAME]` tables, each with what must be said about it.

use super::super::{load, spoiled, wrong};

/// BASE with these lines of `[api.shop]`, of which the fault is on line 35.
#[track_caller]
fn api(line: &str, at: &str, message: &str, hint: &str) {
    let table = format!("[api.shop]\nopenapi = \"shop.yaml\"\n{line}\n[roles]\n");
    wrong("[roles]\n", &table, 35, &format!("api.shop{at}"), message, hint);
}

#[test]
fn wrong_apis() {
    api("base_path = \"v1\"", ".base_path", "is no path", "from its slash");
    api("base_path = \"/{version}\"", ".base_path", "is no path", "from its slash");
    api("unknown_query = \"pass\"", ".unknown_query", "\"pass\" is unknown", "allow");
    api("unknown_headers = \"pass\"", ".unknown_headers", "\"pass\" is unknown", "allow");
    api("unknown_cookies = 1", ".unknown_cookies", "found an integer", "");
    api("security = { key = \"api_key\" }", ".security", "is not configured", "[api_keys]");
    api("openapis = 1", ".openapis", "unknown", "did you mean `openapi`?");
    wrong("[roles]\n", "[api.shop]\n[roles]\n", 33, "api.shop.openapi", "missing", "shop.yaml");
    wrong("[roles]\n", "[validate]\nfiles = [\"missing.yaml\"]\n[roles]\n", 34, "validate.files[0]", "cannot read", "");
}

#[test]
fn wrong_apis_of_routes() {
    const SCHEMA: &str = "schema = \"item.schema.json\"";
    wrong(SCHEMA, "api = \"shop\"", 45, "route[0].api", "there is no [api.shop]", "add `[api.shop]`");
    wrong(
        "[\"items:read\"]\nupstream",
        "[\"openapi\"]\nupstream",
        43,
        "route[0].require[0]",
        "the route has no `api`",
        "[api.NAME]",
    );
    let text = spoiled("[roles]\n", "[api.shop]\nopenapi = \"shop.yaml\"\n[roles]\n").replace(SCHEMA, "api = \"shop\"");
    let config = load(&text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((config.proxy.routes[0].api, config.proxy.routes[0].follows_document), (Some(0), false));
    let both = text.replace("api = \"shop\"", "api = \"shop\"\nschema = \"item.schema.json\"");
    assert!(load(&both).unwrap_err().to_string().contains("cannot be beside `api`"));
    let follows = text.replace("require = [\"items:read\"]", "require = [\"openapi\"]");
    let config = load(&follows).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.proxy.routes[0].follows_document);
    assert_eq!(config.effective()["route"][0]["require"][0], "openapi");
    assert_eq!(config.effective()["api"]["shop"]["unknown_query"], "refuse");
}
