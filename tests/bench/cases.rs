//! Which packets are timed, in which program, and what must become of them.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, ensure};
use support::frame::Frame;

use crate::{
    programs::{BANNED, Budgets, DENIED, Filter, Guard, UNKNOWN},
    sockets::{PROVEN, UNPROVEN},
    sys,
};

const DROP: u32 = 1;
const PASS: u32 = 2;

/// While the budget of all sources is spent: nobody looks for a socket.
pub(crate) const NO_LANE: &str = "drop, budget of all spent, no lane";
/// There is none.
pub(crate) const NO_SOCKET: &str = "drop, budget of all spent, no socket";
/// There is one that has not proved itself.
pub(crate) const UNMARKED: &str = "drop, budget of all spent, no mark";
/// There is one that has.
pub(crate) const MARKED: &str = "pass by the fast lane";

const KNOWN_TO_NOBODY: &str = "203.0.113.7";

/// Whose program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// Passes every packet.
    Empty,
    /// xdp-filter's, by position.
    Filter(usize),
    Gateway,
    /// The other object that was named.
    Other,
}

/// Whom the packets are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// One source, whose entry is in the cache.
    Hot,
    /// Each from another one, drawn from so many from this address on.
    Random(u32, u32),
}

/// One line of the table.
pub(crate) struct Case {
    pub(crate) of: Of,
    pub(crate) what: &'static str,
    pub(crate) from: From,
    pub(crate) budgets: Budgets,
    frame: Vec<u8>,
    expect: u32,
    /// The program that runs, where it is not the one that is measured; and what that calls.
    generator: Option<(OwnedFd, OwnedFd)>,
    /// Nanoseconds for each packet, harness included, one for each time it was measured.
    pub(crate) times: Vec<u32>,
}

/// The programs beside the gateway's.
pub(crate) struct Beside {
    pub(crate) filters: Vec<(&'static str, Filter)>,
    pub(crate) empty: [OwnedFd; 2],
}

/// What is measured with so many entries.
pub(crate) fn all(guard: &Guard, beside: &Beside, entries: u32, other: bool) -> anyhow::Result<Vec<Case>> {
    use Budgets::{AllSpent, AllSpentWithLane, Charged, Off, Quiet, Spent, Usual};
    let banned = std::net::Ipv4Addr::from_bits(BANNED).to_string();
    let denied = std::net::Ipv4Addr::from_bits(DENIED + 9).to_string();
    let neighbour = std::net::Ipv4Addr::from_bits(DENIED - 9).to_string();
    let tcp = |source: &str| Frame::tcp(source, 443).bytes();
    let syn = |source: &str| Frame::syn(source, 443).bytes();
    let known = tcp(KNOWN_TO_NOBODY);
    let anybody = From::Random(UNKNOWN, 1 << 28);

    let mut cases = Vec::new();
    let mut add = |of, what, from, budgets, frame: &[u8], expect| -> anyhow::Result<()> {
        let frame = frame.to_vec();
        let mut case = Case { of, what, from, budgets, frame, expect, generator: None, times: Vec::new() };
        if let From::Random(first, count) = from {
            let takes_frags = !matches!(of, Of::Filter(_));
            let target = case.target(guard, beside)?;
            case.generator = Some(sys::from_random_sources(target, takes_frags, first, count)?);
            case.frame = sys::with_state(case.frame);
        }
        cases.push(case);
        Ok(())
    };
    add(Of::Empty, "harness", From::Hot, Off, &known, PASS)?;
    add(Of::Empty, "harness", anybody, Off, &known, PASS)?;
    for number in 0..beside.filters.len() {
        let of = Of::Filter(number);
        add(of, "drop", From::Hot, Off, &tcp(&banned), DROP)?;
        add(of, "pass", From::Hot, Off, &known, PASS)?;
        add(of, "pass", anybody, Off, &known, PASS)?;
    }
    for of in if other { &[Of::Gateway, Of::Other][..] } else { &[Of::Gateway] } {
        let of = *of;
        if entries > 0 {
            add(of, "drop, exact", From::Hot, Usual, &tcp(&banned), DROP)?;
            add(of, "drop, prefix", From::Hot, Usual, &tcp(&denied), DROP)?;
            add(of, "drop, exact", From::Random(BANNED, entries), Usual, &tcp(&banned), DROP)?;
            add(of, "drop, prefix", From::Random(DENIED, entries * 256), Usual, &tcp(&denied), DROP)?;
            add(of, "pass beside a denied prefix", From::Hot, Charged, &tcp(&neighbour), PASS)?;
        }
        add(of, "pass, no budgets", From::Hot, Off, &known, PASS)?;
        add(of, "pass, all budgets, a quiet source", From::Hot, Quiet, &known, PASS)?;
        add(of, "pass, all budgets, charged", From::Hot, Charged, &known, PASS)?;
        add(of, "pass, all budgets, charged, SYN", From::Hot, Charged, &syn(KNOWN_TO_NOBODY), PASS)?;
        add(of, "pass, all budgets, charged, IPv6", From::Hot, Charged, &tcp("2001:db8:1:2::7"), PASS)?;
        add(of, "drop, over budget", From::Hot, Spent, &known, DROP)?;
        add(of, NO_LANE, From::Hot, AllSpent, &known, DROP)?;
        add(of, NO_SOCKET, From::Hot, AllSpentWithLane, &known, DROP)?;
        add(of, UNMARKED, From::Hot, AllSpentWithLane, &tcp(UNPROVEN), DROP)?;
        add(of, MARKED, From::Hot, AllSpentWithLane, &tcp(PROVEN), PASS)?;
        add(of, "pass, no budgets", anybody, Off, &known, PASS)?;
        add(of, "flood of ACKs, usual budgets", anybody, Usual, &known, PASS)?;
        add(of, "flood of SYNs, usual budgets", anybody, Usual, &syn(KNOWN_TO_NOBODY), PASS)?;
    }
    Ok(cases)
}

impl Case {
    fn target<'a>(&self, guard: &'a Guard, beside: &'a Beside) -> anyhow::Result<BorrowedFd<'a>> {
        match self.of {
            Of::Empty => Ok(beside.empty[1].as_fd()),
            Of::Filter(number) => beside.filters.get(number).context("no such filter")?.1.program(),
            Of::Gateway => guard.program(false),
            Of::Other => guard.program(true),
        }
    }

    /// Measures once more.
    pub(crate) fn measure(&mut self, guard: &mut Guard, beside: &Beside, packets: u32) -> anyhow::Result<()> {
        guard.limit(self.budgets)?;
        let program = match &self.generator {
            Some((generator, _)) => generator.as_fd(),
            None => self.target(guard, beside)?,
        };
        // What is not there yet when it begins (a budget, a line of the cache) is no part of it.
        for warm in [2, packets / 10] {
            sys::run(program, &self.frame, warm.max(1))?;
        }
        let (action, time) = sys::run(program, &self.frame, packets)?;
        ensure!(action == self.expect, "{}: action {action}, not {}", self.what, self.expect);
        self.times.push(time);
        Ok(())
    }

    /// Whether anybody at all sends.
    pub(crate) fn is_flood(&self) -> bool {
        matches!(self.from, From::Random(UNKNOWN, _))
    }

    pub(crate) fn least(&self) -> u32 {
        self.times.iter().copied().min().unwrap_or(0)
    }

    pub(crate) fn median(&self) -> u32 {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    }
}
