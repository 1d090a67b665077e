//! Attacks of the kind that each default rule is for, at several strengths.

use std::time::Duration;

use gateway::{
    os::clock::SECOND,
    settings::detect::{Rule, Settings},
    signal::Signal,
};

use super::{
    dice::{Dice, whole},
    good::{Calendar, MINUTE, START, office},
    request::{ASSETS, Event, LOGIN, ORDERS, Page, Request},
};

/// How strong an attack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strength {
    /// Ten a second.
    Fast,
    /// A third more than the rule lets pass.
    Slow,
    /// Seven tenths of what the rule lets pass.
    Low,
    /// Ten a second in all, from 200 addresses.
    Spread,
    /// Fast, with five public pages in between each time.
    Covered,
    /// Fast, from an address that sixty good clients share.
    Shared,
}

impl Strength {
    pub(super) const ALL: [Self; 6] = [Self::Fast, Self::Slow, Self::Low, Self::Spread, Self::Covered, Self::Shared];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Slow => "slow",
            Self::Low => "low",
            Self::Spread => "spread",
            Self::Covered => "covered",
            Self::Shared => "shared",
        }
    }
}

/// Many sources try one account.
const ONE_ACCOUNT: &str = "account-under-attack";

/// How many addresses an attack has that is spread.
const SPREAD: u32 = 200;

const ATTACKER: u32 = 0xcb00_0000;

#[derive(Clone, Debug)]
pub(super) struct Attack {
    pub(super) rule: String,
    pub(super) strength: Strength,
    /// Its addresses, which take turns.
    pub(super) addresses: Vec<u32>,
    /// When it begins and ends, and what is between two offences: nanoseconds.
    begins: u64,
    ends: u64,
    gap: u64,
    /// How many offences there were.
    sent: u32,
}

/// So many attacks of each kind and strength within days, whenever it may be.
pub(super) fn plan(settings: &Settings, days: u64, each: u32, seed: u64) -> Vec<Attack> {
    let (mut dice, mut next, mut all) = (Dice::new(seed), ATTACKER, Vec::new());
    for rule in &settings.rules {
        for strength in Strength::ALL {
            let is_without = match strength {
                Strength::Covered => rule.share.is_none(),
                Strength::Shared => rule.name == ONE_ACCOUNT,
                _ => false,
            };
            // Two hundred addresses are enough, twice.
            let many = if strength == Strength::Spread { each.min(2) } else { each };
            for number in 0..if is_without { 0 } else { many } {
                all.push(one(rule, strength, number, days, &mut next, &mut dice));
            }
        }
    }
    all
}

fn one(rule: &Rule, strength: Strength, number: u32, days: u64, next: &mut u32, dice: &mut Dice) -> Attack {
    let is_account = rule.name == ONE_ACCOUNT;
    let (within, count) = (nanoseconds(rule.within), f64::from(rule.count));
    let tenth = SECOND / 10;
    let addresses = match strength {
        Strength::Spread => SPREAD,
        // Fewer addresses than the rule counts.
        Strength::Low if is_account => rule.count * 7 / 10,
        // Each comes again before the rule has forgotten it.
        Strength::Slow if is_account => rule.count * 13 / 10,
        _ if is_account => rule.count * 2,
        _ => 1,
    };
    let (gap, lasts) = match strength {
        Strength::Fast | Strength::Covered | Strength::Shared => (tenth, 2 * MINUTE),
        Strength::Spread => (tenth, (3 * within).clamp(10 * MINUTE, 30 * MINUTE)),
        Strength::Slow => (whole(within as f64 / (count * 1.33)), 3 * within),
        Strength::Low => (whole(within as f64 / (count * 0.7)), 6 * within),
    };
    // After the first half day, by which everybody has been served.
    let span = u32::try_from(days * 1_440).unwrap_or(u32::MAX).saturating_sub(780).max(1);
    let mut minute = 720 + dice.below(span);
    let addresses = if strength == Strength::Shared {
        // While people are there.
        minute = minute / 1_440 * 1_440 + dice.between(9 * 60, 17 * 60);
        vec![office(number)]
    } else {
        (0..addresses).map(|at| *next + at).collect()
    };
    *next += SPREAD;
    let begins = START + dice.moment(u64::from(minute) * MINUTE);
    Attack { rule: rule.name.clone(), strength, addresses, begins, ends: begins + lasts, gap, sent: 0 }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Attack {
    /// What it sends before `until`, the end of the present minute.
    pub(super) fn send(&mut self, until: u64, calendar: &mut Calendar) {
        loop {
            let at = self.begins + u64::from(self.sent) * self.gap;
            if at >= until.min(self.ends) {
                return;
            }
            let turn = usize::try_from(self.sent).unwrap_or(0) % self.addresses.len();
            let address = self.addresses[turn];
            self.offend(at, address, calendar);
            if self.strength == Strength::Covered {
                for number in 0..5 {
                    let page = Page::Object("/assets/a", number);
                    let event = Event::Answered { route: ASSETS, status: 200 };
                    let at = at + u64::from(number + 1) * self.gap / 8;
                    calendar.add(Request { at, address, principal: None, page, event });
                }
            }
            self.sent += 1;
        }
    }

    fn offend(&self, at: u64, address: u32, calendar: &mut Calendar) {
        // Each address goes its own way through what there is to try.
        let number = self.sent / u32::try_from(self.addresses.len()).unwrap_or(1).max(1);
        let own = address.wrapping_mul(7_919).wrapping_add(number) % 50_000_000;
        let mallory = Some(0x7000_0000 | address & 0xff_ffff);
        let (principal, page, event) = match self.rule.as_str() {
            "credential-stuffing" => (Some(own), Page::Fixed("/login"), Event::Signal(Signal::WrongPassword)),
            "password-guessing" => (mallory, Page::Fixed("/login"), Event::Signal(Signal::WrongPassword)),
            ONE_ACCOUNT => {
                let victim = Some(0x7100_0000 | u32::try_from(self.begins / MINUTE).unwrap_or(0));
                (victim, Page::Fixed("/login"), Event::Signal(Signal::WrongPassword))
            }
            "upstream-logins" => (None, Page::Fixed("/login"), Event::Answered { route: LOGIN, status: 401 }),
            "token-forging" => (mallory, Page::Object("/orders/", own), Event::Signal(Signal::ForgedToken)),
            "forbidden-probing" => (mallory, Page::Word(number), Event::Signal(Signal::Forbidden)),
            "object-enumeration" => (mallory, Page::Object("/orders/", own), Event::Signal(Signal::Forbidden)),
            "object-guessing" => {
                (mallory, Page::Object("/orders/", own), Event::Answered { route: ORDERS, status: 404 })
            }
            "path-scan" => (None, Page::Word(number), Event::Signal(Signal::UnknownRoute)),
            "vulnerability-scan" => (None, Page::Probe(number), Event::Signal(Signal::UnknownRoute)),
            "injection" => (None, Page::Word(number), Event::Signal(Signal::Injection)),
            "refused-tokens" => (mallory, Page::Object("/orders/", own), Event::Signal(Signal::ExpiredToken)),
            "malformed-requests" => (None, Page::Fixed("/"), Event::Signal(Signal::BadRequest)),
            "slow-clients" => (None, Page::Fixed("/"), Event::Signal(Signal::SlowClient)),
            "handshake-abuse" => (None, Page::Fixed("/"), Event::Signal(Signal::BadHandshake)),
            "false-crawler" => (None, Page::Fixed("/"), Event::Signal(Signal::FalseCrawler)),
            "error-storm" => (mallory, Page::Object("/orders/", own), Event::Answered { route: ORDERS, status: 500 }),
            "scraping" => (mallory, Page::Object("/orders/", own), Event::Answered { route: ORDERS, status: 200 }),
            other => panic!("no attack is written for the default rule {other}"),
        };
        calendar.add(Request { at, address, principal, page, event });
    }

    /// Whether it has nothing to send any more.
    pub(super) fn is_over(&self, now: u64) -> bool {
        now > self.ends
    }

    pub(super) fn has_begun(&self, now: u64) -> bool {
        self.begins < now
    }
}
