//! Asks CrowdSec's Local API for decisions, and tells it of bans.
//!
//! *Invariant:* the key, the password and the token of the session are in no message.

use std::cell::RefCell;

use bytes::Bytes;
use gateway_common::source::Source;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    message::observer::fetch::ToldBan,
    os::clock::rfc3339,
    outbound::{
        Server,
        client::{OutboundClient, OutboundRequest, OutboundResponse},
    },
    settings::crowdsec::{LocalApi, Machine},
    web::url::Url,
};

/// The longest answer but that of decisions, in bytes.
const LONGEST: usize = 64 * 1_024;

/// Which decisions are asked for: all of a source, as one may end before another.
const WHICH: &str = "scopes=ip,range&dedup=false";

/// The session of the machine.
#[derive(Default)]
pub(super) struct Session {
    token: RefCell<Option<String>>,
}

/// The decisions that are new, with `startup` all of them.
///
/// # Errors
/// For people: why there are none.
pub(super) async fn decisions(
    client: &OutboundClient,
    server: &Server,
    api: &LocalApi,
    startup: bool,
) -> Result<OutboundResponse, String> {
    let key = api.key.as_ref().ok_or("there is no key of a bouncer")?;
    let url = url(api, &format!("/v1/decisions/stream?startup={startup}&{WHICH}"))?;
    let mut headers = headers();
    headers.insert("x-api-key", secret(key.bytes.trim_ascii())?);
    let most = usize::try_from(api.max_size).unwrap_or(usize::MAX);
    let request = OutboundRequest { method: Method::GET, url, headers, body: Bytes::new(), most };
    client.ask(server, request).await.map_err(|failure| failure.to_string())
}

impl Session {
    /// Forgets the session: the machine may be another one.
    pub(super) fn forget(&self) {
        self.token.replace(None);
    }

    /// Tells of bans; the status of the answer.
    ///
    /// # Errors
    /// For people: why it could not be told.
    pub(super) async fn tell(
        &self,
        client: &OutboundClient,
        server: &Server,
        api: &LocalApi,
        bans: &[ToldBan],
    ) -> Result<OutboundResponse, String> {
        let machine = api.machine.as_ref().ok_or("there is no machine")?;
        let alerts: Vec<Value> = bans.iter().filter_map(|ban| alert(ban, &machine.name)).collect();
        let body = Bytes::from(Value::from(alerts).to_string());
        self.ask((client, server, api), machine, (Method::POST, "/v1/alerts"), body).await
    }

    /// Deletes the decisions about a source that this machine has told of; `None`: about all sources. Decisions of others
    /// stay. There may be none.
    ///
    /// # Errors
    /// For people: why it could not be told.
    pub(super) async fn lift(
        &self,
        client: &OutboundClient,
        server: &Server,
        api: &LocalApi,
        source: Option<&str>,
    ) -> Result<OutboundResponse, String> {
        let machine = api.machine.as_ref().ok_or("there is no machine")?;
        let path = lifted(source, &machine.name)?;
        self.ask((client, server, api), machine, (Method::DELETE, &path), Bytes::new()).await
    }

    /// Asks something as the machine.
    async fn ask(
        &self,
        (client, server, api): (&OutboundClient, &Server, &LocalApi),
        machine: &Machine,
        (method, path): (Method, &str),
        body: Bytes,
    ) -> Result<OutboundResponse, String> {
        let mut is_new = false;
        loop {
            let known = self.token.borrow().clone();
            let token = match known {
                Some(token) => token,
                None => {
                    is_new = true;
                    login(client, server, api, machine).await?
                }
            };
            let mut headers = headers();
            headers.insert(header::AUTHORIZATION, secret(format!("Bearer {token}").as_bytes())?);
            // One that no header can hold is not kept: the next try begins another session.
            self.token.replace(Some(token));
            let (method, url, body) = (method.clone(), url(api, path)?, body.clone());
            let request = OutboundRequest { method, url, headers, body, most: LONGEST };
            let answer = client.ask(server, request).await.map_err(|failure| failure.to_string())?;
            if answer.status != StatusCode::UNAUTHORIZED || is_new {
                return Ok(answer);
            }
            // The session has ended: once more, by another one.
            self.forget();
        }
    }
}

/// Begins a session: its token.
async fn login(client: &OutboundClient, server: &Server, api: &LocalApi, machine: &Machine) -> Result<String, String> {
    let password = String::from_utf8_lossy(machine.password.bytes.trim_ascii());
    let body = json!({ "machine_id": machine.name, "password": password, "scenarios": [] });
    let request = OutboundRequest {
        method: Method::POST,
        url: url(api, "/v1/watchers/login")?,
        headers: headers(),
        body: Bytes::from(body.to_string()),
        most: LONGEST,
    };
    let answer = client.ask(server, request).await.map_err(|failure| format!("no session: {failure}"))?;
    if answer.status != StatusCode::OK {
        return Err(format!("no session: CrowdSec answers {}", answer.status));
    }
    let read: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let token = read.as_ref().and_then(|answer| answer.get("token")).and_then(Value::as_str);
    token.map(str::to_owned).ok_or_else(|| "no session: CrowdSec names no token".to_owned())
}

/// What deletes the decisions of a machine, which are those of its name as origin.
fn lifted(source: Option<&str>, origin: &str) -> Result<String, String> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("origin", origin).append_pair("type", "ban");
    if let Some(source) = source {
        let source: Source = source.parse().map_err(|_other| "what was lifted is no source")?;
        query.append_pair("value", &named(source).1);
    }
    Ok(format!("/v1/decisions?{}", query.finish()))
}

/// What CrowdSec calls a source: its scope and its value.
fn named(source: Source) -> (&'static str, String) {
    let is_address = source.length() == if source.address().is_ipv4() { 32 } else { 128 };
    if is_address { ("Ip", source.address().to_string()) } else { ("Range", source.to_string()) }
}

/// A ban as an alert with its decision.
fn alert(ban: &ToldBan, origin: &str) -> Option<Value> {
    let source: Source = ban.source.parse().ok()?;
    let (scope, value) = named(source);
    let is_address = scope == "Ip";
    let began = rfc3339(ban.began);
    let about = if is_address {
        json!({ "scope": scope, "value": value, "ip": value })
    } else {
        json!({ "scope": scope, "value": value, "range": value })
    };
    Some(json!({
        "scenario": ban.scenario,
        "scenario_hash": "",
        "scenario_version": "",
        "message": ban.reason,
        "events_count": 1,
        "start_at": began,
        "stop_at": began,
        "capacity": 0,
        "leakspeed": "0s",
        "simulated": false,
        "events": [],
        "source": about,
        "decisions": [{
            "origin": origin,
            "type": "ban",
            "scope": scope,
            "value": value,
            "duration": format!("{}s", ban.seconds),
            "scenario": ban.scenario,
        }],
    }))
}

fn url(api: &LocalApi, path: &str) -> Result<Url, String> {
    Url::parse(&format!("{}{path}", api.url)).map_err(|what| format!("its URL {what}"))
}

fn headers() -> HeaderMap {
    let json = HeaderValue::from_static("application/json");
    [(header::ACCEPT, json.clone()), (header::CONTENT_TYPE, json)].into_iter().collect()
}

fn secret(bytes: &[u8]) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_bytes(bytes).map_err(|_other| "a secret holds what no header can".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts() {
        let ban = |source: &str| ToldBan {
            source: source.to_owned(),
            scenario: "gateway/bad-tokens".to_owned(),
            reason: "10 \"bad\" tokens".to_owned(),
            began: 1_700_000_000_000,
            seconds: 600,
        };
        for (source, scope, key) in
            [("192.0.2.7", "Ip", "ip"), ("192.0.2.0/24", "Range", "range"), ("2001:db8::/64", "Range", "range")]
        {
            let alert = alert(&ban(source), "edge-1").unwrap();
            assert_eq!((&alert["source"]["scope"], &alert["source"][key]), (&scope.into(), &source.into()), "{alert}");
            let decision = &alert["decisions"][0];
            assert_eq!((&decision["value"], &decision["duration"]), (&source.into(), &"600s".into()), "{alert}");
            assert_eq!(
                (&decision["origin"], &alert["start_at"]),
                (&"edge-1".into(), &"2023-11-14T22:13:20.000Z".into())
            );
        }
        assert!(alert(&ban("x"), "edge-1").is_none());
    }

    #[test]
    fn what_is_deleted() {
        for (source, expect) in [
            (Some("192.0.2.7"), "&value=192.0.2.7"),
            (Some("192.0.2.0/24"), "&value=192.0.2.0%2F24"),
            (Some("2001:db8::/64"), "&value=2001%3Adb8%3A%3A%2F64"),
            (None, ""),
        ] {
            // Without its origin the decisions of others would go as well.
            let path = format!("/v1/decisions?origin=edge-1&type=ban{expect}");
            assert_eq!(lifted(source, "edge-1"), Ok(path), "{source:?}");
        }
        assert!(lifted(Some("everybody"), "edge-1").is_err());
    }
}
