//! Blocks and unblocks sources at an operator's word.

use tokio::sync::oneshot;

use crate::{
    guard::{
        bans::{change::count, *},
        store::Pardon,
    },
    settings::guard::LONGEST_BAN,
    text::counted::counted,
};

/// The longest reason, in bytes.
const LONGEST_REASON: usize = 500;

impl Guard {
    /// As [`Self::handle`], where nobody else waits for the guard: all of it is done with the answer.
    pub(crate) fn handle_at_once(&mut self, request: ControlRequest, actor: &Actor, now: Now) -> ControlAnswer {
        let (reply, mut answer) = oneshot::channel();
        let is_begun = match &request {
            ControlRequest::BlockDel { source } => self.unlist(*source, actor, reply, now).is_none(),
            _ => false,
        };
        let done = (!is_begun).then(|| self.handle(request, actor, now));
        self.finish_work(now);
        let not_done = |_dropped| Refused::new("not_done", "nothing was changed: lists wait for the ban store").into();
        done.unwrap_or_else(|| answer.try_recv().unwrap_or_else(not_done))
    }

    /// Blocks `source`. An entry that is there already is replaced, without a moment in between.
    pub(in crate::guard::bans) fn add(
        &mut self,
        wanted: BlockRequest,
        actor: &Actor,
        now: Now,
    ) -> Result<(String, u64), Refused> {
        let BlockRequest { source, seconds, reason, shadow, confirm, force } = wanted;
        judge_own_reason(&reason)?;
        match self.judge(source) {
            Err(refused) if [safety::OPERATOR, safety::NEVER_BAN].contains(&refused.code) && (force || shadow) => {}
            judged => judged?,
        }
        if !shadow && !force {
            self.judge_good(source, now)?;
        }
        if confirm.is_some() && self.find(source).is_some() {
            let message = format!("{source} is blocked already, and a block that replaces it cannot be taken back");
            return Err(Refused::new("already_blocked", message));
        }
        if seconds.is_some_and(|seconds| seconds > LONGEST_BAN.as_secs()) {
            let most = span(LONGEST_BAN.as_secs());
            return Err(Refused::new("too_long", format!("a block lasts {most} at most, or until it is removed")));
        }
        let before = self.find(source).filter(|record| !record.shadow || shadow).map(expiry);
        let seconds = match seconds {
            None => Some(self.settings.default_ban.as_secs().max(1)),
            Some(0) => None,
            Some(seconds) => Some(seconds),
        };
        let record = self.draft(source, reason, actor, seconds, shadow, now);
        let id =
            self.ban(BanRecord { confirm: confirm.map(|seconds| confirm::deadline(seconds, now)), ..record }, now)?;
        let how = if shadow { " (shadow: counted, not dropped)" } else { "" };
        let long = seconds.map_or_else(|| "until it is removed".to_owned(), |seconds| format!("for {}", span(seconds)));
        let unless = confirm
            .map(|seconds| format!("; it is taken back in {} unless `gateway confirm {id}` comes", span(seconds)));
        let mut message = format!("{source} is blocked {long}{how}, ban {id}{}", unless.unwrap_or_default());
        let ends = seconds.map_or(NEVER, |seconds| now.monotonic.saturating_add(seconds.saturating_mul(SECOND)));
        if let Some(before) = before.filter(|before| *before > ends) {
            let left = match before {
                NEVER => "until it was removed".to_owned(),
                before => format!("for another {}", span(before.saturating_sub(now.monotonic).div_ceil(SECOND))),
            };
            message.push_str(&format!("; that is shorter than before: it was blocked {left}"));
        }
        let client = Source::of(source.address(), self.settings.ipv6_prefix);
        if source.length() > client.length() {
            message.push_str(&format!(
                "; only this: a client may use all of {client}, which `gateway block add {client}` blocks"
            ));
        }
        Ok((message, 1))
    }

    /// Whether a block would take the place of one that lasts longer or that is enforced: it would let the source
    /// through earlier than before.
    pub(crate) fn weakens(&self, request: &ControlRequest, now: Now) -> bool {
        let ControlRequest::BlockAdd { source, seconds, shadow, .. } = request else { return false };
        let enforced = |record: &&BanRecord| !record.shadow && expiry(record) > now.monotonic;
        let Some(record) = self.find(*source).filter(enforced) else { return false };
        let seconds = seconds.unwrap_or(self.settings.default_ban.as_secs().max(1));
        let ends = if seconds == 0 { NEVER } else { now.monotonic.saturating_add(seconds.saturating_mul(SECOND)) };
        *shadow || expiry(record) > ends
    }

    pub(in crate::guard::bans) fn del(
        &mut self,
        source: Source,
        actor: &Actor,
        now: Now,
    ) -> Result<(String, u64), Refused> {
        let Some(id) = self.find(source).map(|record| record.id) else {
            if let Some(refused) = self.in_feed(source, now) {
                return Err(refused);
            }
            let message = match self.still_blocked(source, now) {
                Some(how) => {
                    format!("{source} has no block of its own, and it is {how}: `gateway allow add` lets it through")
                }
                None => format!("{source} is not blocked"),
            };
            return Err(Refused::new("not_found", message));
        };
        let grace = self.settings.safety.unban_grace;
        let pardon = Pardon { source, actor: actor.to_string(), at: now.unix_millis };
        let since = now.unix_millis.saturating_sub(pardons::millis(grace));
        let unrecorded = self.lift(
            &[id],
            &format!("removed by {actor}"),
            Some("unban"),
            now,
            None,
            Box::new(move |change| if grace.is_zero() { Ok(()) } else { change.pardon(&pardon, since, pardons::MOST) }),
        );
        self.policy.pardons.add(source, actor.to_string(), grace, now.monotonic);
        self.note_fact(ClusterFact::Unblock { source, at: now.unix_millis });
        let sticky = if grace.is_zero() {
            String::new()
        } else {
            format!("; rules do not ban it again for {}", span(grace.as_secs()))
        };
        let done = match self.still_blocked(source, now) {
            Some(how) => format!("the block of {source} is removed, and it is still {how}"),
            None => format!("{source} is no longer blocked"),
        };
        Ok((format!("{done}{sticky}{}", unrecorded.unwrap_or_default()), 1))
    }

    /// How `source` is blocked by something around it, as `blocked as part of ...`.
    pub(in crate::guard::bans) fn still_blocked(&self, source: Source, now: Now) -> Option<String> {
        let around = around(source).filter_map(|network| self.find(network));
        let made = around.filter(|record| expiry(record) > now.monotonic).min_by_key(|record| record.shadow);
        let fed = self.fed_entry(source.address(), now).filter(|entry| entry.source.covers(&source));
        match (made, fed) {
            (Some(record), fed) if !record.shadow || fed.as_ref().is_none_or(|fed| fed.mode == "shadow") => {
                let how = if record.shadow { "counted, not dropped," } else { "blocked" };
                Some(format!("{how} as part of {}, ban {}", record.source, record.id))
            }
            (_, Some(fed)) => {
                let how = if fed.mode == "shadow" { "counted, not dropped," } else { "blocked" };
                let part = if fed.source == source { String::new() } else { format!(" as part of {}", fed.source) };
                Some(format!("{how}{part}, listed by {}", fed.actor))
            }
            _ => None,
        }
    }

    pub(in crate::guard::bans) fn flush(&mut self, actor: &Actor, now: Now) -> Result<(String, u64), Refused> {
        let ids: Vec<u64> = self.ledger.ids();
        let summary = members(json!({"actor": actor.to_string(), "entries": ids.len()}));
        let how = format!("flushed by {actor}");
        let lists = self.imported();
        let drop_lists: Write = Box::new(move |change| lists.iter().try_for_each(|id| change.drop_feed(*id)));
        let unrecorded = self.lift(&ids, &how, None, now, Some(("flush", summary)), drop_lists);
        let listed = self.flush_imports(now);
        let kept = self.feed_files();
        let kept = if kept.is_empty() {
            String::new()
        } else {
            format!("; {} stay: remove them from the configuration", kept.join(", "))
        };
        let removed = count(ids.len()).saturating_add(listed);
        let unrecorded = unrecorded.or_else(|| self.unstored()).unwrap_or_default();
        Ok((format!("{} removed{kept}{unrecorded}", counted(removed, "block", "blocks")), removed))
    }
}

/// What an operator gives as a reason. That of a list's entry or of another machine may be empty.
pub(in crate::guard::bans) fn judge_own_reason(reason: &str) -> Result<(), Refused> {
    if reason.is_empty() {
        let message = format!("a reason is one line of 1 to {LONGEST_REASON} bytes: it is empty");
        return Err(Refused::new("bad_reason", message));
    }
    judge_reason(reason)
}

pub(in crate::guard::bans) fn judge_reason(reason: &str) -> Result<(), Refused> {
    if reason.len() > LONGEST_REASON || reason.chars().any(char::is_control) {
        let message = format!("a reason is one line of at most {LONGEST_REASON} bytes");
        return Err(Refused::new("bad_reason", message));
    }
    Ok(())
}
