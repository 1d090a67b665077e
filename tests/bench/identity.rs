//! Times what a request costs by each method of authentication, remembered and not, and weighs what is remembered: tokens and
//! API keys.
//!
//! What a shared machine gives away for a moment is lost; the least of many short measurements is what a request costs.
//! `cargo xtask bench identity` runs this.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a tool of the tests: whatever fails names its line"
)]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::{
    env, fs,
    hint::black_box,
    io,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use gateway::{
    config::{Config, Files},
    os::clock::Now,
    policy::auth::{
        AuthOutcome, Authenticators, Lookup, LookupAnswer, Presented,
        api_key::{
            Pepper,
            record::{KeyRecord, Profile},
            sha256,
            table::{LoadedKeys, TableState},
            text,
        },
        certificate::{CertificateNames, ClientCertificate},
        install_crypto,
        introspection::ServerResponse,
    },
    settings::auth::{Accepted, Method, Methods, Settings},
};
use gateway_common::source::Source;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// Within the times of the tokens of other libraries.
const NOW: u64 = 1_800_000_000;

/// A table of API keys that fits a cache, beside the large one.
const FEW_KEYS: u32 = 1_000;

const PEPPER: &[u8] = b"0123456789abcdef0123456789abcdef";

/// What it is told.
struct Arguments {
    json: bool,
    /// How often each case is measured.
    rounds: u32,
    /// How many tokens are remembered, and how many API keys there are, where memory is weighed.
    tokens: u32,
    keys: u32,
    /// `tokens` or `keys`: only these are weighed.
    weigh: Option<String>,
}

/// One line of the table.
struct Row {
    what: String,
    nanoseconds: Duration,
    remembered: Option<Duration>,
}

fn main() {
    let arguments = arguments();
    install_crypto().unwrap();
    match arguments.weigh.as_deref() {
        Some("tokens") => return println!("{}", weigh_tokens(arguments.tokens)),
        Some(_) => return println!("{}", weigh_keys(arguments.keys)),
        None => {}
    }
    let rows = [
        jwt(&arguments),
        vec![introspection(&arguments)],
        basic(&arguments),
        vec![api_key(&arguments, FEW_KEYS), api_key(&arguments, arguments.keys), certificate(&arguments)],
    ];
    let rows: Vec<Row> = rows.into_iter().flatten().collect();
    let (tokens, keys) = (weighed("tokens", arguments.tokens), weighed("keys", arguments.keys));
    if arguments.json {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap();
        let row = |row: &Row| json!({ "method": row.what, "ns": nanoseconds(row.nanoseconds), "ns_remembered": row.remembered.map(nanoseconds) });
        let memory =
            json!({ "tokens": arguments.tokens, "tokens_bytes": tokens, "keys": arguments.keys, "keys_bytes": keys });
        println!("{}", json!({ "requests": rows.iter().map(row).collect::<Vec<_>>(), "memory": memory }));
        return;
    }
    println!("{:<28} {:>16} {:>16}", "a request by", "us at first", "us remembered");
    for Row { what, nanoseconds, remembered } in rows {
        let micros = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1e6);
        println!("{what:<28} {:>16} {:>16}", micros(nanoseconds), remembered.map_or_else(|| "-".to_owned(), micros));
    }
    let each = |bytes: u64, count: u32| bytes / u64::from(count.max(1));
    println!();
    println!("{:<28} {:>16} {:>16}", "memory of", "MiB", "bytes each");
    for (what, count, bytes) in [("remembered tokens", arguments.tokens, tokens), ("API keys", arguments.keys, keys)] {
        println!("{:<28} {:>16} {:>16}", format!("{count} {what}"), bytes >> 20, each(bytes, count));
    }
}

fn at() -> Now {
    Now { monotonic: 3_600_000_000_000, unix_millis: NOW * 1_000 }
}

/// A configuration and its files, which are not on disk.
struct Texts<'a>(&'a [(&'a str, &'a [u8])]);

impl Files for Texts<'_> {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        let found = self.0.iter().find(|(name, _)| path.ends_with(name));
        // What is not of the configuration is the machine's: the authorities that it trusts.
        found.map_or_else(|| fs::read(path).map(Arc::from), |(_, content)| Ok(Arc::from(*content)))
    }

    fn mode(&self, _path: &Path) -> Option<u32> {
        None
    }
}

/// The settings of these tables.
fn settings(tables: &str, files: &[(&str, &[u8])]) -> Settings {
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:8080\"\n[upstream.items]\nservers = [\"127.0.0.1:9000\"]\n\
         [roles]\nreader = [\"items:read\"]\n[[route]]\npath = \"/\"\nrequire = [\"authenticated\"]\nupstream = \"items\"\n{tables}"
    );
    let all: Vec<_> = files.iter().copied().chain([("gateway.toml", text.as_bytes())]).collect();
    Config::load(Path::new("/bench/gateway.toml"), &Texts(&all)).unwrap_or_else(|faults| panic!("{faults}")).proxy.auth
}

/// A request by one method.
struct Ask<'a> {
    authenticators: &'a Authenticators,
    headers: HeaderMap,
    certificate: Option<&'a ClientCertificate>,
    accepted: Accepted,
}

impl<'a> Ask<'a> {
    fn new(authenticators: &'a Authenticators, method: Method, name: HeaderName, value: &str) -> Self {
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())]);
        let accepted = Accepted { methods: Methods::Any(vec![method]), bound_tokens: false };
        Self { authenticators, headers, certificate: None, accepted }
    }

    fn judge(&self, answers: &[LookupAnswer]) -> AuthOutcome {
        let address = [192, 0, 2, 1].into();
        let presented = Presented {
            headers: &self.headers,
            carried: None,
            certificate: self.certificate,
            source: Source::of(address, 64),
            client: Some(address),
            host: "api.example",
            answers,
        };
        black_box(self.authenticators).identify(black_box(&presented), &self.accepted, at())
    }

    /// It is let in.
    fn pass(&self, answers: &[LookupAnswer]) {
        match self.judge(answers) {
            AuthOutcome::Decided(Ok(identity)) => drop(black_box(identity)),
            other => panic!("{other:?}"),
        }
    }

    /// What has to be known first.
    fn needs(&self) -> Lookup {
        match self.judge(&[]) {
            AuthOutcome::Needs(lookup) => lookup,
            other => panic!("{other:?}"),
        }
    }
}

/// The least time of one of `count` runs.
fn least(rounds: u32, count: u32, mut what: impl FnMut()) -> Duration {
    let mut round = || {
        let began = Instant::now();
        (0..count).for_each(|_| what());
        began.elapsed()
    };
    round();
    (0..rounds).map(|_| round()).min().unwrap_or_default() / count
}

/// Every algorithm, by tokens that another library made.
fn jwt(arguments: &Arguments) -> Vec<Row> {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/tokens/tokens.json")).unwrap();
    let (set, secret) = (json!({"keys": fixture["keys"]}).to_string(), fixture["secret"].as_str().unwrap().to_owned());
    let tables = |keys: &str| format!("[jwt]\nissuer = \"https://issuer.example\"\naudience = \"api\"\n{keys}\n");
    let public = settings(&tables("jwks = \"jwks.json\""), &[("jwks.json", set.as_bytes())]);
    let shared = settings(&tables("secret = \"secret\""), &[("secret", secret.as_bytes())]);
    let made =
        fixture["tokens"].as_array().unwrap().iter().filter(|row| row["by"].as_str().unwrap().starts_with("jose"));
    made.map(|row| {
        let (algorithm, token) = (row["alg"].as_str().unwrap(), row["token"].as_str().unwrap());
        let settings = if algorithm.starts_with("HS") { &shared } else { &public };
        let with = |cache: usize| {
            let mut settings = settings.clone();
            settings.jwt.iter_mut().for_each(|jwt| jwt.cache = cache);
            Authenticators::new(&settings).unwrap()
        };
        let (fresh, remembers) = (with(0), with(1_000));
        let bearer = format!("Bearer {token}");
        let time = |authenticators, count| {
            let ask = Ask::new(authenticators, Method::Jwt, header::AUTHORIZATION, &bearer);
            least(arguments.rounds, count, || ask.pass(&[]))
        };
        Row {
            what: format!("JWT {algorithm}"),
            nanoseconds: time(&fresh, 100),
            remembered: Some(time(&remembers, 10_000)),
        }
    })
    .collect()
}

/// An opaque token: what the gateway itself does about an answer, without the way to the server and back.
fn introspection(arguments: &Arguments) -> Row {
    let tables = "[introspection.corp]\nendpoint = \"https://id.example.com/introspect\"\nclient_id = \"gateway\"\n\
                  client_secret = \"secret\"\naudience = \"api\"\ncache = 100000\n";
    let authenticators = Authenticators::new(&settings(tables, &[("secret", b"s3cr3t")])).unwrap();
    let body =
        json!({"active": true, "sub": "ada", "aud": "api", "exp": NOW + 3_600, "scope": "items", "roles": ["reader"]});
    let (body, json) = (body.to_string(), HeaderValue::from_static("application/json"));
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, json)]);
    let ask = |number: u32| {
        Ask::new(&authenticators, Method::Introspection, header::AUTHORIZATION, &format!("Bearer opaque-{number}"))
    };
    let learn = |number: u32| {
        let ask = ask(number);
        let Lookup::Introspection(question) = ask.needs() else { panic!("another lookup") };
        let _place = question.begin().unwrap();
        black_box(question.request(u128::from(number), at()));
        let received = ServerResponse { status: StatusCode::OK, headers: &headers, body: body.as_bytes() };
        let answer = LookupAnswer::Introspection(question.received(Ok(received), at()).0);
        ask.pass(&[answer]);
    };
    let mut number = 0;
    let nanoseconds = least(arguments.rounds, 100, || {
        number += 1;
        learn(number);
    });
    let known = ask(number);
    let remembered = Some(least(arguments.rounds, 10_000, || known.pass(&[])));
    Row { what: "opaque token".to_owned(), nanoseconds, remembered }
}

/// A name and a password, by each kind of hash.
fn basic(arguments: &Arguments) -> Vec<Row> {
    let hashes = [
        ("bcrypt, cost 12", "$2y$12$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u"),
        (
            "argon2id, 19 MiB",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g",
        ),
    ];
    let row = |(name, hash): &(&str, &str)| {
        let users = format!("ada:{hash}\n");
        let authenticators =
            Authenticators::new(&settings("[basic]\nusers = \"users\"\n", &[("users", users.as_bytes())])).unwrap();
        let value = format!("Basic {}", BASE64.encode(b"ada:correct horse"));
        let ask = Ask::new(&authenticators, Method::Basic, header::AUTHORIZATION, &value);
        let Lookup::Password(check) = ask.needs() else { panic!("another lookup") };
        // It takes as long, whether the password is right or not.
        let nanoseconds = least(arguments.rounds.min(3), 1, || {
            black_box(check.compare());
        });
        ask.pass(&[LookupAnswer::Password(true)]);
        let remembered = Some(least(arguments.rounds, 10_000, || ask.pass(&[])));
        Row { what: (*name).to_owned(), nanoseconds, remembered }
    };
    hashes.iter().map(row).collect()
}

/// Many keys, and whether they can be used.
fn keys(count: u32) -> (Authenticators, Vec<String>) {
    let authenticators = Authenticators::new(&settings("[api_keys]\n", &[])).unwrap();
    let (pepper, mut loaded, mut texts) = (Pepper::new(PEPPER), LoadedKeys::default(), Vec::new());
    let roles = vec!["reader".to_owned()];
    for number in 0..count {
        let (id, text) = text::generate("gwk").unwrap();
        loaded.add(KeyRecord {
            id: id.0,
            tag: pepper.tag(&sha256(text.as_bytes())),
            name: format!("customer-{number}"),
            profile: Profile { roles: roles.clone(), ..Profile::default() },
            expires: None,
            is_revoked: false,
            is_replaced: false,
            is_foreign: false,
        });
        // Steps that no cache foresees; all texts would be weighed, too.
        if texts.len() < 1_000 && (count <= FEW_KEYS || number % 97 == 0) {
            texts.push(text);
        }
    }
    authenticators.tables().replace(loaded, Vec::new());
    authenticators.tables().set_state(TableState::Ready(pepper.into()));
    (authenticators, texts)
}

fn api_key(arguments: &Arguments, count: u32) -> Row {
    let (authenticators, texts) = keys(count);
    let name = || HeaderName::from_static("x-api-key");
    let asks: Vec<_> = texts.iter().map(|text| Ask::new(&authenticators, Method::ApiKey, name(), text)).collect();
    let mut next = asks.iter().cycle();
    // Nothing is remembered: the table is in memory.
    let nanoseconds = least(arguments.rounds, 10_000, || next.next().unwrap().pass(&[]));
    Row { what: format!("API key, one of {count}"), nanoseconds, remembered: None }
}

/// At first: what a handshake costs besides. Later: what each request of the connection does.
fn certificate(arguments: &Arguments) -> Row {
    let authenticators = Authenticators::new(&Settings::default()).unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "billing");
    parameters.subject_alt_names = vec![rcgen::SanType::URI("spiffe://example/billing".try_into().unwrap())];
    let der = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let names = CertificateNames::new(&gateway::settings::tls::ClientCertificates {
        name: "partners".to_owned(),
        ca: gateway::os::file::NamedFile { path: "ca.pem".into(), bytes: Arc::from([]) },
        crl: None,
        required: false,
        hosts: Vec::new(),
        roles: vec!["reader".to_owned()],
        principal: Vec::new(),
        trust_domain: None,
        map: Vec::new(),
        only_mapped: false,
    })
    .unwrap();
    let nanoseconds =
        least(arguments.rounds, 1_000, || drop(black_box(ClientCertificate::read(black_box(der.der()), &names))));
    let shown = ClientCertificate::read(der.der(), &names).unwrap();
    let mut ask = Ask::new(&authenticators, Method::Certificate, HeaderName::from_static("x-any"), "a");
    ask.certificate = Some(&shown);
    let remembered = Some(least(arguments.rounds, 10_000, || ask.pass(&[])));
    Row { what: "client certificate".to_owned(), nanoseconds, remembered }
}

/// What a process of its own weighs: what was freed in this one would be used again.
fn weighed(what: &str, count: u32) -> u64 {
    let mut command = Command::new(env::current_exe().unwrap());
    let output = command.args(["--weigh", what, &format!("--{what}"), &count.to_string()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// How many bytes so many remembered tokens of different clients take.
fn weigh_tokens(count: u32) -> u64 {
    let secret = HEXLOWER.encode(&[7; 32]);
    let tables = format!(
        "[jwt]\nissuer = \"https://issuer.example\"\naudience = \"api\"\nsecret = \"secret\"\ncache = {}\n",
        count.max(1)
    );
    let authenticators = Authenticators::new(&settings(&tables, &[("secret", secret.as_bytes())])).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let header = BASE64URL_NOPAD.encode(br#"{"alg":"HS256","typ":"at+jwt"}"#);
    let before = resident();
    for number in 0..count {
        let claims = json!({
            "iss": "https://issuer.example", "aud": "api", "sub": format!("customer-{number:08}"), "iat": NOW,
            "exp": NOW + 3_600, "jti": format!("{number:032x}"), "roles": ["reader", "editor"], "scope": "items orders:read",
        });
        let signed = format!("{header}.{}", BASE64URL_NOPAD.encode(claims.to_string().as_bytes()));
        let tag = BASE64URL_NOPAD.encode(hmac::sign(&key, signed.as_bytes()).as_ref());
        Ask::new(&authenticators, Method::Jwt, header::AUTHORIZATION, &format!("Bearer {signed}.{tag}")).pass(&[]);
    }
    let after = resident();
    drop(black_box(authenticators));
    after.saturating_sub(before)
}

/// How many bytes so many API keys take.
fn weigh_keys(count: u32) -> u64 {
    let before = resident();
    let (authenticators, _texts) = keys(count);
    let after = resident();
    drop(black_box(authenticators));
    after.saturating_sub(before)
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// `cargo xtask bench identity` says what they mean.
fn arguments() -> Arguments {
    let mut read = Arguments { json: false, rounds: 30, tokens: 100_000, keys: 1_000_000, weigh: None };
    let mut given = env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().unwrap_or_else(|| panic!("{name} needs a value"));
        match name.as_str() {
            "--json" => read.json = true,
            "--rounds" => read.rounds = value().parse().unwrap(),
            "--tokens" => read.tokens = value().parse().unwrap(),
            "--keys" => read.keys = value().parse().unwrap(),
            "--weigh" => read.weigh = Some(value()),
            other => panic!("{other} is unknown"),
        }
    }
    read
}
