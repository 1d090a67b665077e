//! Ways around a route: a slash at the end of a path, and a query that programs read in different ways.

use super::*;

/// A slash at the end of a path is no way around the route of the path (P01).
#[test]
fn p01_a_slash_at_the_end_gets_past_no_route() {
    let routes = [
        route(None, "/v1/items:batch", &[]),
        route(None, "/v1/users/{id}", &["GET"]),
        route(None, "/admin/", &[]),
        route(None, "/both", &[]),
        route(None, "/both/", &[]),
        route(None, "/files", &[]),
        route(None, "/files/{*rest}", &[]),
        route(None, "/posts", &["POST"]),
        route(None, "/a/{x}/", &[]),
        route(None, "/a/b", &[]),
        route(None, "/", &[]),
        route(None, "/{*rest}", &[]),
        route(Some("a.example"), "/only", &[]),
        route(Some("*.example"), "/wild/", &[]),
        route(Some("a.example"), "/both", &[]),
        route(Some("b.example"), "/{*all}", &[]),
    ];
    for (host, path, expect) in [
        ("c.test", "/v1/items:batch", Some(0)),
        ("c.test", "/v1/items:batch/", Some(0)),
        ("c.test", "/v1/items%3Abatch/", Some(0)),
        ("c.test", "/v1/items:batch/x", Some(11)),
        ("c.test", "/v1/items:batch/x/", Some(11)),
        ("c.test", "/v1/users/7/", Some(1)),
        ("c.test", "/v1/users/", Some(11)),
        ("c.test", "/admin", Some(2)),
        ("c.test", "/both", Some(3)),
        ("c.test", "/both/", Some(4)),
        ("c.test", "/files", Some(5)),
        ("c.test", "/files/", Some(6)),
        // The path has no route for the method, and nothing more general is tried.
        ("c.test", "/posts/", None),
        ("c.test", "/a/b/", Some(9)),
        ("c.test", "/a/c/", Some(8)),
        ("c.test", "/a/c", Some(8)),
        ("c.test", "/", Some(10)),
        // A more exact host comes first, with and without the slash.
        ("a.example", "/only/", Some(12)),
        ("a.example", "/wild", Some(13)),
        ("c.example", "/wild", Some(13)),
        ("c.test", "/only/", Some(11)),
        ("c.test", "/wild", Some(11)),
        // `/both/` has a route of its own, for every host.
        ("a.example", "/both/", Some(4)),
        ("a.example", "/both", Some(14)),
        // This host has other routes for everything.
        ("b.example", "/v1/items:batch", Some(15)),
        ("b.example", "/v1/items:batch/", Some(15)),
        ("b.example", "/wild/", Some(15)),
    ] {
        finds_one(&routes, host, path, &[], expect);
    }
    // What no route takes stays unknown.
    for path in ["/v1/items:batch/", "/v1/users/7/", "/admin"] {
        finds_one(&routes[..3], "c.test", path, &[], None);
    }
}

/// A `%` that begins no escape passes where nothing reads the query.
#[test]
fn broken_escapes_in_queries() {
    let waf = crate::settings::waf::OfRoute { index: 0, threshold: None };
    let routes = [
        route(None, "/plain", &[]),
        Route { waf: Some(waf), ..route(None, "/waf", &[]) },
        Route { graphql: Some(crate::settings::graphql::GraphqlLimits::default()), ..route(None, "/graphql", &[]) },
        route(None, "/when", &[]),
        with(None, "/when", &[equals("?a", "1")]),
        with(None, "/header", &[equals("x-a", "1")]),
        route(None, "/header", &[]),
    ];
    for (path, expect) in [
        ("/plain?a=%zz", Some(0)),
        ("/plain?%", Some(0)),
        ("/plain?a=%00", None),
        ("/waf?a=%41", Some(1)),
        ("/waf?a=%zz", None),
        ("/waf?100%", None),
        ("/graphql?query=%zz", None),
        ("/when?a=1", Some(4)),
        ("/when?b=%zz", None),
        ("/header?b=%zz", Some(6)),
    ] {
        finds_one(&routes, "a.example", path, &[], expect);
    }
}
