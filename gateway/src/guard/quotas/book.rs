//! The sums of what all proxies say was used up of quotas.
//!
//! *Invariant:* a proxy in wrong hands says what it likes of the requests that it sees. It begins no period and ends
//! none, and what a key has used up for some minutes it gives back to nobody.

use std::{
    collections::{BinaryHeap, HashMap, HashSet},
    io,
    os::fd::OwnedFd,
};

use crate::{
    message::{ToProxy, channel::sealed::seal},
    os::clock::{MINUTE, Now},
    policy::limit::{
        quota::{MAX_ROWS_TOLD, QuotaPeriods, QuotaSpan, UsedRow},
        quotas::{QuotaReport, QuotaState},
        report::{LimitRow, MAX_ROWS, first},
    },
    settings::limit,
};

/// The most rows that are written at once.
const MOST_WRITTEN: usize = 100_000;

/// Two proxies that serve at the same time may know other keys each: so many times as many as one has room for.
const PROXIES: usize = 2;

/// The most that is kept of one key: an operator's word takes all of it back.
const MOST_UNITS: u64 = i64::MAX.cast_unsigned();

/// For how long after an operator's word proxies may give anything back, in nanoseconds.
const GIVES_BACK: u64 = MINUTE;

/// The sums.
#[derive(Default)]
pub(crate) struct Book {
    quotas: Vec<QuotaSums>,
    /// Until when proxies may give anything back: `CLOCK_MONOTONIC`, nanoseconds.
    gives_back_until: u64,
    /// Rows that there was no room for.
    dropped: u64,
}

/// The sums of one quota.
struct QuotaSums {
    name: String,
    counts: String,
    is_configured: bool,
    /// By the configuration before.
    was_configured: bool,
    most: usize,
    /// Which period lasts. `None`: it is not configured.
    periods: Option<QuotaPeriods>,
    /// The period of the sums.
    span: QuotaSpan,
    /// Proxies may be in a neighbouring period: they have begun without what the disk has. The first report says in which.
    is_presumed: bool,
    /// Other machines count as well: what their operators say comes by proxies.
    is_shared: bool,
    /// It was told that a proxy counts in another period.
    is_misdated: bool,
    used: HashMap<u64, Entry>,
    /// What the disk does not have yet.
    changed: Vec<u64>,
    /// The numbers of operators' words about keys.
    words: HashMap<u64, u64>,
    /// Those that the disk does not have yet.
    new_words: HashSet<u64>,
    /// The disk has rows of another period.
    is_new: bool,
}

#[derive(Default)]
struct Entry {
    units: u64,
    name: Option<Box<str>>,
    is_changed: bool,
    /// A proxy has said all that it knows of this key.
    is_whole: bool,
    /// When units were added last, in minutes since the machine started.
    minute: u32,
    /// Units that were added of late; half as many with each minute. A request that another limit refuses gets no more
    /// back.
    late: u64,
}

/// What is to be written of one quota.
#[derive(Debug)]
pub(crate) struct QuotaRows {
    pub(crate) name: String,
    pub(crate) counts: String,
    pub(crate) span: QuotaSpan,
    /// What the disk has is of another period.
    pub(crate) is_new: bool,
    /// Keys, what each has used up, and as operators write it.
    pub(crate) rows: Vec<(u64, u64, Option<Box<str>>)>,
    /// Keys, and the numbers of the last words of operators about them.
    pub(crate) words: Vec<(u64, u64)>,
}

impl Book {
    /// A configuration is in force. `true`: proxies are to be handed what is known of a quota that is there again.
    pub(crate) fn configure(&mut self, settings: &limit::Settings, now: Now) -> bool {
        let mut is_back = false;
        for kept in &mut self.quotas {
            kept.was_configured = std::mem::take(&mut kept.is_configured);
        }
        for limit in &settings.limits {
            let Some(counts) = limit.counts() else { continue };
            let known = self.quotas.iter_mut().find(|kept| kept.name == limit.name && kept.counts == counts);
            let kept = match known {
                Some(kept) => {
                    is_back |= !kept.used.is_empty() && !kept.was_configured;
                    kept.is_presumed |= !kept.was_configured && kept.span.end != 0;
                    kept
                }
                None => {
                    self.quotas.push(QuotaSums::new(limit.name.clone(), counts));
                    let Some(last) = self.quotas.last_mut() else { continue };
                    last
                }
            };
            (kept.is_configured, kept.most) = (true, limit.capacity.saturating_mul(PROXIES));
            kept.is_shared = limit.shared;
            if let (None, Some(quota)) = (&kept.periods, &limit.quota) {
                kept.periods = Some(QuotaPeriods::new(quota, kept.span, now));
            }
        }
        let wall = i64::try_from(now.unix_millis).unwrap_or(i64::MAX);
        self.quotas.retain(|kept| kept.is_configured || kept.span.end > wall);
        is_back
    }

    /// Whether there is any quota.
    pub(crate) fn is_needed(&self) -> bool {
        self.quotas.iter().any(|kept| kept.is_configured)
    }

    /// Once a second: looks at the clocks.
    pub(crate) fn tick(&mut self, now: Now) {
        self.quotas.iter_mut().filter_map(|kept| kept.periods.as_mut()).for_each(|periods| periods.tick(now));
    }

    /// An operator changes what was used up: proxies say next what that gives back.
    pub(crate) fn operator_gives_back(&mut self, now: Now) {
        self.gives_back_until = now.monotonic.saturating_add(GIVES_BACK);
    }

    /// A proxy says what was used up. Returns what the others are to be told.
    pub(crate) fn add(&mut self, report: QuotaReport, now: Now) -> Option<QuotaReport> {
        let gives_back = now.monotonic < self.gives_back_until;
        let found = self.quotas.iter_mut().find(|kept| kept.name == report.quota && kept.counts == report.counts);
        let kept = found.filter(|kept| kept.is_configured)?;
        if !kept.follow(&report.span, now) {
            return None;
        }
        let (span, gives_back) = (kept.span, gives_back || kept.is_shared);
        let (mut others, mut dropped) = (Vec::new(), 0);
        for UsedRow { key, units, is_whole, name } in report.rows {
            let Some(entry) = kept.entry(key) else {
                dropped += 1;
                continue;
            };
            if is_whole {
                entry.units = entry.units.max(u64::try_from(units).unwrap_or(0));
                entry.is_whole = true;
            } else {
                let units = entry.add(units, gives_back, now);
                others.push(UsedRow { key, units, is_whole, name: None });
            }
            if let Some(name) = name {
                entry.name = Some(name.into());
            }
        }
        self.dropped += dropped;
        let words = kept.learn(&report.words);
        let report = QuotaReport { rows: others, warned: Vec::new(), words, span, ..report };
        (!report.rows.is_empty() || !report.words.is_empty()).then_some(report)
    }

    /// Takes over what the disk has. `served`: the time, where proxies serve already that have begun without it. Returns
    /// what they are to be told.
    pub(crate) fn load(&mut self, loaded: Vec<QuotaRows>, served: Option<Now>) -> Vec<QuotaReport> {
        let mut late = Vec::new();
        for QuotaRows { name, counts, span, rows, words, .. } in loaded {
            let known = self.quotas.iter_mut().find(|kept| kept.name == name && kept.counts == counts);
            let kept = match known {
                Some(kept) => kept,
                None => {
                    // It may be configured again before it ends.
                    let most = rows.len().max(words.len());
                    self.quotas.push(QuotaSums { most, ..QuotaSums::new(name.clone(), counts.clone()) });
                    let Some(last) = self.quotas.last_mut() else { continue };
                    last
                }
            };
            let spans = kept.join(span, served);
            if spans.is_empty() {
                continue;
            }
            let is_on_disk = kept.span.is(&span);
            let mut told = Vec::new();
            for (key, units, name) in rows {
                let (serves, Some(entry)) = (kept.used.contains_key(&key), kept.entry(key)) else { continue };
                let more = if entry.is_whole { units.saturating_sub(entry.units) } else { units };
                entry.units = entry.units.saturating_add(more);
                entry.name = entry.name.take().or(name);
                if more > 0 {
                    let units = i64::try_from(more).unwrap_or(i64::MAX);
                    told.push(UsedRow { key, units, is_whole: false, name: None });
                }
                // What was only read is on the disk.
                if !serves && is_on_disk {
                    entry.is_changed = false;
                }
            }
            let used = &kept.used;
            kept.changed.retain(|key| used.get(key).is_some_and(|entry| entry.is_changed));
            let unwritten = kept.new_words.clone();
            let words = kept.learn(&words);
            if is_on_disk {
                kept.new_words = unwritten;
            }
            for span in spans {
                let report = |rows: &[UsedRow], words: &[(u64, u64)]| {
                    let (rows, warned, words) = (rows.to_vec(), Vec::new(), words.to_vec());
                    QuotaReport { quota: name.clone(), counts: counts.clone(), span, rows, warned, words }
                };
                late.extend(told.chunks(MAX_ROWS_TOLD).map(|rows| report(rows, &[])));
                late.extend(words.chunks(MAX_ROWS_TOLD).map(|words| report(&[], words)));
            }
        }
        late
    }

    /// Takes what the disk does not have yet, or some of it.
    pub(crate) fn take_changed(&mut self) -> Vec<QuotaRows> {
        let (mut written, mut room) = (Vec::new(), MOST_WRITTEN);
        for kept in &mut self.quotas {
            if kept.changed.is_empty() && kept.new_words.is_empty() && !kept.is_new || room == 0 {
                continue;
            }
            let keys = kept.changed.split_off(kept.changed.len().saturating_sub(room));
            room = room.saturating_sub(keys.len());
            let mut rows = Vec::with_capacity(keys.len());
            for key in keys {
                if let Some(entry) = kept.used.get_mut(&key) {
                    entry.is_changed = false;
                    rows.push((key, entry.units, entry.name.clone()));
                }
            }
            let words = std::mem::take(&mut kept.new_words);
            let words = words.into_iter().filter_map(|key| Some((key, *kept.words.get(&key)?))).collect();
            let is_new = std::mem::take(&mut kept.is_new);
            let (name, counts) = (kept.name.clone(), kept.counts.clone());
            written.push(QuotaRows { name, counts, span: kept.span, is_new, rows, words });
        }
        written
    }

    /// Takes all that the disk does not have yet, in parts that are written one by one.
    pub(crate) fn take_last(&mut self) -> Vec<Vec<QuotaRows>> {
        let next = || Some(self.take_changed()).filter(|changed| !changed.is_empty());
        std::iter::from_fn(next).collect()
    }

    /// What the disk has is not known: all is to be written.
    pub(crate) fn rewrite(&mut self) {
        for kept in &mut self.quotas {
            kept.is_new = kept.span.end != 0;
            kept.change_all();
        }
    }

    /// The message that hands all of it to a proxy; `None`: there is nothing.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub(crate) fn opening(&self) -> io::Result<Option<(ToProxy, Vec<OwnedFd>)>> {
        let known = self.quotas.iter().filter(|kept| kept.is_configured && kept.span.end != 0);
        let states: Vec<QuotaState> = known
            .map(|kept| QuotaState {
                quota: kept.name.clone(),
                counts: kept.counts.clone(),
                span: kept.span,
                rows: kept.used.iter().map(|(key, entry)| (*key, entry.units)).collect(),
                words: kept.words.iter().map(|(key, word)| (*key, *word)).collect(),
            })
            .collect();
        if states.is_empty() {
            return Ok(None);
        }
        Ok(Some((ToProxy::Quotas, vec![seal(&states)?])))
    }

    /// As operators write a key.
    pub(crate) fn name(&self, quota: &str, key: u64) -> String {
        let kept = self.quotas.iter().find(|kept| kept.name == quota && kept.is_configured);
        let name = kept.and_then(|kept| kept.used.get(&key)).and_then(|entry| entry.name.as_deref());
        name.map_or_else(|| format!("#{key:016x}"), ToOwned::to_owned)
    }

    /// Who has used up most, of each quota; and how many there are besides.
    pub(crate) fn top(&self) -> (Vec<LimitRow>, u64) {
        let mut rows = Vec::new();
        for kept in self.quotas.iter().filter(|kept| kept.is_configured) {
            let mut top = BinaryHeap::new();
            for (key, entry) in &kept.used {
                top.push((std::cmp::Reverse(entry.units), *key));
                if top.len() > MAX_ROWS {
                    top.pop();
                }
            }
            rows.extend(top.into_sorted_vec().into_iter().map(|(std::cmp::Reverse(units), key)| LimitRow {
                limit: kept.name.clone(),
                key: Some(self.name(&kept.name, key)),
                used: Some(units),
                resets: u64::try_from(kept.span.end / 1_000).ok(),
                ..LimitRow::default()
            }));
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.used));
        let (rows, _) = first(rows);
        let all: usize = self.quotas.iter().filter(|kept| kept.is_configured).map(|kept| kept.used.len()).sum();
        let more = u64::try_from(all.saturating_sub(rows.len())).unwrap_or(u64::MAX);
        (rows, more)
    }

    /// Rows that there was no room for, ever.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl QuotaSums {
    fn new(name: String, counts: String) -> Self {
        Self {
            name,
            counts,
            is_configured: false,
            was_configured: false,
            most: 0,
            periods: None,
            span: QuotaSpan::default(),
            is_presumed: false,
            is_shared: false,
            is_misdated: false,
            used: HashMap::new(),
            changed: Vec::new(),
            words: HashMap::new(),
            new_words: HashSet::new(),
            is_new: false,
        }
    }

    /// All is to be written.
    fn change_all(&mut self) {
        self.changed = self.used.keys().copied().collect();
        self.used.values_mut().for_each(|entry| entry.is_changed = true);
        self.new_words = self.words.keys().copied().collect();
    }

    /// The disk has counts of the period `written`. In which periods proxies may be that are to know them; none: they do
    /// not count any more.
    fn join(&mut self, written: QuotaSpan, served: Option<Now>) -> Vec<QuotaSpan> {
        if let (Some(periods), Some(now)) = (&mut self.periods, served)
            && !self.span.is(&written)
        {
            // By the clocks alone it may be another period than the one that the clock was set in: nobody gets a second
            // quota by that.
            if !periods.lasts(&written, now) {
                return Vec::new();
            }
            if self.span.end != 0 {
                return vec![self.span];
            }
            periods.tick(now);
            self.span = periods.present();
            if !self.span.is(&written) {
                (self.is_presumed, self.is_new) = (true, true);
                return vec![self.span, written];
            }
        }
        if self.span.end == 0 {
            (self.span, self.is_new) = (written, false);
            self.periods.iter_mut().for_each(|periods| periods.go_on(written));
        }
        if self.span.is(&written) { vec![written] } else { Vec::new() }
    }

    /// A proxy says that it is in this period. `false`: that one does not last, and what is said of it does not count.
    fn follow(&mut self, said: &QuotaSpan, now: Now) -> bool {
        let Some(periods) = &mut self.periods else { return false };
        periods.tick(now);
        if self.span.end != 0 && self.span.is(said) {
            // Where the clock was set, the period ends at another time.
            if periods.present().is(said) {
                self.span = periods.present();
            }
            self.is_presumed = false;
            return true;
        }
        let lasting = periods.lasting(said, now);
        if lasting.is_none()
            && self.is_presumed
            && let Some(span) = periods.near(said, now)
        {
            // A proxy in the clock's period takes nothing from it.
            periods.go_on(span);
            (self.span, self.is_new, self.is_presumed) = (span, true, false);
            self.change_all();
            return true;
        }
        let Some(span) = lasting.or_else(|| periods.near(said, now).filter(|_| self.span.end == 0)) else {
            let is_late = said.end <= self.span.end;
            if !is_late && !std::mem::replace(&mut self.is_misdated, true) {
                tracing::warn!(
                    quota = self.name,
                    "a proxy counts in a period that does not last: that is not believed"
                );
            }
            return false;
        };
        (self.span, self.is_new, self.is_misdated, self.is_presumed) = (span, true, false, false);
        self.used = HashMap::new();
        (self.changed, self.words, self.new_words) = (Vec::new(), HashMap::new(), HashSet::new());
        true
    }

    /// Words of operators were heard. Returns those that were not known.
    fn learn(&mut self, words: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut new = Vec::new();
        for (key, word) in words {
            let has_room = self.words.len() < self.most || self.words.contains_key(key);
            if has_room && self.words.get(key).is_none_or(|known| known < word) {
                self.words.insert(*key, *word);
                self.new_words.insert(*key);
                new.push((*key, *word));
            }
        }
        new
    }

    /// The entry of a key, which changes. `None`: there is no room.
    fn entry(&mut self, key: u64) -> Option<&mut Entry> {
        if self.used.len() >= self.most && !self.used.contains_key(&key) {
            return None;
        }
        let entry = self.used.entry(key).or_default();
        if !std::mem::replace(&mut entry.is_changed, true) {
            self.changed.push(key);
        }
        Some(entry)
    }
}

impl Entry {
    /// Adds units, or gives them back: no more than were added of late, but for an operator. Returns how many.
    fn add(&mut self, units: i64, gives_back: bool, now: Now) -> i64 {
        let minute = u32::try_from(now.monotonic / MINUTE).unwrap_or(u32::MAX);
        self.late = self.late.checked_shr(minute.saturating_sub(self.minute)).unwrap_or(0);
        self.minute = minute;
        let units = match u64::try_from(units) {
            Ok(more) => {
                self.late = self.late.saturating_add(more);
                units
            }
            Err(_given_back) if gives_back => units,
            Err(_given_back) => {
                let back = units.unsigned_abs().min(self.late);
                self.late -= back;
                0_i64.saturating_sub_unsigned(back)
            }
        };
        self.units = self.units.saturating_add_signed(units).min(MOST_UNITS);
        units
    }
}
