//! One request of a generated client, and what the detector makes of it: asked as the proxy asks it.
//!
//! See `gateway/src/proxy/request/observe.rs`: whether it is our fault, then the answer, then the signal, then whether the
//! path is one that scanners look for. *Invariant:* nothing of what the guard protects good clients by is among it.

use std::{fmt::Write as _, iter, net::Ipv4Addr};

use gateway::{
    policy::detect::{AskedBan, BanRequest, Detector, Observed, ObservedFacts, UpstreamAnswer, is_sought_by_scanners},
    settings::detect::Settings,
    signal::Signal,
    web::request_id::RequestId,
};
use gateway_common::source::Source;

/// The routes of the API. Those of [`Event::Answered`] are places here.
pub(super) const ROUTES: [&str; 8] =
    ["/login", "/token", "/orders/{id}", "/items/{id}", "/search", "/profile", "/cart", "/assets/{name}"];

pub(super) const LOGIN: usize = 0;
pub(super) const TOKEN: usize = 1;
pub(super) const ORDERS: usize = 2;
pub(super) const ASSETS: usize = 7;

/// A path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Page {
    Fixed(&'static str),
    /// An object below a path.
    Object(&'static str, u32),
    /// One that only scanners ask for.
    Probe(u32),
    /// A word: each number is another one.
    Word(u32),
}

impl Page {
    fn write(self, into: &mut String) {
        into.clear();
        let done = match self {
            Self::Fixed(path) => into.write_str(path),
            Self::Object(path, number) => write!(into, "{path}{number}"),
            Self::Probe(number) => {
                into.push_str("/wp-content/");
                letters(number, into);
                into.write_str(".php")
            }
            Self::Word(number) => {
                into.push('/');
                letters(number, into);
                Ok(())
            }
        };
        done.unwrap();
    }
}

fn letters(mut number: u32, into: &mut String) {
    for _ in 0..6 {
        into.push(char::from(b'a' + u8::try_from(number % 26).unwrap_or(0)));
        number /= 26;
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// The upstream answers.
    Answered { route: usize, status: u16 },
    /// It is refused, and says nothing of its client.
    Refused,
    /// The gateway refuses it, or notes it before.
    Signal(Signal),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// When: nanoseconds, as `CLOCK_MONOTONIC`.
    pub(super) at: u64,
    pub(super) address: u32,
    /// Who the client has proved to be, or says it is.
    pub(super) principal: Option<u32>,
    pub(super) page: Page,
    pub(super) event: Event,
}

impl Request {
    /// The status that the log has.
    pub(super) const fn status(&self) -> u16 {
        match self.event {
            Event::Answered { status, .. } => status,
            Event::Refused => 503,
            Event::Signal(Signal::OverLimit) => 429,
            Event::Signal(_) => 400,
        }
    }
}

/// What comes of one request.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) asks: Vec<BanRequest>,
    /// What was asked for before, and is found to be our own fault.
    pub(super) lifted: Vec<AskedBan>,
}

/// The detector, and room for what it is told.
pub(super) struct Judge {
    detector: Detector,
    path: String,
    principal: String,
    requests: u128,
}

impl Judge {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { detector: Detector::new(settings), path: String::new(), principal: String::new(), requests: 0 }
    }

    pub(super) fn take(&mut self, request: &Request) -> Judged {
        self.requests += 1;
        let mut judged = Judged::default();
        match request.event {
            Event::Refused => {}
            Event::Signal(signal) => self.note(request, signal, None, &mut judged.asks),
            Event::Answered { route, status } => {
                let source = source_of(request.address);
                let is_identified = request.principal.is_some();
                let answer = UpstreamAnswer { route, upstream: 0, status, is_identified };
                if let Some(fault) = self.detector.our_fault(&answer, source, request.at) {
                    judged.lifted = fault.bans;
                }
                if let Some(signal) = self.detector.judge_answer(&answer, source, request.at) {
                    self.note(request, signal, Some(route), &mut judged.asks);
                }
            }
        }
        judged
    }

    fn note(&mut self, request: &Request, signal: Signal, route: Option<usize>, asks: &mut Vec<BanRequest>) {
        request.page.write(&mut self.path);
        self.principal.clear();
        if let Some(number) = request.principal {
            write!(self.principal, "user-{number}").unwrap();
        }
        asks.extend(self.observe(request, signal, route, &self.path));
    }

    /// Notes a signal of a path, and whether scanners look for it.
    fn observe(&self, request: &Request, signal: Signal, route: Option<usize>, path: &str) -> Vec<BanRequest> {
        let is_scan = matches!(signal, Signal::UnknownRoute | Signal::UpstreamNotFound) && is_sought_by_scanners(path);
        let signals = iter::once(signal).chain(is_scan.then_some(Signal::ScanPath));
        let asks = signals.flat_map(|signal| {
            let observed = Observed {
                signal,
                source: source_of(request.address),
                address: Ipv4Addr::from_bits(request.address).into(),
                principal: request.principal.map(|_| self.principal.as_str()),
                id: RequestId(self.requests),
                limits: &[],
                facts: ObservedFacts { path: Some(path), route, session: Some(1), ..ObservedFacts::default() },
            };
            self.detector.note(&observed, request.at)
        });
        asks.collect()
    }

    /// A path that does not exist, of a list.
    pub(super) fn unknown(&mut self, address: u32, path: &str, at: u64) -> Vec<BanRequest> {
        self.requests += 1;
        let event = Event::Signal(Signal::UnknownRoute);
        let request = Request { at, address, principal: None, page: Page::Fixed(""), event };
        self.observe(&request, Signal::UnknownRoute, None, path)
    }
}

pub(super) fn source_of(address: u32) -> Source {
    Source::of(Ipv4Addr::from_bits(address).into(), 64)
}
