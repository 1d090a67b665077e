//! Whom opaque tokens prove: what servers say, what is remembered of it, and when nobody is asked.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};

use super::*;
use crate::{
    os::{clock::SECOND, file::NamedFile},
    policy::auth::{
        claims::tests::rules,
        jwt::statement::SignedStatement,
        revocation::{RevocationChange, Revocations, Revoked},
    },
    refusal::Reject,
    settings::{
        auth::Method,
        claims::ClaimRules,
        introspection::{ClientAuth, Endpoint, IntrospectionBreaker, Proof},
        outbound, tls,
    },
    signal::Signal,
    web::url::Url,
};

/// Now, in seconds since the Unix epoch.
const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> Now {
    Now { monotonic: (1_000 + seconds) * SECOND, unix_millis: (NOW + seconds) * 1_000 }
}

pub(in crate::policy::auth) fn settings(name: &str) -> Settings {
    let none = NamedFile { path: "".into(), bytes: Arc::default() };
    Settings {
        key: format!("introspection.{name}"),
        name: name.to_owned(),
        issuer: Some("https://issuer.example".to_owned()),
        endpoint: Endpoint::At(Url::parse("https://issuer.example/introspect").unwrap()),
        outbound: outbound::OutboundServer {
            tls: tls::UpstreamTls {
                ca: none,
                server_name: None,
                certificate: None,
                accepts_any: false,
                pins: Vec::new(),
            },
            allow_private: false,
            allow_http: false,
            timeout: Duration::from_secs(3),
        },
        client: ClientAuth { id: "gateway".to_owned(), proof: Proof::Certificate },
        token_prefix: String::new(),
        accepts_jwts: false,
        signed: false,
        cache: 100,
        cache_for: Duration::from_secs(30),
        cache_inactive_for: Duration::from_secs(10),
        max_concurrent: 32,
        inactive_per_source: 3,
        breaker: IntrospectionBreaker { failures: 3, open_for: Duration::from_secs(10) },
        rules: ClaimRules { name: Some(name.to_owned()), needs_expiry: false, ..rules() },
    }
}

fn source() -> Source {
    "192.0.2.1".parse().unwrap()
}

/// What there is to say of a token: `+` and the principal, or the refusal's detail.
fn shown(decided: &Result<Arc<Identity>, Refusal>) -> String {
    match decided {
        Ok(identity) => format!("+{}", identity.principal()),
        Err(refusal) => refusal.detail.to_string(),
    }
}

/// A server, and how often it was asked.
struct Scene {
    introspection: Introspection,
    asked: u32,
}

impl Scene {
    fn new(settings: Settings) -> Self {
        Self { introspection: Introspection::new(&[settings], &[]).unwrap(), asked: 0 }
    }

    /// Judges a token of `source`; if its server has to be asked, it says `reply`: a JSON object, or a status.
    fn judge_of(&mut self, token: &str, source: Source, reply: &Value, now: Now) -> Result<Arc<Identity>, Refusal> {
        let question = match self.introspection.authenticate(token.as_bytes(), source, None, None, now) {
            AuthOutcome::Decided(decided) => return decided,
            AuthOutcome::Needs(Lookup::Introspection(question)) => question,
            AuthOutcome::Needs(other) => unreachable!("{other:?}"),
        };
        self.asked += 1;
        assert!(question.request(1, now).body.contains("token="));
        let headers: HeaderMap = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))].into_iter().collect();
        let status = reply.as_u64().map_or(200, |status| u16::try_from(status).unwrap());
        let body = reply.to_string();
        let received =
            ServerResponse { status: StatusCode::from_u16(status).unwrap(), headers: &headers, body: body.as_bytes() };
        let received = if reply.is_null() { Err("no answer within 3 s") } else { Ok(received) };
        let (answer, _) = question.received(received, now);
        match self.introspection.authenticate(token.as_bytes(), source, Some(&answer), None, now) {
            AuthOutcome::Decided(decided) => decided,
            AuthOutcome::Needs(_) => unreachable!("it is known"),
        }
    }

    fn judge(&mut self, token: &str, reply: &Value, now: Now) -> Result<Arc<Identity>, Refusal> {
        self.judge_of(token, source(), reply, now)
    }

    /// At `seconds`, `token` is judged so, having asked so often by then.
    #[track_caller]
    fn check(&mut self, seconds: u64, token: &str, reply: &Value, expect: &str, asked: u32) {
        let found = shown(&self.judge(token, reply, at(seconds)));
        assert!(found.starts_with(expect) && !expect.is_empty(), "{token} at {seconds} s: {found}");
        assert_eq!(self.asked, asked, "{token} at {seconds} s: how often its server was asked");
    }
}

fn active(more: Value) -> Value {
    let mut said = json!({"active": true, "sub": "ada", "aud": "api", "exp": NOW + 300, "scope": "a b"});
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    said
}

const INACTIVE_IS: &str = "its server does not call it active";

#[test]
fn what_is_said_of_active_tokens() {
    let row = |more: Value, expect: &str, signal: Option<Signal>| {
        let mut scene = Scene::new(settings("corp"));
        let decided = scene.judge("abc", &active(more.clone()), at(0));
        let found = shown(&decided);
        assert!(found.starts_with(expect), "{more}: {found}");
        assert_eq!(decided.err().and_then(|refusal| refusal.row().signal), signal, "{more}");
    };
    let unfit = Some(Signal::UnfitToken);
    let ok = "+corp:ada";
    row(json!({}), ok, None);
    row(json!({"iss": "https://issuer.example"}), ok, None);
    row(json!({"iss": "https://other.example"}), "its iss is not `issuer`", Some(Signal::WrongIssuer));
    row(json!({"iss": 7}), "its iss is not `issuer`", Some(Signal::WrongIssuer));
    row(json!({"token_type": "Bearer"}), ok, None);
    row(json!({"token_type": "bearer"}), ok, None);
    row(json!({"token_type": "access_token"}), ok, None);
    row(json!({"token_type": "DPoP"}), "its token_type is not Bearer", unfit);
    for silent in ["token_type", "iss", "exp", "nbf", "iat", "jti", "cnf", "scope", "roles"] {
        row(json!({silent: null}), ok, None);
    }
    row(json!({"aud": ["x", "api"]}), ok, None);
    row(json!({"aud": "x"}), "its aud holds no `audience`", Some(Signal::WrongAudience));
    row(json!({"aud": null}), "its aud holds no `audience`", Some(Signal::WrongAudience));
    row(json!({"exp": NOW - 31}), "it has expired", Some(Signal::ExpiredToken));
    row(json!({"exp": "later"}), "its exp, nbf or iat is no moment", unfit);
    row(json!({"nbf": NOW + 60}), "it is not valid yet", Some(Signal::NotYetValid));
    row(json!({"sub": ""}), "its sub is no string", unfit);
    row(json!({"sub": null}), "its sub is no string", unfit);
    row(json!({"sub": "key:a"}), "its sub is no string", unfit);
    row(json!({"roles": [1]}), "its roles are neither", unfit);
    row(json!({"active": false}), INACTIVE_IS, Some(Signal::InactiveToken));
}

#[test]
fn what_an_identity_has() {
    let mut one = settings("corp");
    one.rules.audiences = None;
    let kept = [ClaimPath::parse("client_id").unwrap(), ClaimPath::parse("ext.tenant").unwrap()];
    let mut scene = Scene { introspection: Introspection::new(&[one], &kept).unwrap(), asked: 0 };
    let said = json!({"active": true, "sub": "ada", "username": "Ada", "client_id": "app", "scope": "read write",
        "roles": ["reader"], "ext": {"tenant": 7}});
    let identity = scene.judge("abc", &said, at(0)).unwrap();
    assert_eq!(identity.scopes().collect::<Vec<_>>(), ["read", "write"]);
    assert_eq!(identity.roles().collect::<Vec<_>>(), ["reader"]);
    assert_eq!((identity.claim(0), identity.claim(1)), (Some(&json!("app")), Some(&json!(7))));
    assert_eq!((identity.method(), identity.expires()), (Method::Introspection, NOW + server::WITHOUT_EXPIRY));
    let identity = scene.judge("abd", &active(json!({"exp": NOW + 90_000})), at(0)).unwrap();
    assert_eq!(identity.expires(), NOW + 90_000 + 30, "with the leeway");
    let identity = scene.judge("abe", &active(json!({"exp": null, "scope": null})), at(0)).unwrap();
    assert_eq!((identity.scopes().count(), identity.expires()), (0, NOW + server::WITHOUT_EXPIRY));
}

#[test]
fn answers_count_for_a_while() {
    let mut scene = Scene::new(settings("corp"));
    let (good, bad) = (active(json!({})), json!({"active": false}));
    scene.check(0, "abc", &good, "+corp:ada", 1);
    scene.check(29, "abc", &bad, "+corp:ada", 1);
    scene.check(30, "abc", &good, "+corp:ada", 2);
    scene.check(60, "abc", &bad, INACTIVE_IS, 3);
    scene.check(69, "abc", &good, INACTIVE_IS, 3);
    scene.check(70, "abc", &good, "+corp:ada", 4);
    // Another token is another question.
    scene.check(70, "abd", &good, "+corp:ada", 5);
    // Nothing is believed beyond the `exp` of the answer (RFC 7662 4): its server is asked, and the leeway is for its clock.
    let soon = active(json!({"exp": NOW + 110}));
    scene.check(100, "short", &soon, "+corp:ada", 6);
    scene.check(109, "short", &bad, "+corp:ada", 6);
    scene.check(110, "short", &soon, "+corp:ada", 7);
    scene.check(110, "short", &bad, "+corp:ada", 7);
    scene.check(111, "short", &soon, "+corp:ada", 8);
    scene.check(139, "short", &soon, "+corp:ada", 9);
    scene.check(140, "short", &bad, INACTIVE_IS, 10);
    scene.check(150, "short", &soon, "it has expired", 11);
    scene.check(159, "short", &good, "it has expired", 11);
}

/// A worker looks at what is remembered, and the answer to another request comes before its question is asked.
#[test]
fn what_was_answered_meanwhile_is_not_asked() {
    for (said, expect) in [(active(json!({})), "+corp:ada"), (json!({"active": false}), INACTIVE_IS)] {
        let mut scene = Scene::new(settings("corp"));
        let AuthOutcome::Needs(Lookup::Introspection(question)) =
            scene.introspection.authenticate(b"abc", source(), None, None, at(0))
        else {
            unreachable!("nothing is remembered")
        };
        assert!(question.answered(at(0)).is_none());
        scene.check(1, "abc", &said, expect, 1);
        assert_eq!(question.answered(at(2)).map(|found| shown(&found)).as_deref(), Some(expect));
        assert!(question.answered(at(60)).is_none(), "it does not count any more");
    }
    // It was let through as the one question that finds out whether the server is well: the next one may.
    let mut scene = Scene::new(settings("corp"));
    for number in 0..3 {
        drop(scene.judge(&format!("failed-{number}"), &json!(null), at(0)));
    }
    drop(scene.judge("abc", &active(json!({})), at(20)));
    for number in 0..3 {
        drop(scene.judge(&format!("failed-{number}"), &json!(null), at(20)));
    }
    let probing = scene.introspection.authenticate(b"abd", source(), None, None, at(31));
    let AuthOutcome::Needs(Lookup::Introspection(mut question)) = probing else { panic!("{probing:?}") };
    question.hash = question.server.hash("abc");
    assert!(question.answered(at(31)).is_some());
    scene.check(31, "abd", &active(json!({})), "+corp:ada", 8);
}

#[test]
fn o01_failures_are_remembered_by_nobody() {
    for failure in [json!(null), json!(500), json!(404), json!(302), json!([]), json!({"active": "true"})] {
        let mut scene = Scene::new(settings("corp"));
        let refusal = scene.judge("abc", &failure, at(0)).unwrap_err();
        assert_eq!((refusal.reject, refusal.row().signal), (Reject::Unavailable, None), "{failure}: {refusal:?}");
        assert!(refusal.retry_after.is_some(), "{failure}");
        assert_eq!(shown(&scene.judge("abc", &active(json!({})), at(0))), "+corp:ada", "{failure}");
    }
}

#[test]
fn a_server_that_fails_is_left_alone() {
    let mut scene = Scene::new(settings("corp"));
    let good = active(json!({}));
    scene.check(0, "known", &good, "+corp:ada", 1);
    for asked in 2..=4 {
        scene.check(1, "abc", &json!(null), "no answer within 3 s", asked);
    }
    let paused = "the introspection server is not asked";
    scene.check(1, "abc", &good, paused, 4);
    scene.check(10, "abd", &good, paused, 4);
    scene.check(10, "known", &good, "+corp:ada", 4);
    let waits = |scene: &mut Scene, seconds| scene.judge("x", &good, at(seconds)).unwrap_err().retry_after;
    assert_eq!((waits(&mut scene, 2), waits(&mut scene, 10)), (Some(9), Some(1)));
    scene.check(11, "abc", &json!(401), "the server does not accept the gateway's own credentials: status 401", 5);
    scene.check(12, "abc", &good, paused, 5);
    scene.check(21, "abc", &good, "+corp:ada", 6);
    scene.check(21, "abd", &good, "+corp:ada", 7);
}

#[test]
fn a_question_that_is_refused_says_nothing_of_the_server() {
    let mut one = settings("corp");
    one.inactive_per_source = 1_000;
    let mut scene = Scene::new(one);
    let refused = "the server refused the question: status";
    for (asked, status) in (1..).zip([400, 403, 405, 413, 414, 422, 431]) {
        scene.check(0, &format!("abc{status}"), &json!(status), refused, asked);
    }
    let refusal = scene.judge("abc403", &active(json!({})), at(0)).unwrap_err();
    assert_eq!((refusal.reject, refusal.row().signal, refusal.retry_after), (Reject::Unavailable, None, Some(10)));
    scene.check(9, "abc403", &active(json!({})), refused, 7);
    scene.check(10, "abc403", &active(json!({})), "+corp:ada", 8);
    // Its source pays for it.
    let mut scene = Scene::new(settings("corp"));
    for (asked, token) in (1..).zip(["a1", "a2", "a3"]) {
        scene.check(0, token, &json!(403), refused, asked);
    }
    scene.check(0, "a4", &json!(403), "its source asked about too many tokens", 3);
}

#[test]
fn a_source_may_try_a_few() {
    let mut scene = Scene::new(settings("corp"));
    let bad = json!({"active": false});
    let over = "its source asked about too many tokens";
    for (asked, token) in (1..).zip(["a1", "a2", "a3"]) {
        scene.check(0, token, &bad, INACTIVE_IS, asked);
    }
    scene.check(0, "a4", &bad, over, 3);
    scene.check(0, "a1", &bad, INACTIVE_IS, 3);
    let refusal = scene.judge("a4", &bad, at(0)).unwrap_err();
    assert_eq!((refusal.reject, refusal.retry_after), (Reject::TooManyRequests, Some(20)));
    // Others are not kept out, and what is good costs nothing.
    let other: Source = "192.0.2.2".parse().unwrap();
    for number in 0..100 {
        let decided = scene.judge_of(&format!("good{number}"), other, &active(json!({})), at(0));
        assert_eq!(shown(&decided), "+corp:ada", "{number}");
    }
    // Neither does what the server fails at.
    let mut one = settings("corp");
    one.breaker.failures = 1_000;
    let mut scene = Scene::new(one);
    for asked in 1..=100 {
        scene.check(0, "abc", &json!(null), "no answer", asked);
    }
    // A minute later there is room for as many.
    let mut scene = Scene::new(settings("corp"));
    for (asked, (seconds, token)) in (1..).zip([(0, "a1"), (0, "a2"), (0, "a3"), (20, "a4"), (40, "a5")]) {
        scene.check(seconds, token, &bad, INACTIVE_IS, asked);
    }
    scene.check(40, "a6", &bad, over, 5);
}

#[test]
fn which_server_is_asked_about_a_token() {
    let prefixed = |name: &str, prefix: &str| Settings { token_prefix: prefix.to_owned(), ..settings(name) };
    let all = [prefixed("a", "a_"), prefixed("b", ""), prefixed("c", "a_b_")];
    let introspection = Introspection::new(&all, &[]).unwrap();
    let server = |introspection: &Introspection, token: &str| match introspection.authenticate(
        token.as_bytes(),
        source(),
        None,
        None,
        at(0),
    ) {
        AuthOutcome::Needs(Lookup::Introspection(question)) => {
            assert!(!format!("{question:?}").contains(token));
            question.settings().name.clone()
        }
        AuthOutcome::Decided(decided) => shown(&decided),
        AuthOutcome::Needs(other) => unreachable!("{other:?}"),
    };
    for (token, expect) in [("a_x", "a"), ("a_b_x", "c"), ("a_b", "a"), ("x", "b"), ("A_x", "b")] {
        assert_eq!(server(&introspection, token), expect, "{token}");
    }
    let introspection = Introspection::new(&all[..1], &[]).unwrap();
    assert_eq!(server(&introspection, "x"), "it begins as the tokens of no server do");
}

#[test]
fn tokens_that_nobody_is_asked_about() {
    let long = "a".repeat(MAX_TOKEN + 1);
    let none = "it is no bearer token (RFC 6750 2.1)";
    let jwt = "it is a JWT, and its server is asked about others alone";
    for (token, expect) in [
        ("", none),
        ("=", none),
        ("a b", none),
        ("a\u{e4}", none),
        ("a&token=b", none),
        ("a\r\nb", none),
        ("a=b", none),
        (&long, none),
        ("eyJhbGciOiJSUzI1NiJ9.e30.c2ln", jwt),
        // Where a line or a tab follows the `{`.
        ("ewogImFsZyI6IlJTMjU2In0.e30.c2ln", jwt),
        ("ewkiYWxnIjoiUlMyNTYifQ.e30.c2ln", jwt),
    ] {
        let mut scene = Scene::new(settings("corp"));
        scene.check(0, token, &active(json!({})), expect, 0);
    }
    for token in ["a.b.c", "eyJ", "eyJ.b", "eyJ..c", "eyJ.b.c.d", "a-._~+/==", &long[1..]] {
        let mut scene = Scene::new(settings("corp"));
        scene.check(0, token, &active(json!({})), "+corp:ada", 1);
    }
    let mut scene = Scene::new(Settings { accepts_jwts: true, ..settings("corp") });
    scene.check(0, "eyJhbGciOiJSUzI1NiJ9.e30.c2ln", &active(json!({})), "+corp:ada", 1);
}

#[test]
fn what_is_remembered_outlives_a_reload_that_changes_nothing() {
    let mut scene = Scene::new(settings("corp"));
    let good = active(json!({}));
    scene.check(0, "abc", &good, "+corp:ada", 1);
    scene.introspection = scene.introspection.succeeded_by(&[settings("a"), settings("corp")], &[]).unwrap();
    let corp = scene.introspection.servers.pop().unwrap();
    scene.introspection.servers = vec![corp];
    scene.check(1, "abc", &good, "+corp:ada", 1);
    let changed = Settings { cache_for: Duration::from_secs(5), ..settings("corp") };
    scene.introspection = scene.introspection.succeeded_by(&[changed], &[]).unwrap();
    scene.check(2, "abc", &good, "+corp:ada", 2);
}

/// What a signed answer has to say of itself.
#[test]
fn signed_answers_are_for_us_and_of_now() {
    let answer = |claims: Value| {
        let scene = Scene::new(Settings { signed: true, ..settings("corp") });
        let AuthOutcome::Needs(Lookup::Introspection(question)) =
            scene.introspection.authenticate(b"abc", source(), None, None, at(0))
        else {
            unreachable!("nothing is remembered")
        };
        let media_type = HeaderValue::from_static("application/token-introspection+jwt");
        let headers: HeaderMap = [(CONTENT_TYPE, media_type)].into_iter().collect();
        let received = ServerResponse { status: StatusCode::OK, headers: &headers, body: b"a.b.c" };
        let verify = |signed: &[u8]| {
            assert_eq!(signed, b"a.b.c");
            Ok(SignedStatement { claims: claims.as_object().unwrap().clone(), signer: None })
        };
        shown(&question.server.received(&question.hash, Ok(received), &verify, at(0)).0)
    };
    let said = active(json!({}));
    let aud = "the signed answer's aud is not `client_id`";
    let iat = "the signed answer's iat is not now";
    for (claims, expect) in [
        (json!({"aud": "gateway", "iat": NOW, "token_introspection": said}), "+corp:ada"),
        (json!({"aud": ["x", "gateway"], "iat": NOW - 20, "token_introspection": said}), "+corp:ada"),
        (json!({"aud": "gateway", "iat": NOW as f64 + 0.5, "token_introspection": said}), "+corp:ada"),
        (json!({"aud": "gateway", "iat": NOW, "token_introspection": {"active": false}}), INACTIVE_IS),
        (json!({"aud": "other", "iat": NOW, "token_introspection": said}), aud),
        (json!({"aud": ["other"], "iat": NOW, "token_introspection": said}), aud),
        (json!({"iat": NOW, "token_introspection": said}), aud),
        (json!({"aud": "gateway", "token_introspection": said}), iat),
        (json!({"aud": "gateway", "iat": NOW - 60, "token_introspection": said}), iat),
        (json!({"aud": "gateway", "iat": NOW + 60, "token_introspection": said}), iat),
        (json!({"aud": "gateway", "iat": NOW}), "the signed answer has no token_introspection"),
    ] {
        assert_eq!(answer(claims.clone()), expect, "{claims}");
    }
}

/// Once a key is revoked, what it has signed counts no more: also what is remembered of it.
#[test]
fn j16_answers_by_a_revoked_key_count_no_more() {
    let scene = Scene::new(Settings { signed: true, ..settings("corp") });
    let ask = |token: &str| scene.introspection.authenticate(token.as_bytes(), source(), None, None, at(0));
    let said = json!({"aud": "gateway", "iat": NOW, "token_introspection": active(json!({"iat": NOW - 9}))});
    let mut found = Vec::new();
    for (token, signer) in [("abc", Some("k1")), ("def", Some("k2")), ("ghi", None)] {
        let AuthOutcome::Needs(Lookup::Introspection(question)) = ask(token) else {
            unreachable!("nothing is remembered")
        };
        let media_type = HeaderValue::from_static("application/token-introspection+jwt");
        let headers: HeaderMap = [(CONTENT_TYPE, media_type)].into_iter().collect();
        let received = ServerResponse { status: StatusCode::OK, headers: &headers, body: b"a.b.c" };
        let verify = |_: &[u8]| {
            Ok(SignedStatement { claims: said.as_object().unwrap().clone(), signer: signer.map(Into::into) })
        };
        let answer = question.server.received(&question.hash, Ok(received), &verify, at(0)).0;
        let remembered = question.server.remember(&question.hash, at(1)).unwrap();
        found.push([answer.unwrap(), remembered.unwrap()]);
    }
    let revocations = Revocations::default();
    let is_revoked = |revocations: &Revocations| -> Vec<[bool; 2]> {
        let is = |identity: &Arc<Identity>| identity.rests_on().any(|what| revocations.revokes(what));
        found.iter().map(|both| both.each_ref().map(is)).collect()
    };
    assert_eq!(is_revoked(&revocations), [[false; 2]; 3]);
    revocations.change([RevocationChange::Revoked(Revoked::Signer {
        issuer: "https://issuer.example".to_owned(),
        kid: "k1".to_owned(),
    })]);
    assert_eq!(is_revoked(&revocations), [[true; 2], [false; 2], [false; 2]]);
}
