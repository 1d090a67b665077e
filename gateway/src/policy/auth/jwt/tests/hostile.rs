//! Tokens made to be believed.

use super::*;

#[test]
fn j01_no_signature() {
    let (issuer, jwt) = (Issuer::new(), Issuer::new().jwt());
    drop(issuer);
    for algorithm in ["none", "None", "nOnE", "NONE", ""] {
        for kid in [r#","kid":"ed""#, ""] {
            let message = format!("{}.{}", encode(&format!(r#"{{"alg":"{algorithm}"{kid}}}"#)), encode(&good()));
            check(&jwt, &format!("{message}."), "a part is empty");
            check(&jwt, &message, "it is not three parts");
            check(&jwt, &format!("{message}.AA"), "its alg is none");
        }
    }
}

#[test]
fn j02_the_public_key_as_a_shared_secret() {
    let issuer = Issuer::new();
    let [rsa, ..] = issuer.jwks();
    let der = issuer.rsa.public_key().as_der().unwrap();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        data_encoding::BASE64.encode(der.as_ref())
    );
    for secret in [der.as_ref(), issuer.rsa.public_key().as_ref(), pem.as_bytes(), format!("{{{rsa}}}").as_bytes(), b""]
    {
        let message = format!("{}.{}", encode(&header("HS256", "rs")), encode(&good()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        check(
            &issuer.jwt(),
            &format!("{message}.{}", BASE64URL_NOPAD.encode(tag.as_ref())),
            "its alg is by a shared secret, and its issuer has public keys",
        );
    }
}

#[test]
fn j03_keys_for_something_else() {
    let issuer = Issuer::new();
    for kid in ["enc", "wrap", "new"] {
        check(&issuer.jwt(), &issuer.token("es", &header("ES256", kid), &good()), "no key has its kid");
    }
    for (algorithm, kid) in
        [("EdDSA", "rs"), ("Ed25519", "rs"), ("ES256", "rs"), ("ES384", "es"), ("RS256", "es"), ("ES256", "ed")]
    {
        check(&issuer.jwt(), &issuer.token(kid, &header(algorithm, kid), &good()), "its alg is not its key's");
    }
}

#[test]
fn j04_j12_j13_header_members_that_change_the_meaning() {
    let issuer = Issuer::new();
    let other = Issuer::new();
    let [.., theirs] = other.jwks();
    let as_forger_wrote = format!(r#""jwk":{{{theirs}}}"#);
    for member in [
        r#""jku":"https://attacker.example/jwks""#,
        r#""jku":7"#,
        r#""x5u":"http://169.254.169.254/""#,
        r#""x5c":["MIIB"]"#,
        r#""x5c":"no array""#,
        r#""x5t":"2jmj7l5rSw0yVb_vlWAYkK_YBwk""#,
        r#""x5t#S256":null"#,
        r#""jwk":{"kty":"unknown"}"#,
        &as_forger_wrote,
    ] {
        let header = format!(r#"{{"alg":"EdDSA","kid":"ed",{member}}}"#);
        check(&issuer.jwt(), &issuer.with_header(&header), "");
        // Signed by the key that the header brings.
        check(&issuer.jwt(), &other.token("ed", &header, &good()), "its signature is not its key's");
    }
    for member in [
        r#""crit":["exp"]"#,
        r#""crit":["jku"],"jku":"https://attacker.example/jwks""#,
        r#""crit":[]"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""zip":"DEF""#,
        r#""enc":"A256GCM""#,
        r#""p2c":2147483648"#,
    ] {
        let token = issuer.with_header(&format!(r#"{{"alg":"EdDSA","kid":"ed",{member}}}"#));
        check(&issuer.jwt(), &token, "its header has a member that is refused");
    }
    check(&issuer.jwt(), &issuer.with_header(r#"{"alg":"EdDSA","kid":"ed","x-unknown":{"a":[1]}}"#), "");
    check(&issuer.jwt(), "e30.e30.e30.e30.e30", "it is not three parts");
    check(&issuer.jwt(), &issuer.with_claims(&encode("a.b.c")), "a part is no JSON object");
}

#[test]
fn j05_key_ids() {
    let issuer = Issuer::new();
    for kid in ["../../../etc/passwd", "ed' OR '1'='1", r"\u0000", r"ed\u0000", "", "ED", "ed ", &"k".repeat(256)] {
        check(&issuer.jwt(), &issuer.with_header(&header("EdDSA", kid)), "no key has its kid");
    }
    check(&issuer.jwt(), &issuer.with_header(&header("EdDSA", &"k".repeat(257))), "its kid is no string, or too long");
    check(&issuer.jwt(), &issuer.with_header(&header("EdDSA", &"k".repeat(100_000))), "it is over 8 KiB");
    for kid in ["1", "null", r#"["ed"]"#] {
        let token = issuer.with_header(&format!(r#"{{"alg":"EdDSA","kid":{kid}}}"#));
        check(&issuer.jwt(), &token, "its kid is no string, or too long");
    }
    for algorithm in ["1", "null", r#"["EdDSA"]"#] {
        let token = issuer.with_header(&format!(r#"{{"alg":{algorithm},"kid":"ed"}}"#));
        check(&issuer.jwt(), &token, "its alg is missing or no string");
    }
}

#[test]
fn j08_times_are_numbers_in_range() {
    let issuer = Issuer::new();
    let bad = "its exp, nbf or iat is no moment in seconds";
    for value in
        [&format!(r#""{}""#, NOW + 300), "-1", "-0.5", "[1800000300]", "null", "true", "9007199254740992", "1e18", "{}"]
    {
        check(&issuer.jwt(), &issuer.with_claims(&claims(&format!(r#","exp":{value}"#))), bad);
        for claim in ["nbf", "iat"] {
            let token = issuer.with_claims(&claims(&format!(r#","exp":{},"{claim}":{value}"#, NOW + 300)));
            check(&issuer.jwt(), &token, bad);
        }
    }
    check(&issuer.jwt(), &issuer.with_claims(&claims(r#","exp":1e400"#)), "a part is no acceptable JSON");
    check(&issuer.jwt(), &issuer.with_claims(&claims(r#","exp":0"#)), "it has expired");
    check(&issuer.jwt(), &issuer.with_claims(&claims(r#","exp":9007199254740991"#)), "");
}

#[test]
fn j09_issuer_audience_and_subject() {
    let issuer = Issuer::new();
    let (iss, aud, sub) = (r#""iss":"https://issuer.example""#, r#""aud":"api""#, r#""sub":"ann""#);
    let (bad_iss, bad_aud) = ("its iss is no configured issuer", "its aud holds no `audience` of its issuer");
    let bad_sub = "its sub is no string of 1 to 255 bytes that names one principal";
    let long = format!(r#""sub":"{}""#, "s".repeat(256));
    for (members, expect) in [
        (&[iss, aud, sub][..], ""),
        (&[iss, r#""aud":["other","api"]"#, sub], ""),
        (&[aud, sub], bad_iss),
        (&[r#""iss":"https://issuer.example/""#, aud, sub], bad_iss),
        (&[r#""iss":"https://issuer.example.attacker.example""#, aud, sub], bad_iss),
        (&[r#""iss":"HTTPS://issuer.example""#, aud, sub], bad_iss),
        (&[r#""iss":["https://issuer.example"]"#, aud, sub], bad_iss),
        (&[r#""iss":null"#, aud, sub], bad_iss),
        (&[iss, sub], bad_aud),
        (&[iss, r#""aud":[]"#, sub], bad_aud),
        (&[iss, r#""aud":["other"]"#, sub], bad_aud),
        (&[iss, r#""aud":["api",1]"#, sub], bad_aud),
        (&[iss, r#""aud":[["api"]]"#, sub], bad_aud),
        (&[iss, r#""aud":"api other""#, sub], bad_aud),
        (&[iss, r#""aud":null"#, sub], bad_aud),
        (&[iss, aud], bad_sub),
        (&[iss, aud, r#""sub":"""#], bad_sub),
        (&[iss, aud, r#""sub":7"#], bad_sub),
        (&[iss, aud, r#""sub":"ann\r\nX-Role: admin""#], bad_sub),
        (&[iss, aud, &long], bad_sub),
        (&[iss, aud, r#""sub":" ann""#], bad_sub),
        (&[iss, aud, r#""sub":"ann\u00a0""#], bad_sub),
        (&[iss, aud, r#""sub":"cert:partners:ann""#], bad_sub),
    ] {
        let token = issuer.with_claims(&format!(r#"{{{},"exp":{}}}"#, members.join(","), NOW + 300));
        check(&issuer.jwt(), &token, expect);
    }
    check(&issuer.jwt(), &issuer.with_claims(&claims("")), "it has no exp");
}

#[test]
fn j10_signatures_that_are_none() {
    let issuer = Issuer::new();
    let message = format!("{}.{}", encode(&header("ES256", "es")), encode(&good()));
    let good = issuer.sign("es", message.as_bytes());
    let pkcs8 = issuer.p256.to_pkcs8v1().unwrap();
    let der = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref()).unwrap();
    let der = der.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    let (mut flipped, mut order) = (good.clone(), vec![0xff; 64]);
    flipped[40] ^= 1;
    order[63] = 1;
    let with_r_zero = [&[0; 32][..], &good[32..]].concat();
    for signature in [
        &[0; 64][..],
        &[0],
        &good[..63],
        &[&good[..], &[0]].concat(),
        &[&[0], &good[..]].concat(),
        der.as_ref(),
        &flipped,
        &order,
        &with_r_zero,
        &issuer.sign("es384", message.as_bytes()),
        &issuer.sign("ed", message.as_bytes()),
    ] {
        let token = format!("{message}.{}", BASE64URL_NOPAD.encode(signature));
        check(&issuer.jwt(), &token, "its signature is not its key's");
    }
    check(&issuer.jwt(), &format!("{message}.{}", BASE64URL_NOPAD.encode(&good)), "");
}

#[test]
fn j11_one_spelling() {
    let issuer = Issuer::new();
    let token = issuer.with_claims(&good());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let bad = "its signature is no base64url";
    // 64 bytes leave four bits unused in the last character.
    let (rest, last) = signature.split_at(signature.len() - 1);
    let stray = char::from(last.as_bytes()[0] + 1);
    check(&issuer.jwt(), &token, "");
    for signature in [
        format!("{signature}=="),
        format!("{signature}="),
        format!("{rest}{stray}"),
        format!("{rest}+"),
        format!("{signature} "),
        format!("{signature}\t"),
        format!("{rest} {last}"),
        format!("{signature}%"),
    ] {
        check(&issuer.jwt(), &format!("{message}.{signature}"), bad);
    }
    let (first, claims) = message.split_once('.').unwrap();
    for (token, why) in [
        (format!("{first}=.{claims}.{signature}"), "a part is no base64url"),
        (format!("{first}.{claims}==.{signature}"), "a part is no base64url"),
        (format!(" {token}"), "a part is no base64url"),
        (format!("{token}.{signature}"), "it is not three parts"),
        (format!("{token}A"), "its signature is not its key's"),
        (format!(".{token}"), "it is not three parts"),
        (format!("{first}..{signature}"), "a part is empty"),
        (String::new(), "it is not three parts"),
    ] {
        check(&issuer.jwt(), &token, why);
    }
}

/// White space may stand around a JSON text (RFC 8259 2), and nothing else.
#[test]
fn parts_with_white_space_around() {
    let issuer = Issuer::new();
    for (before, after, expect) in [
        ("", " ", ""),
        (" \t\r\n", "\n", ""),
        ("\u{feff}", "", "a part is no JSON object"),
        ("\u{c}", "", "a part is no acceptable JSON"),
        ("", "\0", "a part is no JSON object"),
        ("", "{}", "a part is no acceptable JSON"),
        ("[", "]", "a part is no JSON object"),
    ] {
        let around = |text: &str| format!("{before}{text}{after}");
        check(&issuer.jwt(), &issuer.with_claims(&around(&good())), expect);
        check(&issuer.jwt(), &issuer.with_header(&around(&header("EdDSA", "ed"))), expect);
    }
}

#[test]
fn j12_members_that_are_there_twice() {
    let issuer = Issuer::new();
    let exp = format!(r#","exp":{}"#, NOW + 300);
    let bad = "a part is no acceptable JSON";
    for twice in
        [r#","sub":"bob""#, r#","roles":["a"],"roles":["admin"]"#, r#","x":{"y":1,"y":2}"#, r#","\u0073ub":"bob""#]
    {
        check(&issuer.jwt(), &issuer.with_claims(&claims(&format!("{exp}{twice}"))), bad);
    }
    for header in [
        r#"{"alg":"EdDSA","kid":"ed","kid":"rs"}"#,
        r#"{"alg":"none","alg":"EdDSA","kid":"ed"}"#,
        r#"{"alg":"EdDSA","kid":"ed","x":1,"x":2}"#,
    ] {
        check(&issuer.jwt(), &issuer.with_header(header), bad);
    }
}

#[test]
fn j14_long_tokens() {
    let issuer = Issuer::new();
    for token in [
        "a".repeat(1 << 20),
        ".".repeat(1 << 20),
        issuer.with_claims(&claims(&format!(r#","x":"{}""#, "x".repeat(8_192)))),
    ] {
        check(&issuer.jwt(), &token, "it is over 8 KiB");
    }
    let deep = format!(r#","exp":{},"x":{}{}"#, NOW + 300, "[".repeat(1_000), "]".repeat(1_000));
    check(&issuer.jwt(), &issuer.with_claims(&claims(&deep)), "a part is no acceptable JSON");
}

/// What is logged about a refused token holds nothing that the client chose.
#[test]
fn no_reason_shows_the_token() {
    let issuer = Issuer::new();
    let token = issuer.token("rs", &header("EdDSA", "SECRETKID"), &claims(r#","exp":1,"roles":"SECRETROLE""#));
    let refusal = judge(&issuer.jwt(), &token, now()).unwrap_err();
    assert!(matches!(refusal.detail, std::borrow::Cow::Borrowed(_)), "{refusal:?}");
}
