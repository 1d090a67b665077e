//! Which algorithms a key verifies: those of its type, and only its own where it names one.

use aws_lc_rs::signature::{RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding};

use super::*;

const OTHER: &str = "its key is for another alg";
const NOT_ITS: &str = "its alg is not its key's";
const NO_KEY: &str = "no key has its alg";

impl Issuer {
    /// A token with this header, signed by the RSA key with `algorithm`.
    fn rsa_token(&self, algorithm: &str, header: &str) -> String {
        let encoding: &'static dyn RsaEncoding = match algorithm {
            "RS256" => &RSA_PKCS1_SHA256,
            "RS384" => &RSA_PKCS1_SHA384,
            "RS512" => &RSA_PKCS1_SHA512,
            "PS256" => &RSA_PSS_SHA256,
            "PS384" => &RSA_PSS_SHA384,
            "PS512" => &RSA_PSS_SHA512,
            other => panic!("{other}"),
        };
        let message = format!("{}.{}", encode(header), encode(&good()));
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(encoding, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

fn set(keys: &[String]) -> Jwt {
    Jwt::new(&settings(&format!(r#"{{"keys":[{}]}}"#, keys.join(",")))).unwrap()
}

#[test]
fn an_rsa_key_verifies_its_own_algorithm_or_all_of_its_type() {
    const ALL: [&str; 6] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    let issuer = Issuer::new();
    let [rsa, ..] = issuer.jwks();
    // Without `alg` (RFC 7517 4.4).
    let any = set(&[format!(r#"{{{rsa},"kid":"k"}}"#)]);
    for signed in ALL {
        check(&any, &issuer.rsa_token(signed, &header(signed, "k")), "");
        check(&any, &issuer.rsa_token(signed, &format!(r#"{{"alg":"{signed}"}}"#)), "");
        for told in ALL.into_iter().filter(|told| *told != signed) {
            let token = issuer.rsa_token(signed, &header(told, "k"));
            check(&any, &token, "its signature is not its key's");
        }
        let own = set(&[format!(r#"{{{rsa},"kid":"k","alg":"{signed}"}}"#)]);
        for told in ALL {
            let expect = if told == signed { "" } else { OTHER };
            check(&own, &issuer.rsa_token(told, &header(told, "k")), expect);
        }
    }
    // Never across types, nor by what is public.
    for told in ["ES256", "ES384", "EdDSA", "Ed25519", "RS1", "rs256", "XS256"] {
        check(&any, &issuer.rsa_token("RS256", &header(told, "k")), NOT_ITS);
        check(&any, &issuer.rsa_token("RS256", &format!(r#"{{"alg":"{told}"}}"#)), NO_KEY);
    }
    let hmac = "its alg is by a shared secret, and its issuer has public keys";
    check(&any, &issuer.rsa_token("RS256", &header("HS256", "k")), hmac);
}

/// RFC 9864 has a second name for what RFC 8037 calls EdDSA.
#[test]
fn ed25519_has_two_names() {
    let issuer = Issuer::new();
    let [.., ed] = issuer.jwks();
    for alg in ["", r#","alg":"EdDSA""#, r#","alg":"Ed25519""#] {
        let jwt = set(&[format!(r#"{{{ed},"kid":"ed"{alg}}}"#)]);
        for told in ["EdDSA", "Ed25519"] {
            check(&jwt, &issuer.with_header(&header(told, "ed")), "");
        }
        for told in ["Ed448", "ed25519", "ES256", "RS256"] {
            check(&jwt, &issuer.with_header(&header(told, "ed")), NOT_ITS);
        }
    }
}

/// A token without `kid` means the key that says that it is for its algorithm, before one that only may be.
#[test]
fn without_a_key_id_a_declared_key_comes_first() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let ([own, ..], [theirs, ..]) = (issuer.jwks(), other.jwks());
    let several = "it has no kid and several keys have its alg";
    for (first, second, algorithm, expect) in [
        (r#","alg":"PS256""#, "", "PS256", ""),
        (r#","alg":"PS256""#, "", "RS256", "its signature is not its key's"),
        ("", r#","alg":"PS256""#, "RS256", ""),
        ("", r#","alg":"PS256""#, "RS512", ""),
        ("", r#","alg":"PS256""#, "PS256", "its signature is not its key's"),
        ("", "", "RS256", several),
        ("", "", "PS512", several),
        (r#","alg":"RS256""#, "", "RS256", several),
    ] {
        let jwt = set(&[format!(r#"{{{own},"kid":"a"{first}}}"#), format!(r#"{{{theirs},"kid":"b"{second}}}"#)]);
        check(&jwt, &issuer.rsa_token(algorithm, &format!(r#"{{"alg":"{algorithm}"}}"#)), expect);
    }
}

/// A key that cannot be used takes nothing from those beside it, and its own tokens are by a key that is not there.
#[test]
fn a_key_that_cannot_be_used_is_skipped() {
    let issuer = Issuer::new();
    let [rsa, p256, _, ed] = issuer.jwks();
    let weak = format!(r#""kty":"RSA","n":"{}","e":"AQAB""#, BASE64URL_NOPAD.encode(&[0xff; 128]));
    for (unusable, why) in [
        (format!(r#"{weak},"alg":"RS256""#), "has 1024 bits"),
        (format!(r#"{rsa},"alg":"RS1""#), "which is not RSA's"),
        (format!(r#"{rsa},"alg":"HS256""#), "which is not RSA's"),
        (format!(r#"{p256},"alg":"RS256""#), "its type and curve make it ES256"),
        (format!(r#"{ed},"alg":"Ed448""#), "its type and curve make it EdDSA"),
        (r#""kty":"EC""#.to_owned(), "has no \"crv\""),
        (r#""use":"sig""#.to_owned(), "has no \"kty\""),
    ] {
        let jwt = set(&[format!(r#"{{{unusable},"kid":"bad"}}"#), format!(r#"{{{ed},"kid":"ed"}}"#)]);
        check(&jwt, &issuer.with_header(&header("EdDSA", "ed")), "");
        check(&jwt, &issuer.with_header(&header("EdDSA", "bad")), "no key has its kid");
        let warnings: Vec<String> = jwt.warnings().map(|warning| warning.to_string()).collect();
        let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
        assert!(warning.starts_with("jwt.jwks: keys are skipped: keys[0] (kid \"bad\") "), "{warning}");
        assert!(warning.contains(why), "{warning}");
        // Nothing is left.
        let alone = settings(&format!(r#"{{"keys":[{{{unusable},"kid":"bad"}}]}}"#));
        let refused = Jwt::new(&alone).unwrap_err();
        assert!(refused.len() == 1 && refused[0].message.contains(why), "{refused:?}");
    }
    assert_eq!(issuer.jwt().warnings().count(), 0, "keys for something else are nothing to warn of");
}
