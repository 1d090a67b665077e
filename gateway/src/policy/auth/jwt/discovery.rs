//! Finds an issuer's keys by its metadata: OpenID Connect Discovery 1.0, RFC 8414.

use serde_json::Value;

use crate::{json, web::url::Url};

/// The largest document, in bytes.
pub const MAX_DOCUMENT: usize = 128 * 1024;

const OPENID: &str = "/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";

/// Where the metadata of an issuer may be, the usual place first: behind its path (OpenID Connect Discovery 4.1), or
/// between host and path (RFC 8414 3).
#[must_use]
pub fn places(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let mut places = vec![format!("{path}{OPENID}"), format!("{OAUTH}{path}"), format!("{OPENID}{path}")];
    if path.is_empty() {
        places.truncate(2);
    }
    places.iter().map(|path| issuer.with_path(path)).collect()
}

/// The member of the metadata that says where an issuer's keys are.
pub const KEYS: &str = "jwks_uri";

/// The member that says where an issuer is asked about tokens.
pub const INTROSPECTION: &str = "introspection_endpoint";

/// The URL that the metadata of `issuer` has as `member`.
///
/// # Errors
/// What is wrong with it. Nothing of it is in the text but URLs.
pub fn endpoint(document: &[u8], issuer: &str, is_https: bool, member: &str) -> Result<Url, String> {
    let document = json::parse(document).map_err(|error| format!("the metadata is not acceptable as JSON: {error}"))?;
    let text = |member: &str| document.get(member).and_then(Value::as_str);
    match text("issuer") {
        // Byte for byte (OpenID Connect Discovery 4.3): whoever answers for another issuer could vouch for its users.
        Some(named) if named == issuer => {}
        Some(named) => {
            let named: String = named.chars().filter(|letter| !letter.is_control()).take(200).collect();
            return Err(format!("the metadata is of the issuer {named:?}, which is not `issuer`"));
        }
        None => return Err("the metadata has no \"issuer\"".to_owned()),
    }
    let place = text(member).ok_or_else(|| format!("the metadata has no {member:?}"))?;
    let url = Url::parse(place).map_err(|wrong| format!("the metadata has a {member:?} that {wrong}"))?;
    if is_https && !url.is_https() {
        return Err(format!("the metadata has a {member:?} that is not https"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_metadata_is() {
        for (issuer, expect) in [
            (
                "https://id.example",
                "https://id.example/.well-known/openid-configuration \
                 https://id.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://id.example/",
                "https://id.example/.well-known/openid-configuration \
                 https://id.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://id.example/realms/a/",
                "https://id.example/realms/a/.well-known/openid-configuration \
                 https://id.example/.well-known/oauth-authorization-server/realms/a \
                 https://id.example/.well-known/openid-configuration/realms/a",
            ),
        ] {
            let found: Vec<_> = places(&Url::parse(issuer).unwrap()).iter().map(ToString::to_string).collect();
            assert_eq!(found.join(" "), expect, "{issuer}");
        }
    }

    #[test]
    fn metadata() {
        let good = "{\"issuer\":\"https://id.example\",\"jwks_uri\":\"https://keys.example/k\",\"more\":[1,{}]}";
        let with = |from: &str, to: &str| good.replace(from, to);
        for (document, expect) in [
            (good.to_owned(), Ok("https://keys.example/k")),
            (with("id.example", "id.example/"), Err("the metadata is of the issuer \"https://id.example/\"")),
            (with("https://id", "https://ID"), Err("the metadata is of the issuer")),
            (with("id.example", "evil\\u001b[31m.example"), Err("the metadata is of the issuer \"https://evil[31m.")),
            (with("\"issuer\"", "\"iss\""), Err("the metadata has no \"issuer\"")),
            (with("\"https://id.example\"", "7"), Err("the metadata has no \"issuer\"")),
            (with("jwks_uri", "jwks"), Err("the metadata has no \"jwks_uri\"")),
            (with("https://keys", "http://keys"), Err("the metadata has a \"jwks_uri\" that is not https")),
            (with("https://keys", "file://keys"), Err("the metadata has a \"jwks_uri\" that does not begin")),
            (with("\"more\"", "\"issuer\""), Err("the metadata is not acceptable as JSON: duplicate member")),
            (good[..good.len() - 1].to_owned(), Err("the metadata is not acceptable as JSON: EOF")),
            ("[".repeat(100_000), Err("the metadata is not acceptable as JSON: nested too deeply")),
            (String::new(), Err("the metadata is not acceptable as JSON: EOF")),
            ("\"https://id.example\"".to_owned(), Err("the metadata has no \"issuer\"")),
        ] {
            let found = endpoint(document.as_bytes(), "https://id.example", true, KEYS).map(|url| url.to_string());
            match expect {
                Ok(expect) => assert_eq!(found.as_deref(), Ok(expect), "{document:.200}"),
                Err(expect) => assert!(found.as_ref().is_err_and(|it| it.starts_with(expect)), "{found:?}"),
            }
        }
    }
}
