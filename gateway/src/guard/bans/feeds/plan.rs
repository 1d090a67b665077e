//! Plans the changes that put a list in force. Pure, and run on another thread: sorting a million entries takes its
//! time.

use super::{never_ban::NeverBan, *};
use crate::guard::feeds::content::Difference;

/// What becomes of the list's earlier content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpdateKind {
    /// It stays.
    Add,
    /// It goes.
    Replace,
    /// All but this stays.
    Without(Source),
    /// All stays but what is never banned.
    Spare,
}

/// What is to be done for a list.
#[derive(Default)]
pub(super) struct UpdatePlan {
    pub(super) content: Arc<FeedContent>,
    pub(super) rows: Vec<Vec<u8>>,
    pub(super) enter: Vec<Source>,
    pub(super) leave: Vec<Source>,
    /// Prefixes whose rules change.
    pub(super) prefixes: Vec<Source>,
    pub(super) added: u64,
    pub(super) unchanged: u64,
    /// How many more exact entries the kernel holds at the end, and how many fewer.
    pub(super) more: usize,
    pub(super) fewer: usize,
    /// The same of prefixes, IPv4 and IPv6.
    pub(super) prefixes_more: [usize; 2],
    pub(super) prefixes_fewer: [usize; 2],
}

/// Work that needs no guard: sorting and comparing a million entries.
pub(crate) struct Planning {
    pub(super) kind: UpdateKind,
    pub(super) draft: FeedDraft,
    pub(super) old: Arc<FeedContent>,
    pub(super) anew: bool,
    pub(super) others: Vec<Arc<FeedContent>>,
    /// Who is never banned.
    pub(super) never_ban: Arc<NeverBan>,
    pub(super) ipv6_prefix: u8,
}

/// Its result.
pub(crate) struct Planned(pub(super) Box<UpdatePlan>);

impl Planning {
    /// Does it. Takes as long as sorting does.
    pub(crate) fn run(self) -> Planned {
        let mut content = match self.kind {
            UpdateKind::Add | UpdateKind::Without(_) | UpdateKind::Spare => self.draft.finish(Some(&self.old)),
            UpdateKind::Replace => self.draft.finish(None),
        };
        match self.kind {
            UpdateKind::Without(source) => content.entries.retain(|entry| entry.source != source),
            UpdateKind::Spare => content.entries.retain(|entry| self.never_ban.find(entry.source).is_none()),
            UpdateKind::Add | UpdateKind::Replace => {}
        }
        let Difference { enter, leave, added, unchanged } = content.difference(&self.old, self.anew);
        let mut plan = UpdatePlan { rows: content.rows(), added, unchanged, ..UpdatePlan::default() };
        let elsewhere = |source: Source| self.others.iter().any(|other| other.find(source).is_some());
        let is_exact = |source: &Source| source.key(self.ipv6_prefix).is_some();
        let family = |source: &Source| usize::from(source.address().is_ipv6());
        for source in enter {
            let new = self.old.find(source).is_none() && !elsewhere(source);
            if is_exact(&source) {
                plan.more += usize::from(new);
                plan.enter.push(source);
            } else {
                if let Some(count) = plan.prefixes_more.get_mut(family(&source)) {
                    *count += usize::from(new);
                }
                plan.prefixes.push(source);
            }
        }
        for source in leave {
            let gone = !elsewhere(source);
            if is_exact(&source) {
                plan.fewer += usize::from(gone);
                plan.leave.push(source);
            } else {
                if let Some(count) = plan.prefixes_fewer.get_mut(family(&source)) {
                    *count += usize::from(gone);
                }
                plan.prefixes.push(source);
            }
        }
        plan.content = Arc::new(content);
        Planned(Box::new(plan))
    }
}

impl UpdatePlan {
    /// How many sources are not listed any more.
    pub(super) fn removed(&self) -> u64 {
        let prefixes = self.prefixes.iter().filter(|source| self.content.find(**source).is_none()).count();
        u64::try_from(self.leave.len() + prefixes).unwrap_or(u64::MAX)
    }
}
