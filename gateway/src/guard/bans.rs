//! Bans: the one place that asks whether a ban is safe, records it, tells the kernel and tells the proxy, in this order.
//!
//! *Invariant:* nothing is in the kernel that is not recorded: in the store, or, while another process has locked that,
//! in the audit chain and soon in the store. A ban that cannot be recorded is not made: an enforcement that nobody can
//! explain is worse than one request more, and status says so loudly. What an operator lifts is lifted all the same.

use std::collections::{BTreeMap, HashMap};

use gateway_common::{
    maps::{self, NEVER},
    source::{Source, SourceKey},
};
use serde_json::{Map, Value, json};

use crate::{
    guard::{
        audit::{AuditChain, members, members_of},
        cluster::fact::ClusterFact,
        control::{AllowEntry, ControlAnswer, ControlRequest, LostStatus, watch::Watchers},
        store::{BanEnd, BanRecord, BanStore, StoreChange, StoreError},
    },
    message::{AllowInForce, BanInForce, MAX_REFUSED, ToProxy, UpstreamReport},
    os::clock::{self, MINUTE, Now, SECOND},
    policy::detect::BanRequest,
    settings::{
        detect::{MAX_EVIDENCE, Rule},
        guard,
    },
};

mod actor;
mod ask;
mod change;
mod enforcer;
mod expire;
mod feeds;
mod journal;
mod ledger;
mod lifecycle;
mod log_lines;
mod operator;
mod peers;
mod policy;
mod recording;
mod refused;
mod security_log;
mod span;
mod status;

use enforcer::{Blocked, Enforcer, Prefixes, around, kernel_ban};
use feeds::lists::Feeds;
use journal::{Journal, Write, nothing};
use ledger::{Ledger, expiry, write_figures};
use log_lines::LogLines;
use operator::{
    block_request::BlockRequest,
    confirm,
    would_refuse::{DeniedInShadow, WouldRefuse},
};
use policy::{BanPolicy, pardons, safety};
use security_log::SecurityLog;
use span::span;
use status::shortfalls::Shortfalls;

pub(crate) use actor::Actor;
pub(crate) use feeds::Planned;
pub(crate) use lifecycle::GuardParts;
pub(crate) use policy::{
    protected_addresses::{LoggedIn, identity_providers, operators},
    safety::ProtectedAddresses,
};
pub(crate) use refused::Refused;
pub(crate) use status::{PacketSamples, PacketTraces, Processes, UNGUARDED};

/// All bans and allowances, and everything needed to decide about them.
pub(crate) struct Guard {
    settings: guard::Settings,
    /// What rules may ban.
    policy: BanPolicy,
    /// What is in force, and its history.
    ledger: Ledger,
    /// Store and audit chain.
    journal: Journal,
    /// Where it takes effect.
    enforcer: Enforcer,
    /// What limits in shadow mode would have refused, by `limit.NAME`.
    would_refuse: BTreeMap<String, WouldRefuse>,
    /// What requirements of routes would have denied, while they are in shadow mode.
    would_deny: BTreeMap<String, DeniedInShadow>,
    /// What the proxy is to be told, in order.
    notices: Vec<ToProxy>,
    /// What other machines are to be told.
    facts: Vec<ClusterFact>,
    /// What the log is to be told of bans by rules.
    log_lines: LogLines,
    /// Lists, beneath the bans that are made one by one.
    feeds: Feeds,
    /// What an operator should know of.
    shortfalls: Shortfalls,
    /// What is recorded once a minute.
    security_log: SecurityLog,
}

impl Guard {
    /// Answers the control socket. [`ControlRequest::Status`], [`ControlRequest::Reload`] and others need more than bans: they are answered
    /// elsewhere.
    pub(crate) fn handle(&mut self, request: ControlRequest, actor: &Actor, now: Now) -> ControlAnswer {
        self.catch_up();
        // What has ended in the kernel is history in every answer, without waiting for the next tick.
        self.sweep(now);
        let done = match request {
            ControlRequest::BlockAdd { source, seconds, reason, shadow, confirm, force } => {
                self.add(BlockRequest { source, seconds, reason, shadow, confirm, force }, actor, now)
            }
            ControlRequest::Confirm { id } => self.confirm(id, actor, now),
            ControlRequest::ShadowReport => return ControlAnswer::Shadow { rows: self.shadowed(now) },
            ControlRequest::ShadowPromote { what } => self.promote(&what, actor, now),
            ControlRequest::AuditRotateKey => self.rotate_key(actor, now),
            ControlRequest::Resume => self.resume(actor, now),
            ControlRequest::BlockDel { source } => self.del(source, actor, now),
            ControlRequest::BlockFlush => self.flush(actor, now),
            ControlRequest::BlockList => {
                let (entries, lists) = (self.entries(now), self.feed_list());
                return ControlAnswer::Blocks { entries, lists, unattached: self.unattached() };
            }
            ControlRequest::BlockFind { text, before, most } => return self.found(&text, before, most, now),
            ControlRequest::AllowAdd { source, reason, yes } => self.allow(source, &reason, yes, actor, now),
            ControlRequest::AllowDel { source } => self.disallow(source, actor, now),
            ControlRequest::AllowList => return ControlAnswer::Allows { entries: self.allows() },
            ControlRequest::ClampList => return ControlAnswer::Clamps { entries: self.clamps(now) },
            ControlRequest::ClampDel { source } => self.unclamp(source, actor, now),
            ControlRequest::Why { address } => match self.why(address, now) {
                Ok(why) => return ControlAnswer::Why(Box::new(why)),
                Err(refused) => Err(refused),
            },
            ControlRequest::Detach => self.detach(actor, now),
            ControlRequest::Attach => self.attach(actor, now),
            ControlRequest::BlockImportBegin { feed, seconds, shadow, force } => {
                return self.import_begin(feed, seconds, shadow, force, actor, now).unwrap_or_else(Into::into);
            }
            ControlRequest::BlockImportAbort { id, reason } => self.import_abort(id, reason, actor, now),
            ControlRequest::BlockImportChunk { id, entries } => {
                return self.import_chunk(id, entries, actor, now).unwrap_or_else(Into::into);
            }
            ControlRequest::BlockExport { feed, cursor } => {
                return self.export(feed.as_deref(), cursor, now).unwrap_or_else(Into::into);
            }
            ControlRequest::AdminTokenNew { .. }
            | ControlRequest::AdminTokenList
            | ControlRequest::AdminTokenRevoke { .. }
            | ControlRequest::AlertList
            | ControlRequest::AlertSilence { .. }
            | ControlRequest::AlertTest { .. }
            | ControlRequest::AlertUnsilence { .. }
            | ControlRequest::Anomalies
            | ControlRequest::Explain { .. }
            | ControlRequest::KeyImport { .. }
            | ControlRequest::KeyList { .. }
            | ControlRequest::KeyNew(_)
            | ControlRequest::KeyRevoke { .. }
            | ControlRequest::KeyRotate { .. }
            | ControlRequest::KeyShow { .. }
            | ControlRequest::TokenRevoke { .. }
            | ControlRequest::TokenRevocationDel { .. }
            | ControlRequest::TokenRevocations { .. }
            | ControlRequest::Status
            | ControlRequest::Top
            | ControlRequest::Limit { .. }
            | ControlRequest::Profiles { .. }
            | ControlRequest::Quota { .. }
            | ControlRequest::Reload { .. }
            | ControlRequest::Upgrade
            | ControlRequest::Watch { .. }
            | ControlRequest::Whoami
            | ControlRequest::BlockImportCommit { .. }
            | ControlRequest::FeedRefresh { .. } => Err(Refused::new("not_here", "not a matter of bans")),
        };
        self.shortfalls.note_full(&done);
        match done {
            Ok((message, changed)) => ControlAnswer::Done { message, changed },
            Err(refused) => refused.into(),
        }
    }

    /// When the ban of `source` is in the kernel, how long that took from the offence on.
    pub(crate) fn reacted(&mut self, id: u64, noted: u64, monotonic: u64) {
        if let Some(nanos) = monotonic.checked_sub(noted).filter(|nanos| *nanos < MINUTE) {
            self.ledger.note_reaction(id, nanos / 1_000);
        }
    }

    /// The proxy has closed the connections of a banned source; only the first word of it counts.
    pub(crate) fn closed(&mut self, id: u64, connections: u32) {
        self.ledger.note_closed(id, connections);
    }

    /// Has the store learn figures that no decision waits for, some at a time; all of them at the end.
    fn save_figures(&mut self, most: usize) {
        let records = self.ledger.unsaved(most);
        let ids: Vec<u64> = records.iter().map(|record| record.id).collect();
        if !ids.is_empty()
            && self.amend(move |change| records.iter().try_for_each(|record| write_figures(change, record)))
        {
            self.ledger.saved(&ids);
        }
    }

    /// What bans have made the proxy refuse.
    pub(crate) fn refused(&mut self, bans: &[(u64, u64)]) {
        for (id, refused) in bans.iter().take(MAX_REFUSED) {
            self.ledger.note_refused(*id, *refused);
        }
    }

    /// What the proxy is to be told since the last call, in order.
    pub(crate) fn notices(&mut self) -> Vec<ToProxy> {
        std::mem::take(&mut self.notices)
    }

    /// Enforced bans, for a proxy that starts.
    pub(crate) fn bans_in_force(&self) -> Vec<BanInForce> {
        let enforced = self.ledger.records().filter(|record| !record.shadow);
        enforced.map(|record| BanInForce { id: record.id, source: record.source, expires: expiry(record) }).collect()
    }

    /// Allowances, for a proxy that starts.
    pub(crate) fn allows_in_force(&self) -> Vec<AllowInForce> {
        self.enforcer.prefixes().allows.keys().map(|source| AllowInForce { source: *source }).collect()
    }

    /// Whether `source` may be banned.
    fn judge(&self, source: Source) -> Result<(), Refused> {
        let bounds = safety::Bounds { widest_ipv4: self.settings.widest_ipv4, widest_ipv6: self.settings.widest_ipv6 };
        let allowed =
            |source| self.enforcer.prefixes().allowed(source).map(|allow| (allow.source, allow.actor.clone()));
        safety::judge(source, bounds, &self.policy.protected, allowed)?;
        // Last, because an operator may insist.
        self.judge_never_ban(source)
    }

    fn find(&self, source: Source) -> Option<&BanRecord> {
        self.ledger.find(source)
    }

    fn key(&self, source: Source) -> Option<SourceKey> {
        self.enforcer.key(source)
    }

    fn draft(
        &self,
        source: Source,
        reason: String,
        actor: &Actor,
        seconds: Option<u64>,
        shadow: bool,
        now: Now,
    ) -> BanRecord {
        let after = |start: u64, unit: u64| seconds.map(|seconds| start.saturating_add(seconds.saturating_mul(unit)));
        BanRecord {
            id: 0,
            source,
            reason,
            actor: actor.to_string(),
            rule: None,
            relay: None,
            evidence: Vec::new(),
            shadow,
            started: now.unix_millis,
            expires: after(now.unix_millis, 1_000),
            boot: self.ledger.boot().to_owned(),
            expires_monotonic: after(now.monotonic, SECOND),
            reaction_micros: None,
            connections_closed: None,
            ended: None,
            confirm: None,
            packets: 0,
            bytes: 0,
        }
    }
}

#[cfg(test)]
mod tests;
