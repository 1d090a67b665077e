//! What the guard measures, as the observer is told it: the same numbers that `gateway status` shows.

use crate::{
    guard::control::GuardStatus,
    message::telemetry::{MAX_NAMES, Metric, Samples},
    settings::crowdsec::LIST,
};

/// What is not in [`GuardStatus`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reloads {
    /// How many were put in force.
    pub(crate) done: u64,
    /// How many were refused.
    pub(crate) refused: u64,
    /// How often changed files were put in force.
    pub(crate) files: u64,
    /// How often they were refused.
    pub(crate) files_refused: u64,
    /// Whether files have changed and are not in force.
    pub(crate) has_unusable_files: bool,
}

/// What requirements of routes in shadow would have denied: how many requests, of how many principals.
pub(crate) fn add_denied_in_shadow(out: &mut Samples, denied: &[(&str, u64, u64)]) {
    for (what, requests, principals) in denied.iter().take(MAX_NAMES) {
        out.count(Metric::ShadowDenied, &[what], *requests);
        out.level(Metric::ShadowPrincipals, &[what], *principals);
    }
}

/// Everything else that the guard measures.
pub(crate) fn samples(status: &GuardStatus, reloads: Reloads, unix_seconds: u64, in_force_since: u64) -> Samples {
    let mut out = Samples::default();
    let moment = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    out.is(Metric::BuildInfo, &[&status.version], true);
    for (role, is_up) in [
        ("launcher", true),
        ("guard", true),
        ("proxy", status.proxy_pid.is_some()),
        ("observer", status.observer_pid.is_some()),
    ] {
        out.is(Metric::ProcessUp, &[role], is_up);
    }
    out.count(Metric::ProcessRestarts, &["guard"], status.guard_restarts.into());
    out.count(Metric::ProcessRestarts, &["proxy"], status.proxy_restarts);
    out.count(Metric::ProcessRestarts, &["observer"], status.observer_restarts);
    out.count(Metric::ProxyStandstills, &[], status.proxy_standstills);
    out.moment(Metric::GuardStarted, &[], moment(unix_seconds.saturating_sub(status.uptime_seconds)));
    out.count(Metric::Reloads, &["ok"], reloads.done);
    out.count(Metric::Reloads, &["refused"], reloads.refused);
    out.count(Metric::FileChanges, &["ok"], reloads.files);
    out.count(Metric::FileChanges, &["refused"], reloads.files_refused);
    out.is(Metric::FilesRefused, &[], reloads.has_unusable_files);
    out.is(Metric::ReloadSuccessful, &[], status.reload_refused.is_none());
    out.moment(Metric::ConfigSince, &[], moment(in_force_since));
    out.level(Metric::Warnings, &[], count(status.warnings.len()));

    out.level(Metric::Interfaces, &[], count(status.interfaces.len()));
    out.level(Metric::InterfacesWanted, &[], status.interfaces_wanted);
    for counted in &status.verdicts {
        out.count(Metric::Packets, &[&counted.verdict], counted.packets);
        out.count(Metric::PacketBytes, &[&counted.verdict], counted.bytes);
    }

    out.level(Metric::Blocks, &[], status.blocks);
    for ban in status.bans.iter().take(MAX_NAMES) {
        let labels = [ban.origin.as_str(), &ban.rule, &ban.mode];
        out.level(Metric::Bans, &labels, ban.in_force);
        out.count(Metric::BansBegun, &labels, ban.begun);
    }
    out.level(Metric::BlocksMax, &[], status.max_blocks);
    out.level(Metric::Allows, &[], status.allows);
    for feed in status.feeds.iter().take(MAX_NAMES) {
        out.level(Metric::ListEntries, &[&feed.name], feed.entries);
        let fetched = status.fetches.iter().find(|fetch| fetch.name == feed.name && feed.origin == "url");
        let fetched = fetched.map(|fetch| &fetch.confirmed);
        // CrowdSec confirms what has not changed by each answer.
        let answered = status.crowdsec.as_ref().filter(|_| feed.origin == LIST).map(|crowdsec| &crowdsec.answered);
        let confirmed = fetched.or(answered).and_then(|at| seconds(at));
        if let Some(loaded) = confirmed.max(seconds(&feed.loaded)) {
            out.moment(Metric::ListLoaded, &[&feed.name], loaded);
        }
    }
    for feed in status.feeds.iter().filter(|feed| feed.origin == "file").take(MAX_NAMES) {
        out.is(Metric::ListStale, &[&feed.name, "file"], feed.is_stale);
    }
    for fetch in status.fetches.iter().take(MAX_NAMES) {
        for (result, count) in [
            ("changed", fetch.changed),
            ("unchanged", fetch.unchanged),
            ("failed", fetch.failed),
            ("refused", fetch.refusals),
        ] {
            out.count(Metric::ListFetches, &[&fetch.name, result], count);
        }
        out.is(Metric::ListRefused, &[&fetch.name], fetch.refused.is_some());
        out.is(Metric::ListStale, &[&fetch.name, "url"], fetch.is_stale);
    }
    if let Some(crowdsec) = &status.crowdsec {
        out.is(Metric::CrowdsecUp, &[], crowdsec.is_up);
        out.moment(Metric::CrowdsecAnswered, &[], seconds(&crowdsec.answered).unwrap_or(0));
        out.level(Metric::CrowdsecDecisions, &[], crowdsec.decisions);
        out.level(Metric::CrowdsecWaiting, &[], crowdsec.waiting);
        out.count(Metric::CrowdsecPulls, &["ok"], crowdsec.pulled);
        out.count(Metric::CrowdsecPulls, &["failed"], crowdsec.pull_failures);
        out.count(Metric::CrowdsecSkipped, &["own"], crowdsec.skipped_own);
        out.count(Metric::CrowdsecSkipped, &["other"], crowdsec.skipped_other);
        out.count(Metric::CrowdsecSkipped, &["simulated"], crowdsec.skipped_simulated);
        out.count(Metric::CrowdsecTold, &["ok"], crowdsec.told);
        out.count(Metric::CrowdsecTold, &["lifted"], crowdsec.lifted);
        out.count(Metric::CrowdsecTold, &["failed"], crowdsec.tell_failures);
        out.count(Metric::CrowdsecTold, &["dropped"], crowdsec.dropped);
    }
    out.level(Metric::Clamps, &["enforce"], status.kernel.clamps);
    out.level(Metric::Clamps, &["shadow"], status.kernel.shadow_clamps);
    for (plan, sources) in status.kernel.plans.iter().take(MAX_NAMES) {
        out.level(Metric::PlanBudgets, &[plan], *sources);
    }
    out.is(Metric::RulesPaused, &[], status.paused.is_some());
    out.is(Metric::AuditFailing, &[], status.audit_failing);
    out.level(Metric::AuditRecords, &[], status.audit.records);
    out.level(Metric::AuditBytes, &[], status.audit.bytes);
    if let Some(signed) = seconds(&status.audit.signed_at) {
        out.moment(Metric::AuditSigned, &[], signed);
    }
    for anchor in status.audit.anchors.iter().take(MAX_NAMES) {
        out.moment(Metric::AnchorSent, &[&anchor.name], seconds(&anchor.sent).unwrap_or(0));
        out.is(Metric::AnchorFailing, &[&anchor.name], anchor.failing.is_some());
    }
    for disk in status.disks.iter().take(MAX_NAMES) {
        out.level(Metric::DiskAvailable, &[&disk.folder], disk.available);
        out.level(Metric::DiskSize, &[&disk.folder], disk.size);
    }
    for certificate in status.certificates.iter().take(MAX_NAMES) {
        out.moment(Metric::CertificateEnd, &[&certificate.key, &certificate.path], certificate.not_after);
    }
    out.count(Metric::Lost, &["samples"], status.lost.samples);
    out
}

/// A moment of RFC 3339, in seconds since 1970; `None`: it is empty.
fn seconds(moment: &str) -> Option<i64> {
    moment.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
