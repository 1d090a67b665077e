//! When CrowdSec is asked, and for what.

use super::*;
use crate::{
    lists::Listed,
    os::file::NamedFile,
    settings::{crowdsec::LocalApi, outbound::Dial},
};

fn settings(url: &str) -> crowdsec::Settings {
    let key = Some(NamedFile { path: "key".into(), bytes: Arc::from(&b"k"[..]) });
    let api = LocalApi { url: url.to_owned(), key, machine: None, max_size: 1_024, dial: Dial::none() };
    crowdsec::Settings { api, every: Duration::from_secs(10), shadow: false }
}

fn at(seconds: u64) -> Now {
    Now { monotonic: seconds * SECOND, unix_millis: 1_700_000_000_000 + seconds * 1_000 }
}

fn one(id: i64) -> DecisionStream {
    let listed = Listed { source: "192.0.2.1".parse().unwrap(), seconds: Some(60), reason: None };
    DecisionStream { new: vec![(id, listed)], own: 1, ..DecisionStream::default() }
}

#[test]
fn all_are_asked_for_at_the_start_after_an_outage_and_each_hour() {
    let mut crowdsec = Crowdsec::default();
    assert_eq!(crowdsec.pull(at(0)), None, "it is not configured");
    let here = settings("http://127.0.0.1:8080");
    crowdsec.configure(Some(&here));
    assert_eq!(crowdsec.pull(at(0)), Some(true));
    assert_eq!(crowdsec.pull(at(5)), None, "it is being asked");
    crowdsec.pulled(DecisionStream::default(), true, at(5));
    assert!(crowdsec.take_change() && !crowdsec.take_change(), "what was in force before may be another list");
    assert_eq!(crowdsec.pull(at(14)), None);
    assert_eq!(crowdsec.pull(at(15)), Some(false));
    crowdsec.pulled(one(1), false, at(15));
    assert!(crowdsec.take_change());
    let mut now = 25;
    // The pauses after failures grow, up to a minute.
    for wait in [10, 20, 40, 60, 60] {
        assert_eq!(crowdsec.pull(at(now - 1)), None, "{now}");
        assert!(crowdsec.pull(at(now)).is_some(), "{now}");
        crowdsec.not_pulled("no answer", at(now));
        now += wait;
    }
    assert!(!crowdsec.take_change(), "what is in force stays");
    let status = crowdsec.status().unwrap();
    assert_eq!((status.is_up, status.pull_failures, status.skipped_own, status.decisions), (false, 5, 1, 1));
    assert!(crowdsec.warnings().next().unwrap().contains("no answer; those in force stay"));
    assert_eq!(crowdsec.pull(at(now)), Some(true), "it heals by a whole stream");
    crowdsec.pulled(one(2), true, at(now));
    assert!(crowdsec.take_change() && crowdsec.status().unwrap().is_up);
    assert_eq!(crowdsec.warnings().count(), 0);
    assert_eq!(crowdsec.pull(at(now + ALL - 1)), Some(false));
    crowdsec.pulled(DecisionStream::default(), false, at(now + ALL - 1));
    assert_eq!(crowdsec.pull(at(now + ALL + 10)), Some(true));
    crowdsec.configure(Some(&settings("http://127.0.0.1:8081")));
    assert_eq!(crowdsec.pull(at(now)), Some(true), "another CrowdSec");
    crowdsec.configure(None);
    assert!(crowdsec.status().is_none());
}
