//! Learns what is usual of routes, upstreams and the whole, and says what is not: `[anomalies]`.
//!
//! [`measure`] makes the numbers of each minute, [`model`] knows what is usual, [`watch`] compares, [`deviation`] says it;
//! all of them are pure. *Invariant:* it asks for no ban and names nobody. What deviates is told the guard, and by it the
//! proxies, which know from whom it comes; the guard decides what is done about them.

use std::{
    cell::{Cell, RefCell},
    os::fd::OwnedFd,
    rc::Rc,
};

use jiff::tz::TimeZone;

use deviation::Deviation;
use measure::{MAX_SCOPES, Minutes, Scope};
use watch::{SavedWatch, Watch};

use super::{alert::Sentences, store::Sums};
use crate::{
    message::{
        channel::Sender,
        observer::{
            alert::LONGEST_REPORT,
            anomalies::{Anomalies, AnomalyShown, ContributorShown, ContributorsShown, Deviations},
        },
        telemetry::{Metric, Samples},
    },
    os::{
        alternating_files::AlternatingFiles,
        clock::{Now, SECOND, rfc3339},
    },
    policy::detect::Deviating,
    settings::anomalies,
};

mod deviation;
mod measure;
mod model;
mod trial;
mod watch;

pub use trial::{BaselineAnomaly, BaselineNumber, BaselineTrial};

/// How long after its start the observer begins to count: until then, processes tell it what they have counted before.
const WARM_UP: u64 = 10 * SECOND;

/// How often what is learned is written, in minutes.
const SAVE_EVERY: u64 = 10;

/// The most series: there are eight of a scope.
const MAX_SERIES: usize = 8 * MAX_SCOPES;

/// The most deviations that are listed.
const SHOWN: usize = 60;

/// How many bytes contributors may take in a report, about: it has to fit into a message.
const CONTRIBUTOR_BYTES: usize = LONGEST_REPORT / 3;

/// All of it.
#[derive(Default)]
pub(super) struct Baselines {
    settings: RefCell<Option<(anomalies::Settings, TimeZone)>>,
    watch: RefCell<Watch>,
    minutes: RefCell<Minutes>,
    began: Cell<Option<u64>>,
    /// The minute that goes on, since 1970.
    minute: Cell<u64>,
    saved_files: RefCell<Option<AlternatingFiles>>,
    /// Whether what is kept has been read: what is known is newer from then on.
    is_restored: Cell<bool>,
    saved: Cell<u64>,
    /// Where the guard is told what deviates.
    guard: RefCell<Option<Sender>>,
}

impl Baselines {
    /// Goes on with other settings. `None`: nothing is learned.
    pub(super) fn configure(&self, settings: Option<&anomalies::Settings>) {
        *self.settings.borrow_mut() = settings.map(|settings| {
            let zone = TimeZone::get(&settings.zone).unwrap_or(TimeZone::UTC);
            (settings.clone(), zone)
        });
        if settings.is_none() {
            // What is counted meanwhile is of no minute.
            *self.minutes.borrow_mut() = Minutes::default();
            self.began.set(None);
            self.watch.borrow_mut().interrupt();
        }
    }

    /// Goes on with what is kept in these files.
    pub(super) fn restore(&self, files: [OwnedFd; 2]) {
        let (saved_files, kept) = AlternatingFiles::open::<SavedWatch>(files);
        self.saved_files.replace(Some(saved_files));
        let is_first = !self.is_restored.replace(true);
        if let Some(kept) = kept.filter(|_| is_first) {
            self.watch.borrow_mut().restore(kept);
        }
    }

    /// Looks at the clock, and at the sums when a minute is over.
    pub(super) fn tick(self: &Rc<Self>, sums: impl FnOnce() -> Sums, now: Now) {
        let settings = self.settings.borrow();
        let Some((settings, zone)) = &*settings else { return };
        let began = self.began.get().unwrap_or(now.monotonic);
        self.began.set(Some(began));
        let minute = now.unix_millis / 60_000;
        let before = self.minute.replace(minute);
        if before == minute || now.monotonic.saturating_sub(began) < WARM_UP {
            return;
        }
        let mut numbers = self.minutes.borrow_mut().next(&sums());
        if minute != before + 1 {
            // The machine was suspended, or the clock was set: that was not one minute.
            numbers.clear();
        }
        let mut watch = self.watch.borrow_mut();
        for deviation in watch.minute(numbers, settings, zone, minute * 60_000) {
            tracing::warn!(sentence = deviation.sentence, "something is not usual");
        }
        watch.bound(MAX_SERIES);
        let deviating = watch.deviating(settings, minute * 60_000);
        drop(watch);
        self.tell(deviating);
        if minute.saturating_sub(self.saved.get()) >= SAVE_EVERY {
            self.saved.set(minute);
            self.save();
        }
    }

    /// Tells the guard by this socket from now on.
    pub(super) fn connect(&self, socket: OwnedFd) {
        self.guard.replace(Some(Sender::new(socket)));
    }

    /// Tells the guard what deviates: it asks the proxies from whom that comes.
    fn tell(&self, deviating: Vec<Deviating>) {
        if deviating.is_empty() {
            return;
        }
        let guard = self.guard.borrow();
        if let Some(Err(error)) = guard.as_ref().map(|guard| guard.try_send(&Deviations(deviating))) {
            // The next minute tells it again.
            tracing::debug!(%error, "the guard was not told what deviates");
        }
    }

    /// The guard says from whom a deviation comes.
    pub(super) fn attribute(&self, shown: ContributorsShown) {
        self.watch.borrow_mut().attribute(shown);
    }

    /// Writes what is learned, beside everything else.
    fn save(self: &Rc<Self>) {
        let Some(mut saved_files) = self.saved_files.borrow_mut().take() else { return };
        let (kept, baselines) = (self.watch.borrow().kept(), Rc::clone(self));
        tokio::task::spawn_local(async move {
            let written = tokio::task::spawn_blocking(move || {
                let written = saved_files.write(&kept);
                (saved_files, written)
            });
            match written.await {
                Ok((saved_files, written)) => {
                    if let Err(error) = written {
                        tracing::error!(%error, "what is usual cannot be kept on the disk");
                    }
                    baselines.saved_files.borrow_mut().get_or_insert(saved_files);
                }
                Err(error) => tracing::error!(%error, "what is usual cannot be kept on the disk"),
            }
        });
    }

    /// What there is to be told.
    pub(super) fn measure(&self, samples: &mut Samples) {
        if self.settings.borrow().is_none() {
            return;
        }
        let watch = self.watch.borrow();
        for (scope, measure) in watch.current.keys() {
            samples.level(Metric::Anomalies, &[&of(scope), measure.name()], 1);
        }
        for ((scope, measure), ratio) in watch.ratios() {
            samples.number(Metric::UsualRatio, &[&of(scope), measure.name()], ratio);
        }
    }

    /// What is said of each deviation that goes on, by the labels of its metric.
    pub(super) fn sentences(&self) -> Sentences {
        let watch = self.watch.borrow();
        let said = watch
            .current
            .iter()
            .map(|((scope, measure), deviation)| ((of(scope), measure.name().to_owned()), deviation.whole_sentence()));
        said.collect()
    }

    /// For operators.
    pub(super) fn report(&self) -> Anomalies {
        let watch = self.watch.borrow();
        let (series, learning) = watch.counts();
        let mut left = CONTRIBUTOR_BYTES;
        let shown = |deviation: &Deviation| AnomalyShown {
            of: of(&deviation.scope),
            measure: deviation.measure.name().to_owned(),
            sentence: deviation.sentence.clone(),
            began: rfc3339(deviation.began),
            ended: deviation.ended.map(rfc3339),
            sources: deviation.contributors.as_ref().map_or(0, |it| it.sources),
            principals: deviation.contributors.as_ref().map_or(0, |it| it.principals),
            contributors: contributors(deviation, &mut left),
        };
        Anomalies {
            is_on: self.settings.borrow().is_some(),
            series: u64::try_from(series).unwrap_or(u64::MAX),
            learning: u64::try_from(learning).unwrap_or(u64::MAX),
            list: watch.current.values().chain(watch.past.iter().rev()).take(SHOWN).map(shown).collect(),
        }
    }
}

/// As many contributors as there is room for.
fn contributors(deviation: &Deviation, left: &mut usize) -> Vec<ContributorShown> {
    let list = deviation.contributors.iter().flat_map(|it| &it.list);
    let fits = |one: &&ContributorShown| {
        let texts = one.who.len() + one.done.as_ref().map_or(0, String::len);
        let cost = 120 + texts + one.requests.iter().map(|id| id.len() + 3).sum::<usize>();
        let fits = cost <= *left;
        *left -= if fits { cost } else { *left };
        fits
    };
    list.take_while(fits).cloned().collect()
}

/// What a metric calls it.
fn of(scope: &Scope) -> String {
    match scope {
        Scope::Whole => "all".to_owned(),
        Scope::Route(route) => route.clone(),
        Scope::Upstream(upstream) => format!("upstream:{upstream}"),
    }
}

#[cfg(test)]
mod tests;
