//! Which route a request is for, and which route tables are refused.

use http::Request;

use super::*;
use crate::{
    settings::{
        auth::{Accepted, Methods},
        authz::Requirement,
        route::{Action, Subject, Test},
        validate::RefusesUnknown,
    },
    web::path::PathRules,
};

mod around;

const LOCAL: std::net::SocketAddr = std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);

fn route(host: Option<&str>, path: &str, methods: &[&str]) -> Route {
    Route {
        name: None,
        tags: Vec::new(),
        shadow: Vec::new(),
        host: host.map(str::to_owned),
        path: path.into(),
        methods: methods.iter().map(|method| method.parse().unwrap()).collect(),
        when: Vec::new(),
        accepted: Accepted { methods: Methods::Any(Vec::new()), bound_tokens: false },
        require: Requirement::Public,
        scopes: Vec::new(),
        claims: Vec::new(),
        sources: None,
        allow_if: Vec::new(),
        action: Action::Forward(0),
        rewrite: None,
        request_headers: None,
        response_headers: None,
        pass_headers: Vec::new(),
        allow_in_path: PathRules::default(),
        timeouts: None,
        schema: None,
        parameters: Vec::new(),
        refuses_unknown: RefusesUnknown::default(),
        content_types: Vec::new(),
        form: None,
        api: None,
        follows_document: false,
        graphql: None,
        waf: None,
        content_encoding: None,
        max_body: None,
        upgrade: None,
        cors: None,
        access_log: true,
    }
}

fn served() -> Routes {
    Routes::new(&[
        route(Some("a.example"), "/items/{id}", &["GET"]),
        route(Some("a.example"), "/items/{name}", &["DELETE"]),
        route(Some("a.example"), "/items/new", &["GET"]),
        route(Some("a.example"), "/files/{*rest}", &[]),
        route(None, "/health", &["GET"]),
        route(None, "/items/{id}", &["PUT"]),
        route(None, "/%61b", &["GET"]),
    ])
    .unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"))
}

#[track_caller]
fn check(request: &str, expect: Result<usize, (Reject, Option<&str>)>) {
    let (method, rest) = request.split_once(' ').unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let request = Request::builder().method(method).uri(format!("/{path}")).header("host", host).body(()).unwrap();
    let target = Target::read(&request.into_parts().0, LOCAL, 8_192).unwrap();
    let found = served().find(&target, &method.parse().unwrap(), &HeaderMap::new());
    let found = found.map_err(|miss| (miss.refusal.reject, miss.allow.map(|allow| allow.to_str().unwrap().to_owned())));
    assert_eq!(found, expect.map_err(|(reject, allow)| (reject, allow.map(str::to_owned))), "{method} {rest}");
}

#[test]
fn finds() {
    check("GET a.example/items/1", Ok(0));
    check("GET A.example:8443/items/1", Ok(0));
    check("DELETE a.example/items/1", Ok(1));
    check("GET a.example/items/new", Ok(2));
    check("GET a.example/files/a/b", Ok(3));
    check("PATCH a.example/files/a", Ok(3));
    check("GET a.example/files", Ok(3));
    check("GET a.example/health", Ok(4));
    // The more exact host has the path: the route of any host, which may ask for less, is not asked.
    check("PUT a.example/items/1", Err((Reject::MethodNotAllowed, Some("GET, DELETE"))));
    check("PUT b.example/items/1", Ok(5));
    check("GET b.example/%61%62", Ok(6));
    check("POST a.example/items/1", Err((Reject::MethodNotAllowed, Some("GET, DELETE"))));
    check("HEAD a.example/items/1", Err((Reject::MethodNotAllowed, Some("GET, DELETE"))));
    check("GET a.example/items", Err((Reject::NotFound, None)));
    check("GET a.example/items/1/", Err((Reject::NotFound, None)));
    check("GET a.example/Items/1", Err((Reject::NotFound, None)));
    check("GET b.example/", Err((Reject::NotFound, None)));
}

/// However a template and a path are written, a literal stays a literal.
#[test]
fn p01_no_escape_gets_past_a_literal() {
    for template in
        ["/v1/items:batchDelete", "/v1/items%3AbatchDelete", "/v1/items%3abatch%44elete", "/v1/it%65ms:batchDelete"]
    {
        let routes = [route(None, template, &[]), route(None, "/{*rest}", &[]), route(None, "/v1/{id}", &[])];
        for path in [
            "/v1/items:batchDelete",
            "/v1/items%3AbatchDelete",
            "/v1/items%3abatchDelete",
            "/%761/items%3a%62atchDelete",
        ] {
            finds_one(&routes, "a.example", path, &[], Some(0));
        }
        finds_one(&routes, "a.example", "/v1/items%253AbatchDelete", &[], None);
        finds_one(&routes, "a.example", "/v1/items:batchdelete", &[], Some(2));
    }
    for character in "!$&'()*+,=:@-._~".chars() {
        let code = u32::from(character);
        let spellings = [format!("/a%{code:02x}b"), format!("/a%{code:02X}b"), format!("/a{character}b")];
        let routes = [route(None, &spellings[0], &[]), route(None, "/{*rest}", &[])];
        for path in spellings {
            finds_one(&routes, "a.example", &path, &[], Some(0));
        }
    }
    // Two spellings of one template are one template.
    fault(&[("/a:b", &[]), ("/a%3ab", &[])], "route[1].path: serves the same requests as route[0]");
}

/// What only some routes take changes nothing of which route is found, and the others refuse it.
#[test]
fn p01_p03_what_a_route_takes_is_no_way_around_another() {
    let all = PathRules { encoded_slashes: true, parameters: true, empty_segments: true };
    let routes = [
        route(None, "/admin", &[]),
        Route { allow_in_path: all, ..route(None, "/{*rest}", &[]) },
        Route { allow_in_path: all, ..route(None, "/p/{id}/x", &[]) },
        route(None, "/strict/{*rest}", &[]),
    ];
    for (path, expect) in [
        ("/admin", Some(0)),
        ("/admin;x=1", None),
        ("//admin", None),
        ("/;x//admin", None),
        ("/p/;1/x", None),
        ("/p;//x/x", Some(2)),
        ("/a;x=1/b//c", Some(1)),
        ("/p/g%2Fp/x", Some(2)),
        ("/p;v/7;x=1//x", Some(2)),
        ("/strict/a;b", None),
        ("/strict//a", None),
        ("//strict/a", None),
        ("/strict/a%2fb", None),
    ] {
        finds_one(&routes, "a.example", path, &[], expect);
    }
}

#[test]
fn l02_other_hosts_are_misdirected() {
    let routes =
        Routes::new(&[route(Some("a.example"), "/", &[])]).unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"));
    let request = Request::builder().uri("/").header("host", "b.example").body(()).unwrap();
    let target = Target::read(&request.into_parts().0, LOCAL, 8_192).unwrap();
    assert_eq!(routes.find(&target, &Method::GET, &HeaderMap::new()).unwrap_err().refusal.reject, Reject::Misdirected);
}

#[track_caller]
fn fault(paths: &[(&str, &[&str])], expect: &str) {
    let routes: Vec<_> = paths.iter().map(|(path, methods)| route(None, path, methods)).collect();
    let diagnostics = Routes::new(&routes).err().unwrap_or_default();
    let told: Vec<_> = diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(told, [expect], "{paths:?}");
}

#[test]
fn faults() {
    fault(&[("/a", &[]), ("/a", &["GET"])], "route[1].path: serves the same requests as route[0]");
    fault(&[("/a/{x}", &["GET"]), ("/a/{y}", &["GET"])], "route[1].path: serves the same requests as route[0]");
    fault(&[("/a/{x}", &[]), ("/a/{*y}", &[])], "route[1].path: serves the same requests as route[0]");
    fault(&[("a", &[])], "route[0].path: must begin with /");
    fault(&[("/a//b", &[])], "route[0].path: has an empty segment");
    fault(&[("/{*a}/b", &[])], "route[0].path: `{*a}` must be the last segment");
    fault(&[("/{}", &[])], "route[0].path: parameter `{}` must be `{name}` or `{*name}`");
    fault(&[("/../a", &[])], "route[0].path: segment `..` would be refused in a request: dot segment");
    fault(
        &[("/x{a}", &[])],
        "route[0].path: segment `x{a}` would be refused in a request: character that no path may hold",
    );
}

fn when(subject: &str, test: Test) -> RouteCondition {
    let subject = match subject.strip_prefix('?') {
        Some(name) => Subject::Query(name.into()),
        None => Subject::Header(subject.parse().unwrap()),
    };
    RouteCondition { subject, test }
}

fn equals(subject: &str, value: &str) -> RouteCondition {
    when(subject, Test::Equals(value.into()))
}

fn prefix(subject: &str, value: &str) -> RouteCondition {
    when(subject, Test::Prefix(value.into()))
}

fn with(host: Option<&str>, path: &str, conditions: &[RouteCondition]) -> Route {
    Route { when: conditions.to_vec(), ..route(host, path, &[]) }
}

/// Everything below a path is the path itself, too, but for what routes of their own say.
#[test]
fn what_is_below_a_path_is_the_path() {
    let routes = [
        route(Some("a.example"), "/files/{*rest}", &[]),
        route(Some("a.example"), "/{x}", &[]),
        route(Some("a.example"), "/own/{*rest}", &[]),
        route(Some("a.example"), "/own", &[]),
        route(Some("a.example"), "/users/{id}/{*rest}", &[]),
        route(None, "/{*all}", &[]),
        route(Some("*.example"), "/w/{*rest}", &[]),
    ];
    for (host, path, expect) in [
        ("a.example", "/files", 0),
        ("a.example", "/files/", 0),
        ("a.example", "/files/a/b/", 0),
        ("a.example", "/file", 1),
        ("a.example", "/own", 3),
        ("a.example", "/own/", 2),
        ("a.example", "/users/7", 4),
        ("a.example", "/users/7/", 4),
        ("a.example", "/users", 1),
        ("a.example", "/", 5),
        ("b.example", "/w", 6),
        ("b.example", "/wx", 5),
        ("c.test", "/", 5),
    ] {
        finds_one(&routes, host, path, &[], Some(expect));
    }
    finds_one(&[route(None, "/own/{*rest}", &["POST"])], "a.example", "/own", &[], None);
}

#[track_caller]
fn finds_one(routes: &[Route], host: &str, path: &str, sent: &[(&'static str, &str)], expect: Option<usize>) {
    let routes = Routes::new(routes).unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"));
    let mut request = Request::builder().uri(path).header("host", host);
    for (name, value) in sent {
        request = request.header(*name, *value);
    }
    let head = request.body(()).unwrap().into_parts().0;
    let target = Target::read(&head, LOCAL, 8_192).ok();
    let found = target.and_then(|target| routes.find(&target, &Method::GET, &head.headers).ok());
    assert_eq!(found, expect, "{host}{path} {sent:?}");
}

#[test]
fn hosts_from_exact_to_any() {
    let routes = [
        route(None, "/", &[]),
        route(Some("*.example.com"), "/", &[]),
        route(Some("a.example.com"), "/", &[]),
        route(Some("*.example.com"), "/w", &[]),
        route(None, "/w", &[]),
    ];
    for (host, path, expect) in [
        ("a.example.com", "/", 2),
        ("A.EXAMPLE.com:8443", "/", 2),
        ("b.example.com", "/", 1),
        ("example.com", "/", 0),
        ("a.b.example.com", "/", 0),
        ("a.example.com", "/w", 3),
        ("evil-example.com", "/w", 4),
    ] {
        finds_one(&routes, host, path, &[], Some(expect));
    }
    finds_one(&routes[1..2], "example.com", "/", &[], None);
}

#[test]
fn conditions() {
    let routes = [
        with(None, "/", &[]),
        with(None, "/", &[equals("x-v", "2")]),
        with(None, "/", &[equals("x-v", "2"), when("?beta", Test::Present)]),
        with(None, "/", &[prefix("x-v", "3.")]),
        with(None, "/q", &[equals("?a b", "c&d")]),
    ];
    for (path, sent, expect) in [
        ("/", &[][..], Some(0)),
        ("/?beta", &[], Some(0)),
        ("/", &[("x-v", "2")], Some(1)),
        ("/?beta", &[("x-v", "2")], Some(2)),
        ("/?beta=1&beta=2", &[("x-v", "2")], Some(2)),
        ("/", &[("x-v", "3.1")], Some(3)),
        ("/", &[("x-v", "3")], Some(0)),
        ("/", &[("x-v", "2"), ("x-v", "2")], Some(1)),
        ("/", &[("x-v", "3.1"), ("x-v", "3.2")], Some(3)),
        // The upstream could read the one or the other: no route takes it.
        ("/", &[("x-v", "2"), ("x-v", "3.1")], None),
        ("/", &[("x-v", "3.1"), ("x-v", "2")], None),
        ("/", &[("x-v", "2"), ("x-v", "")], None),
        ("/", &[("x-v", "4"), ("x-v", "5")], Some(0)),
        // The upstream would get none at all.
        ("/", &[("x-v", "2"), ("connection", "close, X-V")], None),
        ("/", &[("x-v", "2"), ("connection", "close, x-w")], Some(1)),
        ("/?beta", &[("x-v", "2"), ("x-v", "1")], None),
        ("/q", &[], None),
        ("/q?a+b=c%26d", &[], Some(4)),
        ("/q?%61%20b=c%26d&z", &[], Some(4)),
        ("/q?a+b=c%26d&a+b=x", &[], None),
        ("/q?a+b=c%26d&a%20b=c%26d", &[], Some(4)),
        ("/q?a+b=c", &[], None),
    ] {
        finds_one(&routes, "a.example", path, sent, expect);
    }
}

#[test]
fn what_is_in_the_way_of_others() {
    use super::explain::Way;
    let routes = [
        route(None, "/items/{id}", &[]),
        route(Some("a.example"), "/items/{id}", &["GET"]),
        with(Some("a.example"), "/items/{id}", &[equals("x-v", "2")]),
        route(Some("a.example"), "/items/{id}", &["PUT"]),
        route(Some("a.example"), "/{*rest}", &[]),
        route(Some("b.example"), "/items/{id}", &[]),
        route(Some("a.example"), "/health", &[]),
    ];
    let made = Routes::new(&routes).unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"));
    let explain = |path: &str, sent: &[(&'static str, &str)]| {
        let mut request = Request::builder().uri(path).header("host", "a.example");
        for (name, value) in sent {
            request = request.header(*name, *value);
        }
        let head = request.body(()).unwrap().into_parts().0;
        let target = Target::read(&head, LOCAL, 8_192).unwrap();
        made.explain(&routes, &target, &Method::GET, &head.headers)
    };
    let others = [Some(Way::LessLiteral), Some(Way::Host), Some(Way::Path)];
    let found = explain("/items/1", &[]);
    assert_eq!(found[..4], [Some(Way::LessExact), None, Some(Way::Condition(0)), Some(Way::Method)]);
    assert_eq!(found[4..], others);
    let found = explain("/items/1", &[("x-v", "2")]);
    assert_eq!(found[..4], [Some(Way::LessExact), Some(Way::AskedLater), None, Some(Way::Method)]);
    assert_eq!(explain("/nowhere", &[])[4], None);
}

/// Whether routes of one path with these conditions can stand side by side.
#[track_caller]
fn conflicts(one: &[RouteCondition], two: &[RouteCondition], expect: bool) {
    for (one, two) in [(one, two), (two, one)] {
        let found = Routes::new(&[with(None, "/", one), with(None, "/", two)]);
        assert_eq!(found.is_err(), expect, "{one:?} {two:?}");
    }
}

#[test]
fn conflicts_of_conditions() {
    let (two, three) = ([equals("x-v", "2")], [equals("x-v", "3")]);
    conflicts(&two, &two, true);
    conflicts(&two, &three, false);
    conflicts(&two, &[equals("x-w", "3")], true);
    conflicts(&two, &[equals("?x-v", "3")], true);
    conflicts(&two, &[prefix("x-v", "2")], true);
    conflicts(&two, &[prefix("x-v", "3")], false);
    conflicts(&[prefix("x-v", "2")], &[prefix("x-v", "2.1")], true);
    conflicts(&[prefix("x-v", "2")], &[prefix("x-v", "3")], false);
    conflicts(&[when("x-v", Test::Present)], &two, true);
    conflicts(&[equals("x-v", "2"), equals("x-w", "1")], &[equals("x-v", "3"), equals("x-z", "1")], false);
    conflicts(&two, &[equals("x-v", "2"), equals("x-w", "1")], false);
}

#[test]
fn one_of_many_is_found_without_asking_the_others() {
    let routes: Vec<_> = (0..10_000)
        .map(|number| with(Some(&format!("h{}.example", number % 10)), &format!("/service{number}/items/{{id}}"), &[]))
        .collect();
    let routes = Routes::new(&routes).unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"));
    for number in 0..10_000 {
        let (host, path) = (format!("h{}.example", number % 10), format!("/service{number}/items/7"));
        let request = Request::builder().uri(&path).header("host", &host).body(()).unwrap();
        let target = Target::read(&request.into_parts().0, LOCAL, 8_192).unwrap();
        assert_eq!(routes.find(&target, &Method::GET, &HeaderMap::new()).ok(), Some(number), "{host}{path}");
        let asked: usize = routes.tables(&host).map(|table| table.at(&path).map_or(0, |found| found.value.len())).sum();
        assert_eq!(asked, 1, "{host}{path}");
    }
}

/// T07: of a header that is there twice all values are judged. Where they are for different routes, no route takes the
/// request, whichever comes first: nobody gets what one of both would give, nor dodges what one of both would ask.
#[test]
fn t07_a_header_that_is_there_twice_gives_nothing() {
    let role = |value: &str| with(None, "/r", &[equals("x-role", value)]);
    let routes = [role("admin"), with(None, "/r", &[prefix("x-role", "oper")]), role("user"), route(None, "/r", &[])];
    let sent = |roles: &[&'static str]| roles.iter().map(|role| ("x-role", *role)).collect::<Vec<_>>();
    for (roles, expect) in [
        (&["admin"][..], Some(0)),
        (&["operator"], Some(1)),
        (&["user"], Some(2)),
        (&["operator", "oper"], Some(1)),
        (&["user", "admin"], None),
        (&["admin", "user"], None),
        (&["admin", "admin"], Some(0)),
        (&["", "admin"], None),
        (&["admin", ""], None),
        (&["guest", "guest"], Some(3)),
        (&["user, admin"], Some(3)),
    ] {
        finds_one(&routes, "a.example", "/r", &sent(roles), expect);
    }
}
