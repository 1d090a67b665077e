//! Who may ask what at the admin listener, as tables.

use http_body_util::Full;

use super::*;

fn config(token: Option<&str>) -> ObserverConfig {
    ObserverConfig {
        hosts: vec!["gate.internal".to_owned()],
        token: token.map(|token| token.as_bytes().to_vec()),
        ..ObserverConfig::default()
    }
}

fn told() -> (Rc<Exports>, Rc<Alerts>, Rc<Baselines>) {
    (Rc::default(), Rc::new(Alerts::new(Now::read())), Rc::default())
}

fn admin(config: ObserverConfig, store: Rc<RefCell<Store>>) -> Admin {
    let sandbox = sandbox::SandboxReport { capabilities: Vec::new(), landlock: String::new(), seccomp: 0 };
    let own = ObserverState { sandbox, resident: None };
    Admin::new(config, store, told(), Rc::default(), own).unwrap()
}

#[track_caller]
fn check(token: Option<&str>, request: &[(&str, &str)], path: &str, expect: u16) {
    let mut store = Store::default();
    store.receive((MetricRole::Proxy, 1), Telemetry { serves: true, ..Telemetry::default() });
    let store = Rc::new(RefCell::new(store));
    let admin = admin(config(token), store);
    let mut built = Request::builder().uri(path);
    for (name, value) in request {
        built = if *name == "method" { built.method(*value) } else { built.header(*name, *value) };
    }
    let answered = answered(&admin, built.body(Full::<Bytes>::default()).unwrap());
    assert_eq!(answered.status().as_u16(), expect, "{token:?} {request:?} {path}");
    admin.measure();
    let told = Format::Text.write(&admin.store.borrow().sums());
    let row = format!("gateway_admin_requests_total{{code=\"{expect}\"}} 1\n");
    assert!(String::from_utf8(told).unwrap().contains(&row), "{row}");
}

fn answered(admin: &Admin, request: Request<Full<Bytes>>) -> Response<ResponseBody> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(admin.answer(request, (0, Some([127, 0, 0, 1].into())), false))
}

#[test]
fn who_may_ask_what() {
    let host = ("host", "127.0.0.1:9901");
    check(None, &[host], "/metrics", 200);
    check(None, &[("host", "localhost")], "/metrics?x=1", 200);
    check(None, &[("host", "[::1]:9901")], "/metrics", 200);
    check(None, &[("host", "GATE.internal:9901")], "/metrics", 200);
    check(None, &[("host", "evil.example")], "/metrics", 403);
    check(None, &[("host", "evil.example")], "/healthz", 403);
    check(None, &[], "/metrics", 403);
    check(None, &[host, ("host", "localhost")], "/metrics", 403);
    check(None, &[host], "/", 404);
    check(None, &[host], "/metrics/", 404);
    check(None, &[host, ("method", "HEAD")], "/metrics", 200);
    check(None, &[host, ("method", "POST")], "/metrics", 405);
    check(None, &[host, ("method", "DELETE")], "/readyz", 405);
    check(None, &[host], "/readyz", 200);
    let secret = Some("0123456789abcdef");
    check(secret, &[host], "/metrics", 401);
    check(secret, &[host], "/unknown", 401);
    check(secret, &[host, ("authorization", "Bearer 0123456789abcdeF")], "/metrics", 401);
    check(secret, &[host, ("authorization", "Basic 0123456789abcdef")], "/metrics", 401);
    check(secret, &[host, ("authorization", "bearer 0123456789abcdef")], "/metrics", 200);
    check(secret, &[host], "/healthz", 200);
}

#[test]
fn commands_are_the_guards_to_answer() {
    let (host, post) = (("host", "localhost"), ("method", "POST"));
    let token = ("authorization", "Bearer gwat_0123456789abcdef");
    check(None, &[host, post], "/v1/status", 401);
    check(None, &[host, post, token, token], "/v1/status", 401);
    check(None, &[host, post, ("authorization", "Basic YTpi")], "/v1/status", 401);
    check(None, &[host, token], "/v1/status", 405);
    check(None, &[("host", "evil.example"), post, token], "/v1/status", 403);
    for path in ["/v1/", "/v1/Status", "/v1/a/b", "/v1/%73tatus", "/v1/block-add", &format!("/v1/{:a<65}", "")] {
        check(None, &[host, post, token], path, 404);
    }
    // There is no guard here. The token for metrics is another matter.
    check(None, &[host, post, token], "/v1/status", 503);
    check(Some("0123456789abcdef"), &[host, post, token], "/v1/status", 503);

    let admin = admin(config(None), Rc::default());
    let mut request = Request::builder().method("POST").uri("/v1/status").header("host", "localhost");
    request = request.header("authorization", "Bearer x");
    let long = request.body(Full::from(vec![b' '; 50_000])).unwrap();
    assert_eq!(answered(&admin, long).status(), StatusCode::PAYLOAD_TOO_LARGE);
    let judged = |peer: &str, is_tls| {
        let request = Request::builder().method("POST").uri("/v1/status").header("host", "localhost");
        let request = request.header("authorization", "Bearer x").body(()).unwrap();
        matches!(admin.judge(&request, Some(peer.parse().unwrap()), is_tls), RequestDecision::Command(_))
    };
    assert!(judged("127.0.0.1", false) && judged("::ffff:127.0.0.1", false) && judged("192.0.2.1", true));
    assert!(!judged("192.0.2.1", false), "a token over a network as it is");
}

#[test]
fn whoever_does_not_read_is_let_go() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let admin = admin(ObserverConfig { dashboard: true, ..config(None) }, Rc::default());
        let place = admin.connections.borrow_mut().admit(None, Instant::now());
        assert!(admin.connections.borrow_mut().streams(place, "token"));
        let serves = tokio::task::spawn_local(std::future::pending::<()>());
        admin.connections.borrow_mut().serves(place, serves.abort_handle());
        // Nobody receives what is sent. There is no guard, which is told too.
        let (sender, mut receiver) = mpsc::channel(stream::PENDING);
        let command = stream::command(None, "gwat_a".to_owned());
        admin.stream_of(command, place).run(b"{}".to_vec(), sender, Duration::from_millis(1)).await;
        assert!(serves.await.unwrap_err().is_cancelled());
        let mut told = Vec::new();
        while let Some(piece) = receiver.recv().await {
            told.push(String::from_utf8(piece.to_vec()).unwrap());
        }
        assert_eq!(told.len(), stream::PENDING);
        assert_eq!((&*told[0], &*told[1]), ("event: status\ndata: {}\n\n", "event: gone\ndata: {}\n\n"));
    });
}

#[test]
fn whoever_is_told_the_end_keeps_no_place() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let admin = admin(config(None), Rc::default());
        let place = admin.connections.borrow_mut().admit(None, Instant::now());
        assert!(admin.connections.borrow_mut().streams(place, "token"));
        let (sender, mut receiver) = mpsc::channel(stream::PENDING);
        let command = stream::command(None, "gwat_a".to_owned());
        admin.stream_of(command, place).run(b"{}".to_vec(), sender, stream::EVERY).await;
        let told = receiver.recv().await.unwrap();
        assert_eq!(String::from_utf8(told.to_vec()).unwrap(), "event: end\ndata: {\"status\":404}\n\n");
        let later = Instant::now() + Duration::from_secs(10);
        assert!(admin.connections.borrow().is_over(place, later), "it reads nothing");
    });
}

#[test]
fn the_dashboard_is_there_where_it_is_turned_on() {
    let secret = ObserverConfig { dashboard: true, ..config(Some("0123456789abcdef")) };
    let status = |config: ObserverConfig, method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        answered(&admin(config, Rc::default()), request.body(Full::default()).unwrap()).status().as_u16()
    };
    for (method, path, on, off) in [
        ("GET", "/dashboard", 200, 404),
        ("HEAD", "/dashboard/script.js", 200, 404),
        ("POST", "/dashboard", 405, 404),
        ("GET", "/dashboard/other", 404, 404),
        ("GET", "/dashboard/events", 401, 404),
    ] {
        let config = |is_on| ObserverConfig { dashboard: is_on, ..config(None) };
        assert_eq!((status(config(true), method, path), status(config(false), method, path)), (on, off), "{path}");
    }
    // The page holds nothing of the gateway: it asks for a token itself.
    assert_eq!(status(secret.clone(), "GET", "/dashboard"), 200);
    assert_eq!(status(secret, "GET", "/metrics"), 401);
}

#[test]
fn nobody_serves_at_first() {
    let admin = admin(config(None), Rc::default());
    let request = Request::builder().uri("/readyz").header("host", "localhost").body(Full::default()).unwrap();
    assert_eq!(answered(&admin, request).status(), StatusCode::SERVICE_UNAVAILABLE);
}
