//! What is done about the sources that an anomaly comes from, and what stands against it.

use super::*;
use crate::{
    message::{
        GoodClient, Slowed,
        observer::anomalies::{ContributorShown, Contributors, Deviations},
    },
    policy::detect::{Contribution, Contributor, Deviating, NamedContributor},
    settings::anomalies::{AnomalyAction, AnomalyActions, ClientMeasure},
};

const MINUTE_OF: u64 = 28_333_333;

const SENTENCE: &str = "/login: 41 failures a minute, usually 0 to 3";

fn actions(failures: AnomalyAction, requests: AnomalyAction) -> AnomalyActions {
    AnomalyActions { failures, requests, ..AnomalyActions::default() }
}

impl World {
    fn with_actions(name: &str, actions: AnomalyActions) -> Self {
        let mut world = Self::with_budgets(name);
        world.guard().settings.anomalies = actions;
        world.guard().settings.clamps.extend(actions.clamps());
        world.deviates(ClientMeasure::Failures);
        world
    }

    /// The observer says that there is more than usual.
    fn deviates(&mut self, measure: ClientMeasure) {
        let (of, sentence) = ("/login".to_owned(), SENTENCE.to_owned());
        let deviating = Deviating { of, measure, minute: MINUTE_OF, since: MINUTE_OF - 1, alone: 14, sentence };
        let now = self.now;
        self.guard().hear_deviations(Deviations(vec![deviating]), now);
    }

    fn named_in(&mut self, measure: ClientMeasure, minute: u64, named: Contributor) -> Option<ContributorShown> {
        let (total, sources, named) = (41, 9, vec![named]);
        let contribution = Contribution { total, sources, principals: 0, named };
        let (of, now) = ("/login".to_owned(), self.now);
        let told = Contributors { of, measure, minute, contribution };
        self.guard().hear_contributors(&told, now)?.list.into_iter().next()
    }

    /// What is done about a source that stands out; empty: nothing was to be done, or nobody has asked for it.
    fn stands_out(&mut self, address: &str) -> String {
        let named = self.named_in(ClientMeasure::Failures, MINUTE_OF, contributor(address));
        named.and_then(|shown| shown.done).unwrap_or_default()
    }

    fn is_good(&mut self, address: &str, principal: u64) {
        let (source, now) = (Source::of(address.parse().unwrap(), 64), self.now);
        self.guard().hear_good(&[GoodClient { source, principal }], now);
    }

    fn slowed(&mut self) -> Vec<Slowed> {
        let notices = self.guard().notices();
        notices
            .into_iter()
            .filter_map(|it| if let ToProxy::Slowed(slowed) = it { Some(slowed) } else { None })
            .collect()
    }
}

fn contributor(address: &str) -> Contributor {
    let address: IpAddr = address.parse().unwrap();
    let who = NamedContributor::Source(Source::of(address, 64), address, None);
    Contributor { who, count: 31, requests: vec![RequestId(7), RequestId(8)], stands_out: true }
}

#[test]
fn a_source_is_banned_with_its_requests() {
    let mut world = World::with_actions("anomaly-ban", actions(AnomalyAction::Ban, AnomalyAction::Tell));
    assert_eq!(world.stands_out("192.0.2.7"), "banned");
    let why = world.why("192.0.2.7");
    let entry = why.entry.unwrap();
    assert_eq!((why.verdict.as_str(), entry.actor.as_str()), ("blocked", "rule:anomaly.failures"));
    assert_eq!(entry.reason, format!("an anomaly comes from it: {SENTENCE}; 2 of its requests are named"));
    assert_eq!(why.evidence, [RequestId(7), RequestId(8)]);
    assert_eq!(world.stands_out("192.0.2.7"), "blocked already");
    let counts = world.guard().anomaly_actions();
    assert_eq!(counts, [("ban", "done", 1), ("ban", "goes_on", 1)]);
    world.pass(601);
    assert_eq!(world.why("192.0.2.7").verdict, "passed");
}

#[test]
fn what_stands_against_it() {
    for (action, not) in [
        (AnomalyAction::Ban, "not banned"),
        (AnomalyAction::Clamp, "not clamped"),
        (AnomalyAction::Limit, "not limited to 60 requests a minute"),
    ] {
        let mut world = World::with_actions(&format!("anomaly-not-{}", action.name()), actions(action, action));
        world.is_good("192.0.2.8", 1);
        for (address, because) in [
            ("192.0.2.8", "is known to be good"),
            ("10.1.2.3", "allowlisted"),
            ("203.0.113.2", "an address of this host"),
            ("127.0.0.1", "loopback"),
        ] {
            let said = world.stands_out(address);
            assert!(said.starts_with(not) && said.contains(because), "{address}: {said}");
            assert!(world.guard().notices().is_empty(), "{address}");
        }
        let named = |who: NamedContributor, requests: Vec<RequestId>| Contributor {
            who,
            count: 31,
            requests,
            stands_out: true,
        };
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        for (what, named) in [
            (
                "a source that is not its address",
                named(NamedContributor::Source("192.0.2.0/24".parse().unwrap(), address, None), vec![RequestId(1)]),
            ),
            ("no request", named(NamedContributor::Source(Source::of(address, 64), address, None), Vec::new())),
        ] {
            let shown = world.named_in(ClientMeasure::Failures, MINUTE_OF, named).unwrap();
            assert!(shown.done.unwrap().starts_with(not), "{what}");
        }
        let shown = world.named_in(
            ClientMeasure::Failures,
            MINUTE_OF,
            named(NamedContributor::Principal("ada\n".to_owned()), Vec::new()),
        );
        let shown = shown.unwrap();
        assert_eq!((shown.who.as_str(), shown.kind.as_str(), shown.done), ("ada", "principal", None));
        let quiet = Contributor { stands_out: false, ..contributor("192.0.2.7") };
        assert_eq!(world.named_in(ClientMeasure::Failures, MINUTE_OF, quiet).unwrap().done, None);
        assert_eq!(world.why("192.0.2.7").verdict, "passed");
    }
}

/// A proxy alone has nobody limited or banned.
#[test]
fn nothing_is_done_without_the_observer() {
    let mut world = World::with_actions("anomaly-unasked", actions(AnomalyAction::Ban, AnomalyAction::Ban));
    let measure = ClientMeasure::Failures;
    assert!(world.named_in(measure, MINUTE_OF - 1, contributor("192.0.2.7")).is_none(), "another minute");
    assert!(world.named_in(ClientMeasure::Requests, MINUTE_OF, contributor("192.0.2.7")).is_none(), "another measure");
    world.now.monotonic += 120 * SECOND;
    assert!(world.named_in(measure, MINUTE_OF, contributor("192.0.2.7")).is_none(), "long ago");
    world.deviates(ClientMeasure::Errors);
    let shown = world.named_in(ClientMeasure::Errors, MINUTE_OF, contributor("192.0.2.7")).unwrap();
    assert_eq!((shown.done, world.why("192.0.2.7").verdict.as_str()), (None, "passed"), "errors are ours");
    assert_eq!(world.ask_for(Signal::Anomaly, "192.0.2.7", "anomaly.failures"), Err("unknown_rule"));
    assert_eq!(world.ask_for(Signal::OverLimit, "192.0.2.7", "limit.anomaly.failures"), Err("unknown_rule"));
}

#[test]
fn a_source_is_clamped() {
    let mut world = World::with_actions("anomaly-clamp", actions(AnomalyAction::Clamp, AnomalyAction::Tell));
    assert_eq!(world.stands_out("192.0.2.7"), "clamped");
    let clamp = world.why("192.0.2.7").clamp.unwrap();
    assert_eq!((clamp.limit.as_str(), clamp.divide, clamp.remaining_seconds), ("anomaly.failures", 10, 600));
    assert_eq!(clamp.evidence, [RequestId(7), RequestId(8)]);
    assert_eq!(world.stands_out("192.0.2.7"), "clamped", "it goes on");
    assert_eq!(world.guard().anomaly_actions(), [("clamp", "done", 1), ("clamp", "goes_on", 1)]);
}

#[test]
fn a_source_is_limited_for_a_while() {
    let mut world = World::with_actions("anomaly-limit", actions(AnomalyAction::Limit, AnomalyAction::Tell));
    let (source, until) = ("192.0.2.7".parse().unwrap(), world.now.monotonic + 600 * SECOND);
    assert_eq!(world.stands_out("192.0.2.7"), "limited to 60 requests a minute");
    let slowed = Slowed { source, per_minute: 60, until };
    assert_eq!((world.slowed(), world.guard().slowed_in_force()), (vec![slowed], vec![slowed]));
    let why = world.why("192.0.2.7");
    assert_eq!((why.verdict.as_str(), why.entry), ("passed", None));
    assert_eq!(why.limited.unwrap(), "60 requests a minute for another 10m, as an anomaly comes from it");
    assert_eq!(why.next, "Its requests are limited for another 10m; then it is served as everybody is.");
    world.pass(60);
    world.deviates(ClientMeasure::Failures);
    assert_eq!(world.stands_out("192.0.2.7"), "limited to 60 requests a minute", "it goes on");
    let longer = Slowed { until: until + 60 * SECOND, ..slowed };
    assert_eq!(world.slowed(), [longer]);
    world.pass(599);
    assert_eq!(world.slowed(), []);
    world.pass(1);
    let over = Slowed { until: 0, ..slowed };
    assert_eq!((world.slowed(), world.guard().slowed_in_force()), (vec![over], Vec::new()));
    let events = world.events();
    let of = |event: &str| events.iter().filter(|one| *one == event).count();
    assert_eq!((of("anomaly_limit"), of("anomaly_limit_over")), (1, 1), "{events:?}");

    // What is configured no more ends.
    world.deviates(ClientMeasure::Failures);
    world.stands_out("192.0.2.7");
    world.slowed();
    world.guard().settings.anomalies = actions(AnomalyAction::Tell, AnomalyAction::Tell);
    world.pass(1);
    assert_eq!(world.slowed(), [over]);
}

/// A ban that ends sooner leaves the limit in force, and that is said.
#[test]
fn what_is_said_of_a_limit_beside_a_ban() {
    for (seconds, expect) in [
        (240, "for another 4m; then it is served again, but its requests are limited for another 6m."),
        (600, "for another 10m; then it is served again."),
    ] {
        let named = format!("anomaly-limit-and-ban-{seconds}");
        let mut world = World::with_actions(&named, actions(AnomalyAction::Limit, AnomalyAction::Tell));
        world.stands_out("192.0.2.7");
        let now = world.now;
        let block = ControlRequest::BlockAdd {
            source: "192.0.2.7".parse().unwrap(),
            seconds: Some(seconds),
            reason: "tests".into(),
            shadow: false,
            confirm: None,
            force: false,
        };
        world.guard().handle(block, &OPERATOR, now);
        let next = world.why("192.0.2.7").next;
        assert!(next.ends_with(expect), "{next}");
    }
}

/// They come at the pace of rules.
#[test]
fn there_is_a_pace() {
    for (action, expect) in [
        (AnomalyAction::Limit, "not limited"),
        (AnomalyAction::Ban, "not banned"),
        (AnomalyAction::Clamp, "not clamped"),
    ] {
        let mut world = World::with_actions(&format!("anomaly-pace-{}", action.name()), actions(action, action));
        world.guard().settings.max_bans = 100;
        let said: Vec<String> = (1..=9).map(|number| world.stands_out(&format!("192.0.2.{number}"))).collect();
        assert!(said[..3].iter().all(|said| !said.starts_with("not")), "{said:?}");
        assert!(said[8].starts_with(expect), "{said:?}");
    }
}
