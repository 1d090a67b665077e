//! Good clients: people at home, in offices and on phones, programs, crawlers, and what is a little broken in all of them.
//!
//! Everybody does now and then what an attacker does all the time: mistypes, asks for what is gone or forbidden, sends an
//! expired token, is slow, tries again.

use std::collections::VecDeque;

use gateway::{os::clock::SECOND, signal::Signal};

use super::{
    dice::Dice,
    request::{ASSETS, Event, LOGIN, ORDERS, Page, ROUTES, Request, TOKEN},
};

/// When the clock of the bench begins: long after boot.
pub(super) const START: u64 = 86_400 * SECOND;

pub(super) const MINUTE: u64 = 60 * SECOND;

const HOMES: u32 = 2_000;
const OFFICES: u32 = 20;
/// How many people are in each office.
const IN_OFFICE: u32 = 60;
/// Phones share addresses: carriers translate them.
const CARRIERS: u32 = 40;
const BEHIND_CARRIER: u32 = 25;
const PROGRAMS: u32 = 30;
const CRAWLERS: u32 = 3;

/// About so many requests are in a session.
const OF_SESSION: f64 = 26.0;

/// The part of all requests that people make.
const OF_PEOPLE: f64 = 0.85;

const HOME: u32 = 0x5000_0000;
const OFFICE: u32 = 0x5100_0000;
const CARRIER: u32 = 0x5200_0000;
const PROGRAM: u32 = 0x5300_0000;
const CRAWLER: u32 = 0x5400_0000;
const BROKEN: u32 = 0x5500_0000;

/// How many offices there are, and where.
pub(super) const fn office(number: u32) -> u32 {
    OFFICE + number % OFFICES
}

/// Requests by the minute in which they come.
#[derive(Default)]
pub(super) struct Calendar {
    minutes: VecDeque<Vec<Request>>,
    /// The minute that the first of them is, since the start.
    first: u64,
}

impl Calendar {
    pub(super) fn add(&mut self, request: Request) {
        let minute = (request.at - START) / MINUTE;
        // What would have come before is late.
        let place = usize::try_from(minute.saturating_sub(self.first)).unwrap_or(0);
        while self.minutes.len() <= place {
            self.minutes.push_back(Vec::new());
        }
        self.minutes[place].push(request);
    }

    /// The requests of the next minute.
    pub(super) fn next(&mut self) -> Vec<Request> {
        self.first += 1;
        self.minutes.pop_front().unwrap_or_default()
    }
}

/// Who opens a session.
#[derive(Clone, Copy)]
struct Person {
    address: u32,
    principal: u32,
    is_on_phone: bool,
}

pub(super) struct Good {
    dice: Dice,
    /// How many requests a second there are, on the average.
    per_second: f64,
    links: u32,
}

/// How much of the usual there is at a minute of the week.
pub(super) fn rhythm(minute: u64) -> f64 {
    let (hour, day) = ((minute % 1_440) as f64 / 60.0, minute / 1_440 % 7);
    let by_day = 1.0 + 0.7 * ((hour - 14.0) / 24.0 * std::f64::consts::TAU).cos();
    by_day * if day >= 5 { 0.6 } else { 1.16 }
}

impl Good {
    pub(super) const fn new(per_second: f64, seed: u64) -> Self {
        Self { dice: Dice::new(seed), per_second, links: 0 }
    }

    /// Whatever begins in a minute.
    pub(super) fn minute(&mut self, minute: u64, calendar: &mut Calendar) {
        let (at, much) = (START + minute * MINUTE, rhythm(minute));
        let sessions = self.dice.count(self.per_second * 60.0 * OF_PEOPLE / OF_SESSION * much);
        for _ in 0..sessions {
            let (begins, person) = (self.dice.moment(at), self.person(minute));
            self.session(person, begins, calendar);
        }
        self.programs(minute, at, calendar);
        self.crawlers(at, calendar);
        self.broken(minute, at, calendar);
    }

    fn person(&mut self, minute: u64) -> Person {
        let is_work = (8 * 60..18 * 60).contains(&(minute % 1_440)) && minute / 1_440 % 7 < 5;
        let (office, phone) = if is_work { (0.35, 0.2) } else { (0.02, 0.35) };
        let which = self.dice.unit();
        let (base, addresses, behind) = match which {
            _ if which < office => (OFFICE, OFFICES, IN_OFFICE),
            _ if which < office + phone => (CARRIER, CARRIERS, BEHIND_CARRIER),
            _ => (HOME, HOMES, 1),
        };
        let address = base + self.dice.below(addresses);
        let principal = address.wrapping_mul(64).wrapping_add(self.dice.below(behind));
        Person { address, principal, is_on_phone: base == CARRIER }
    }

    fn session(&mut self, person: Person, begins: u64, calendar: &mut Calendar) {
        let mut at = begins;
        let mut send = |at: u64, page: Page, event: Event, is_known: bool| {
            let principal = is_known.then_some(person.principal);
            calendar.add(Request { at, address: person.address, principal, page, event });
        };
        let dice = &mut self.dice;
        let signal = |signal| Event::Signal(signal);
        let served = |route| Event::Answered { route, status: 200 };
        if dice.chance(0.3) {
            // One in a hundred has forgotten the password.
            let wrong = if dice.chance(0.01) { dice.between(5, 9) } else { u32::from(dice.chance(0.1)) };
            for _ in 0..wrong {
                send(at, Page::Fixed("/login"), signal(Signal::WrongPassword), true);
                at += 3 * SECOND + dice.pause(8.0);
            }
            send(at, Page::Fixed("/login"), served(LOGIN), true);
        } else if dice.chance(0.3) {
            // A page sends all its requests with a token that has expired.
            for _ in 0..dice.between(1, 8) {
                send(at + dice.pause(0.1), Page::Fixed("/profile"), signal(Signal::ExpiredToken), true);
            }
            at += SECOND;
            send(at, Page::Fixed("/token"), served(TOKEN), true);
        } else if dice.chance(0.05) {
            for _ in 0..dice.between(1, 6) {
                send(at + dice.pause(0.2), Page::Fixed("/profile"), signal(Signal::MissingToken), false);
            }
        }
        at += SECOND;
        if dice.chance(0.05) {
            // What browsers look for by themselves.
            for path in ["/favicon.ico", "/apple-touch-icon.png", "/apple-touch-icon-precomposed.png"] {
                send(at + dice.pause(0.3), Page::Fixed(path), signal(Signal::UnknownRoute), false);
            }
        }
        if dice.chance(0.002) {
            // An app that is older than the API.
            for number in 0..dice.between(2, 8) {
                send(at + dice.pause(1.0), Page::Word(number), signal(Signal::UnknownRoute), false);
            }
        }
        if dice.chance(0.005) {
            // A page that shows more than its user may see.
            for path in ["/admin/users", "/admin/reports", "/admin/settings", "/admin/audit"] {
                send(at + dice.pause(0.5), Page::Fixed(path), signal(Signal::Forbidden), true);
            }
        }
        // A page loads, then somebody reads.
        let many = dice.between(8, 40);
        let at_once = dice.between(3, 12);
        for number in 0..many {
            at += if number < at_once { dice.pause(0.1) } else { dice.pause(5.0) };
            let route = usize::try_from(dice.between(2, 7)).unwrap_or(ORDERS).min(ROUTES.len() - 1);
            let page = if route == ASSETS {
                Page::Object("/assets/a", dice.below(40))
            } else {
                Page::Object("/orders/", dice.below(100_000))
            };
            let slow = person.is_on_phone && dice.chance(0.01);
            let event = match dice.below(1_000) {
                _ if slow => signal(Signal::SlowClient),
                0..15 => Event::Answered { route, status: 404 },
                15..18 => Event::Answered { route, status: 403 },
                18..20 => signal(Signal::Forbidden),
                20..23 => Event::Answered { route, status: 500 },
                23..28 => signal(Signal::InvalidBody),
                28..30 => signal(Signal::OverLimit),
                30..40 => Event::Answered { route, status: 304 },
                _ => served(route),
            };
            send(at, page, event, true);
            if slow || matches!(event, Event::Answered { status: 500, .. }) {
                // It tries again, up to three times.
                for _ in 0..dice.between(1, 3) {
                    at += SECOND + dice.pause(1.0);
                    let again = if dice.chance(0.3) { event } else { served(route) };
                    send(at, page, again, true);
                }
            }
        }
    }

    fn programs(&mut self, minute: u64, at: u64, calendar: &mut Calendar) {
        for number in 0..PROGRAMS {
            let (address, principal) = (PROGRAM + number, Some(PROGRAM + number));
            let mean = self.per_second * 60.0 * 0.1 / f64::from(PROGRAMS);
            let mut many = self.dice.count(mean);
            // Every six hours one synchronises: it asks for what may be gone. Once a day one exports, fast.
            let is_sync = (minute + u64::from(number) * 12).is_multiple_of(360);
            let is_export = number == 0 && minute % 1_440 == 120;
            if is_sync {
                many += 120;
            }
            for _ in 0..many {
                let is_gone = self.dice.chance(if is_sync { 0.3 } else { 0.02 });
                let event = Event::Answered { route: ORDERS, status: if is_gone { 404 } else { 200 } };
                let page = Page::Object("/orders/", self.dice.below(100_000));
                calendar.add(Request { at: self.dice.moment(at), address, principal, page, event });
            }
            for object in 0..if is_export { 1_200 } else { 0 } {
                let event = Event::Answered { route: ORDERS, status: 200 };
                let page = Page::Object("/orders/", object);
                calendar.add(Request { at: at + u64::from(object) * SECOND / 20, address, principal, page, event });
            }
        }
    }

    /// They follow every link, some of which are old.
    fn crawlers(&mut self, at: u64, calendar: &mut Calendar) {
        for number in 0..CRAWLERS {
            for _ in 0..self.dice.count(self.per_second * 60.0 * 0.05 / f64::from(CRAWLERS)) {
                self.links += 1;
                let (page, event) = match self.dice.below(100) {
                    0..4 => (Page::Word(1_000 + self.links), Event::Signal(Signal::UnknownRoute)),
                    4..8 => (Page::Object("/items/", self.links), Event::Answered { route: 3, status: 404 }),
                    _ => (Page::Object("/items/", self.links), Event::Answered { route: 3, status: 200 }),
                };
                let (at, address) = (self.dice.moment(at), CRAWLER + number);
                calendar.add(Request { at, address, principal: None, page, event });
            }
        }
    }

    /// Programs that nobody has looked after for long. None of them is ever served.
    fn broken(&self, minute: u64, at: u64, calendar: &mut Calendar) {
        let broken: [(u32, u32, Signal); 4] = [
            (0, 12, Signal::ExpiredToken),
            (1, 2, Signal::BadHandshake),
            (2, 1, Signal::WrongPassword),
            (3, 1, Signal::BadRequest),
        ];
        for (number, times, signal) in broken {
            for time in 0..times {
                let at = at + u64::from(time) * MINUTE / u64::from(times);
                let (address, principal) = (BROKEN + number, Some(BROKEN + number));
                let page = Page::Fixed("/orders/17");
                calendar.add(Request { at, address, principal, page, event: Event::Signal(signal) });
            }
        }
        // A monitor.
        for second in (0..60).step_by(5) {
            let at = at + second * SECOND + minute % 7;
            let event = Event::Answered { route: 4, status: 200 };
            calendar.add(Request { at, address: BROKEN + 9, principal: None, page: Page::Fixed("/search"), event });
        }
    }
}
