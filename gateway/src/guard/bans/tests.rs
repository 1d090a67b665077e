//! Decisions as tables: what is refused, what is recorded, what the kernel and the proxy are told.

use std::{fs, net::IpAddr, path::PathBuf, time::Duration};

use super::*;
use crate::{
    guard::{
        audit::verify,
        control::AddressReport,
        enforcement::{AtAccept, Enforcement},
        state_files,
    },
    settings::{
        guard::{AttachMode, PacketScope, Safety},
        operators::ControlMode,
    },
    signal::Signal,
    web::request_id::RequestId,
};

mod anomalies;
mod clamps;
mod damage;
mod harm;
mod peers;
mod prompt;
mod said;
mod trouble;

const OPERATOR: Actor = Actor::Operator(0);

/// A guard over a state directory of its own.
struct World {
    folder: PathBuf,
    guard: Option<Guard>,
    now: Now,
    boot: &'static str,
}

impl World {
    #[track_caller]
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("gateway-bans-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let now = Now { monotonic: 1_000 * SECOND, unix_millis: 1_700_000_000_000 };
        let mut world = Self { folder, guard: None, now, boot: "one" };
        world.start(Box::new(AtAccept::default()));
        world
    }

    fn settings() -> guard::Settings {
        guard::Settings {
            interfaces: Vec::new(),
            mode: AttachMode::Auto,
            scope: PacketScope::Listeners,
            state_dir: PathBuf::new(),
            control_socket: PathBuf::new(),
            control_group: None,
            control_mode: ControlMode::Owner,
            operators: Vec::new(),
            pin_dir: PathBuf::new(),
            allow: vec!["10.0.0.0/8".parse().unwrap()],
            trusted_proxies: Vec::new(),
            ipv6_prefix: 64,
            widest_ipv4: 16,
            widest_ipv6: 32,
            max_bans: 4,
            max_rules: 4,
            max_sources: 16,
            max_bans_per_minute: 3,
            compile: guard::Compile::default(),
            pass_malformed: false,
            trace: None,
            packet_limit: None,
            byte_limit: None,
            syn_limit: None,
            total_limit: None,
            syn_cookies: None,
            default_ban: Duration::from_secs(3_600),
            safety: Safety::default(),
            feeds: Vec::new(),
            crowdsec: None,
            revocation: crate::settings::revocation::Settings::default(),
            audit: crate::settings::audit::Settings::default(),
            clamps: clamps::settings(),
            plan_budgets: clamps::plans(),
            anomalies: crate::settings::anomalies::AnomalyActions::default(),
            shadow_limits: Vec::new(),
            shadow_routes: Vec::new(),
        }
    }

    fn start(&mut self, drops: Box<dyn Enforcement>) {
        let state = crate::guard::lifecycle::start::state::open(&self.folder).unwrap();
        let crate::guard::lifecycle::start::state::OpenedState { store, audit, findings, is_behind } = state;
        let rule = |name: &str, shadow| Rule {
            name: name.to_owned(),
            signals: vec![Signal::ForgedToken, Signal::OverLimit],
            count: 3,
            within: Duration::from_secs(60),
            ban: Duration::from_secs(600),
            shadow,
            ..Rule::default()
        };
        let own = ["203.0.113.2", "2001:db8:5::2"].map(|text| (text.parse().unwrap(), safety::Protection::Own));
        let parts = GuardParts {
            settings: Self::settings(),
            rules: vec![rule("bad-tokens", false), rule("trial", true)],
            protected: ProtectedAddresses { protected: own.to_vec() },
            store,
            audit,
            drops,
            boot: self.boot.to_owned(),
            findings,
            is_behind,
            standing: Vec::new(),
        };
        self.guard = Some(Guard::start(parts, Map::new(), self.now).unwrap());
    }

    /// Ends the guard as `kill -9` does; the kernel keeps what it has.
    fn crash(&mut self) -> Box<dyn Enforcement> {
        self.guard.take().unwrap().enforcer.into_path()
    }

    fn guard(&mut self) -> &mut Guard {
        self.guard.as_mut().unwrap()
    }

    fn pass(&mut self, seconds: u64) {
        self.now.monotonic += seconds * SECOND;
        self.now.unix_millis += seconds * 1_000;
        let now = self.now;
        self.guard().tick(now, 1);
    }

    /// What the control socket answers, as `done N: …` or the code of the refusal.
    fn handle(&mut self, request: ControlRequest) -> String {
        let now = self.now;
        match self.guard().handle(request, &OPERATOR, now) {
            ControlAnswer::Done { changed, .. } => format!("done {changed}"),
            ControlAnswer::Refused { code, .. } => code,
            other => format!("{other:?}"),
        }
    }

    fn add(&mut self, source: &str) -> String {
        let source = source.parse().unwrap();
        self.handle(ControlRequest::BlockAdd {
            source,
            seconds: None,
            reason: "tests".into(),
            shadow: false,
            confirm: None,
            force: false,
        })
    }

    fn ask(&mut self, address: &str, rule: &str) -> Result<u64, &'static str> {
        self.ask_for(Signal::ForgedToken, address, rule)
    }

    fn ask_for(&mut self, signal: Signal, address: &str, rule: &str) -> Result<u64, &'static str> {
        let address: IpAddr = address.parse().unwrap();
        let ask = BanRequest {
            relay: None,
            source: Source::of(address, 64),
            address,
            rule: rule.to_owned(),
            signal,
            evidence: vec![RequestId(1), RequestId(2), RequestId(3)],
            seconds: u64::MAX,
            shadow: true,
            noted: self.now.monotonic,
        };
        let now = self.now;
        self.guard().ask(&ask, now).map_err(|refused| refused.code)
    }

    fn why(&mut self, address: &str) -> AddressReport {
        let now = self.now;
        self.guard().catch_up();
        self.guard().why(address.parse().unwrap(), now).unwrap()
    }

    fn events(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join(state_files::LOG)).unwrap();
        let event = |line: &str| serde_json::from_str::<Value>(line).unwrap()["event"].as_str().unwrap().to_owned();
        text.lines().map(event).filter(|event| event != "checkpoint").collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.guard = None;
        if !std::thread::panicking() {
            let found = verify(&self.folder);
            assert_eq!(found.first_bad, None);
        }
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[test]
fn a_rule_bans_and_the_ban_ends() {
    let mut world = World::new("life");
    let id = world.ask("192.0.2.7", "bad-tokens").unwrap();
    world.guard().reacted(id, 1_000 * SECOND, 1_000 * SECOND + 2_500_000);
    world.guard().closed(id, 2);
    world.guard().closed(id, 9);
    let expires = 1_600 * SECOND;
    let source = "192.0.2.7".parse().unwrap();
    assert_eq!(world.guard().notices(), [ToProxy::Banned { id, source, expires }]);
    let why = world.why("::ffff:192.0.2.7");
    assert_eq!((why.verdict.as_str(), why.reaction_micros, why.connections_closed), ("blocked", Some(2_500), Some(2)));
    assert_eq!(why.evidence, [RequestId(1), RequestId(2), RequestId(3)]);
    let entry = why.entry.unwrap();
    assert_eq!((entry.actor.as_str(), entry.remaining_seconds), ("rule:bad-tokens", Some(600)));
    assert_eq!(world.ask("192.0.2.7", "bad-tokens"), Err("already_blocked"));
    world.pass(599);
    assert_eq!(world.why("192.0.2.7").verdict, "blocked");
    world.pass(1);
    let until = world.now.monotonic + 600 * SECOND;
    assert_eq!(world.guard().notices(), [ToProxy::Lifted { source }, ToProxy::Probation { source, until }]);
    let why = world.why("192.0.2.7");
    assert_eq!((why.verdict.as_str(), why.history[0].how.as_str()), ("passed", "expired"));
    assert!(world.guard().enforcer.path().bans().is_empty());
    assert_eq!(world.events(), ["start", "ban", "expiry"]);
}

#[test]
fn nothing_in_an_ask_is_trusted() {
    let mut world = World::new("asks");
    assert_eq!(world.ask("192.0.2.7", "no-such-rule"), Err("unknown_rule"));
    assert_eq!(world.ask("10.1.2.3", "bad-tokens"), Err("allowlisted"));
    assert_eq!(world.ask("127.0.0.1", "bad-tokens"), Err("special_address"));
    assert_eq!(world.ask("203.0.113.2", "bad-tokens"), Err("own_address"));
    let now = world.now;
    let ask = |source: &str, evidence: usize, signal| BanRequest {
        relay: None,
        source: source.parse().unwrap(),
        address: "192.0.2.7".parse().unwrap(),
        rule: "bad-tokens".to_owned(),
        signal,
        evidence: vec![RequestId(1); evidence],
        seconds: 1,
        shadow: false,
        noted: now.monotonic,
    };
    for (ask, code) in [
        (ask("192.0.2.8", 1, Signal::ForgedToken), "not_the_source"),
        (ask("192.0.2.0/24", 1, Signal::ForgedToken), "not_the_source"),
        (ask("192.0.2.7", 0, Signal::ForgedToken), "no_evidence"),
        (ask("192.0.2.7", MAX_EVIDENCE + 1, Signal::ForgedToken), "no_evidence"),
        (ask("192.0.2.7", 1, Signal::Forbidden), "no_evidence"),
    ] {
        assert_eq!(world.guard().ask(&ask, now).unwrap_err().code, code, "{ask:?}");
    }
    assert!(world.guard().notices().is_empty());
    // A neighbour of the host itself: its address, not the network that both share.
    world.ask("2001:db8:5::bad", "bad-tokens").unwrap();
    assert_eq!(world.why("2001:db8:5::bad").entry.unwrap().source.to_string(), "2001:db8:5::bad");
    assert_eq!(world.why("2001:db8:5::2").verdict, "passed");
    assert_eq!(world.events().iter().filter(|event| *event == "refusal").count(), 9);
}

/// What a proxy has noted while there was no guard is decided as if it had been heard then.
#[test]
fn an_ask_that_waited_is_judged_by_its_time() {
    let mut world = World::new("waited");
    let now = world.now;
    let ask = |address: &str, seconds: u64| BanRequest {
        relay: None,
        source: address.parse().unwrap(),
        address: address.parse().unwrap(),
        rule: "bad-tokens".to_owned(),
        signal: Signal::ForgedToken,
        evidence: vec![RequestId(1)],
        seconds: 1,
        shadow: false,
        noted: now.monotonic - seconds * SECOND,
    };
    assert_eq!(world.guard().ask(&ask("192.0.2.7", 600), now).unwrap_err().code, "too_late");
    world.guard().ask(&ask("192.0.2.7", 100), now).unwrap();
    assert_eq!(world.guard().ask(&ask("192.0.2.7", 100), now).unwrap_err().code, "already_blocked", "said twice");
    let until: Vec<u64> = world.guard().bans_in_force().iter().map(|ban| ban.expires).collect();
    assert_eq!(until, [now.monotonic + 500 * SECOND]);
    // The clock of a proxy is the guard's own: nothing is noted later than now.
    let later = BanRequest { noted: u64::MAX, ..ask("192.0.2.8", 0) };
    world.guard().ask(&later, now).unwrap();
}

#[test]
fn shadow_counts_only() {
    let mut world = World::new("shadow");
    world.ask("192.0.2.7", "trial").unwrap();
    assert!(world.guard().notices().is_empty());
    assert!(world.guard().bans_in_force().is_empty());
    assert_eq!(world.why("192.0.2.7").verdict, "shadow_blocked");
    assert_eq!(world.ask("192.0.2.7", "trial"), Err("already_blocked"));
    let id = world.ask("192.0.2.7", "bad-tokens").unwrap();
    assert_eq!(world.guard().enforcer.path().bans().len(), 1);
    let why = world.why("192.0.2.7");
    assert_eq!((why.verdict.as_str(), why.entry.unwrap().id, why.history[0].how.as_str()), ("blocked", id, "replaced"));
}

#[test]
fn rules_are_paused_and_operators_are_not() {
    let mut world = World::new("pace");
    for number in 1..=3 {
        world.ask(&format!("192.0.2.{number}"), "bad-tokens").unwrap();
    }
    assert_eq!(world.ask("192.0.2.9", "bad-tokens"), Err("paused"));
    assert_eq!(world.add("198.51.100.1"), "done 1");
    world.pass(59);
    assert_eq!(world.ask("192.0.2.9", "bad-tokens"), Err("paused"));
    world.pass(1);
    assert_eq!(world.handle(ControlRequest::BlockFlush), "done 4");
    world.ask("192.0.2.9", "bad-tokens").unwrap();
    let events = world.events();
    assert!(events.contains(&"paused".to_owned()) && events.contains(&"resumed".to_owned()), "{events:?}");
}

#[test]
fn operators_are_refused_what_is_unsafe() {
    let mut world = World::new("operators");
    for (source, expect) in [
        ("192.0.2.7", "done 1"),
        ("192.0.2.7", "done 1"),
        ("2001:db8:1::/64", "done 1"),
        ("192.0.2.0/24", "done 1"),
        ("0.0.0.0/0", "too_wide"),
        ("10.0.0.1", "allowlisted"),
        ("203.0.113.0/24", "own_address"),
        ("127.0.0.1", "special_address"),
        ("192.0.2.1", "done 1"),
        ("192.0.2.2", "done 1"),
        ("192.0.2.3", "full"),
        ("198.51.100.0/24", "done 1"),
        ("198.51.101.0/24", "done 1"),
        ("198.51.102.0/24", "full"),
        ("2001:db8:1:2::/63", "done 1"),
    ] {
        assert_eq!(world.add(source), expect, "{source}");
    }
    let del = |source: &str| ControlRequest::BlockDel { source: source.parse().unwrap() };
    assert_eq!(world.handle(del("192.0.2.7")), "done 1");
    assert_eq!(world.handle(del("192.0.2.7")), "not_found");
    assert_eq!(world.handle(del("192.0.2.0/24")), "done 1");
    assert_eq!(world.handle(ControlRequest::BlockFlush), "done 6");
    assert!(world.guard().enforcer.path().bans().is_empty());
    assert_eq!(world.guard().enforcer.path().rules().len(), 1);
    for reason in ["x".repeat(501), String::new(), "two\nlines".to_owned()] {
        let source = "192.0.2.7".parse().unwrap();
        let allow = ControlRequest::AllowAdd { source, reason: reason.clone(), yes: false };
        let block =
            ControlRequest::BlockAdd { source, seconds: Some(0), reason, shadow: false, confirm: None, force: false };
        assert_eq!((world.handle(allow), world.handle(block)), ("bad_reason".to_owned(), "bad_reason".to_owned()));
    }
}

#[test]
fn an_allowance_lifts_what_it_covers() {
    let mut world = World::new("allow");
    for source in ["192.0.2.7", "192.0.2.0/28", "192.0.0.0/16", "2001:db8:1::/64"] {
        assert_eq!(world.add(source), "done 1", "{source}");
    }
    let add =
        |source: &str| ControlRequest::AllowAdd { source: source.parse().unwrap(), reason: "us".into(), yes: false };
    let del = |source: &str| ControlRequest::AllowDel { source: source.parse().unwrap() };
    assert_eq!(world.handle(add("192.0.2.0/24")), "done 3");
    assert_eq!(world.why("192.0.2.7").verdict, "allowed");
    assert_eq!(world.why("192.0.3.7").verdict, "blocked");
    assert_eq!(world.add("192.0.2.9"), "allowlisted");
    assert_eq!(world.handle(del("192.0.2.0/24")), "done 1");
    assert_eq!(world.why("192.0.2.7").verdict, "blocked", "as part of 192.0.0.0/16");
    assert_eq!(world.handle(del("192.0.2.0/24")), "not_found");
    assert_eq!(world.handle(del("10.0.0.0/8")), "in_configuration");
    assert_eq!(world.handle(add("10.0.0.0/8")), "in_configuration");
    // An address of the host may be part of a blocked network once it is allowed by itself.
    assert_eq!(world.handle(add("203.0.113.2")), "done 1");
    assert_eq!(world.add("203.0.113.0/24"), "done 1");
    assert_eq!(world.why("203.0.113.2").verdict, "allowed");
}

#[test]
fn x09_a_restart_keeps_bans_and_times() {
    let mut world = World::new("restart");
    let id = world.ask("192.0.2.7", "bad-tokens").unwrap();
    assert_eq!(world.add("198.51.100.0/24"), "done 1");
    let kernel = world.crash();
    // The wall clock jumps by a day; within a boot that means nothing.
    world.now.monotonic += 100 * SECOND;
    world.now.unix_millis += 86_400_000;
    world.start(kernel);
    let entry = world.why("192.0.2.7").entry.unwrap();
    assert_eq!((entry.id, entry.remaining_seconds), (id, Some(500)));
    assert_eq!(world.guard().enforcer.repairs(), 0);
    // A reboot: the kernel has forgotten everything, the monotonic clock starts anew.
    drop(world.crash());
    world.now = Now { monotonic: 5 * SECOND, unix_millis: 1_700_000_000_000 + 200_000 };
    world.boot = "two";
    world.start(Box::new(AtAccept::default()));
    assert_eq!(world.why("192.0.2.7").entry.unwrap().remaining_seconds, Some(400));
    assert_eq!(world.guard().enforcer.path().bans().len(), 1);
    assert_eq!(world.why("198.51.100.9").verdict, "blocked");
    world.pass(401);
    assert_eq!(world.why("192.0.2.7").verdict, "passed");
}

#[test]
fn drift_is_repaired_and_told() {
    let mut world = World::new("drift");
    world.ask("192.0.2.7", "bad-tokens").unwrap();
    assert_eq!(world.add("198.51.100.0/24"), "done 1");
    let stranger = SourceKey::ipv4(0xc000_02ff);
    let drops = world.guard().enforcer.path_mut();
    drops.unban(SourceKey::ipv4(0xc000_0207)).unwrap();
    drops.ban(stranger, maps::Ban { expires: NEVER, id: 99, packets: 0, bytes: 0 }).unwrap();
    drops.remove_rule("198.51.100.0/24".parse().unwrap()).unwrap();
    world.pass(1);
    assert_eq!(world.guard().enforcer.repairs(), 3);
    assert!(world.guard().enforcer.path().find_ban(stranger).is_none());
    assert!(world.guard().enforcer.path().find_ban(SourceKey::ipv4(0xc000_0207)).is_some());
    world.pass(1);
    assert_eq!(world.guard().enforcer.repairs(), 3);
    assert_eq!(world.events().last().unwrap(), "repair");
}

/// Where no program is in the kernel there is nothing to detach, and nobody is told to attach it again.
#[test]
fn nothing_is_detached_where_nothing_is_attached() {
    for (name, interfaces, attach) in
        [("unguarded", &[][..], "no_interfaces"), ("not-loaded", &["eth0"][..], "not_attached")]
    {
        let mut world = World::new(name);
        world.guard().settings.interfaces = interfaces.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(world.handle(ControlRequest::Detach), "done 0", "{name}");
        assert_eq!(world.guard().enforcer.detached(), None, "{name}");
        assert_eq!(world.handle(ControlRequest::Attach), attach, "{name}");
        assert_eq!(world.handle(ControlRequest::Detach), "done 0", "{name}, again");
        let unattached = world.guard().unattached().unwrap();
        assert!(!unattached.contains("`gateway attach`"), "{name}: {unattached}");
    }
}

#[test]
fn spans() {
    for (seconds, text) in [(0, "0s"), (59, "59s"), (600, "10m"), (5_400, "1h30m"), (90_061, "1d1h1m1s")] {
        assert_eq!(span(seconds), text);
    }
}

mod feeds;
