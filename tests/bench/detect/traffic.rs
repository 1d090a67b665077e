//! Days of traffic through the detector and the baselines, by a clock of its own: who is banned, when, and what is told.
//!
//! A ban holds as the guard's would, unless it is found to be our own fault. What protects good clients in the guard is left
//! out: a ban that a rule asks for is a ban here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use gateway::{
    config::Config,
    observer::{BaselineNumber, BaselineTrial},
    os::clock::SECOND,
    policy::detect::BanRequest,
    signal::Signal,
};
use gateway_common::source::Source;

use super::{
    attacks::{Attack, Strength},
    good::{Calendar, Good, MINUTE, START, office},
    incidents::{self, Crowd, Incident},
    request::{Event, Judge, ROUTES, Request, source_of},
};

/// A Monday, 2026-01-05T00:00:00Z, in milliseconds since 1970.
pub(super) const MONDAY: u64 = 1_767_571_200_000;

/// Of fewer requests a share says nothing, as for the observer.
const LEAST: u32 = 20;

/// What is run.
pub(super) struct Plan {
    pub(super) days: u64,
    pub(super) per_second: f64,
    pub(super) seed: u64,
    pub(super) incidents: Vec<Incident>,
    pub(super) attacks: Vec<Attack>,
}

/// How one address of an attack fared.
#[derive(Clone, Debug)]
pub(super) struct Attacker {
    pub(super) rule: String,
    pub(super) strength: Strength,
    /// When it came first; 0: not yet.
    first: u64,
    requests: u32,
    /// The rule that asked for its ban, after so many requests and nanoseconds.
    pub(super) caught: Option<(String, u32, u64)>,
}

/// Whom a rule has asked to ban.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) shadow: bool,
    pub(super) attackers: BTreeSet<Source>,
    /// Addresses from which an attacker comes, and good clients.
    pub(super) shared: BTreeSet<Source>,
    pub(super) good: BTreeSet<Source>,
    /// Of the good, those whose ban was taken back.
    pub(super) taken_back: BTreeSet<Source>,
    /// Of the good, those asked for while something happened to everybody.
    pub(super) in_incident: BTreeSet<Source>,
}

/// Something that was told.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) minute: u64,
    pub(super) sentence: String,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) good_requests: u64,
    /// Requests of good clients that a ban dropped.
    pub(super) dropped: u64,
    pub(super) asked: BTreeMap<String, Asked>,
    pub(super) attackers: Vec<Attacker>,
    pub(super) told: Vec<Told>,
    pub(super) incidents: Vec<Incident>,
    pub(super) minutes: u64,
}

impl Outcome {
    /// Bans of good clients by rules that enforce, without those that were taken back.
    pub(super) fn false_bans(&self) -> usize {
        let enforced = self.asked.values().filter(|asked| !asked.shadow);
        enforced.map(|asked| asked.good.len() - asked.taken_back.len()).sum()
    }

    /// The same for a million of good requests.
    pub(super) fn false_bans_per_million(&self) -> f64 {
        self.false_bans() as f64 * 1e6 / (self.good_requests.max(1) as f64)
    }
}

struct World<'a> {
    judge: Judge,
    plan: &'a Plan,
    outcome: Outcome,
    /// Until when, and whether it is a good client's only.
    banned: HashMap<u32, u64>,
    /// The places of attackers, by address.
    places: HashMap<u32, usize>,
    offices: HashSet<u32>,
}

/// Runs it. `progress` is told how many of how many minutes are over.
pub(super) fn run(config: &Config, plan: &Plan, progress: &mut dyn FnMut(u64, u64)) -> Outcome {
    let minutes = plan.days * 1_440;
    let mut good = Good::new(plan.per_second, plan.seed);
    let mut crowd = Crowd::new(plan.per_second, plan.seed + 1);
    let mut calendar = Calendar::default();
    let mut world = World::new(config, plan);
    let mut baselines = config.anomalies.as_ref().filter(|_| plan.attacks.is_empty()).map(BaselineTrial::new);
    let mut attacks = plan.attacks.clone();
    for minute in 0..minutes {
        if minute.is_multiple_of(60) {
            progress(minute, minutes);
        }
        let until = START + (minute + 1) * MINUTE;
        good.minute(minute, &mut calendar);
        crowd.minute(&plan.incidents, minute, &mut calendar);
        attacks.retain(|attack| !attack.is_over(until - MINUTE));
        for attack in attacks.iter_mut().filter(|attack| attack.has_begun(until)) {
            attack.send(until, &mut calendar);
        }
        let mut requests = calendar.next();
        let mut again = Vec::new();
        for request in &mut requests {
            let is_attack = world.places.contains_key(&request.address);
            if !is_attack && incidents::apply(&plan.incidents, minute, request) {
                // Whoever fails tries again, twice, a few seconds later.
                let retry = |after: u64| Request { at: (request.at + after * SECOND).min(until - 1), ..*request };
                again.extend([2, 5].map(retry));
            }
        }
        requests.append(&mut again);
        requests.sort_unstable_by_key(|request| request.at);
        let mut numbers = Numbers::default();
        for request in &requests {
            if world.take(request, minute) {
                numbers.note(request);
            }
        }
        if let Some(baselines) = &mut baselines {
            let told = numbers.tell(baselines, MONDAY + (minute + 1) * 60_000);
            world.outcome.told.extend(told.into_iter().map(|sentence| Told { minute, sentence }));
        }
    }
    world.outcome.minutes = minutes;
    world.outcome.incidents.clone_from(&plan.incidents);
    world.outcome
}

impl<'a> World<'a> {
    fn new(config: &Config, plan: &'a Plan) -> Self {
        let (mut places, mut outcome) = (HashMap::new(), Outcome::default());
        for attack in plan.attacks.iter().filter(|attack| attack.strength != Strength::Shared) {
            for address in &attack.addresses {
                places.insert(*address, outcome.attackers.len());
                outcome.attackers.push(Attacker::new(attack));
            }
        }
        // Several attacks may come from one office: whom a ban of it is for is not asked.
        let shared = plan.attacks.iter().filter(|attack| attack.strength == Strength::Shared);
        let offices = if shared.count() > 0 { (0..64).map(office).collect() } else { HashSet::new() };
        let judge = Judge::new(&config.proxy.detect);
        Self { judge, plan, outcome, banned: HashMap::new(), places, offices }
    }

    /// Takes a request, unless it is dropped; whether it came through.
    fn take(&mut self, request: &Request, minute: u64) -> bool {
        let attacker = self.places.get(&request.address).copied();
        let is_good = attacker.is_none();
        self.outcome.good_requests += u64::from(is_good);
        if self.banned.get(&request.address).is_some_and(|until| *until > request.at) {
            self.outcome.dropped += u64::from(is_good);
            return false;
        }
        if let Some(attacker) = attacker.and_then(|place| self.outcome.attackers.get_mut(place)) {
            attacker.requests += 1;
            if attacker.first == 0 {
                attacker.first = request.at;
            }
        }
        let judged = self.judge.take(request);
        for lifted in judged.lifted {
            let asked = self.outcome.asked.entry(lifted.rule).or_default();
            if asked.good.contains(&lifted.source) {
                asked.taken_back.insert(lifted.source);
            }
            self.banned.retain(|address, _| source_of(*address) != lifted.source);
        }
        for ask in judged.asks {
            self.ask(&ask, request, attacker, minute);
        }
        true
    }

    fn ask(&mut self, ask: &BanRequest, request: &Request, attacker: Option<usize>, minute: u64) {
        let asked = self.outcome.asked.entry(ask.rule.clone()).or_default();
        asked.shadow = ask.shadow;
        if let Some(attacker) = attacker.and_then(|place| self.outcome.attackers.get_mut(place)) {
            asked.attackers.insert(ask.source);
            let after = request.at - attacker.first;
            // The rule that is for it says more than one that was sooner and only counts.
            if attacker.caught.as_ref().is_none_or(|(rule, ..)| *rule != attacker.rule && ask.rule == attacker.rule) {
                attacker.caught = Some((ask.rule.clone(), attacker.requests, after));
            }
        } else if self.offices.contains(&request.address) {
            asked.shared.insert(ask.source);
            // The guard leaves such an address alone (`guard.shared_principals`).
            return;
        } else {
            asked.good.insert(ask.source);
            if self.plan.incidents.iter().any(|incident| incident.explains(minute)) {
                asked.in_incident.insert(ask.source);
            }
        }
        if !ask.shadow {
            self.banned.insert(request.address, request.at + ask.seconds * SECOND);
        }
    }
}

impl Attacker {
    fn new(attack: &Attack) -> Self {
        Self { rule: attack.rule.clone(), strength: attack.strength, first: 0, requests: 0, caught: None }
    }

    /// Whether it has sent anything.
    pub(super) const fn came(&self) -> bool {
        self.requests > 0
    }
}

/// What the observer counts of one minute.
#[derive(Default)]
struct Numbers {
    whole: Counts,
    routes: [Counts; ROUTES.len()],
    sources: HashSet<u32>,
    principals: HashSet<u32>,
}

#[derive(Default)]
struct Counts {
    requests: u32,
    failures: u32,
    errors: u32,
}

impl Counts {
    fn note(&mut self, status: u16) {
        self.requests += 1;
        self.failures += u32::from((400..500).contains(&status) && status != 429);
        self.errors += u32::from(status >= 500);
    }

    fn numbers<'a>(&self, route: Option<&'a str>, numbers: &mut Vec<BaselineNumber<'a>>) {
        let mut put = |measure, value| numbers.push(BaselineNumber { route, measure, value });
        put("requests", self.requests.into());
        put("failures", self.failures.into());
        if self.requests >= LEAST {
            put("error_share", f64::from(self.errors) / f64::from(self.requests));
        }
    }
}

impl Numbers {
    fn note(&mut self, request: &Request) {
        // A handshake that fails is no request.
        if matches!(request.event, Event::Signal(Signal::BadHandshake)) {
            return;
        }
        self.whole.note(request.status());
        if let Event::Answered { route, status } = request.event {
            self.routes[route].note(status);
        }
        self.sources.insert(request.address);
        self.principals.extend(request.principal);
    }

    fn tell(&self, baselines: &mut BaselineTrial, ended: u64) -> Vec<String> {
        let mut numbers = Vec::new();
        self.whole.numbers(None, &mut numbers);
        for (route, counts) in ROUTES.iter().zip(&self.routes) {
            counts.numbers(Some(route), &mut numbers);
        }
        for (measure, distinct) in [("sources", self.sources.len()), ("principals", self.principals.len())] {
            numbers.push(BaselineNumber { route: None, measure, value: distinct as f64 });
        }
        baselines.minute(&numbers, ended).into_iter().map(|told| told.sentence).collect()
    }
}
