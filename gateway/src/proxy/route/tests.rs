//! Which route a request is for, and which route tables are refused.

use http::Request;

use super::*;
use crate::authz::Requirement;

fn route(host: Option<&str>, path: &str, methods: &[&str]) -> Route {
    Route {
        host: host.map(str::to_owned),
        path: path.into(),
        methods: methods.iter().map(|method| method.parse().unwrap()).collect(),
        require: Requirement::Public,
        upstream: 0,
        schema: None,
        max_body: None,
        upgrade: None,
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
    .unwrap_or_else(|faults| panic!("{faults:?}"))
}

#[track_caller]
fn check(request: &str, expect: Result<usize, (Reject, Option<&str>)>) {
    let (method, rest) = request.split_once(' ').unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let request = Request::builder().method(method).uri(format!("/{path}")).header("host", host).body(()).unwrap();
    let target = Target::read(&request.into_parts().0, "https").unwrap();
    let found = served().find(&target, &method.parse().unwrap());
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
    check("GET a.example/health", Ok(4));
    check("PUT a.example/items/1", Ok(5));
    check("PUT b.example/items/1", Ok(5));
    check("GET b.example/%61%62", Ok(6));
    check("POST a.example/items/1", Err((Reject::MethodNotAllowed, Some("GET, DELETE, PUT"))));
    check("HEAD a.example/items/1", Err((Reject::MethodNotAllowed, Some("GET, DELETE, PUT"))));
    check("GET a.example/items", Err((Reject::NotFound, None)));
    check("GET a.example/items/1/", Err((Reject::NotFound, None)));
    check("GET a.example/Items/1", Err((Reject::NotFound, None)));
    check("GET b.example/", Err((Reject::NotFound, None)));
}

#[test]
fn l02_other_hosts_are_misdirected() {
    let routes = Routes::new(&[route(Some("a.example"), "/", &[])]).unwrap_or_else(|faults| panic!("{faults:?}"));
    let request = Request::builder().uri("/").header("host", "b.example").body(()).unwrap();
    let target = Target::read(&request.into_parts().0, "https").unwrap();
    assert_eq!(routes.find(&target, &Method::GET).unwrap_err().refusal.reject, Reject::Misdirected);
}

#[track_caller]
fn fault(paths: &[(&str, &[&str])], expect: &str) {
    let routes: Vec<_> = paths.iter().map(|(path, methods)| route(None, path, methods)).collect();
    let faults = Routes::new(&routes).err().unwrap_or_default();
    let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
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
