//! Which key sets are trusted.

use data_encoding::BASE64URL_NOPAD;

use super::*;

const P256: &str = r#""kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM""#;
const ED: &str = r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;

/// An RSA modulus of `bits` bits: odd, and of no use but its length.
fn rsa(bits: usize) -> String {
    let n = vec![0xff; bits / 8];
    format!(r#""kty":"RSA","n":"{}","e":"AQAB""#, BASE64URL_NOPAD.encode(&n))
}

#[track_caller]
fn check(set: &str, expect: Result<usize, &str>) {
    match (JwtKeys::new(set.as_bytes()), expect) {
        (Ok(keys), Ok(count)) => assert_eq!(keys.keys.len(), count, "{set}"),
        (Err(diagnostics), Err(message)) => {
            assert!(diagnostics.iter().all(|diagnostic| diagnostic.key == "jwks"));
            assert!(
                diagnostics.iter().any(|diagnostic| diagnostic.message.contains(message)),
                "{set}: {diagnostics:?}"
            );
        }
        (Ok(_), Err(message)) => panic!("{set}: accepted, not: {message}"),
        (Err(diagnostics), Ok(_)) => panic!("{set}: {diagnostics:?}"),
    }
}

#[test]
fn j03_keys_are_checked_one_by_one() {
    let of = |key: &str, rest: &str, expect| check(&format!(r#"{{"keys":[{{{key}{rest}}}]}}"#), expect);
    let for_something_else = Err("no key of the set can vouch");
    of(P256, "", Ok(1));
    of(P256, r#","use":"sig","key_ops":["verify"],"alg":"ES256","kid":"a","x5c":["ignored"]"#, Ok(1));
    of(P256, r#","use":"enc""#, for_something_else);
    of(P256, r#","use":["sig"]"#, Err("\"use\" that is no string"));
    of(P256, r#","key_ops":["sign","deriveKey"]"#, for_something_else);
    of(P256, r#","key_ops":"verify""#, Err("\"key_ops\" that is no array"));
    of(P256, r#","alg":"ECDH-ES""#, for_something_else);
    for alg in ["ES384", "RS256", "HS256", "none", "es256"] {
        of(P256, &format!(r#","alg":"{alg}""#), Err("its type and curve make it ES256"));
    }
    of(ED, r#","alg":"EdDSA""#, Ok(1));
    of(ED, r#","alg":"Ed25519""#, Ok(1));
    of(ED, r#","alg":"ES256""#, Err("its type and curve make it EdDSA"));
    of(&rsa(2_048), "", Ok(1));
    of(&rsa(2_048), r#","alg":"PS512""#, Ok(1));
    of(&rsa(2_048), r#","alg":"RSA-OAEP""#, for_something_else);
    of(&rsa(2_048), r#","alg":"HS256""#, Err("which is not RSA's"));
    of(&rsa(2_040), "", Err("has 2040 bits"));
    of(&rsa(1_024), "", Err("has 1024 bits"));
    of(&rsa(16_384), "", Err("has 16384 bits"));
    of(&rsa(2_048).replace("AQAB", "AQ"), "", Err("no sound RSA key"));
    of(&rsa(2_048).replace("AQAB", "Ag"), "", Err("no sound RSA key"));
    of(&rsa(2_048).replace("AQAB", "AQAAAAE"), "", Err("no sound RSA key"));
    of(&rsa(2_048).replace("\",\"e", "4\",\"e"), "", Err("no sound RSA key"));
    of(&rsa(2_048).replace("AQAB", "AAEAAQ"), "", Err("starts with a zero byte"));
    of(&rsa(2_048).replace("AQAB", ""), "", Err("\"e\" that is empty"));
    of(&rsa(2_048).replace("AQAB", "AQAB="), "", Err("\"e\" that is no base64url"));
    of(&P256.replace("MKBC", "MKBD"), "", Err("not a point on its curve"));
    of(&P256.replace("P-256", "P-384"), "", Err("not 48 bytes"));
    of(&P256.replace("P-256", "secp256k1"), "", for_something_else);
    of(&ED.replace("Ed25519", "X25519"), "", for_something_else);
    of(&ED.replace("HURo", ""), "", Err("\"x\" that is"));
    of(r#""kty":"future""#, "", for_something_else);
    of(r#""kid":"a""#, "", Err("has no \"kty\""));
}

#[test]
fn secrets_do_not_belong_into_a_key_set() {
    for key in [
        r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(),
        r#"{"kty":"oct","use":"enc","k":"c2VjcmV0"}"#.to_owned(),
        format!(r#"{{{ED},"d":"c2VjcmV0"}}"#),
        format!(r#"{{{},"p":"c2VjcmV0","use":"enc"}}"#, rsa(2_048)),
    ] {
        let diagnostics = JwtKeys::new(format!(r#"{{"keys":[{key}]}}"#).as_bytes()).unwrap_err();
        let message = &diagnostics[0].message;
        assert!(message.contains("secret (\"oct\")") || message.contains("private key"), "{message}");
        assert!(!message.contains("c2VjcmV0"));
    }
}

#[test]
fn j05_sets_are_checked_as_a_whole() {
    check(&format!(r#"{{"keys":[{{{P256},"kid":"a"}},{{{ED},"kid":"b"}},{{{ED}}}]}}"#), Ok(3));
    check(&format!(r#"{{"keys":[{{{P256},"kid":""}}]}}"#), Err("empty or over"));
    check(&format!(r#"{{"keys":[{{{P256},"kid":"a","kid":"b"}}]}}"#), Err("duplicate member"));
    check(&format!(r#"{{"keys":[{}{{{ED}}}]}}"#, format!("{{{ED}}},").repeat(100)), Err("over 100 keys"));
    check(r#"{"keys":[]}"#, Err("no key of the set can vouch"));
    check(r#"{"keys":[1]}"#, Err("keys[0] is no object"));
    check(r#"{"keys":{}}"#, Err("no array \"keys\""));
    check("[]", Err("no array \"keys\""));
    check(&format!("{{{ED}}}"), Err("no array \"keys\""));
    check("", Err("not acceptable as JSON"));
    check(&" ".repeat(MAX_SET + 1), Err("over 262144 bytes"));
}

/// One id may stand for several keys, as long as a token's algorithm says which one is meant.
#[test]
fn a_key_id_and_an_algorithm_mean_one_key() {
    let (one, other) = (rsa(2_048), rsa(3_072));
    let twice = Err("the key id \"a\" is there twice");
    for (first, second, expect) in [
        // Another type, another use, another algorithm of the same key.
        (format!(r#"{P256},"kid":"a""#), format!(r#"{ED},"kid":"a""#), Ok(2)),
        (format!(r#"{P256},"kid":"a","use":"enc""#), format!(r#"{ED},"kid":"a""#), Ok(1)),
        (format!(r#"{one},"kid":"a","alg":"RSA-OAEP""#), format!(r#"{one},"kid":"a","alg":"RS256""#), Ok(1)),
        (format!(r#"{one},"kid":"a","alg":"RS256""#), format!(r#"{one},"kid":"a","alg":"PS256""#), Ok(2)),
        (format!(r#"{one},"kid":"a","alg":"RS256""#), format!(r#"{other},"kid":"a","alg":"RS512""#), Ok(2)),
        // The same key again.
        (format!(r#"{ED},"kid":"a""#), format!(r#"{ED},"kid":"a","alg":"EdDSA","x5t":"x""#), Ok(1)),
        (format!(r#"{one},"kid":"a""#), format!(r#"{one},"kid":"a","alg":"RS256""#), Ok(2)),
        // Nobody can tell which one is meant.
        (format!(r#"{one},"kid":"a","alg":"RS256""#), format!(r#"{other},"kid":"a","alg":"RS256""#), twice),
        (format!(r#"{one},"kid":"a""#), format!(r#"{other},"kid":"a","alg":"PS512""#), twice),
        (format!(r#"{},"kid":"a""#, rsa(1_024)), format!(r#"{ED},"kid":"a""#), Ok(1)),
        (format!(r#"{one},"alg":"RS256""#), format!(r#"{other},"alg":"RS256""#), Ok(2)),
    ] {
        check(&format!(r#"{{"keys":[{{{first}}},{{{second}}}]}}"#), expect);
        check(&format!(r#"{{"keys":[{{{second}}},{{{first}}}]}}"#), expect);
    }
    let set = format!(
        r#"{{"keys":[{{{P256},"kid":"a","use":"enc"}},{{{one},"kid":"a","alg":"RS256"}},{{{one},"kid":"a","alg":"PS256"}},
        {{{ED},"kid":"a"}}]}}"#
    );
    let keys = JwtKeys::new(set.as_bytes()).unwrap();
    for (algorithm, expect) in [
        ("RS256", Ok(Algorithm::RS256)),
        ("PS256", Ok(Algorithm::PS256)),
        ("EdDSA", Ok(Algorithm::EdDSA)),
        ("RS512", Err(TokenFault::Unfit)),
        ("ES256", Err(TokenFault::Forged)),
    ] {
        let found = keys.find(Some("a"), algorithm).map(|(_, found)| found).map_err(|invalid| invalid.fault);
        assert_eq!(found, expect, "{algorithm}");
    }
    let unknown = keys.find(Some("b"), "RS256").err().map(|invalid| invalid.fault);
    assert_eq!(unknown, Some(TokenFault::UnknownKey));
    // A token without a key id means the one key that is there twice.
    let twice = format!(r#"{{"keys":[{{{ED},"kid":"a"}},{{{ED},"kid":"a","alg":"EdDSA"}}]}}"#);
    assert!(JwtKeys::new(twice.as_bytes()).unwrap().find(None, "EdDSA").is_ok());
    assert!(JwtKeys::new(twice.replacen("\"a\"", "\"b\"", 1).as_bytes()).unwrap().find(None, "EdDSA").is_err());
}

/// Keys that cannot be used are skipped and named, the first few of them. What gives a secret away, or has one name twice,
/// refuses the set all the same.
#[test]
fn keys_that_cannot_be_used_are_named() {
    let weak = format!(r#"{{{},"kid":"weak"}}"#, rsa(1_024));
    let nameless = r#"{"kty":"OKP"}"#;
    for (others, expect) in [
        (String::new(), None),
        (r#"{"kty":"future"},"#.to_owned(), None),
        (format!("{weak},"), Some(r#"keys are skipped: keys[0] (kid "weak") has 1024 bits; 2048 to 8192 will do"#)),
        (format!("{nameless},1,"), Some(r#"keys are skipped: keys[0] has no "crv"; keys[1] is no object"#)),
        (
            format!("{nameless},").repeat(5),
            Some("keys are skipped: keys[0] has no \"crv\"; keys[1] has no \"crv\"; keys[2] has no \"crv\"; 2 more"),
        ),
    ] {
        let set = format!(r#"{{"keys":[{others}{{{ED},"kid":"good"}}]}}"#);
        let keys = JwtKeys::new(set.as_bytes()).unwrap();
        assert_eq!((keys.len(), told(keys.skipped()).as_deref()), (1, expect), "{set}");
        // What is kept for a restart has no such keys.
        let kept = JwtKeys::new(&JwtKeys::reduce(set.as_bytes()).unwrap()).unwrap();
        assert_eq!((kept.len(), kept.skipped().len()), (1, 0), "{set}");
    }
    check(&format!(r#"{{"keys":[{weak},{{{ED},"d":"AAAA"}},{{{ED}}}]}}"#), Err("private key"));
    check(&format!(r#"{{"keys":[{{{ED}}},{{"kty":"oct","k":"AAAA"}}]}}"#), Err("shared secret"));
    // A private key is told of, whatever else is wrong with it.
    check(&format!(r#"{{"keys":[{{{ED}}},{{"d":"AAAA"}}]}}"#), Err("private key"));
}

/// A key that cannot be used, or is for something else, may have the name of one that can be.
#[test]
fn a_good_key_keeps_its_name_beside_an_unusable_one() {
    let good = format!(r#"{{{ED},"kid":"a"}}"#);
    for (other, skipped) in [
        (format!(r#"{{{},"kid":"a"}}"#, rsa(1_024)), 1),
        (format!(r#"{{{P256},"kid":"a","alg":"none"}}"#), 1),
        (r#"{"kty":"OKP","kid":"a"}"#.to_owned(), 1),
        (format!(r#"{{{P256},"kid":"a","use":"enc"}}"#), 0),
        (format!(r#"{{{P256},"kid":"a","key_ops":["sign"]}}"#), 0),
        (r#"{"kty":"future","kid":"a"}"#.to_owned(), 0),
    ] {
        for set in [format!(r#"{{"keys":[{good},{other}]}}"#), format!(r#"{{"keys":[{other},{good}]}}"#)] {
            let keys = JwtKeys::new(set.as_bytes()).unwrap_or_else(|faults| panic!("{set}: {faults:?}"));
            assert_eq!((keys.len(), keys.skipped().len()), (1, skipped), "{set}");
            assert!(keys.find(Some("a"), "EdDSA").is_ok(), "{set}");
            let kept = JwtKeys::new(&JwtKeys::reduce(set.as_bytes()).unwrap()).unwrap();
            assert_eq!((kept.len(), kept.skipped().len()), (1, 0), "{set}");
        }
    }
}

/// Every fault is told at once.
#[test]
fn faults_are_told_together() {
    let diagnostics = JwtKeys::new(br#"{"keys":[{"kty":"oct"},{"kty":"EC"},{"kid":"a"}]}"#).unwrap_err();
    assert_eq!(diagnostics.len(), 3, "{diagnostics:?}");
}
