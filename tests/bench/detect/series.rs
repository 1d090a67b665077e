//! Baselines beside generated series: weeks of minutes as they usually are, and one change in each.
//!
//! Three weeks are learned from; the change is in the fourth. What is told before it, and in four weeks of series without a
//! change, is a false alarm.

use gateway::{
    observer::{BaselineNumber, BaselineTrial},
    settings::anomalies::Settings,
};
use serde_json::{Value, json};

use super::{
    dice::Dice,
    good::rhythm,
    table::{Progress, delays, median, percent},
    traffic::MONDAY,
};

const DAY: u64 = 1_440;

const WEEK: u64 = 7 * DAY;

/// When a change may begin, and when a series ends.
const LEARNED: u64 = 3 * WEEK;
const END: u64 = 7 * WEEK;

/// What a series usually is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Steady,
    ByDay,
    ByWeek,
    Growing,
    Bursts,
    Few,
    ErrorShare,
    Latency,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Steady,
        Self::ByDay,
        Self::ByWeek,
        Self::Growing,
        Self::Bursts,
        Self::Few,
        Self::ErrorShare,
        Self::Latency,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady requests",
            Self::ByDay => "requests by day",
            Self::ByWeek => "requests by week",
            Self::Growing => "requests, 1 % a day more",
            Self::Bursts => "requests, hourly jobs",
            Self::Few => "2 failures a minute",
            Self::ErrorShare => "error share of 1 %",
            Self::Latency => "latency of 120 ms",
        }
    }

    const fn measure(self) -> &'static str {
        match self {
            Self::Few => "failures",
            Self::ErrorShare => "error_share",
            Self::Latency => "latency",
            _ => "requests",
        }
    }

    /// What is told of less than usual.
    fn may_lack(self) -> bool {
        self.measure() == "requests"
    }

    /// The number of a minute, times a factor.
    fn number(self, minute: u64, factor: f64, dice: &mut Dice) -> f64 {
        let by_day = rhythm(minute % DAY);
        let count = |mean: f64, dice: &mut Dice| f64::from(dice.count(mean * factor));
        match self {
            Self::Steady => count(200.0, dice),
            Self::ByDay => count(200.0 * by_day, dice),
            Self::ByWeek => count(200.0 * rhythm(minute), dice),
            Self::Growing => count(200.0 * rhythm(minute) * 1.01_f64.powf(minute as f64 / DAY as f64), dice),
            // Five minutes of each hour have three times as much.
            Self::Bursts => count(if minute % 60 < 5 { 600.0 } else { 200.0 }, dice),
            Self::Few => count(2.0, dice),
            Self::ErrorShare => f64::from(dice.count(3.0 * factor).min(300)) / 300.0,
            Self::Latency => 0.12 * factor * (dice.normal() * 0.15).exp(),
        }
    }
}

/// What changes, from what the series is times a factor.
#[derive(Clone, Copy)]
struct Change {
    name: &'static str,
    factor: f64,
    /// How many minutes it lasts, and how many it takes to get there.
    lasts: u64,
    rise: u64,
    /// One minute alone is no anomaly by default (`anomalies.minutes = 2`): silence is right.
    is_noise: bool,
}

const CHANGES: [Change; 8] = [
    Change { name: "10x, 10 minutes", factor: 10.0, lasts: 10, rise: 0, is_noise: false },
    Change { name: "3x, 10 minutes", factor: 3.0, lasts: 10, rise: 0, is_noise: false },
    Change { name: "2x, 10 minutes", factor: 2.0, lasts: 10, rise: 0, is_noise: false },
    Change { name: "none, 10 minutes", factor: 0.0, lasts: 10, rise: 0, is_noise: false },
    Change { name: "a third, 1 hour", factor: 0.33, lasts: 60, rise: 0, is_noise: false },
    Change { name: "1.5x for a day", factor: 1.5, lasts: DAY, rise: 0, is_noise: false },
    Change { name: "to 3x over 3 days", factor: 3.0, lasts: 4 * DAY, rise: 3 * DAY, is_noise: false },
    Change { name: "10x, 1 minute", factor: 10.0, lasts: 1, rise: 0, is_noise: true },
];

impl Change {
    fn factor(&self, begins: u64, minute: u64) -> f64 {
        let Some(after) = minute.checked_sub(begins).filter(|after| *after < self.lasts) else { return 1.0 };
        let risen = if self.rise == 0 { 1.0 } else { (after as f64 / self.rise as f64).min(1.0) };
        1.0 + (self.factor - 1.0) * risen
    }
}

/// What came of one kind of series and one change.
struct Row {
    kind: &'static str,
    change: &'static str,
    is_noise: bool,
    injected: usize,
    /// Minutes until it was told.
    told: Vec<f64>,
}

/// What came of one kind of series.
struct Sum {
    kind: &'static str,
    /// Alarms in the first three weeks, of all series.
    early: usize,
    /// Later ones, right and wrong.
    alarms: usize,
    right: usize,
    wrong: usize,
    weeks: f64,
}

pub(super) struct Figures {
    rows: Vec<Row>,
    sums: Vec<Sum>,
}

pub(super) fn measure(settings: &Settings, is_quick: bool) -> Figures {
    let each: u64 = if is_quick { 2 } else { 10 };
    let progress = Progress::new("series");
    let all = u64::try_from(Kind::ALL.len() * (CHANGES.len() + 1)).unwrap_or(0) * each;
    let (mut figures, mut done) = (Figures { rows: Vec::new(), sums: Vec::new() }, 0);
    for kind in Kind::ALL {
        let mut sum = Sum { kind: kind.name(), early: 0, alarms: 0, right: 0, wrong: 0, weeks: 0.0 };
        for change in CHANGES.iter().map(Some).chain([None]) {
            if change.is_some_and(|change| change.factor < 1.0 && !kind.may_lack()) {
                done += each;
                continue;
            }
            let mut told = Vec::new();
            for seed in 0..each {
                progress.tell(done, all);
                done += 1;
                told.extend(one(kind, change, seed, settings, &mut sum));
            }
            let injected = usize::try_from(each).unwrap_or(0);
            figures.rows.extend(change.map(|change| Row {
                kind: kind.name(),
                change: change.name,
                is_noise: change.is_noise,
                injected,
                told,
            }));
        }
        figures.sums.push(sum);
    }
    progress.done();
    figures
}

/// One series; after how many minutes its change was told.
fn one(kind: Kind, change: Option<&Change>, seed: u64, settings: &Settings, sum: &mut Sum) -> Option<f64> {
    let mut dice = Dice::new(seed + 100);
    let mut trial = BaselineTrial::new(settings);
    let begins = LEARNED + DAY + u64::from(dice.below(5 * 1_440));
    let lasts = change.map_or(0, |change| change.lasts);
    // What the change leaves behind is neither right nor wrong.
    let end = if change.is_some() { begins + lasts + 10 } else { END };
    let mut told = None;
    for minute in 0..end {
        let factor = change.map_or(1.0, |change| change.factor(begins, minute));
        let value = kind.number(minute, factor, &mut dice);
        let number = BaselineNumber { route: Some("/"), measure: kind.measure(), value };
        let alarms = trial.minute(&[number], MONDAY + (minute + 1) * 60_000).len();
        if alarms == 0 {
            continue;
        }
        let is_in = change.is_some_and(|change| !change.is_noise) && (begins..begins + lasts + 5).contains(&minute);
        if is_in {
            told = told.or(Some((minute + 1 - begins) as f64));
        }
        if minute < LEARNED {
            sum.early += alarms;
            continue;
        }
        sum.alarms += alarms;
        (sum.right, sum.wrong) = if is_in { (sum.right + alarms, sum.wrong) } else { (sum.right, sum.wrong + alarms) };
    }
    let quiet = if change.is_some() { begins } else { END };
    sum.weeks += quiet.saturating_sub(LEARNED) as f64 / WEEK as f64;
    told
}

impl Figures {
    pub(super) fn print(&self) {
        println!("\nBaselines beside generated series: one change in each, after three weeks.");
        println!("{:26}{:20}{:>9}{:>6}{:>8}{:>11}", "series", "change", "injected", "told", "recall", "minutes");
        for Row { kind, change, is_noise, injected, told } in &self.rows {
            let recall = if *is_noise { "(none)".to_owned() } else { percent(told.len(), *injected) };
            println!("{kind:26}{change:20}{injected:9}{:6}{recall:>8}{:>11}", told.len(), delays(told, 0));
        }
        println!("\n{:26}{:>9}{:>11}{:>9}{:>18}", "series", "alarms", "precision", "weeks", "false a week");
        for Sum { kind, alarms, right, wrong, weeks, .. } in &self.sums {
            let (precision, weekly) = (percent(*right, *alarms), *wrong as f64 / weeks.max(1e-9));
            println!("{kind:26}{alarms:9}{precision:>11}{weeks:9.0}{weekly:18.2}");
        }
    }

    pub(super) fn value(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "series": row.kind, "change": row.change, "should_be_silent": row.is_noise, "injected": row.injected,
                "told": row.told.len(), "minutes": { "p50": median(&row.told), "max": row.told.iter().copied().reduce(f64::max) },
            })
        });
        let sums = self.sums.iter().map(|sum| {
            json!({
                "series": sum.kind, "alarms_while_learning": sum.early, "alarms": sum.alarms, "right": sum.right, "wrong": sum.wrong, "weeks": sum.weeks,
                "false_a_week": sum.wrong as f64 / sum.weeks.max(1e-9),
            })
        });
        json!({ "changes": rows.collect::<Vec<_>>(), "series": sums.collect::<Vec<_>>() })
    }
}
