//! A wall clock that is set forward by mistake lifts nothing: here, at proxies, or on other machines.

use super::*;
use crate::{guard::credentials::work::PeerSays, os::clock::SECOND};

#[test]
fn d07_a_clock_that_is_ahead_lifts_nothing_too_early() {
    let folder = folder("clock");
    let (mut writer, _) = writer(&folder);
    writer.work(CredentialJob::Share { nodes: vec!["a".to_owned()], now: at(NOW) });
    let token = |id: &str| Revoked::Token { issuer: "i".to_owned(), id: id.to_owned() };
    let (expires, reason) = (Some(NOW + 600), "stolen".to_owned());
    order(&mut writer, CredentialCommand::Revoke { revoked: token("own"), expires, reason }, at(NOW));
    // After how many seconds, by how many the clock is ahead, and what is revoked.
    for (second, ahead, own, all) in [
        (10, 0, &["own"][..], &["own"][..]),
        (20, 3_600, &["own"], &["own", "peer-20"]),
        (30, 0, &["own"], &["own", "peer-20", "peer-30"]),
        (601, 0, &[], &[]),
    ] {
        let now = Now { monotonic: second * SECOND, unix_millis: (NOW + second + ahead) * 1_000 };
        if (20..=30).contains(&second) {
            let revoked = vec![(token(&format!("peer-{second}")), expires, NOW * 1_000, "stolen".to_owned())];
            let (node, restored, keys) = ("a".to_owned(), Vec::new(), Vec::new());
            let said = PeerSays { node, revoked, restored, keys, is_all: false, whole: None };
            writer.work(CredentialJob::Peer { said, now });
        }
        let tidied = writer.work(CredentialJob::Tidy(now, newest()));
        let told: Vec<Revoked> = tidied.own.unwrap().rows.into_iter().map(|row| row.revoked).collect();
        assert_eq!(told, own.iter().map(|id| token(id)).collect::<Vec<_>>(), "others are told after {second} s");
        let mut handed = handed(writer.work(CredentialJob::Gather(now))).2;
        handed.sort();
        assert_eq!(handed, all.iter().map(|id| token(id)).collect::<Vec<_>>(), "proxies know after {second} s");
    }
    fs::remove_dir_all(&folder).unwrap();
}
