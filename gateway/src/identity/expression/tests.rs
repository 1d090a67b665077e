//! The table of conditions that are none.

use std::collections::BTreeMap;

use http::Method;

use super::*;

/// Reads a condition of `/tenants/{tenant}/files/{*rest}`, which takes GET and PUT.
fn read(text: &str) -> Result<Expression, ExpressionError> {
    let sources = BTreeMap::from([("office".to_owned(), vec!["192.0.2.0/24".parse().unwrap()])]);
    Expression::parse(text, &RouteScope::new("/tenants/{tenant}/files/{*rest}", &[Method::GET, Method::PUT], &sources))
}

#[track_caller]
fn wrong(text: &str, at: &str, message: &str) {
    let error = read(text).expect_err(text);
    assert!(error.message.contains(message), "{text}: {error:?}");
    assert!(!error.hint.is_empty(), "{text}");
    assert_eq!(text.get(error.at.clone()), Some(at), "{text}: {error:?}");
}

#[test]
fn conditions_that_are_fine() {
    for text in [
        "{tenant} == claim.tenant",
        "claim.sub == {rest}",
        "{*rest} == 'a/b'",
        "claim.level >= 3 and claim.level < 5.5",
        "-1 <= claim.level",
        "'billing' in claim.groups",
        "\"billing\" in claim['https://x.example/groups']",
        "claim.realm_access.roles == 'x'",
        "claim.custom:tenant_id == {tenant}",
        "claim.is-admin == true",
        "source in 10.0.0.0/8",
        "source in [office, 2001:db8::/32, ::ffff:10.0.0.1]",
        "not (method == 'PUT' or claim.email_verified != true)",
        "not not {tenant} == 'a'",
        "{tenant} in ['a', 'b'] or 'admin' in roles or 'files' in scopes",
        "principal == {tenant}",
        "{tenant} in claim.tenants",
        "'it\\'s' == claim.x",
        "claim.a == claim.b",
    ] {
        assert_eq!(&*read(text).unwrap_or_else(|error| panic!("{text}: {error:?}")).text, text);
    }
}

#[test]
fn conditions_that_are_none() {
    for (text, at, message) in [
        ("", "", "a value is missing"),
        ("{id} == claim.sub", "{id}", "names {id}, which `path` has not"),
        ("{tenant == claim.sub", "{tenant", "no name and `}`"),
        ("{tenant}", "{tenant}", "is no comparison"),
        ("{tenant} = 'a'", "=", "means nothing"),
        ("{tenant} == a", "a", "there is no `a`"),
        ("{tenant} == 7", "{tenant} == 7", "{tenant} is a text, and 7 is a number"),
        ("{tenant} == true", "{tenant} == true", "is a text, and true is true or false"),
        ("{tenant} > 7", "{tenant} > 7", "only numbers have an order"),
        ("claim.level >= '3'", "claim.level >= '3'", "\"3\" is a text, and only numbers have an order"),
        ("claim.x == true and claim.x == 'a'", "claim.x == 'a'", "with a text here, and with true or false before"),
        ("claim.x > 3 or claim.x in ['a']", "claim.x in ['a']", "claim.x is compared with a text here"),
        ("'a' == 'a'", "'a' == 'a'", "compares two constants"),
        ("'a' in ['a']", "'a' in ['a']", "compares two constants"),
        ("claim.x == claim.x", "claim.x == claim.x", "with itself"),
        ("method == 'DELETE'", "method == 'DELETE'", "the route takes no DELETE"),
        ("method in ['GET', 'get']", "method in ['GET', 'get']", "\"get\" is not a method"),
        ("{tenant} == 'a/b'", "{tenant} == 'a/b'", "no slash"),
        ("{rest} != ''", "{rest} != ''", "is never empty"),
        ("{tenant} == 'a;b'", "{tenant} == 'a;b'", "in two ways"),
        ("claim == 'a'", "claim ==", "is no claim"),
        ("claim. == 'a'", "claim.", "is no claim"),
        ("claim['a..b'] == 'a'", "claim['a..b']", "is no claim"),
        ("claim.x in []", "]", "is no constant"),
        ("claim.x in ['a'", "", "is neither `,` nor `]`"),
        ("claim.x in [claim.y]", "claim.y", "is no constant"),
        ("roles == 'admin'", "roles ==", "are lists"),
        ("'admin' == roles", "roles", "is no single value"),
        ("7 in roles", "7 in roles", "are texts"),
        ("'a' in {tenant}", "{tenant}", "is no list"),
        ("source == 10.0.0.1", "==", "`source` can only be looked for"),
        ("source in home", "home", "there is no \"home\" in [sources]"),
        ("source in 10.0.0.1/8", "10.0.0.1/8", "bits are set beyond"),
        ("source in [office", "", "is neither `,` nor `]`"),
        ("source in 'office'", "'", "a network is missing"),
        ("(claim.x == 1", "", "`)` is missing"),
        ("claim.x == 1)", ")", "something follows"),
        ("claim.x == 1 claim.y == 2", "claim", "something follows"),
        ("claim.x == 1 &&", "&", "means nothing"),
        ("claim.x == 1 and", "", "a value is missing"),
        ("claim.x == 1e400", "1e400", "is no number"),
        ("claim.x == 01", "01", "is no number"),
        ("claim.x == 9007199254740993", "9007199254740993", "is no number"),
        ("claim.x == 'a", "'a", "not closed"),
    ] {
        wrong(text, at, message);
    }
}

#[test]
fn conditions_are_bounded() {
    let deep = format!("{}claim.x == 1{}", "(".repeat(40), ")".repeat(40));
    assert!(read(&deep).unwrap_err().message.contains("nested"));
    assert!(read(&format!("{}claim.x == 1", "not ".repeat(100))).unwrap_err().message.contains("nested"));
    let wide = vec!["claim.x == 1"; 65].join(" or ");
    assert!(read(&wide).unwrap_err().message.contains("over 64 comparisons"));
    assert!(read(&"a".repeat(MAX_LENGTH + 1)).unwrap_err().message.contains("bytes"));
    let list = vec!["1"; 101].join(", ");
    assert!(read(&format!("claim.x in [{list}]")).unwrap_err().message.contains("over 100 elements"));
}

#[test]
fn conditions_that_can_never_be_true_together() {
    let check = |texts: &[&str]| {
        let read: Vec<Expression> = texts.iter().map(|text| read(text).unwrap()).collect();
        contradiction(&read).map(|(index, error)| (index, error.message))
    };
    for texts in [
        &["claim.x == 1", "claim.x == 2"][..],
        &["claim.x == 1 and claim.x != 1"],
        &["claim.x > 3", "claim.x == 3"],
        &["claim.x > 3 and (claim.x < 4 and claim.x <= 2)"],
        &["claim.x >= 3", "3 > claim.x"],
        &["claim.x > 3", "claim.x <= 3"],
        &["{tenant} == 'a'", "{tenant} == 'b'"],
        &["method == 'GET'", "method == 'PUT'"],
    ] {
        let (index, message) = check(texts).unwrap_or_else(|| panic!("{texts:?}"));
        assert_eq!(index, texts.len() - 1, "{texts:?}");
        assert!(message.contains("cannot be this and also"), "{message}");
    }
    for texts in [
        &["claim.x == 1 or claim.x == 2"][..],
        &["claim.x >= 3", "claim.x <= 3"],
        &["claim.x == 1", "claim.y == 2"],
        &["not claim.x == 1", "claim.x == 1"],
        &["claim.x != 1", "claim.x != 2"],
    ] {
        assert_eq!(check(texts), None, "{texts:?}");
    }
}
