//! How clients prove who they are besides by plain tokens, and what upstreams are told of it: passwords, tokens bound to
//! certificates, several proofs at once, identity headers, the internal token.

use std::{fs, sync::Arc, thread};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use jsonwebtoken::{Algorithm as Jwa, DecodingKey, Validation, jwk::JwkSet};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, SanType};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};
use support::{
    authority::{Authority, Issued, Speaks},
    daemon::Daemon,
    http1::{Client, Request, Response, TIMEOUT},
    pki::PKI,
    provider::{Kind, Provider},
    report,
    settings::{Settings, route},
    tokens::{self, Algorithm, ISSUERS},
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World, bystander},
};

const PARTNERS: &str = "partners.example.com";

/// Hashes that other programs made: crypt_blowfish's and argon2's own test vectors, and bcrypt of 2^9 rounds of nobody.
const USERS: &str = "ada:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n\
    # the next one is argon2id\n\
    bob:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\n";

const BEARER: &str = "Bearer realm=\"gateway\"";
const BASIC: &str = "Basic realm=\"Staff only\", charset=\"UTF-8\"";

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{name}:{password}").as_bytes()))
}

/// Every challenge of an answer.
fn challenges(response: &Response) -> Vec<&str> {
    response.headers.iter().filter(|(name, _)| name == "www-authenticate").map(|(_, value)| value.as_str()).collect()
}

fn with_users(world: &World) -> Settings {
    fs::write(world.folder.join("users.htpasswd"), USERS).unwrap();
    let more = "[basic]\nusers = \"users.htpasswd\"\nrealm = \"Staff only\"\nroles = { ada = [\"reader\"] }\n";
    let routes = [
        route("/items/{id}", "[\"GET\"]", "[\"items:read\"]", ""),
        route("/me", "[\"GET\"]", "[\"authenticated\"]", "authenticate = [\"basic\"]"),
        route("/echo", "[\"GET\"]", "[\"authenticated\"]", "authenticate = [\"jwt\"]\nscopes = [\"a\", \"b\"]"),
        route("/health", "[\"GET\"]", "[\"public\"]", ""),
        route("/trial", "[\"GET\"]", "[\"authenticated\"]", "name = \"trial\"\nshadow = [\"require\"]"),
    ];
    Settings { rules: String::new(), more: more.to_owned(), routes: routes.concat(), ..Settings::default() }
}

#[test]
fn names_and_passwords() {
    if !report::may_run("methods: passwords") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &with_users(&world));
    let client = Client::new(&world, GOOD_V4);
    let ask = |path: &str, authorization: Option<&str>| {
        let request = Request::new("GET", path);
        client.send(&authorization.map_or(request.clone(), |value| request.header("Authorization", value))).unwrap()
    };
    let (ada, bob) = (basic("ada", "U*U"), basic("bob", "password"));
    for (path, authorization, status, principal) in
        [("/items/7", &ada, 200, "basic:ada"), ("/me", &ada, 200, "basic:ada"), ("/me", &bob, 200, "basic:bob")]
    {
        for round in ["new", "remembered"] {
            let response = ask(path, Some(authorization));
            assert_eq!(response.status, status, "{path}, {round}: {}", response.text());
            assert_eq!(daemon.logged(&response.id())["principal"], principal);
        }
    }
    for received in upstream.received() {
        assert_eq!(received.header("authorization"), Vec::<&str>::new(), "the upstream got a password");
    }
    assert_eq!(ask("/items/7", Some(&bob)).status, 403, "bob has no role");

    let token = tokens::good("ada", &["reader"]);
    let bearer = format!("Bearer {token}");
    let invalid = format!("{BEARER}, error=\"invalid_token\"");
    for (case, path, authorization, reject, signal, told) in [
        ("nothing", "/items/7", None, "missing_token", "missing_token", vec![BEARER, BASIC]),
        ("wrong", "/items/7", Some(basic("ada", "U*V")), "invalid_credentials", "wrong_password", vec![BEARER, BASIC]),
        ("longer", "/me", Some(basic("ada", "U*U*")), "invalid_credentials", "wrong_password", vec![BASIC]),
        ("unknown", "/me", Some(basic("trudy", "U*U")), "invalid_credentials", "wrong_password", vec![BASIC]),
        ("no colon", "/me", Some("Basic YWRh".to_owned()), "invalid_credentials", "wrong_password", vec![BASIC]),
        ("no base64", "/me", Some("Basic ada:U*U".to_owned()), "invalid_credentials", "wrong_password", vec![BASIC]),
        ("a token", "/me", Some(bearer.clone()), "invalid_token", "unfit_token", vec![BASIC]),
        (
            "a bad token",
            "/items/7",
            Some("Bearer x".to_owned()),
            "invalid_token",
            "malformed_token",
            vec![&invalid, BASIC],
        ),
    ] {
        let response = ask(path, authorization.as_deref());
        let line = daemon.logged(&response.id());
        assert_eq!(
            (response.status, &line["reject"], &line["signal"]),
            (401, &json!(reject), &json!(signal)),
            "{case}"
        );
        assert_eq!(challenges(&response), told, "{case}");
        assert_eq!(response.json()["type"], format!("urn:gateway:problem:{reject}"), "{case}");
    }
    let lacks = ask("/echo", Some(&bearer));
    let scope = format!("{BEARER}, error=\"insufficient_scope\", scope=\"a b\"");
    assert_eq!((lacks.status, challenges(&lacks)), (403, vec![scope.as_str()]));
    // J15: a request has one credential.
    let two = Request::new("GET", "/items/7").token(&token).header("Authorization", &ada);
    assert_eq!(client.send(&two).unwrap().status, 400);
    // Where nobody asks for it, it is the upstream's.
    upstream.forget();
    assert_eq!(ask("/health", Some(&ada)).status, 200);
    assert_eq!(upstream.received()[0].header("authorization"), [ada.as_str()]);
    // A wrong password that a requirement in shadow lets through is no upstream's either.
    upstream.forget();
    assert_eq!(ask("/trial", Some(&basic("ada", "U*V"))).status, 200);
    assert!(upstream.received()[0].header("authorization").is_empty());

    let log = fs::read_to_string(world.folder.join("access.log")).unwrap() + &daemon.standard_error();
    for secret in ["U*U", "U*V", "YWRhOl", "trudy", "CCCCCCCC"] {
        assert!(!log.contains(secret), "{secret} is in a log");
    }

    // Another file counts after a reload, at once.
    fs::write(world.folder.join("users.htpasswd"), USERS.replace("bob:", "carol:")).unwrap();
    daemon.done(&["reload"]);
    assert_eq!(ask("/me", Some(&bob)).status, 401);
    assert_eq!(ask("/me", Some(&basic("carol", "password"))).status, 200);
    assert_eq!(ask("/me", Some(&ada)).status, 200);
    // One that cannot be used changes nothing.
    fs::write(world.folder.join("users.htpasswd"), format!("{USERS}dan:secret\n")).unwrap();
    let told = daemon.cli(&["reload"]);
    let text = format!("{} {}", told.json, told.errors);
    assert!(told.code != 0 && text.contains("line 4: the hash is DES or a password in plain text"), "{text}");
    assert_eq!(ask("/me", Some(&basic("carol", "password"))).status, 200);
}

/// Whoever tries passwords waits for itself: the comparisons of one source are bounded, and others have their turn.
#[test]
fn a_spray_of_passwords_keeps_nobody_waiting() {
    if !report::may_run("methods: spray") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut settings = with_users(&world);
    let costly = USERS.replace("$2a$05$", "$2a$10$");
    fs::write(world.folder.join("users.htpasswd"), &costly).unwrap();
    settings.more = settings.more.replace("realm", "max_waiting_per_source = 2\nmax_waiting = 3\nrealm");
    let _daemon = Daemon::start(&world, &settings);
    let status = |number: u8, password: &str| {
        let request = Request::new("GET", "/me").header("Authorization", &basic("ada", password));
        Client::new(&world, bystander(number)).send(&request).unwrap().status
    };
    let sprayed: Vec<u16> = thread::scope(|scope| {
        let status = &status;
        let sprayers: Vec<_> = (0..8).map(|try_| scope.spawn(move || status(0, &format!("wrong {try_}")))).collect();
        // The same wrong password of many requests is compared once.
        let same: Vec<_> = (0..8).map(|_| scope.spawn(move || status(1, "the same"))).collect();
        assert!(same.into_iter().all(|one| one.join().unwrap() == 401), "one comparison is enough for all");
        sprayers.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(sprayed.contains(&429), "{sprayed:?}");
    assert!(sprayed.iter().all(|status| [401, 429].contains(status)), "{sprayed:?}");
    // Too many of all: whoever comes then is told to come later.
    let all: Vec<u16> = thread::scope(|scope| {
        let status = &status;
        let many: Vec<_> = (2..12).map(|number| scope.spawn(move || status(number, "another"))).collect();
        many.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(all.iter().all(|status| [401, 503].contains(status)), "{all:?}");
}

struct Stage {
    world: World,
    partners: Authority,
}

impl Stage {
    fn new() -> Self {
        let (world, partners) = (World::new(), Authority::new("partners"));
        partners.server(&[PARTNERS]).write(&world.folder, "more");
        fs::write(world.folder.join("partners.pem"), partners.pem()).unwrap();
        Self { world, partners }
    }

    fn settings() -> Settings {
        let more = format!(
            "[client_certificates.partners]\nca = \"partners.pem\"\nrequired = false\nhosts = [\"{PARTNERS}\"]\n\
             principal = [\"spiffe\", \"common_name\"]\ntrust_domain = \"example.org\"\n\
             [[client_certificates.partners.map]]\nspiffe = \"spiffe://example.org/ns/*/sa/billing\"\nname = \"bill\"\n\
             roles = [\"reader\"]\n\
             [[client_certificates.partners.map]]\nsubject = \"CN=*,O=Acme\"\nroles = [\"editor\"]\n\
             [[certificate]]\ncertificate = \"more.crt\"\nprivate_key = \"more.key\"\n"
        );
        let routes = [
            route("/items/{id}", "[\"GET\"]", "[\"items:read\"]", ""),
            route("/me", "[\"GET\"]", "[\"authenticated\"]", "authenticate = { all = [\"jwt\", \"certificate\"] }"),
            route("/echo", "[\"GET\"]", "[\"authenticated\"]", "certificate_bound = true\nauthenticate = [\"jwt\"]"),
        ];
        Settings { rules: String::new(), more, routes: routes.concat(), ..Settings::default() }
    }

    fn ask(&self, path: &str, shows: Option<&Issued>, token: &str) -> Response {
        let pem = self.partners.pem();
        let speaks = Speaks { trusts: &[&PKI.authority_pem, &pem], shows, ..Speaks::default() }.config();
        let mut connection =
            Client::new(&self.world, GOOD_V4).connect_to(PARTNERS, Arc::clone(&speaks), TIMEOUT).unwrap();
        let request = Request::new("GET", path).host(PARTNERS);
        connection.exchange(&if token.is_empty() { request } else { request.token(token) }).unwrap()
    }
}

/// A token that is bound to a certificate.
fn bound(to: &Issued) -> String {
    let der = CertificateDer::from_pem_slice(to.certificate.as_bytes()).unwrap();
    let mut claims = tokens::claims("ada", &["reader"]);
    claims["cnf"] = json!({"x5t#S256": BASE64URL_NOPAD.encode(digest(&SHA256, &der).as_ref())});
    ISSUERS.token(Algorithm::Es256, &claims)
}

#[test]
fn tokens_and_certificates_together() {
    if !report::may_run("methods: certificates") {
        return;
    }
    let stage = Stage::new();
    let _upstream = Upstream::start(&stage.world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&stage.world, &Stage::settings());
    let (own, other) = (stage.partners.client("billing", 7, 2040), stage.partners.client("billing", 8, 2040));
    let (bound, plain) = (bound(&own), tokens::good("ada", &["reader"]));
    for (path, shows, token, status, detail) in [
        ("/items/7", Some(&own), &bound, 200, ""),
        // It is remembered by now, and still nobody else's.
        ("/items/7", None, &bound, 401, "it is bound to a client certificate, and none was shown"),
        ("/items/7", Some(&other), &bound, 401, "it is bound to another client certificate"),
        ("/items/7", Some(&own), &bound, 200, ""),
        ("/items/7", Some(&other), &plain, 200, ""),
        ("/echo", Some(&own), &bound, 200, ""),
        ("/echo", Some(&own), &plain, 401, "it is bound to no certificate, and the route asks for that"),
        ("/me", Some(&other), &plain, 200, ""),
        ("/me", None, &plain, 401, "no client certificate"),
        ("/me", Some(&own), &String::new(), 401, "no Authorization"),
        ("/me", Some(&own), &"x".to_owned(), 401, "it is not three parts"),
    ] {
        let response = stage.ask(path, shows, token);
        let line = daemon.logged(&response.id());
        assert_eq!((response.status, line["detail"].as_str().unwrap_or_default()), (status, detail), "{path}: {line}");
        if status == 200 {
            assert_eq!(line["principal"], "ada", "the token says who it is");
        }
    }
    let both = stage.ask("/me", Some(&own), "");
    assert_eq!(challenges(&both), [BEARER, "Certificate realm=\"gateway\""]);
}

/// Whom certificates name, and what they may do by their names.
#[test]
fn certificates_that_are_mapped() {
    if !report::may_run("methods: mapped") {
        return;
    }
    let stage = Stage::new();
    let _upstream = Upstream::start(&stage.world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&stage.world, &Stage::settings());
    let certificate = |uris: &[&str], subject: &[(DnType, &str)]| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        subject.iter().for_each(|(kind, value)| params.distinguished_name.push(kind.clone(), *value));
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        stage.partners.issue(params)
    };
    let (cn, o) = (DnType::CommonName, DnType::OrganizationName);
    let spiffe = "spiffe://example.org/ns/prod/sa/billing";
    for (uris, subject, status, principal) in [
        (&[spiffe][..], &[][..], 200, "cert:partners:bill"),
        (&["spiffe://example.org/ns/prod/sa/other"], &[], 403, "cert:partners:spiffe://example.org/ns/prod/sa/other"),
        (&["spiffe://evil.org/ns/prod/sa/billing"], &[], 401, ""),
        (&[spiffe, "spiffe://example.org/b"], &[], 401, ""),
        (&[], &[(o.clone(), "Acme"), (cn.clone(), "app")], 200, "cert:partners:app"),
        (&[], &[(o.clone(), "Other"), (cn.clone(), "app")], 403, "cert:partners:app"),
        (&[], &[(cn.clone(), "app,O=Acme")], 403, "cert:partners:app,O=Acme"),
        // A common name that is written like a SPIFFE ID.
        (&[], &[(cn.clone(), "spiffe://example.org/ns/prod/sa/other")], 401, ""),
        // A name that others are mapped to.
        (&[], &[(cn, "bill")], 401, ""),
        (&[], &[(o, "Acme")], 401, ""),
    ] {
        let response = stage.ask("/items/7", Some(&certificate(uris, subject)), "");
        let line = daemon.logged(&response.id());
        let found = line["principal"].as_str().unwrap_or_default();
        assert_eq!((response.status, found), (status, principal), "{uris:?} {subject:?}: {line}");
    }
}

/// T01-T03: what upstreams are told comes from the gateway alone, on every route.
#[test]
fn t01_t02_t03_what_upstreams_are_told() {
    if !report::may_run("methods: told") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    fs::write(world.folder.join("internal.key"), &PKI.key_pem).unwrap();
    let more = "[identity_headers]\nx-user = \"{principal}\"\nx-roles = \"{roles}\"\nx-tenant = \"{claims.tenant}\"\n\
        x-how = \"by {method}\"\n\
        [internal_token]\nissuer = \"https://gateway.example\"\nprivate_key = \"internal.key\"\n\
        jwks_path = \"/.well-known/gateway.json\"\nclaims = [\"tenant\"]\n";
    let routes =
        [route("/items/{id}", "[\"GET\"]", "[\"items:read\"]", ""), route("/health", "[\"GET\"]", "[\"public\"]", "")];
    let (more, routes) = (more.to_owned(), routes.concat());
    let daemon = Daemon::start(&world, &Settings { rules: String::new(), more, routes, ..Settings::default() });
    let client = Client::new(&world, GOOD_V4);
    let token = |tenant: &Value| {
        let mut claims = tokens::claims("ada", &["reader", "a,b"]);
        claims["tenant"] = tenant.clone();
        ISSUERS.token(Algorithm::Es256, &claims)
    };
    let spoofed = |request: Request| {
        let names = ["X-User", "X-Roles", "x-tenant", "X_Tenant", "X.Tenant", "X-How", "X-Internal-Token"];
        let request = request.header("Connection", "close, x-user, x-internal-token");
        names.into_iter().fold(request, |request, name| request.header(name, "root"))
    };
    let told = |request: &Request, status: u16| {
        upstream.forget();
        let response = client.send(request).unwrap();
        assert_eq!(response.status, status, "{}", response.text());
        upstream.received().remove(0)
    };

    let received = told(&spoofed(Request::new("GET", "/health")), 200);
    for name in ["x-user", "x-roles", "x-tenant", "x_tenant", "x.tenant", "x-how", "x-internal-token"] {
        assert_eq!(received.header(name), Vec::<&str>::new(), "{name} reached an upstream");
    }
    let hostile = json!("j\u{fc}rgen\r\nX-User: root");
    let received = told(&spoofed(Request::new("GET", "/items/7")).token(&token(&hostile)), 200);
    for (name, value) in [
        ("x-user", "ada"),
        ("x-roles", "reader,a%2Cb"),
        ("x-tenant", "j%C3%BCrgen%0D%0AX-User: root"),
        ("x-how", "by jwt"),
        ("x-authenticated-principal", "ada"),
    ] {
        assert_eq!(received.header(name), [value], "{name}");
    }
    assert_eq!(received.header("x_tenant"), Vec::<&str>::new());

    let [internal] = received.header("x-internal-token")[..] else { panic!("{received:?}") };
    let keys = client.send(&Request::new("GET", "/.well-known/gateway.json")).unwrap();
    assert_eq!((keys.status, keys.header("content-type")), (200, Some("application/jwk-set+json")));
    let keys: JwkSet = serde_json::from_slice(&keys.body).unwrap();
    let mut validation = Validation::new(Jwa::ES256);
    validation.set_issuer(&["https://gateway.example"]);
    validation.set_audience(&["items"]);
    let read = |token: &str| {
        let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
        let key = DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
        jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap().claims
    };
    let claims = read(internal);
    assert_eq!((&claims["sub"], &claims["roles"]), (&json!("ada"), &json!(["reader", "a,b"])), "{claims}");
    assert_eq!((&claims["auth_method"], &claims["tenant"]), (&json!("jwt"), &hostile), "{claims}");
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
    // The same for the same client, and none without a value.
    let received = told(&Request::new("GET", "/items/8").token(&token(&hostile)), 200);
    assert_eq!(received.header("x-internal-token"), [internal]);
    let received = told(&Request::new("GET", "/items/8").token(&token(&json!({"a": 1}))), 200);
    assert_eq!(received.header("x-tenant"), Vec::<&str>::new());
    assert_ne!(received.header("x-internal-token"), [internal]);

    // In the place of the client's own token, after a reload.
    daemon.edit("private_key = \"internal.key\"", "private_key = \"internal.key\"\nheader = \"authorization\"");
    daemon.done(&["reload"]);
    let own = token(&json!("a"));
    let received = until("the gateway's own token", SOON, || {
        let received = told(&Request::new("GET", "/items/9").token(&own), 200);
        let [authorization] = received.header("authorization")[..] else { panic!("{received:?}") };
        authorization.strip_prefix("Bearer ").filter(|token| **token != *own).map(str::to_owned)
    });
    assert_eq!(read(&received)["sub"], "ada");
    let received = told(&Request::new("GET", "/health").header("Authorization", "Bearer x"), 200);
    assert_eq!(
        received.header("authorization"),
        Vec::<&str>::new(),
        "an upstream got a token that is not the gateway's"
    );
}

/// RFC 8705 for tokens that say nothing by themselves: a real provider says to which certificate one is bound.
#[test]
fn opaque_tokens_are_bound_to_certificates() {
    if !report::may_run("methods: bound opaque tokens") {
        return;
    }
    let stage = Stage::new();
    let _upstream = Upstream::start(&stage.world.gate, "127.0.0.1:9000");
    let issuer = "http://127.0.0.1:9200";
    let provider = Provider::start(&stage.world, Kind::OidcProvider, issuer, 9200, None);
    provider.add_client(&json!({"client_id": "gateway", "client_secret": "s3cr3t"}));
    fs::write(stage.world.folder.join("gateway.secret"), "s3cr3t").unwrap();
    let server = format!(
        "[introspection.corp]\nissuer = \"{issuer}\"\naudience = \"api\"\nsubject_claim = \"client_id\"\n\
         roles = [\"reader\"]\nclient_id = \"gateway\"\nclient_secret = \"gateway.secret\"\nfetch = {{ allow_http = true }}\n"
    );
    let settings = Stage::settings();
    let (more, jwt) = (settings.more.clone() + &server, "roles = [\"reader\"]".to_owned());
    let daemon = Daemon::start(&stage.world, &Settings { more, jwt, ..settings });
    let (own, other) = (stage.partners.client("billing", 7, 2040), stage.partners.client("billing", 8, 2040));
    let (bound, plain) = (provider.opaque_token(600, Some(&own.certificate)), provider.opaque_token(600, None));
    for (shows, token, status, detail) in [
        (Some(&own), &bound, 200, ""),
        (None, &bound, 401, "it is bound to a client certificate, and none was shown"),
        (Some(&other), &bound, 401, "it is bound to another client certificate"),
        (Some(&own), &bound, 200, ""),
        (Some(&other), &plain, 200, ""),
    ] {
        let response = stage.ask("/items/7", shows, token);
        let line = daemon.logged(&response.id());
        assert_eq!((response.status, line["detail"].as_str().unwrap_or_default()), (status, detail), "{line}");
    }
    assert_eq!(provider.questions(), 2, "who shows it is judged by what is remembered");
}
