//! Which tokens prove what: the rows J01 to J16 of the threats, each token made by hand so that nothing is tidied up.

use std::time::Duration;

use aws_lc_rs::{
    encoding::AsDer as _,
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    },
};
use data_encoding::BASE64URL_NOPAD;
use proptest::prelude::*;

use super::*;
use crate::{
    os::file::NamedFile,
    policy::auth::claims::tests::rules,
    refusal::Reject,
    settings::jwt::{Issuer as IssuerSettings, KeySource},
    signal::Signal,
};

mod algorithms;
mod fetched;
mod hostile;
mod independent;
mod issuers;

/// Now, in seconds since the Unix epoch.
const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example";

fn now() -> Now {
    at(NOW)
}

fn at(unix_seconds: u64) -> Now {
    Now { monotonic: 1_000_000_000_000, unix_millis: unix_seconds * 1_000 + 999 }
}

/// An issuer with a key of each kind.
struct Issuer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Issuer {
    fn new() -> Self {
        let ec = |algorithm| EcdsaKeyPair::generate(algorithm).unwrap();
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            p384: ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    /// The modulus and the exponent, taken out of the PKCS#1 form: SEQUENCE { INTEGER n, INTEGER e }.
    fn rsa_numbers(&self) -> (String, String) {
        let der = self.rsa.public_key().as_ref();
        // 30 82 .. .. 02 82 01 01 00 <256 bytes> 02 03 <3 bytes>
        (BASE64URL_NOPAD.encode(&der[9..265]), BASE64URL_NOPAD.encode(&der[267..270]))
    }

    /// Each key as a JWK without `kid`, `use` and `alg`: RSA, P-256, P-384, Ed25519.
    fn jwks(&self) -> [String; 4] {
        let (n, e) = self.rsa_numbers();
        let ec = |curve, point: &[u8]| {
            let (x, y) = point[1..].split_at((point.len() - 1) / 2);
            let (x, y) = (BASE64URL_NOPAD.encode(x), BASE64URL_NOPAD.encode(y));
            format!(r#""kty":"EC","crv":"{curve}","x":"{x}","y":"{y}""#)
        };
        let x = BASE64URL_NOPAD.encode(self.ed.public_key().as_ref());
        [
            format!(r#""kty":"RSA","n":"{n}","e":"{e}""#),
            ec("P-256", self.p256.public_key().as_ref()),
            ec("P-384", self.p384.public_key().as_ref()),
            format!(r#""kty":"OKP","crv":"Ed25519","x":"{x}""#),
        ]
    }

    /// The set that most tests use: `rs`, `es`, `es384`, `ed`, and a key for encryption, `enc`.
    fn set(&self) -> String {
        let [rsa, p256, p384, ed] = self.jwks();
        format!(
            r#"{{"keys":[{{{rsa},"kid":"rs","use":"sig","alg":"RS256"}},{{{p256},"kid":"es","key_ops":["verify"]}},
            {{{p384},"kid":"es384"}},{{{ed},"kid":"ed"}},{{{p256},"kid":"enc","use":"enc"}},
            {{{p256},"kid":"wrap","key_ops":["wrapKey"]}},{{"kty":"future","kid":"new"}}]}}"#
        )
    }

    fn settings(&self) -> jwt::Settings {
        settings(&self.set())
    }

    fn jwt(&self) -> Jwt {
        Jwt::new(&self.settings()).unwrap()
    }

    fn sign(&self, kid: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match kid {
            "rs" | "ps" => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding =
                    if kid == "rs" { &RSA_PKCS1_SHA256 } else { &RSA_PSS_SHA256 };
                self.rsa.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            "es" => self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            "es384" => self.p384.sign(&random, message).unwrap().as_ref().to_vec(),
            _ => self.ed.sign(message).as_ref().to_vec(),
        }
    }

    /// A token of exactly this header and these claims, signed by the key `kid`.
    fn token(&self, kid: &str, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = self.sign(kid, message.as_bytes());
        format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    /// A token that is good but for these claims.
    fn with_claims(&self, claims: &str) -> String {
        self.token("ed", &header("EdDSA", "ed"), claims)
    }

    /// A token that is good but for this header.
    fn with_header(&self, header: &str) -> String {
        self.token("ed", header, &good())
    }
}

fn settings(jwks: &str) -> jwt::Settings {
    let file = NamedFile { path: "jwks.json".into(), bytes: jwks.as_bytes().into() };
    of(IssuerSettings {
        key: "jwt".to_owned(),
        issuer: ISSUER.to_owned(),
        keys: KeySource::Jwks(file),
        typ: None,
        rules: rules(),
    })
}

/// The settings of one issuer.
fn of(issuer: IssuerSettings) -> jwt::Settings {
    jwt::Settings { issuers: vec![issuer], cache: 100, kept: Vec::new(), others: Vec::new() }
}

/// The same with another issuer.
fn changed(mut settings: jwt::Settings, change: impl Fn(&mut IssuerSettings)) -> jwt::Settings {
    settings.issuers.iter_mut().for_each(change);
    settings
}

fn encode(text: &str) -> String {
    BASE64URL_NOPAD.encode(text.as_bytes())
}

fn header(algorithm: &str, kid: &str) -> String {
    format!(r#"{{"alg":"{algorithm}","kid":"{kid}","typ":"JWT"}}"#)
}

fn claims(rest: &str) -> String {
    format!(r#"{{"iss":"{ISSUER}","aud":"api","sub":"ann"{rest}}}"#)
}

fn good() -> String {
    claims(&format!(r#","exp":{},"iat":{NOW},"roles":["reader","editor"]"#, NOW + 300))
}

fn judge(jwt: &Jwt, token: &str, now: Now) -> Result<Arc<Identity>, Refusal> {
    match jwt.authenticate(token.as_bytes(), &[], &Revocations::default(), now) {
        AuthOutcome::Decided(decided) => decided,
        AuthOutcome::Needs(lookup) => panic!("{lookup:?}"),
    }
}

#[track_caller]
fn check(jwt: &Jwt, token: &str, expect: &str) {
    let start = token.get(..80).unwrap_or(token);
    match judge(jwt, token, now()) {
        Ok(_) => assert_eq!(expect, "", "{start} was accepted"),
        Err(refusal) => {
            assert_eq!((refusal.reject, &*refusal.detail), (Reject::InvalidToken, expect), "{start}");
            assert_eq!(refusal.row().signal, Some(signal(expect)), "{start}: {expect}");
            // Refused once is refused twice: nothing of it was remembered.
            assert!(judge(jwt, token, now()).is_err());
        }
    }
}

/// What each reason says about who presented the token: forged is what no issuer makes, and nothing else.
fn signal(why: &str) -> Signal {
    match why {
        "it has expired" => Signal::ExpiredToken,
        "it is not valid yet" => Signal::NotYetValid,
        "no key has its kid" | "no key has its alg" | "it has no kid and several keys have its alg" => {
            Signal::UnknownKey
        }
        "its iss is no configured issuer" => Signal::WrongIssuer,
        "its aud holds no `audience` of its issuer" => Signal::WrongAudience,
        "it is over 8 KiB"
        | "its typ is not the issuer's `type`"
        | "its typ is that of tokens for something else"
        | "its key is for another alg"
        | "it has no exp"
        | "it has no iat, which `max_lifetime` needs"
        | "it expires before it was issued"
        | "it lives longer than `max_lifetime`"
        | "its exp, nbf or iat is no moment in seconds"
        | "its sub is no string of 1 to 255 bytes that names one principal"
        | "a claim is not what its issuer's `claims` ask for"
        | "its cnf is no x5t#S256 alone, and no other proof is known"
        | "it is bound to no certificate, and its issuer's tokens have to be"
        | "its scopes are neither strings nor one string"
        | "its roles are neither strings nor one string" => Signal::UnfitToken,
        "it is not three parts"
        | "a part is no base64url"
        | "a part is no JSON object"
        | "a part is no acceptable JSON"
        | "its signature is no base64url" => Signal::MalformedToken,
        "a part is empty"
        | "its signature is not its key's"
        | "its header has a member that is refused"
        | "its kid is no string, or too long"
        | "its alg is missing or no string"
        | "its alg is none"
        | "its alg is by a shared secret, and its issuer has public keys"
        | "its alg is not its key's" => Signal::ForgedToken,
        other => panic!("no signal is thought of for: {other}"),
    }
}

#[test]
fn every_kind_of_key_vouches_for_its_tokens() {
    let issuer = Issuer::new();
    let jwt = issuer.jwt();
    for (algorithm, kid) in [("RS256", "rs"), ("ES256", "es"), ("ES384", "es384"), ("EdDSA", "ed")] {
        let identity = judge(&jwt, &issuer.token(kid, &header(algorithm, kid), &good()), now()).unwrap();
        assert_eq!(identity.principal(), "ann");
        assert_eq!(identity.roles().collect::<Vec<_>>(), ["reader", "editor"]);
    }
    let [rsa, ..] = issuer.jwks();
    let pss = Jwt::new(&settings(&format!(r#"{{"keys":[{{{rsa},"kid":"ps","alg":"PS256"}}]}}"#))).unwrap();
    check(&pss, &issuer.token("ps", &header("PS256", "ps"), &good()), "");
    check(&pss, &issuer.token("rs", &header("RS256", "ps"), &good()), "its key is for another alg");
    check(&pss, &issuer.token("rs", &header("PS256", "ps"), &good()), "its signature is not its key's");
}

#[test]
fn a_token_without_a_key_id_means_the_only_key_that_fits() {
    let issuer = Issuer::new();
    let without = |kid, algorithm| issuer.token(kid, &format!(r#"{{"alg":"{algorithm}"}}"#), &good());
    check(&issuer.jwt(), &without("ed", "EdDSA"), "");
    check(&issuer.jwt(), &without("rs", "RS384"), "no key has its alg");
    let (other, [.., ed], [.., theirs]) = (Issuer::new(), issuer.jwks(), Issuer::new().jwks());
    let two = Jwt::new(&settings(&format!(r#"{{"keys":[{{{ed}}},{{{theirs}}}]}}"#))).unwrap();
    check(&two, &without("ed", "EdDSA"), "it has no kid and several keys have its alg");
    check(&two, &issuer.with_header(&header("EdDSA", "ed")), "no key has its kid");
    check(&issuer.jwt(), &other.with_claims(&good()), "its signature is not its key's");
}

#[test]
fn roles_are_an_array_or_words() {
    let issuer = Issuer::new();
    for (member, expect) in [
        ("", Ok(&[][..])),
        (r#","roles":[]"#, Ok(&[])),
        (r#","roles":"""#, Ok(&[])),
        (r#","roles":"reader  editor""#, Ok(&["reader", "editor"])),
        (r#","roles":["two words"]"#, Ok(&["two words"])),
        (r#","roles":["reader",1]"#, Err("its roles are neither strings nor one string")),
        (r#","roles":null"#, Ok(&[])),
        (r#","roles":["reader"],"scope":null"#, Ok(&["reader"])),
        (r#","roles":["reader",null]"#, Err("its roles are neither strings nor one string")),
        (r#","roles":{"reader":true}"#, Err("its roles are neither strings nor one string")),
    ] {
        let token = issuer.with_claims(&claims(&format!(r#","exp":{}{member}"#, NOW + 300)));
        let verdict = judge(&issuer.jwt(), &token, now());
        let roles = verdict.as_ref().map(|identity| identity.roles().collect::<Vec<_>>());
        assert_eq!(roles.map_err(|refusal| &*refusal.detail), expect.map(<[_]>::to_vec), "{member}");
    }
}

/// Names a token, and at which time it is presented with what outcome.
#[track_caller]
fn check_times(jwt: &Jwt, token: &str, moments: &[(u64, &str)]) {
    for (moment, expect) in moments {
        let verdict = judge(jwt, token, at(*moment)).map_err(|refusal| refusal.detail);
        assert_eq!(verdict.err().as_deref().unwrap_or(""), *expect, "at now {:+}", moment.wrapping_sub(NOW) as i64);
    }
}

#[test]
fn j16_time_is_checked_on_every_use_remembered_or_not() {
    let issuer = Issuer::new();
    let token = issuer.with_claims(&claims(&format!(r#","exp":{},"nbf":{}"#, NOW + 100, NOW - 100)));
    let (early, late) = ("it is not valid yet", "it has expired");
    let moments = [
        (NOW - 131, early),
        (NOW - 130, ""),
        (NOW, ""),
        (NOW + 129, ""),
        (NOW + 130, late),
        (NOW - 131, early),
        (NOW, ""),
    ];
    check_times(&issuer.jwt(), &token, &moments);
    let forgetful = Jwt::new(&jwt::Settings { cache: 0, ..issuer.settings() }).unwrap();
    check_times(&forgetful, &token, &moments);
    let issued_later = issuer.with_claims(&claims(&format!(r#","exp":{},"iat":{}"#, NOW + 100, NOW + 31)));
    check_times(&issuer.jwt(), &issued_later, &[(NOW, early), (NOW + 1, "")]);
}

#[test]
fn j16_a_new_configuration_remembers_nothing_of_the_old_keys() {
    let issuer = Issuer::new();
    let token = issuer.with_claims(&good());
    check(&issuer.jwt(), &token, "");
    let [rsa, ..] = issuer.jwks();
    let rotated = Jwt::new(&settings(&format!(r#"{{"keys":[{{{rsa},"kid":"ed"}}]}}"#))).unwrap();
    check(&rotated, &token, "its alg is not its key's");
}

#[test]
fn lifetime_and_type_where_they_are_set() {
    let issuer = Issuer::new();
    let day = Duration::from_secs(86_400);
    let jwt = Jwt::new(&changed(issuer.settings(), |issuer| issuer.rules.max_lifetime = Some(day))).unwrap();
    for (times, expect) in [
        (format!(r#","exp":{},"iat":{NOW}"#, NOW + 86_400), ""),
        (format!(r#","exp":{},"iat":{NOW}"#, NOW + 86_401), "it lives longer than `max_lifetime`"),
        (format!(r#","exp":{}"#, NOW + 1), "it has no iat, which `max_lifetime` needs"),
        (format!(r#","exp":{},"iat":{}"#, NOW + 1, NOW + 2), "it expires before it was issued"),
    ] {
        check(&jwt, &issuer.with_claims(&claims(&times)), expect);
    }
    let jwt = Jwt::new(&changed(issuer.settings(), |issuer| issuer.typ = Some("at+jwt".to_owned()))).unwrap();
    for (typ, expect) in [
        (r#","typ":"at+jwt""#, ""),
        (r#","typ":"AT+JWT""#, ""),
        (r#","typ":"application/at+jwt""#, ""),
        (r#","typ":"JWT""#, "its typ is not the issuer's `type`"),
        (r#","typ":["at+jwt"]"#, "its typ is not the issuer's `type`"),
        ("", "its typ is not the issuer's `type`"),
    ] {
        check(&jwt, &issuer.with_header(&format!(r#"{{"alg":"EdDSA","kid":"ed"{typ}}}"#)), expect);
    }
    let others = "its typ is that of tokens for something else";
    for (typ, expect) in [
        ("", ""),
        ("JWT", ""),
        ("at+jwt", ""),
        ("application/at+jwt", ""),
        ("acme.access+jwt", ""),
        ("+jwt", ""),
        ("\u{e4}+jwt", ""),
        ("logout+jwt", others),
        ("Logout+JWT", others),
        ("application/token-introspection+jwt", others),
        ("dpop+jwt", others),
        ("secevent+jwt", others),
    ] {
        let header = format!(r#"{{"alg":"EdDSA","kid":"ed","typ":"{typ}"}}"#);
        check(&issuer.jwt(), &issuer.with_header(&header), expect);
    }
    let logout = changed(issuer.settings(), |issuer| issuer.typ = Some("logout+jwt".to_owned()));
    check(&Jwt::new(&logout).unwrap(), &issuer.with_header(r#"{"alg":"EdDSA","kid":"ed","typ":"logout+jwt"}"#), "");
}

#[test]
fn the_cache_is_bounded_and_shared() {
    let issuer = Issuer::new();
    let jwt = Jwt::new(&jwt::Settings { cache: 10, ..issuer.settings() }).unwrap();
    let tokens: Vec<_> =
        (0..40).map(|at| issuer.with_claims(&claims(&format!(r#","exp":{}"#, NOW + at + 1)))).collect();
    for token in &tokens {
        check(&jwt, token, "");
        let (first, second) = (judge(&jwt, token, now()).unwrap(), judge(&jwt, token, now()).unwrap());
        assert!(Arc::ptr_eq(&first, &second), "remembered");
        assert!(jwt.verified.as_ref().unwrap().len() <= 10);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(token::read(&bytes, &settings(""), NOW).is_err());
    }

    #[test]
    fn no_json_makes_it_panic(header in r#"\{("alg":"[a-z]{0,3}",?)?("kid":[0-9n"]{0,3})?\}"#, claims in r#"\{.{0,40}\}"#) {
        let token = format!("{}.{}.AA", encode(&header), encode(&claims));
        prop_assert!(token::read(token.as_bytes(), &settings(""), NOW).is_err());
    }
}

#[test]
fn j16_a_revoked_token_is_refused_remembered_or_not() {
    use crate::policy::auth::revocation::{RevocationChange, Revoked};
    let issuer = Issuer::new();
    let jwt = issuer.jwt();
    let revocations = Revocations::default();
    let issued = claims(&format!(r#","jti":"a","exp":{},"iat":{NOW}"#, NOW + 300));
    let token = issuer.with_claims(&issued);
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    let judge = |token: &str| match jwt.authenticate(token.as_bytes(), &[], &revocations, now()) {
        AuthOutcome::Decided(decided) => decided,
        AuthOutcome::Needs(lookup) => panic!("{lookup:?}"),
    };
    let signal = |token: &str| judge(token).unwrap_err().signal;
    let of_token = || Revoked::Token { issuer: ISSUER.to_owned(), id: "a".to_owned() };
    let of_subject = |before| Revoked::Subject { issuer: ISSUER.to_owned(), subject: "ann".to_owned(), before };
    assert!(judge(&token).is_ok() && judge(&token).is_ok());
    for revoked in [of_token(), of_subject(None), of_subject(Some(NOW + 1))] {
        revocations.change([RevocationChange::Revoked(revoked.clone())]);
        assert_eq!((signal(&token), signal(&token)), (Some(Signal::RevokedToken), Some(Signal::RevokedToken)));
        assert_eq!(signal(&forged), Some(Signal::ForgedToken), "nothing is told about tokens to whoever forges one");
        revocations.change([RevocationChange::Lifted(revoked)]);
        assert!(judge(&token).is_ok() && judge(&token).is_ok());
    }
    revocations.change([RevocationChange::Revoked(of_subject(Some(NOW)))]);
    assert!(judge(&token).is_ok(), "issued at that moment");
}
