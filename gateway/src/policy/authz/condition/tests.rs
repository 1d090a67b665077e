//! The table of what conditions make of requests (BOLA: whose object is asked for).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::{
    identity::{claim::ClaimPath, expression::RouteScope},
    web::path::{PathRules, read_path},
};

const CLAIMS: [&str; 12] = [
    "sub",
    "tenant",
    "level",
    "groups",
    "words",
    "verified",
    "uid",
    "big",
    "none",
    "list",
    "float",
    "https://x.example/y",
];

/// What Ada's token says.
fn claim(name: &str) -> Option<Value> {
    Some(match name {
        "sub" => json!("ada"),
        "tenant" => json!("caf\u{e9} 1"),
        "level" => json!(3),
        "groups" => json!(["billing", "ops"]),
        "words" => json!("billing ops"),
        "verified" => json!(true),
        "uid" => json!(7),
        "big" => json!(9_007_199_254_740_993_u64),
        "list" => json!(["a", 7, null]),
        "float" => json!(3.5),
        "https://x.example/y" => json!("x"),
        _ => return None,
    })
}

#[track_caller]
fn judge(template: &str, path: &str, text: &str, identity: Option<&Identity>, expect: Option<bool>) {
    let sources = BTreeMap::from([("office".to_owned(), vec!["192.0.2.0/24".parse().unwrap()])]);
    let expression = Expression::parse(text, &RouteScope::new(template, &[], &sources));
    let expression = expression.unwrap_or_else(|error| panic!("{text}: {error:?}"));
    let kept = CLAIMS.map(|name| ClaimPath::parse(name).unwrap());
    let (canonical, odd) = read_path(path).unwrap_or_else(|refusal| panic!("{path}: {}", refusal.detail));
    let canonical = canonical.as_deref().unwrap_or(path);
    let is_odd = odd != PathRules::default();
    let facts =
        RequestFacts { path: canonical, is_odd, method: &Method::GET, address: Some("192.0.2.7".parse().unwrap()) };
    let subject = Judge { facts: &facts, identity };
    assert_eq!(subject.expression(&expression.placed(&kept)), expect, "{path}: {text}");
}

fn ada() -> Identity {
    Identity::of_token("staff:ada", &["reader", "keeper"], &["files"], CLAIMS.map(claim).to_vec())
}

#[test]
fn what_conditions_make_of_a_token() {
    let ada = ada();
    let (yes, no, unknown) = (Some(true), Some(false), None);
    for (text, expect) in [
        ("{id} == claim.sub", yes),
        ("claim.sub == {id}", yes),
        ("{id} != claim.sub", no),
        ("{id} == claim.tenant", no),
        ("principal == 'staff:ada'", yes),
        ("{id} == principal", no),
        ("claim.level >= 3", yes),
        ("claim.level > 3", no),
        ("claim.level > 2.5", yes),
        ("3 < claim.level", no),
        ("claim.float < 4", yes),
        ("claim.float > claim.level", yes),
        ("claim.level == 3.0", yes),
        ("claim.sub >= 3", unknown),
        ("claim.verified == true", yes),
        ("claim.verified != true", no),
        ("claim.verified == 'true'", unknown),
        ("claim.groups == 'billing'", unknown),
        ("'billing' in claim.groups", yes),
        ("'Billing' in claim.groups", no),
        ("'bill' in claim.groups", no),
        ("'billing' in claim.words", yes),
        ("'billing ops' in claim.words", no),
        ("'x' in claim.level", unknown),
        ("'a' in claim.list", yes),
        ("'b' in claim.list", unknown),
        ("'keeper' in roles", yes),
        ("'admin' in roles", no),
        ("not 'admin' in roles", yes),
        ("'files' in scopes", yes),
        ("claim.sub in ['bob', 'ada']", yes),
        ("claim.sub in ['bob']", no),
        ("claim['https://x.example/y'] == 'x'", yes),
        ("source in office", yes),
        ("source in 10.0.0.0/8", no),
        ("source in [10.0.0.0/8, office]", yes),
        ("method == 'GET'", yes),
        ("method in ['PUT', 'POST']", no),
        // A claim that is not there lets nobody through, however it is asked for.
        ("claim.none == 'x'", unknown),
        ("claim.none != 'x'", unknown),
        ("not claim.none == 'x'", unknown),
        ("not 'x' in claim.none", unknown),
        ("not (claim.none == 'x' and source in office)", unknown),
        ("claim.none == 'x' or source in office", yes),
        ("claim.none == 'x' and source in 10.0.0.0/8", no),
        ("not (claim.none == 'x' and source in 10.0.0.0/8)", yes),
        ("claim.none == claim.missing", unknown),
        ("claim.missing != claim.sub", unknown),
        // Numbers that a double cannot tell apart.
        ("claim.big == 90071992547409.5", unknown),
        ("claim.big > claim.level", yes),
    ] {
        judge("/users/{id}", "/users/ada", text, Some(&ada), expect);
    }
}

#[test]
fn all_spellings_of_a_path_are_one() {
    let ada = ada();
    for (template, path, text, expect) in [
        ("/users/{id}", "/users/%61da", "{id} == claim.sub", Some(true)),
        ("/users/{id}", "/users/%61%64%61", "{id} == claim.sub", Some(true)),
        ("/users/{id}", "/users/Ada", "{id} == claim.sub", Some(false)),
        ("/users/{id}", "/users/ada%20", "{id} == claim.sub", Some(false)),
        ("/users/{id}", "/users/ada%C2%A0", "{id} == claim.sub", Some(false)),
        ("/users/{id}", "/users/caf%C3%A9%201", "{id} == claim.tenant", Some(true)),
        ("/users/{id}", "/users/caf%c3%a9%201", "{id} == claim.tenant", Some(true)),
        ("/users/{id}", "/users/cafe%CC%81%201", "{id} == claim.tenant", Some(false)),
        ("/users/{id}/files/{*rest}", "/users/ada/files/a/b", "{id} == claim.sub and {rest} == 'a/b'", Some(true)),
        ("/users/{id}/files/{*rest}", "/users/bob/files/ada", "{id} == claim.sub", Some(false)),
        ("/{one}/{two}", "/x/ada", "{two} == claim.sub", Some(true)),
        ("/{one}/{two}", "/ada/x", "{two} == claim.sub", Some(false)),
        // Numbers have one form in a path.
        ("/users/{id}", "/users/7", "{id} == claim.uid", Some(true)),
        ("/users/{id}", "/users/%37", "{id} == claim.uid", Some(true)),
        ("/users/{id}", "/users/07", "{id} == claim.uid", Some(false)),
        ("/users/{id}", "/users/7.0", "{id} == claim.uid", Some(false)),
        ("/users/{id}", "/users/+7", "{id} == claim.uid", Some(false)),
        ("/users/{id}", "/users/9007199254740993", "{id} == claim.big", Some(true)),
        ("/users/{id}", "/users/3.5", "{id} == claim.float", None),
        ("/users/{id}", "/users/7", "{id} in claim.list", Some(true)),
        // What two programs could read differently is not compared, and lets nobody through.
        ("/users/{id}", "/users/ada;x=1", "{id} == claim.sub", None),
        ("/users/{id}", "/users/root;x", "{id} != 'root'", None),
        ("/users/{id}", "/users/root%3Bx", "{id} != 'root'", None),
        ("/users/{id}", "/users/root%3bx", "not {id} == 'root'", None),
        ("/users/{id}", "/users/ada%2Fx", "{id} != claim.sub", None),
        ("/users/{id}", "/users//ada", "{id} == claim.sub", None),
        ("/files/{*rest}", "/files/", "{rest} != 'x'", None),
        ("/files/{*rest}", "/files", "{rest} != 'x'", None),
    ] {
        judge(template, path, text, Some(&ada), expect);
    }
}

#[test]
fn without_a_token() {
    for (text, expect) in [
        ("{id} == claim.sub", None),
        ("not 'admin' in roles", None),
        ("principal != 'x'", None),
        ("{id} == 'ada'", Some(true)),
        ("source in office and method == 'GET'", Some(true)),
    ] {
        judge("/users/{id}", "/users/ada", text, None, expect);
    }
    let certificate = Identity::of("cert:partners:ada", &["reader"]);
    judge("/users/{id}", "/users/ada", "{id} == claim.sub", Some(&certificate), None);
    judge("/users/{id}", "/users/ada", "'reader' in roles", Some(&certificate), Some(true));
}
