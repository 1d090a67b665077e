//! Tokens that other libraries made: each is accepted, and nothing is once anything of it has changed.
//!
//! `tests/fixtures/tokens/make.py` makes them, with PyJWT, jwcrypto and panva/jose.

use serde_json::Value;

use super::*;

/// What the tokens are verified by, and the tokens.
fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../../../../tests/fixtures/tokens/tokens.json")).unwrap()
}

/// Who verifies tokens by this algorithm.
fn verifier(fixture: &Value, algorithm: &str) -> Jwt {
    let jwks = settings(&serde_json::json!({"keys": fixture["keys"]}).to_string());
    if !algorithm.starts_with("HS") {
        return Jwt::new(&jwks).unwrap();
    }
    let secret = fixture["secret"].as_str().unwrap().as_bytes().into();
    let file = NamedFile { path: "secret".into(), bytes: secret };
    Jwt::new(&changed(jwks, |issuer| issuer.keys = KeySource::Secret(file.clone()))).unwrap()
}

fn rows(fixture: &Value) -> Vec<(String, String, String)> {
    let text = |row: &Value, member: &str| row[member].as_str().unwrap().to_owned();
    let tokens = fixture["tokens"].as_array().unwrap();
    tokens.iter().map(|row| (text(row, "by"), text(row, "alg"), text(row, "token"))).collect()
}

#[test]
fn tokens_of_other_libraries_are_accepted() {
    let fixture = fixture();
    let rows = rows(&fixture);
    for (by, algorithm, token) in &rows {
        let identity = judge(&verifier(&fixture, algorithm), token, now());
        let identity = identity.unwrap_or_else(|refusal| panic!("{by} {algorithm}: {}", refusal.detail));
        assert_eq!(identity.principal(), "ann", "{by} {algorithm}");
        assert_eq!(identity.roles().collect::<Vec<_>>(), ["reader", "editor"], "{by} {algorithm}");
        assert_eq!(identity.scopes().collect::<Vec<_>>(), ["items", "orders:read"], "{by} {algorithm}");
        // J16: at no other time.
        assert!(judge(&verifier(&fixture, algorithm), token, at(1_800_003_600 + 30)).is_err(), "{by} {algorithm}");
    }
    for library in ["PyJWT", "jwcrypto", "jose"] {
        let made = rows.iter().filter(|(by, ..)| by.starts_with(library)).count();
        assert_eq!(made, 12, "every algorithm is made by {library}");
    }
}

/// Every way in which a token is changed, with a name.
fn mutations(token: &str, others: &[&str]) -> Vec<(String, String)> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("{token}") };
    let decoded = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).unwrap();
    let with = |header: &[u8], claims: &[u8], signature: &[u8]| {
        [header, claims, signature].map(|part| BASE64URL_NOPAD.encode(part)).join(".")
    };
    let (head, body, mac) = (decoded(header), decoded(claims), decoded(signature));
    let mut mutations: Vec<(String, String)> = Vec::new();
    // A bit of each part, from the first byte to the last. What is no JSON any more is refused for that.
    for at in 0..8 {
        let flipped = |part: &[u8]| {
            let mut part = part.to_vec();
            let place = at * (part.len() - 1) / 7;
            part[place] ^= 1 << at;
            part
        };
        mutations.push((format!("header, bit {at}"), with(&flipped(&head), &body, &mac)));
        mutations.push((format!("claims, bit {at}"), with(&head, &flipped(&body), &mac)));
        mutations.push((format!("signature, bit {at}"), with(&head, &body, &flipped(&mac))));
    }
    let edited = |part: &[u8], from: &str, to: &str| {
        let text = String::from_utf8(part.to_vec()).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        text.replacen(from, to, 1).into_bytes()
    };
    for (name, from, to) in [
        ("J09 another sub", "ann", "root"),
        ("another role", "editor", "admin"),
        ("J16 a later exp", "1800003600", "1900003600"),
        ("another scope", "items orders:read", "*"),
        ("J12 a second sub", "{", "{\"sub\":\"root\","),
    ] {
        mutations.push((name.to_owned(), with(&head, &edited(&body, from, to), &mac)));
    }
    for (name, to) in [
        ("J01 alg none", "{\"alg\":\"none\""),
        ("J02 alg HS256", "{\"alg\":\"HS256\""),
        ("J12 crit", "{\"crit\":[\"exp\"],\"alg\":\"RS256\""),
        // Nothing reads it, but it is signed.
        ("J04 jku", "{\"jku\":\"http://127.0.0.1/\",\"alg\":\"RS256\""),
    ] {
        let text = String::from_utf8(head.clone()).unwrap();
        let rest = text.split_once(',').map_or("}".to_owned(), |(_, rest)| format!(",{rest}"));
        mutations.push((name.to_owned(), with(format!("{to}{rest}").as_bytes(), &body, &mac)));
    }
    for (name, signature) in [
        ("J01 no signature", Vec::new()),
        ("J10 zeros", vec![0; mac.len()]),
        ("J10 a byte less", mac[1..].to_vec()),
        ("J10 a byte more", [&mac[..], &[0]].concat()),
        ("J10 twice", [&mac[..], &mac[..]].concat()),
    ] {
        mutations.push((name.to_owned(), with(&head, &body, &signature)));
    }
    for (name, token) in [
        ("J11 padding", format!("{token}=")),
        ("J11 a blank before", format!(" {token}")),
        ("J11 a line end", format!("{token}\n")),
        ("J11 a blank within", format!("{header}. {claims}.{signature}")),
        ("J13 a fourth part", format!("{token}.")),
        ("J01 two parts", format!("{header}.{claims}")),
        ("the parts turned", format!("{claims}.{header}.{signature}")),
    ] {
        mutations.push((name.to_owned(), token));
    }
    for (at, other) in others.iter().enumerate() {
        let theirs: Vec<&str> = other.split('.').collect();
        mutations.push((format!("the signature of another, {at}"), format!("{header}.{claims}.{}", theirs[2])));
        mutations.push((format!("the header of another, {at}"), format!("{}.{claims}.{signature}", theirs[0])));
    }
    mutations
}

#[test]
fn j01_to_j16_every_mutation_of_them_is_refused() {
    let fixture = fixture();
    let rows = rows(&fixture);
    let mut refused = 0;
    for (at, (by, algorithm, token)) in rows.iter().enumerate() {
        let jwt = verifier(&fixture, algorithm);
        // Remembered once, so that a mutation could be taken for it.
        assert!(judge(&jwt, token, now()).is_ok(), "{by} {algorithm}");
        let others: Vec<&str> = [at + 1, at + 13].map(|at| rows[at % rows.len()].2.as_str()).to_vec();
        for (mutation, changed) in mutations(token, &others) {
            if changed == *token {
                // Two libraries write the same header, and HS256 is what some tokens have.
                let is_same = mutation.starts_with("the header of another") || mutation == "J02 alg HS256";
                assert!(is_same, "{by} {algorithm}: {mutation}");
                continue;
            }
            let verdict = judge(&jwt, &changed, now());
            assert!(verdict.is_err(), "{by} {algorithm}: {mutation}: {changed}");
            refused += 1;
        }
    }
    assert!(refused >= 400, "{refused} mutations");
}

#[test]
fn j02_no_key_is_good_for_another_algorithm() {
    let fixture = fixture();
    for (by, algorithm, token) in rows(&fixture) {
        let mut others = fixture.clone();
        let keys = others["keys"].as_array_mut().unwrap();
        // The same key under the same name, for another algorithm of its kind.
        for key in keys.iter_mut().filter(|key| key["kid"] == algorithm.to_lowercase()) {
            match key["alg"].as_str().unwrap() {
                "RS256" => key["alg"] = "PS256".into(),
                alg if alg.starts_with("RS") || alg.starts_with("PS") => key["alg"] = "RS256".into(),
                _ => key["kid"] = "other".into(),
            }
        }
        if algorithm.starts_with("HS") {
            // A secret never stands beside public keys.
            assert!(judge(&verifier(&fixture, "RS256"), &token, now()).is_err(), "{by} {algorithm}");
        } else {
            assert!(judge(&verifier(&others, &algorithm), &token, now()).is_err(), "{by} {algorithm}");
            assert!(judge(&verifier(&fixture, "HS256"), &token, now()).is_err(), "{by} {algorithm}");
        }
    }
}
