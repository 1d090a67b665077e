//! Removes single entries of the list without a name, as if they were blocks of their own.

use super::{plan::UpdateKind, *};

impl Guard {
    /// Removes `source` from what was imported without a name; the answer follows once that is done. Other lists stay as
    /// they are. `reply` is given back where that list has no such entry, or where a block was made by hand: that goes
    /// first.
    pub(crate) fn unlist(&mut self, source: Source, by: &Actor, reply: Reply, now: Now) -> Option<Reply> {
        self.catch_up();
        self.sweep(now);
        let found = self.feeds.find("").filter(|one| {
            let entry = one.content.find(source);
            entry.is_some_and(|entry| one.content.expires(entry) > now.monotonic)
        });
        let Some(one) = found.filter(|_| self.find(source).is_none()) else { return Some(reply) };
        let row = self.row(String::new(), false, one.row.shadow, by, String::new(), now);
        let draft = FeedDraft::new(now.monotonic);
        let job = ListUpdate::new(UpdateKind::Without(source), row, draft, 0, Some((0, reply)));
        self.ask_for_list(ListUpdate { lifts: true, ..job }, now);
        None
    }

    /// Why an entry of a list with a name is not removed alone; `None`: `source` is none.
    pub(in super::super) fn in_feed(&self, source: Source, now: Now) -> Option<Refused> {
        let (one, ..) = self.feeds.decides(source).filter(|(.., expires)| *expires > now.monotonic)?;
        let message = format!("{source} is listed by {}: `gateway allow add` it, or replace the list", one.actor());
        Some(Refused::new("in_feed", message))
    }

    /// What whoever removed an entry is told once it is gone.
    pub(super) fn unlisted(&self, source: Source, unrecorded: Option<String>, now: Now) -> ControlAnswer {
        let done = match self.still_blocked(source, now) {
            Some(how) => format!("the block of {source} is removed, and it is still {how}"),
            None => format!("{source} is no longer blocked"),
        };
        ControlAnswer::Done { message: format!("{done}{}", unrecorded.unwrap_or_default()), changed: 1 }
    }
}
