//! What the guard measures, as the observer is told it: the same numbers that `gateway status` shows.

use crate::{
    guard::control::Status,
    message::telemetry::{MAX_NAMES, Metric, Samples},
};

/// What is not in [`Status`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reloads {
    /// How many were put in force.
    pub(crate) done: u64,
    /// How many were refused.
    pub(crate) refused: u64,
}

/// Everything that the guard measures.
pub(crate) fn samples(status: &Status, reloads: Reloads, unix_seconds: u64, in_force_since: u64) -> Samples {
    let mut out = Samples::default();
    let moment = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    out.is(Metric::BuildInfo, &[&status.version], true);
    for (role, is_up) in
        [("guard", true), ("proxy", status.proxy_pid.is_some()), ("observer", status.observer_pid.is_some())]
    {
        out.is(Metric::ProcessUp, &[role], is_up);
    }
    out.count(Metric::ProcessRestarts, &["proxy"], status.proxy_restarts);
    out.count(Metric::ProcessRestarts, &["observer"], status.observer_restarts);
    out.moment(Metric::GuardStarted, &[], moment(unix_seconds.saturating_sub(status.uptime_seconds)));
    out.count(Metric::Reloads, &["ok"], reloads.done);
    out.count(Metric::Reloads, &["refused"], reloads.refused);
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
        if let Ok(loaded) = feed.loaded.parse::<jiff::Timestamp>() {
            out.moment(Metric::ListLoaded, &[&feed.name], loaded.as_second());
        }
    }
    out.is(Metric::RulesPaused, &[], status.paused.is_some());
    out.is(Metric::AuditFailing, &[], status.audit_failing);
    for certificate in status.certificates.iter().take(MAX_NAMES) {
        out.moment(Metric::CertificateEnd, &[&certificate.key, &certificate.path], certificate.not_after);
    }
    out.count(Metric::Lost, &["samples"], status.lost.samples);
    out
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
