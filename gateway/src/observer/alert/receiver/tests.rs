//! What receivers are written, and what their answers mean.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::*;
use crate::{
    observer::alert::{
        dispatch::{Notification, tests::receiver},
        tracker::TrackedAlert,
    },
    os::clock::Now,
    settings::alert::Severity,
};

fn sender() -> AlertSender<'static> {
    AlertSender { instance: "edge1", now: Now { monotonic: 5, unix_millis: 1_700_000_000_000 } }
}

fn alert(ended: Option<u64>) -> TrackedAlert {
    let labels = [("alertname", "down"), ("severity", "critical"), ("instance", "edge1"), ("server", "<!here>")];
    TrackedAlert {
        fingerprint: "0123456789abcdef".to_owned(),
        severity: Severity::Critical,
        labels: labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>(),
        summary: "the server <!here> is down".to_owned(),
        runbook: Some("https://wiki.example/down".to_owned()),
        began: 1_699_999_999_000,
        ended,
    }
}

fn both() -> Sending {
    let group = vec![("alertname".to_owned(), "down".to_owned())];
    let ended = vec![alert(Some(1_700_000_000_000))];
    Sending::Alerts(Notification { group, firing: vec![alert(None)], ended, before: Some(1_699_999_000_000) })
}

#[test]
fn chats_call_nobody() {
    let slack = chat::slack(&both(), sender());
    let text = slack["text"].as_str().unwrap();
    assert!(text.starts_with("*edge1: critical down and 1 more*\n"), "{text}");
    assert!(text.contains("&lt;!here&gt;") && !text.contains('<'), "{text}");
    let teams = chat::teams(&both(), sender());
    let card = &teams["attachments"][0]["content"];
    assert_eq!((card["type"].as_str(), card["body"].as_array().unwrap().len()), (Some("AdaptiveCard"), 3));
}

#[test]
fn incidents_are_known_by_their_fingerprint() {
    let url = Url::parse("https://events.example/base/").unwrap();
    let posts = incident::pagerduty(&url, b"key", &both());
    let [begin, end] = posts.as_slice() else { panic!("{posts:?}") };
    assert_eq!(begin.url.path(), "/base/v2/enqueue");
    assert_eq!(
        (begin.body["event_action"].as_str(), end.body["event_action"].as_str()),
        (Some("trigger"), Some("resolve"))
    );
    assert_eq!(begin.body["dedup_key"], end.body["dedup_key"]);
    assert_eq!(begin.body["payload"]["severity"], "critical");
    assert_eq!(begin.body["links"][0]["href"], "https://wiki.example/down");
    let posts = incident::opsgenie(&url, b"key", &both());
    let [begin, end] = posts.as_slice() else { panic!("{posts:?}") };
    assert_eq!(begin.headers, [("authorization", "GenieKey key".to_owned())]);
    assert_eq!((begin.url.path(), begin.body["priority"].as_str()), ("/base/v2/alerts", Some("P1")));
    assert_eq!(begin.body["details"]["runbook"], "https://wiki.example/down");
    assert_eq!(end.url.path(), "/base/v2/alerts/0123456789abcdef/close?identifierType=alias");
}

#[test]
fn webhooks_are_signed_as_the_standard_says() {
    // The example of the specification's libraries.
    let body = serde_json::json!({ "test": 2_432_232_314_u64 });
    let signed = webhook::signed("msg_1", Some(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), &body, sender());
    let [(_, id), (_, timestamp), (_, signature)] = signed.as_slice() else { panic!("{signed:?}") };
    let key = data_encoding::BASE64.decode(b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
    let sent = data_encoding::BASE64.decode(signature.strip_prefix("v1,").unwrap().as_bytes()).unwrap();
    let text = format!("{id}.{timestamp}.{{\"test\":2432232314}}");
    aws_lc_rs::hmac::verify(&key, text.as_bytes(), &sent).unwrap();
    assert_eq!(webhook::signed("msg_1", None, &body, sender()).len(), 2);
}

/// By its id a receiver knows what it has taken already, where its answer was lost.
#[test]
fn another_try_of_the_same_has_the_same_id() {
    let later = AlertSender { instance: "edge1", now: Now { monotonic: 9, unix_millis: 1_700_000_060_000 } };
    let id = |sending: &Sending, sender| sending.id("ops", sender);
    let changed = |change: &dyn Fn(&mut Notification)| {
        let Sending::Alerts(mut notification) = both() else { panic!("no alerts") };
        change(&mut notification);
        Sending::Alerts(notification)
    };
    assert_eq!(id(&both(), sender()), id(&both(), later));
    assert_eq!(id(&both(), sender()), id(&changed(&|it| it.firing[0].summary.clear()), later), "a measured value");
    for other in [
        changed(&|it| it.before = Some(1_700_000_000_000)),
        changed(&|it| it.before = None),
        changed(&|it| it.ended.clear()),
        changed(&|it| it.firing[0].began += 1),
        changed(&|it| it.firing[0].severity = Severity::Warning),
        changed(&|it| it.group.clear()),
    ] {
        assert_ne!(id(&both(), sender()), id(&other, sender()), "{other:?}");
    }
    for each in [Sending::Heartbeat, Sending::Test(alert(None))] {
        assert_ne!(id(&each, sender()), id(&each, later));
    }
    assert_ne!(both().id("ops", sender()), both().id("night", sender()));
}

#[test]
fn alertmanager_is_told_until_when() {
    let seconds = std::time::Duration::from_secs;
    let receiver = Receiver { repeat: seconds(60), ..receiver() };
    let body = alertmanager::body(&both(), sender(), &receiver);
    assert_eq!(body[0]["startsAt"], "2023-11-14T22:13:19.000Z");
    assert_eq!(body[0]["endsAt"], "2023-11-14T22:17:20.000Z");
    assert_eq!(body[1]["endsAt"], "2023-11-14T22:13:20.000Z");
    assert_eq!(body[0]["annotations"]["runbook_url"], "https://wiki.example/down");
    // Each lasts until after it is told the next time, whatever comes more often or less.
    let until = |sending: &Sending, repeat, heartbeat| {
        let receiver = Receiver { repeat: seconds(repeat), heartbeat: Some(seconds(heartbeat)), ..receiver.clone() };
        alertmanager::body(sending, sender(), &receiver)[0]["endsAt"].as_str().unwrap().to_owned()
    };
    assert_eq!(until(&both(), 3_600, 10), "2023-11-15T02:13:20.000Z");
    assert_eq!(until(&Sending::Heartbeat, 3_600, 10), "2023-11-14T22:17:20.000Z");
    assert_eq!(until(&both(), 60, 3_600), "2023-11-14T22:17:20.000Z");
    assert_eq!(until(&Sending::Heartbeat, 60, 3_600), "2023-11-15T02:13:20.000Z");
    assert_eq!(until(&Sending::Test(alert(None)), 3_600, 3_600), "2023-11-14T22:17:20.000Z");
    // The clock was set back by half an hour since they began: none begins after its end.
    let early = AlertSender { instance: "edge1", now: Now { monotonic: 9, unix_millis: 1_699_998_200_000 } };
    let Sending::Alerts(mut both) = both() else { panic!("no alerts") };
    both.ended[0].ended = Some(1_699_998_100_000);
    let body = alertmanager::body(&Sending::Alerts(both), early, &receiver);
    let times = [0, 1].map(|at| ["startsAt", "endsAt"].map(|name| body[at][name].as_str().unwrap().to_owned()));
    assert_eq!(times[0], ["2023-11-14T21:43:20.000Z", "2023-11-14T21:47:20.000Z"]);
    assert_eq!(times[1], ["2023-11-14T21:41:40.000Z", "2023-11-14T21:41:40.000Z"]);
}

#[test]
fn what_answers_mean() {
    let check = |status: u16, after: &str, expect: &NotificationOutcome| {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::try_from(after).unwrap());
        let answer = OutboundResponse { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::new() };
        assert_eq!(outcome(&answer), *expect);
    };
    let failed = |why: &str, wait| {
        let (why, refused) = (format!("it answers {why}"), Vec::new());
        NotificationOutcome::Failed { why, wait, taken: 0, refused }
    };
    check(202, "", &NotificationOutcome::Sent);
    check(429, "30", &failed("429 Too Many Requests", 30_000));
    check(503, "Sun, 06 Nov 1994 08:49:37 GMT", &failed("503 Service Unavailable", 0));
    check(404, "", &failed("404 Not Found", 0));
    check(400, "", &NotificationOutcome::refused("it answers 400 Bad Request".to_owned()));
    let mut headers = HeaderMap::new();
    let later = jiff::Timestamp::now().saturating_add(jiff::SignedDuration::from_secs(100)).unwrap();
    let date = later.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    headers.insert(header::RETRY_AFTER, HeaderValue::try_from(date).unwrap());
    assert!((90_000..=100_000).contains(&retry_after(&headers)), "{headers:?}");
}

#[test]
fn of_many_requests_it_is_known_which_were_refused() {
    use NotificationOutcome::{Failed, Refused, Sent};
    let why = || "no".to_owned();
    let (no, failed) = (NotificationOutcome::refused(why()), NotificationOutcome::failed(why()));
    let only = |alerts: &[usize]| Refused { why: why(), alerts: RefusedAlerts::Only(alerts.to_vec()) };
    for (is_one, given, expect) in [
        (false, &[Sent, Sent][..], Sent),
        (true, std::slice::from_ref(&no), no.clone()),
        (false, &[no.clone(), Sent, no.clone()], only(&[0, 2])),
        (false, &[Sent, no.clone(), failed], Failed { why: why(), wait: 0, taken: 2, refused: vec![1] }),
    ] {
        let mut answers = Answers::default();
        let ended = given.iter().find_map(|one| answers.add(one.clone()));
        assert_eq!(ended.unwrap_or_else(|| answers.outcome(is_one)), expect, "{given:?}");
    }
}

#[test]
fn no_url_is_told() {
    let said = words::without_urls("https://hooks.example/T0/B0/secret is not https");
    assert_eq!(said, "the URL is not https");
}
