//! Starts the guard over what an earlier one left, gives it a new configuration, does what is due every second, and ends
//! it.

use super::*;
use super::{
    enforcer::{CONFIG, Drifts},
    policy::{
        anomalies::AnomalyPolicy,
        breaker::BanBreaker,
        clamps::Clamps,
        good_clients::{self, Good},
        plan_budgets::PlanBudgets,
        probations::{self, Probations},
        refusals::Refusals,
        trouble::FailingClients,
    },
};
use crate::{
    anchor::SignedHead,
    guard::{
        audit::{AuditFinding, Redo},
        enforcement::Enforcement,
        store::AllowanceRecord,
    },
};

mod takeover;

/// How many figures the store learns of at once.
const FIGURES: usize = 50;

/// Up to so many entries, all are compared with the kernel every second: that takes about a millisecond.
const FEW: usize = 1_000;

/// Above this many entries the comparison with the kernel is made every tenth time only.
const MANY: usize = 10_000;

/// What the guard is made of.
pub(crate) struct GuardParts {
    pub(crate) settings: guard::Settings,
    pub(crate) rules: Vec<Rule>,
    pub(crate) protected: ProtectedAddresses,
    pub(crate) store: BanStore,
    pub(crate) audit: AuditChain,
    pub(crate) drops: Box<dyn Enforcement>,
    /// This boot's id: on another, the store's monotonic times mean nothing.
    pub(crate) boot: String,
    /// What store and audit chain were found to be.
    pub(crate) findings: Vec<AuditFinding>,
    /// The store does not know all that was decided.
    pub(crate) is_behind: bool,
    /// What an operator should know and what only a restart can change.
    pub(crate) standing: Vec<String>,
}

impl Guard {
    /// Takes over what an earlier guard left: bans with their remaining times, and the kernel's maps.
    ///
    /// # Errors
    /// The store cannot be read or written, or the kernel does not take the rules.
    pub(crate) fn start(parts: GuardParts, start: Map<String, Value>, now: Now) -> Result<Self, Refused> {
        let is_behind = parts.is_behind;
        let (mut guard, findings) = Self::over(parts, now)?;
        guard.journal.live_on();
        // A disk that is full keeps no record, and must not keep the gateway from serving: the records are made up for.
        guard.record("start", start, now);
        let mut redo = Redo::new();
        for mut finding in findings {
            if !finding.redo.is_empty() {
                redo = std::mem::take(&mut finding.redo);
            }
            tracing::warn!(tampered = finding.tampered, "{}: {}", finding.event, finding.text);
            let mut told = members(json!({"finding": finding.text}));
            if let Some(ahead) = finding.ahead {
                told.insert("ahead".to_owned(), json!(ahead));
            }
            if !finding.is_told {
                guard.record(finding.event, told, now);
            }
            guard.shortfalls.add(warning_of(&finding));
        }
        guard.take_over(now, true)?;
        let lists = guard.redo(redo, now);
        guard.take_from_kernel(is_behind, &lists, now);
        if let Err(refused) = guard.lift_allowed(now) {
            tracing::error!(error = %refused, "blocks of allowed sources stay listed until they can be removed");
        }
        guard.load_rules()?;
        guard.apply_promotions()?;
        guard.sweep(now);
        let drifts = guard.compare();
        let entered = drifts.count();
        let interfaces: Vec<&str> =
            guard.enforcer.path().interfaces().iter().filter(|at| at.adopted).map(|at| &*at.name).collect();
        if !interfaces.is_empty() || !guard.ledger.is_empty() {
            let members = members(json!({"interfaces": interfaces, "bans": guard.ledger.len(), "entered": entered}));
            guard.record("adoption", members, now);
        }
        guard.enforcer.repair(drifts);
        let since = now.unix_millis.saturating_sub(pardons::millis(guard.settings.safety.remember_good));
        guard.amend(move |change| change.forget_good_before(since));
        guard.notices.clear();
        Ok(guard)
    }

    /// Opens what a guard has left while none runs: the same decisions over the same store and maps. Nothing is
    /// compared, repaired or started.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn offline(parts: GuardParts, now: Now) -> Result<Self, Refused> {
        let is_behind = parts.is_behind;
        let (mut guard, findings) = Self::over(parts, now)?;
        guard.shortfalls.add(findings.iter().map(|finding| finding.text.clone()));
        guard.take_over(now, false)?;
        let told = findings.into_iter().map(|finding| finding.redo).rfind(|redo| !redo.is_empty());
        let lists = guard.redo(told.unwrap_or_default(), now);
        guard.take_from_kernel(is_behind, &lists, now);
        Ok(guard)
    }

    fn over(parts: GuardParts, now: Now) -> Result<(Self, Vec<AuditFinding>), Refused> {
        let GuardParts { settings, rules, protected, store, audit, drops, boot, findings, is_behind: _, mut standing } =
            parts;
        let stored = |error: StoreError| Refused::new("store_failed", error.to_string());
        let probation = settings.safety.probation;
        let since = now.unix_millis.saturating_sub(pardons::millis(probation));
        // What only makes rules more or less patient keeps no gateway from serving.
        let mut without = |what: &str, error: StoreError| {
            let text = format!("{what} could not be read: {error}");
            tracing::error!("{text}");
            standing.push(text);
        };
        let expired = store.expired_since(since, probations::MOST).unwrap_or_else(|error| {
            without("who was banned lately and is on probation", error);
            Vec::new()
        });
        let probations = Probations::read(expired, probation, now);
        let promotions = store.promotions().map_err(stored)?;
        let promoted = promotions.into_iter().map(|promotion| (promotion.what, promotion.actor)).collect();
        let pardons = pardons::Pardons::read(store.pardons().map_err(stored)?, settings.safety.unban_grace, now);
        let since = now.unix_millis.saturating_sub(pardons::millis(settings.safety.remember_good));
        let good = store.good(since, good_clients::MOST).unwrap_or_else(|error| {
            without("which clients were good", error);
            Vec::new()
        });
        let good = Good::read(good, now);
        let enforcer = Enforcer::new(drops, settings.ipv6_prefix);
        let policy = BanPolicy {
            rules,
            promoted,
            protected,
            unproven: Vec::new(),
            breaker: BanBreaker::default(),
            clamps: Clamps::default(),
            plan_budgets: PlanBudgets::default(),
            pardons,
            probations,
            good,
            trouble: FailingClients::default(),
            anomalies: AnomalyPolicy::default(),
            refusals: Refusals::default(),
        };
        let guard = Self {
            settings,
            policy,
            ledger: Ledger::new(boot),
            journal: Journal::new(store, audit),
            enforcer,
            feeds: Feeds::default(),
            notices: Vec::new(),
            log_lines: LogLines::default(),
            would_refuse: BTreeMap::new(),
            would_deny: BTreeMap::new(),
            facts: Vec::new(),
            shortfalls: Shortfalls::new(standing),
            security_log: SecurityLog::default(),
        };
        Ok((guard, findings))
    }

    /// Takes over allowances and bans from the store, and the slots that prefixes count in from the kernel.
    fn take_over(&mut self, now: Now, repairs: bool) -> Result<(), Refused> {
        let records = self.journal.store().in_force();
        let records = records.map_err(|error| Refused::new("store_failed", error.to_string()))?;
        let stored = self.journal.store().allowed().map_err(|error| Refused::new("store_failed", error.to_string()))?;
        for AllowanceRecord { source, reason, actor } in stored {
            self.enforcer.prefixes_mut().allow(AllowEntry { source, reason, actor });
        }
        self.configure_allows();
        let slots: HashMap<Source, u32> = self
            .enforcer
            .path()
            .rules()
            .into_iter()
            .map(|(source, rule)| (source, rule.slot))
            .filter(|(_, slot)| *slot > 0)
            .collect();
        for mut record in records {
            self.rebase(&mut record, now);
            if self.key(record.source).is_none() && record.relay.is_none() {
                let slot = slots.get(&record.source).copied().filter(|slot| self.enforcer.prefixes().is_free(*slot));
                let slot = slot.unwrap_or_else(|| self.enforcer.prefixes().free_slot());
                let blocked = Blocked { shadow: record.shadow, expires: expiry(&record), slot };
                self.enforcer.prefixes_mut().block(record.source, blocked);
            }
            self.ledger.keep(record);
        }
        self.adopt_feeds(&slots, now, repairs)
    }

    /// Within one boot the monotonic clock decides, whatever happened to the wall clock. After a reboot only the wall
    /// clock is left; a ban never gets longer than it was.
    fn rebase(&mut self, record: &mut BanRecord, now: Now) {
        if record.boot == self.ledger.boot() {
            return;
        }
        self.rebased(record, now);
        let rebased = record.clone();
        self.amend(move |change| change.rebase(&rebased));
    }

    pub(super) fn rebased(&self, record: &mut BanRecord, now: Now) {
        self.ledger.boot().clone_into(&mut record.boot);
        record.expires_monotonic = record.expires.map(|expires| {
            let whole = expires.saturating_sub(record.started);
            let left = expires.saturating_sub(now.unix_millis).min(whole);
            now.monotonic.saturating_add(left.saturating_mul(1_000_000))
        });
        record.confirm = record.confirm.map(|confirm| confirm::rebased(confirm, record.started, now));
    }

    /// Puts the configuration's allowances in force beside those of operators. The store is not asked: an operator's
    /// change may still have to be written there.
    fn configure_allows(&mut self) {
        let configured = self.settings.allow.iter().map(|source| AllowEntry {
            source: *source,
            reason: "guard.allow".to_owned(),
            actor: CONFIG.to_owned(),
        });
        let trusted = self.settings.trusted_proxies.iter().map(|source| AllowEntry {
            source: *source,
            reason: "proxy.trusted_proxies".to_owned(),
            actor: CONFIG.to_owned(),
        });
        self.enforcer.prefixes_mut().configure_allows(trusted.chain(configured));
    }

    /// Ends bans that are allowed by now.
    fn lift_allowed(&mut self, now: Now) -> Result<(), Refused> {
        let allowed = |record: &&BanRecord| self.enforcer.prefixes().allowed(record.source).is_some();
        let ids: Vec<u64> = self.ledger.records().filter(allowed).map(|record| record.id).collect();
        self.end(&ids, "lifted: allowed by the configuration", Some("unban"), now, None, nothing())
    }

    fn load_rules(&mut self) -> Result<(), Refused> {
        self.feeds.rules_replaced();
        self.enforcer.load_rules().map_err(|error| Refused::new("kernel_failed", error.to_string()))
    }

    /// Puts right the rules of what is allowed and was not before, and the other way.
    fn refresh_allows(&mut self, before: &BTreeMap<Source, AllowEntry>) {
        let new = &self.enforcer.prefixes().allows;
        let gone = before.keys().filter(|source| !new.contains_key(source));
        let changed: Vec<Source> =
            gone.chain(new.keys().filter(|source| !before.contains_key(source))).copied().collect();
        for source in changed {
            self.refresh(source);
        }
    }

    /// Whether a new configuration could be put in force.
    pub(crate) fn judge_settings(&self, settings: &guard::Settings) -> Result<(), Refused> {
        fixed(&self.settings, settings)
    }

    /// Whether interfaces come that nobody can attach to: the kernel program was not loaded, and only a guard that starts
    /// has the rights to load it.
    pub(crate) fn needs_program(&self, settings: &guard::Settings) -> bool {
        settings.interfaces != self.settings.interfaces && !self.enforcer.path().can_guard(&settings.interfaces)
    }

    /// Puts a new, valid configuration in force. Nothing has changed if it is refused. Interfaces that it does not name
    /// are guarded until [`Self::detach_others`].
    pub(crate) fn reconfigure(
        &mut self,
        settings: guard::Settings,
        rules: Vec<Rule>,
        protected: ProtectedAddresses,
        ports: &[u16],
        now: Now,
    ) -> Result<(), Refused> {
        self.judge_settings(&settings)?;
        let attached = self.enforcer.path_mut().attach_also(&settings.interfaces);
        attached.map_err(|error| Refused::new("interface", error.to_string()))?;
        let before = (std::mem::replace(&mut self.settings, settings), self.enforcer.prefixes().allows.clone());
        self.configure_allows();
        let most = usize::try_from(self.settings.max_rules).unwrap_or(usize::MAX);
        let loaded = if self.enforcer.prefixes().count(true) > most || self.enforcer.prefixes().count(false) > most {
            Err(Refused::new(
                "full",
                format!("guard.allow and the blocked prefixes are more than guard.max_rules ({most})"),
            ))
        } else if self.enforcer.prefixes().fed.len().saturating_add(self.enforcer.prefixes().blocked().len()) > MANY {
            // To replace all of them would take too long for everybody who waits meanwhile.
            self.refresh_allows(&before.1);
            Ok(())
        } else {
            self.load_rules()
        };
        let applied = loaded.and_then(|()| {
            let settings = self.enforced_settings();
            let applied = self.enforcer.path_mut().apply(&settings, ports);
            applied.map_err(|error| Refused::new("kernel_failed", error.to_string()))
        });
        if let Err(refused) = applied {
            self.settings = before.0;
            let tried = std::mem::replace(&mut self.enforcer.prefixes_mut().allows, before.1);
            self.refresh_allows(&tried);
            let settings = self.enforced_settings();
            if let Err(error) = self.enforcer.path_mut().limit(&settings) {
                tracing::error!(%error, "the kernel's limits may be those of a configuration that was refused");
            }
            self.detach_others();
            return Err(refused);
        }
        self.policy.rules = rules;
        self.refit_budgets(now);
        self.settle_promotions(now);
        self.policy.protected.replace_all(protected);
        // The proxy keeps its own list.
        let (old, new) = (before.1, &self.enforcer.prefixes().allows);
        let gone = old.keys().filter(|source| !new.contains_key(source));
        self.notices.extend(gone.map(|source| ToProxy::Disallowed { source: *source }));
        let fresh = new.keys().filter(|source| !old.contains_key(source));
        self.notices.extend(fresh.map(|source| ToProxy::Allowed { source: *source }));
        if let Err(refused) = self.lift_allowed(now) {
            // They are let through all the same: the list of what is allowed comes first.
            tracing::error!(error = refused.message, "bans of what is allowed by now are not lifted");
        }
        self.journal.watchers().retrace();
        Ok(())
    }

    /// Detaches from the interfaces that the configuration in force does not name: once a guard after this one would know
    /// it, or there would be a time in which that one attaches again.
    pub(crate) fn detach_others(&mut self) {
        if let Err(error) = self.enforcer.path_mut().detach_others(&self.settings.interfaces) {
            tracing::error!(%error, "an interface is guarded that the configuration does not name");
        }
    }

    /// Once a second: ends what has expired, compares with the kernel, signs the audit chain.
    pub(crate) fn tick(&mut self, now: Now, ticks: u64) {
        self.recording(|journal, in_force| journal.try_again(now, in_force));
        self.sweep(now);
        if self.policy.breaker.take_over(now) {
            tracing::info!("rules may ban again: the pause is over");
            self.tell("resumed", now, members(json!({"because": "the pause is over"})));
        }
        let unrecorded = if ticks.is_multiple_of(60) { self.policy.refusals.take_unrecorded() } else { 0 };
        if unrecorded > 0 {
            self.tell("refusals", now, members(json!({"unrecorded": unrecorded})));
        }
        self.tick_trouble(now, ticks);
        self.tick_budgets(now);
        self.tick_slowed(now);
        self.save_good(false, now);
        self.save_figures(FIGURES);
        self.tick_feeds(now, ticks);
        let are_few = self.ledger.len().saturating_add(self.feeds.len()) < FEW;
        if are_few || ticks.is_multiple_of(10) {
            self.reconcile(are_few, now);
        }
        let settings = self.settings.audit.clone();
        self.recording(|journal, in_force| journal.keep_chain(&settings, ticks, now, in_force));
    }

    /// At the end: a last record, signed and on the disk. Returns what was signed last.
    pub(crate) fn sign_off(&mut self, reason: &str, detach: bool, now: Now) -> Option<SignedHead> {
        self.log_lines.write();
        self.save_good(true, now);
        self.save_figures(usize::MAX);
        self.finish_work(now);
        self.recording(Journal::pay_at_last);
        self.tell("stop", now, members(json!({"reason": reason, "detached": detach})));
        self.recording(|journal, in_force| journal.checkpoint(now, in_force));
        self.sync();
        self.signed_head().cloned()
    }

    /// The end, once it was signed off.
    pub(crate) fn stop(self, detach: bool) -> Result<(), Refused> {
        if !detach {
            return Ok(());
        }
        self.enforcer.detach().map_err(|error| Refused::new("kernel_failed", error.to_string()))
    }

    /// Attaches where nothing is attached any more, whatever a list waits for, and compares entries: few at once, unless a
    /// list changes them at the moment, many a little at a time.
    fn reconcile(&mut self, are_few: bool, now: Now) {
        let reattached = self.enforcer.reattach();
        if are_few && !self.feeds.is_changing() {
            let drifts = self.compare();
            self.tell_repairs(drifts.count(), &reattached, now);
            return self.enforcer.repair(drifts);
        }
        self.tell_repairs(0, &reattached, now);
        if !are_few {
            self.feeds.scrub();
        }
    }

    /// Records what was repaired in the kernel.
    pub(super) fn tell_repairs(&mut self, entries: usize, reattached: &[String], now: Now) {
        if entries == 0 && reattached.is_empty() {
            return;
        }
        self.enforcer.note_repairs(entries + reattached.len());
        tracing::warn!(entries, ?reattached, "the kernel had something else than the store says: repaired");
        self.tell("repair", now, members(json!({"entries": entries, "attached_again": reattached})));
    }

    /// Compares the kernel with what it should have.
    fn compare(&self) -> Drifts {
        let explicit = self.ledger.records().map(|record| record.source);
        let listed = self.feeds.sources().filter(|source| self.find(*source).is_none());
        // Several feeds may list the same.
        let wanted = explicit.chain(listed).filter_map(|source| Some((self.key(source)?, self.wanted(source)?)));
        self.enforcer.compare(wanted.collect())
    }
}

/// What `status` says of a finding.
fn warning_of(finding: &AuditFinding) -> Option<String> {
    match finding.event {
        "chain_recovered" => None,
        "chain_broken" => Some(format!("the audit chain is broken: {}; see `gateway audit verify`", finding.text)),
        _ => Some(finding.text.clone()),
    }
}

/// What cannot change while the guard runs.
fn fixed(old: &guard::Settings, new: &guard::Settings) -> Result<(), Refused> {
    let changed = [
        ("guard.mode", old.mode != new.mode),
        ("guard.state_dir", old.state_dir != new.state_dir),
        ("guard.control_socket", old.control_socket != new.control_socket),
        ("guard.control_group", old.control_group != new.control_group),
        ("guard.control_mode", old.control_mode != new.control_mode),
        ("guard.pin_dir", old.pin_dir != new.pin_dir),
        ("guard.ipv6_prefix", old.ipv6_prefix != new.ipv6_prefix),
        ("guard.max_bans", old.max_bans != new.max_bans),
        ("guard.max_rules", old.max_rules != new.max_rules),
        ("guard.max_sources", old.max_sources != new.max_sources),
    ];
    let keys: Vec<&str> = changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let message = format!("{} cannot change while the guard runs: restart it (bans stay in force)", keys.join(", "));
    Err(Refused::new("needs_restart", message))
}
