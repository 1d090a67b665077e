//! Limits on connections and TLS handshakes: the same counters as those of requests, asked before a request is there.
//!
//! *Invariant:* a connection that was counted as one at once is counted until its [`ConnectionPermit`] is dropped, also where another
//! configuration is in force by then.

use std::sync::Arc;

use gateway_common::source::Source;
use http::HeaderMap;

use super::{
    LimitResult, Limits, When,
    key::LimitFacts,
    report::{self, LimitQuestion, LimitRow, LimitSum},
    shadow::ShadowRefusals,
};
use crate::{refusal::Refusal, settings::connection_limit};

/// How operators are told of these limits.
const PREFIX: &str = "connection_limit.";

/// Limits on connections, by when they are asked.
#[derive(Debug, Default)]
pub struct ConnectionLimits {
    pub(super) accepted: Option<Arc<Limits>>,
    pub(super) handshake: Option<Arc<Limits>>,
}

/// What a connection takes of limits on connections at once.
#[derive(Debug, Default)]
pub struct ConnectionPermit(Option<Box<(Arc<Limits>, LimitResult)>>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if let Some(held) = &mut self.0 {
            held.0.leave(&mut held.1);
        }
    }
}

impl ConnectionLimits {
    /// Compiles the limits of a configuration, which go on with the counts of `before` once they are put in force.
    #[must_use]
    pub fn new(settings: &connection_limit::Settings, ipv6_prefix: u8, before: Option<&Self>) -> Self {
        let limits = |settings, before: Option<&Arc<Limits>>| {
            Limits::new(settings, &[], &[], ipv6_prefix, before.map(AsRef::as_ref)).map(Arc::new)
        };
        Self {
            accepted: limits(&settings.accepted, before.and_then(|before| before.accepted.as_ref())),
            handshake: limits(&settings.handshake, before.and_then(|before| before.handshake.as_ref())),
        }
    }

    /// Goes on with the counts of `before`.
    pub fn put_in_force(&self, settings: &connection_limit::Settings, before: &Self, now: u64) {
        for (limits, settings, before) in [
            (&self.accepted, &settings.accepted, &before.accepted),
            (&self.handshake, &settings.handshake, &before.handshake),
        ] {
            if let (Some(limits), Some(before)) = (limits, before) {
                limits.put_in_force(settings, before, now);
            }
        }
    }

    /// Whether there is any.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.accepted.is_none() && self.handshake.is_none()
    }

    /// A connection was accepted. What it takes is given back when the result is dropped.
    ///
    /// # Errors
    /// [`Reject::TooManyRequests`](crate::refusal::Reject::TooManyRequests): its source has, or makes, too many.
    pub fn accept(&self, source: Source, address: std::net::IpAddr, now: u64) -> Result<ConnectionPermit, Refusal> {
        match &self.accepted {
            None => Ok(ConnectionPermit::default()),
            Some(limits) => judge(limits, source, address, now),
        }
    }

    /// A TLS handshake is about to begin.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub fn shake_hands(&self, source: Source, address: std::net::IpAddr, now: u64) -> Result<(), Refusal> {
        match &self.handshake {
            None => Ok(()),
            Some(limits) => judge(limits, source, address, now).map(drop),
        }
    }

    /// Ends the shadow mode of a limit: an operator says so. `what` is `connection_limit.NAME`.
    pub fn promote(&self, what: &str) {
        if let Some(name) = what.strip_prefix(PREFIX) {
            self.each().for_each(|limits| limits.promote(&format!("limit.{name}")));
        }
    }

    /// What limits in shadow mode would have refused since the last call, each with its name.
    pub fn would_refuse(&self) -> impl Iterator<Item = (Arc<str>, ShadowRefusals)> {
        let told = self.each().flat_map(|limits| limits.would_refuse());
        told.map(|(name, would)| (format!("{PREFIX}{name}").into(), would))
    }

    /// What an operator asks for.
    #[must_use]
    pub fn answer(&self, question: &LimitQuestion, now: u64) -> Vec<LimitRow> {
        let rows = self.each().flat_map(|limits| report::answer(Some(limits), question, now));
        rows.map(|row| LimitRow { limit: format!("{PREFIX}{}", row.limit), ..row }).collect()
    }

    /// What each has counted so far.
    #[must_use]
    pub fn sums(&self) -> Vec<LimitSum> {
        let sums = self.each().flat_map(|limits| limits.sums());
        sums.map(|sum| LimitSum { name: format!("{PREFIX}{}", sum.name).into(), ..sum }).collect()
    }

    fn each(&self) -> impl Iterator<Item = &Arc<Limits>> {
        self.accepted.iter().chain(&self.handshake)
    }
}

fn judge(
    limits: &Arc<Limits>,
    source: Source,
    address: std::net::IpAddr,
    now: u64,
) -> Result<ConnectionPermit, Refusal> {
    let headers = HeaderMap::new();
    let facts = LimitFacts {
        source,
        address,
        ja4: None,
        headers: &headers,
        target: None,
        route: None,
        identity: None,
        plan: None,
    };
    let mut judged = LimitResult::default();
    limits.judge(When::Arrived, &facts, now, &mut judged)?;
    let is_owing = judged.is_owing();
    Ok(ConnectionPermit(is_owing.then(|| Box::new((Arc::clone(limits), judged)))))
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use super::*;
    use crate::{
        os::clock::SECOND,
        settings::limit::{self, Allowance, Except, KeyPart, Limit, Rate},
    };

    fn limit(name: &str, length: Option<u8>, allowance: Allowance) -> Limit {
        Limit {
            by: vec![KeyPart::Address(length)],
            except: Except { sources: vec!["198.51.100.0/24".parse().unwrap()], ..Except::default() },
            ..Limit::plain(name.to_owned(), allowance, 1_000)
        }
    }

    fn rate(units: u64) -> Allowance {
        Allowance::Rate(Rate { units, per: Duration::from_secs(1), burst: units })
    }

    fn settings(accepted: Vec<Limit>, handshake: Vec<Limit>) -> connection_limit::Settings {
        let limits = |limits| limit::Settings { limits, ..limit::Settings::default() };
        connection_limit::Settings { accepted: limits(accepted), handshake: limits(handshake) }
    }

    #[track_caller]
    fn accept(limits: &ConnectionLimits, address: &str, now: u64, expect: &str) -> Option<ConnectionPermit> {
        let address: IpAddr = address.parse().unwrap();
        let accepted = limits.accept(Source::of(address, 64), address, now);
        let refused = accepted.as_ref().err().map(|refusal| refusal.detail.to_string());
        assert_eq!(refused.unwrap_or_default(), expect, "{address}");
        accepted.ok()
    }

    #[test]
    fn a_limit_in_shadow_is_told_of_and_promoted() {
        let shadow = Limit { shadow: true, ..limit("new", None, rate(1)) };
        let handshake = Limit { shadow: true, ..limit("tls", None, rate(1)) };
        let all = settings(vec![shadow], vec![handshake]);
        assert_eq!(all.in_shadow().collect::<Vec<_>>(), ["connection_limit.new", "connection_limit.tls"]);
        let limits = ConnectionLimits::new(&all, 64, None);
        let told = |limits: &ConnectionLimits| {
            limits.would_refuse().map(|(name, would)| (name.to_string(), would.requests)).collect::<Vec<_>>()
        };
        (0..3).for_each(|_| drop(accept(&limits, "192.0.2.1", 0, "")));
        assert_eq!(told(&limits), [("connection_limit.new".to_owned(), 2)]);
        assert_eq!(told(&limits), []);
        // A limit on requests of the same name is another one.
        limits.promote("limit.new");
        accept(&limits, "192.0.2.1", 0, "");
        limits.promote("connection_limit.new");
        accept(&limits, "192.0.2.1", 0, "over limit.new");
        limits.promote("connection_limit.tls");
        let (source, address) = ("192.0.2.1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        assert!(limits.shake_hands(source, address, 0).is_ok() && limits.shake_hands(source, address, 0).is_err());
    }

    #[test]
    fn d05_connections_at_once_by_address_and_by_prefix() {
        let all = settings(
            vec![limit("one", None, Allowance::Concurrent(2)), limit("many", Some(48), Allowance::Concurrent(3))],
            Vec::new(),
        );
        let limits = ConnectionLimits::new(&all, 64, None);
        let mut held: Vec<_> = (0..2).map(|_| accept(&limits, "2001:db8::1", 0, "")).collect();
        accept(&limits, "2001:db8::2", 0, "over limit.one");
        held.push(accept(&limits, "2001:db8:0:1::1", 0, ""));
        accept(&limits, "2001:db8:0:2::1", 0, "over limit.many");
        let other = accept(&limits, "2001:db8:1::1", 0, "");
        for _ in 0..9 {
            std::mem::forget(accept(&limits, "198.51.100.7", 0, ""));
        }
        // Another configuration goes on with the same counts, and whoever came before leaves in it.
        let after = ConnectionLimits::new(&all, 64, Some(&limits));
        after.put_in_force(&all, &limits, 0);
        accept(&after, "2001:db8::1", 0, "over limit.one, limit.many");
        drop((held, other));
        let again: Vec<_> = (0..2).map(|_| accept(&after, "2001:db8::1", 0, "")).collect();
        accept(&after, "2001:db8::1", 0, "over limit.one");
        drop(again);
        let rows = after.answer(&LimitQuestion::List, 0);
        assert_eq!((&*rows[0].limit, rows[0].keys), ("connection_limit.one", Some(0)));
    }

    #[test]
    fn d05_new_connections_and_handshakes_in_a_time() {
        let all = settings(vec![limit("new", None, rate(4))], vec![limit("tls", None, rate(2))]);
        let limits = ConnectionLimits::new(&all, 64, None);
        let (source, address) = ("192.0.2.1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let served = |now: u64| (0..10).filter(|_| limits.accept(source, address, now).is_ok()).count();
        assert_eq!((served(SECOND), served(SECOND * 2), served(SECOND * 10)), (4, 4, 4));
        let shaken = (0..10).filter(|_| limits.shake_hands(source, address, SECOND).is_ok());
        assert_eq!(shaken.count(), 2);
        assert!(!limits.is_empty() && ConnectionLimits::default().is_empty());
    }
}
