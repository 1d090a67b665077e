//! What happens to good clients: deployments that fail for everybody, and crowds that come within a minute.

use gateway::{os::clock::SECOND, signal::Signal};

use super::{
    dice::{Dice, whole},
    good::{Calendar, MINUTE, START},
    request::{ASSETS, Event, LOGIN, ORDERS, Page, ROUTES, Request},
};

/// What is wrong, or who comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// New visitors: so many times the usual number of requests. Whether the upstream fails under it.
    Crowd { times: f64, fails: bool },
    /// The upstream answers this to everybody, on one route or on all.
    Answers { status: u16, route: Option<usize> },
    /// The key set is stale: nobody's token is known.
    UnknownKeys,
}

/// Something that happens to everybody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incident {
    pub(super) kind: Kind,
    /// The first minute, and how many there are.
    pub(super) from: u64,
    pub(super) minutes: u64,
}

impl Incident {
    pub(super) fn name(&self) -> String {
        match self.kind {
            Kind::Crowd { times, fails } => format!("crowd {times:.0}x{}", if fails { ", overloaded" } else { "" }),
            Kind::Answers { status, route: None } => format!("{status} on all routes"),
            Kind::Answers { status, route: Some(route) } => format!("{status} on {}", ROUTES[route % ROUTES.len()]),
            Kind::UnknownKeys => "keys unknown".to_owned(),
        }
    }

    pub(super) const fn is_crowd(&self) -> bool {
        matches!(self.kind, Kind::Crowd { .. })
    }

    fn has(&self, minute: u64) -> bool {
        (self.from..self.from + self.minutes).contains(&minute)
    }

    /// An anomaly that is told in this minute may be because of it. A crowd's last visitors are still there later.
    pub(super) fn explains(&self, minute: u64) -> bool {
        (self.from..self.from + self.minutes + 15).contains(&minute)
    }
}

/// One of each kind of deployment in each week, and the crowds once what is usual is known.
pub(super) fn plan(days: u64, seed: u64) -> Vec<Incident> {
    let mut dice = Dice::new(seed);
    let kinds = [
        Kind::Answers { status: 500, route: None },
        Kind::Answers { status: 401, route: Some(ORDERS) },
        Kind::Answers { status: 404, route: Some(ORDERS) },
        Kind::Answers { status: 403, route: Some(3) },
        Kind::Answers { status: 401, route: None },
        Kind::UnknownKeys,
        Kind::Answers { status: 404, route: None },
    ];
    let mut all = Vec::new();
    // The first days are learned from. Each incident has a day of its own.
    for day in 2..days {
        let place = usize::try_from(day).unwrap_or(0) % 7;
        if let Some(kind) = kinds.get(place) {
            let from = day * 1_440 + u64::from(dice.between(7 * 60, 16 * 60));
            all.push(Incident { kind: *kind, from, minutes: u64::from(dice.between(3, 12)) });
        }
    }
    let crowds = [(10.0, false, 0.5), (50.0, false, 0.65), (10.0, true, 0.8), (50.0, true, 0.95)];
    for (times, fails, place) in crowds {
        // In the evening, when no deployment is.
        let day = whole(days as f64 * place).min(days.saturating_sub(1));
        let from = day * 1_440 + u64::from(dice.between(18 * 60, 21 * 60));
        all.push(Incident { kind: Kind::Crowd { times, fails }, from, minutes: 40 });
    }
    all.sort_by_key(|incident| incident.from);
    all
}

/// Changes what becomes of a request in a minute; whether its client is likely to try again.
pub(super) fn apply(incidents: &[Incident], minute: u64, request: &mut Request) -> bool {
    for incident in incidents.iter().filter(|incident| incident.has(minute)) {
        let event = match (incident.kind, request.event) {
            (Kind::Answers { status, route }, Event::Answered { route: here, .. })
                if route.is_none_or(|route| route == here) =>
            {
                Event::Answered { route: here, status }
            }
            (Kind::UnknownKeys, Event::Answered { .. }) if request.principal.is_some() => {
                Event::Signal(Signal::UnknownKey)
            }
            _ => continue,
        };
        request.event = event;
        return true;
    }
    false
}

/// New visitors.
pub(super) struct Crowd {
    dice: Dice,
    per_minute: f64,
    visitors: u32,
}

/// Each has an address of its own, or is behind one of a few.
const VISITOR: u32 = 0x6000_0000;
const CAMPUS: u32 = 0x6800_0000;

/// About so many requests are of one visitor.
const OF_VISITOR: f64 = 9.0;

impl Crowd {
    /// `per_second`: what is usual.
    pub(super) const fn new(per_second: f64, seed: u64) -> Self {
        Self { dice: Dice::new(seed), per_minute: per_second * 60.0, visitors: 0 }
    }

    /// Whoever comes in a minute because of these. Half as many come ten minutes later.
    pub(super) fn minute(&mut self, incidents: &[Incident], minute: u64, calendar: &mut Calendar) {
        for incident in incidents.iter().filter(|incident| incident.has(minute)) {
            let Kind::Crowd { times, fails } = incident.kind else { continue };
            let left = 0.5_f64.powf((minute - incident.from) as f64 / 10.0);
            let visitors = self.dice.count(self.per_minute * (times - 1.0) * left / OF_VISITOR);
            for _ in 0..visitors {
                self.visit(START + minute * MINUTE, fails, calendar);
            }
        }
    }

    fn visit(&mut self, minute: u64, fails: bool, calendar: &mut Calendar) {
        self.visitors += 1;
        let dice = &mut self.dice;
        let address = if dice.chance(0.1) { CAMPUS + dice.below(5) } else { VISITOR + self.visitors };
        let mut at = dice.moment(minute);
        let principal = dice.chance(0.2).then_some(VISITOR + self.visitors);
        let mut send = |at: u64, page: Page, event: Event| {
            calendar.add(Request { at, address, principal, page, event });
        };
        if dice.chance(0.3) {
            for path in ["/favicon.ico", "/apple-touch-icon.png", "/apple-touch-icon-precomposed.png"] {
                send(at + dice.pause(0.3), Page::Fixed(path), Event::Signal(Signal::UnknownRoute));
            }
        }
        if principal.is_some() {
            if dice.chance(0.1) {
                send(at, Page::Fixed("/login"), Event::Signal(Signal::WrongPassword));
                at += 5 * SECOND;
            }
            send(at, Page::Fixed("/login"), Event::Answered { route: LOGIN, status: 200 });
        }
        for number in 0..dice.between(4, 14) {
            at += dice.pause(if number < 4 { 0.1 } else { 4.0 });
            let route = if dice.chance(0.6) { ASSETS } else { ORDERS };
            let page = Page::Object("/assets/a", dice.below(40));
            // Under overload a third of all fails, and is asked for again.
            let mut tries = 0;
            while fails && tries < 4 && dice.chance(0.35) {
                let event = match dice.below(3) {
                    0 => Event::Signal(Signal::OverLimit),
                    1 => Event::Refused,
                    _ => Event::Answered { route, status: 503 },
                };
                send(at, page, event);
                at += SECOND + dice.pause(1.0);
                tries += 1;
            }
            send(at, page, Event::Answered { route, status: if dice.chance(0.01) { 404 } else { 200 } });
        }
    }
}
