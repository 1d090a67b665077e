//! What the guard's hold on the kernel is worth: over its own death, without rights, when full, in others' way.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use aya::maps::{HashMap, MapData};
use gateway::{
    guard::kernel::{self, Kernel, KernelError, Removed},
    settings::guard::{AttachMode, PacketScope, Settings, SourceLimit},
};
use gateway_common::{
    maps::{Ban, Hits, LAYOUT, NEVER, Rule, name},
    source::{Source, SourceKey},
    trace::Trace,
    verdict::Verdict,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::gettid,
};
use socket2::{Domain, Socket, Type};
use support::{
    guard_settings::guard_settings,
    report,
    wait::{SOON, until},
};

const SERVER: &str = "203.0.113.1:443";
pub(crate) const BAD: &str = "203.0.113.7";
pub(crate) const GOOD: &str = "203.0.113.8";

/// Two networks and a cable between them, of this test alone; mounts of its own too. Gone when the test ends.
pub(crate) struct Cable {
    /// Tells the other end to connect from an address, and whether it got an answer.
    connect: mpsc::Sender<(String, mpsc::Sender<bool>)>,
    /// The thread whose network the other end is in.
    far: String,
}

impl Cable {
    /// Runs a test at the one end, on interface `v0`; says so and skips it where this machine does not let it.
    pub(crate) fn with(test: impl FnOnce(&Self) + Send + 'static) {
        if !report::may_run(thread::current().name().unwrap_or("live")) {
            return;
        }
        let near = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
            let (ready, far) = mpsc::channel();
            let (connect, orders) = mpsc::channel::<(String, mpsc::Sender<bool>)>();
            thread::spawn(move || {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                ready.send(gettid()).unwrap();
                for (source, answer) in orders {
                    answer.send(Self::reaches(&source)).unwrap();
                }
            });
            let cable = Self { connect, far: far.recv().unwrap().to_string() };
            cable.plug();
            test(&cable);
        });
        near.join().unwrap();
    }

    /// Lays the cable.
    fn plug(&self) {
        ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", &self.far]);
        ip(&["address", "add", "203.0.113.1/24", "dev", "v0"]);
        ip(&["link", "set", "v0", "up"]);
    }

    /// Whether a host at that address gets an answer: a refusal will do, since nothing listens.
    pub(crate) fn answers(&self, source: &str) -> bool {
        let (answer, answered) = mpsc::channel();
        self.connect.send((source.to_owned(), answer)).unwrap();
        answered.recv().unwrap()
    }

    fn reaches(source: &str) -> bool {
        ip(&["link", "set", "v1", "up"]);
        ip(&["address", "replace", &format!("{source}/24"), "dev", "v1"]);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
        let server: SocketAddr = SERVER.parse().unwrap();
        // Longer than it takes the kernel to ask for a neighbour's address twice.
        let error = socket.connect_timeout(&server.into(), Duration::from_millis(1_500)).unwrap_err();
        error.kind() == io::ErrorKind::ConnectionRefused
    }
}

pub(crate) fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).output().unwrap();
    assert!(done.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr));
}

pub(crate) fn settings() -> Settings {
    Settings {
        interfaces: vec!["v0".to_owned()],
        max_bans: 100,
        max_rules: 50,
        max_sources: 1_024,
        packet_limit: Some(SourceLimit { per_second: 10_000, burst: 10_000, shadow: false }),
        ..guard_settings("/sys/fs/bpf/gateway")
    }
}

fn source(text: &str) -> Source {
    text.parse().unwrap()
}

pub(crate) fn key(text: &str) -> SourceKey {
    source(text).key(64).unwrap()
}

pub(crate) fn ban(id: u64) -> Ban {
    Ban { expires: NEVER, id, packets: 0, bytes: 0 }
}

/// A program that another test has just started holds copies of all descriptors until it runs, and with them the link of an
/// interface that was let go of.
fn load(settings: &Settings) -> Kernel {
    until("the interface to be free", SOON, || match Kernel::load(settings, &[443]) {
        Err(KernelError::Busy { .. }) => None,
        loaded => Some(loaded.unwrap()),
    })
}

/// Gives up every capability of this thread; programs that it starts are root's again.
fn drop_rights() {
    for set in [caps::CapSet::Effective, caps::CapSet::Permitted, caps::CapSet::Inheritable] {
        caps::clear(None, set).unwrap();
    }
}

#[test]
fn x09_a_guard_that_is_gone_leaves_its_bans_in_force_and_the_next_takes_over() {
    Cable::with(|cable| {
        let mut kernel = load(&settings());
        let at = &kernel.interfaces()[0];
        assert_eq!((at.name.as_str(), at.native, at.adopted), ("v0", true, false));
        assert!(cable.answers(BAD) && cable.answers(GOOD));
        kernel.ban(key(BAD), ban(7)).unwrap();
        let rule = (source("198.51.100.0/24"), Rule::new(Rule::DENY, 3, NEVER));
        kernel.put_rule(rule.0, rule.1).unwrap();
        assert!(!cable.answers(BAD) && cable.answers(GOOD));
        let dropped = kernel.find_ban(key(BAD)).unwrap().packets;
        assert!(dropped > 0);
        drop(kernel);
        assert!(!cable.answers(BAD), "nobody runs, and the ban is in force");

        let kernel = load(&settings());
        assert!(kernel.interfaces()[0].adopted);
        assert_eq!(kernel.rules(), [rule]);
        let [(found, taken_over)] = kernel.bans()[..] else { panic!("{:?}", kernel.bans()) };
        assert_eq!((found, taken_over.id), (key(BAD), 7));
        assert!(taken_over.packets > dropped, "counted while nobody ran");
        assert!(!cable.answers(BAD) && cable.answers(GOOD));
        drop(kernel);

        let resized = Settings { max_bans: 200, max_rules: 60, max_sources: 2_048, ..settings() };
        let kernel = load(&resized);
        assert!(kernel.interfaces()[0].adopted);
        assert_eq!((kernel.bans().len(), kernel.rules(), kernel.slots()), (1, vec![rule], 120));
        assert!(!cable.answers(BAD) && cable.answers(GOOD));
        drop(kernel);

        let generic = load(&Settings { mode: AttachMode::Generic, ..resized });
        assert_eq!((generic.interfaces()[0].native, generic.interfaces()[0].adopted), (false, false));
        assert!(!cable.answers(BAD) && cable.answers(GOOD));
        generic.detach().unwrap();
        assert!(cable.answers(BAD), "detached");
        assert!(!settings().pin_dir.exists(), "nothing is left behind");
    });
}

#[test]
fn everything_after_start_works_without_any_capability() {
    Cable::with(|cable| {
        let mut kernel = load(&settings());
        drop_rights();
        kernel.ban(key(BAD), ban(1)).unwrap();
        assert!(!cable.answers(BAD));
        assert!(kernel.unban(key(BAD)).unwrap().unwrap().packets > 0);
        assert_eq!(kernel.unban(key(BAD)).unwrap(), None);
        assert!(cable.answers(BAD));

        let deny = Rule::new(Rule::DENY, 5, NEVER);
        kernel.put_rule(source("203.0.113.0/29"), deny).unwrap();
        assert!(!cable.answers(BAD));
        assert!(kernel.hits(5).packets > 0);
        kernel.clear_hits(&[5]).unwrap();
        assert_eq!(kernel.hits(5), Hits::default());
        for (rules, answers) in [
            (vec![], true),
            (vec![(source("203.0.113.0/29"), deny), (source("2001:db8::/32"), deny)], false),
            (vec![(source("203.0.113.0/29"), deny), (source(BAD), Rule::new(Rule::ALLOW, 0, NEVER))], true),
        ] {
            kernel.swap_rules(&rules).unwrap();
            assert_eq!(cable.answers(BAD), answers, "{rules:?}");
            let mut found = kernel.rules();
            found.sort_by_key(|(source, _)| *source);
            let mut expect = rules;
            expect.sort_by_key(|(source, _)| *source);
            assert_eq!(found, expect);
        }
        kernel.remove_rule(source(BAD)).unwrap();
        kernel.remove_rule(source(BAD)).unwrap();
        assert!(!cable.answers(BAD));
        traces(&mut kernel, cable);
        kernel.apply(&settings(), &[80]).unwrap();
        assert!(cable.answers(BAD), "443 is no longer guarded");
        kernel.apply(&Settings { scope: PacketScope::Host, ..settings() }, &[80]).unwrap();
        assert!(!cable.answers(BAD), "every port is");
        let blocked = kernel.verdicts().into_iter().find(|(verdict, _)| *verdict == Verdict::Blocked).unwrap().1;
        assert!(blocked.packets > 0 && blocked.bytes > blocked.packets);
    });
}

/// Swaps the variants of the program, and reads lines about the packets of one whose network is denied.
fn traces(kernel: &mut Kernel, cable: &Cable) {
    let attached = || kernel::attached_program(&settings().interfaces[0]).unwrap().unwrap();
    let untraced = attached();
    for (id, of, told) in [(1, BAD, true), (2, GOOD, false), (3, "203.0.113.0/29", true)] {
        kernel.trace(&[Trace::new(id, Some(source(of)), true)]).unwrap();
        assert_ne!(attached(), untraced);
        assert!(!cable.answers(BAD), "it is as denied as before");
        let lines = kernel.traced();
        assert_eq!(!lines.is_empty(), told, "{of}: {lines:?}");
        for line in lines {
            assert_eq!((line.trace, line.verdict, line.port), (id, Verdict::Blocked, 443), "{line:?}");
            assert_eq!(line.source.unwrap().to_string(), BAD);
        }
        assert!(kernel.reattach().0.is_empty(), "the traced program is where it should be");
    }
    kernel.trace(&[]).unwrap();
    assert_eq!(attached(), untraced);
    assert!(!cable.answers(BAD) && kernel.traced().is_empty(), "off");
}

#[test]
fn an_interface_that_is_made_anew_is_guarded_again() {
    Cable::with(|cable| {
        let mut kernel = load(&settings());
        drop_rights();
        kernel.ban(key(BAD), ban(1)).unwrap();
        assert_eq!(kernel.reattach(), (vec![], vec![]), "nothing to do");

        // Linux 6.1 renames only what is down.
        let rename = |from, to| {
            ip(&["link", "set", from, "down"]);
            ip(&["link", "set", from, "name", to]);
            ip(&["link", "set", to, "up"]);
        };
        rename("v0", "v9");
        let (again, failing) = kernel.reattach();
        assert!(again.is_empty() && failing[0].contains("no network interface v0"), "{failing:?}");
        rename("v9", "v0");
        assert_eq!(kernel.reattach(), (vec![], vec![]), "it never was off");

        ip(&["link", "delete", "v0"]);
        assert_eq!(kernel.reattach().1.len(), 1);
        cable.plug();
        assert_eq!(kernel.reattach(), (vec!["v0".to_owned()], vec![]));
        assert!(!cable.answers(BAD) && cable.answers(GOOD));
        assert_eq!(kernel.reattach(), (vec![], vec![]));
    });
}

#[test]
fn an_interface_is_guarded_whatever_becomes_of_the_file_system_of_pins() {
    Cable::with(|cable| {
        let run = |program: &str, arguments: &[&str]| {
            assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program} {arguments:?}");
        };
        let link = settings().pin_dir.join("links/v0-native");
        let mut kernel = load(&settings());
        drop_rights();
        kernel.ban(key(BAD), ban(1)).unwrap();
        // Over the pins, another file system: one that takes pins, and one that takes none.
        for (kind, takes_pins) in [("bpf", true), ("tmpfs", false)] {
            run("mount", &["-t", kind, kind, "/sys/fs/bpf"]);
            ip(&["link", "delete", "v0"]);
            drop(kernel.reattach());
            cable.plug();
            let (again, failing) = kernel.reattach();
            assert!(again.contains(&"v0".to_owned()), "{kind}: {again:?} {failing:?}");
            assert_eq!((failing.is_empty(), link.exists()), (takes_pins, takes_pins), "{kind}: {failing:?}");
            let note = kernel.interfaces()[0].note.clone().unwrap_or_default();
            assert_eq!(note.contains("not pinned") && note.contains("`gateway attach`"), !takes_pins, "{kind}: {note}");
            assert!(!cable.answers(BAD) && cable.answers(GOOD), "{kind}");
            assert!(takes_pins || settings().pin_dir.parent().unwrap().read_dir().unwrap().next().is_none(), "{kind}");
        }
        assert_eq!(kernel.attach().unwrap().0, Vec::<String>::new(), "it cannot be pinned yet");
        run("umount", &["/sys/fs/bpf"]);
        assert_eq!(kernel.attach().unwrap().0, ["v0, which is pinned again"]);
        assert_eq!(kernel.interfaces()[0].note, None);
        assert!(link.exists() && !cable.answers(BAD) && cable.answers(GOOD));
        // So that it outlives the guard, with its maps.
        drop(kernel);
        assert!(!cable.answers(BAD) && cable.answers(GOOD));
        assert!(settings().pin_dir.join(format!("v{LAYOUT}")).join(name::BANS).exists());
    });
}

#[test]
fn what_is_let_go_of_can_be_taken_hold_of_again_and_foreign_pins_are_left() {
    Cable::with(|cable| {
        let mut kernel = load(&settings());
        kernel.ban(key(BAD), ban(1)).unwrap();
        kernel.put_rule(source("203.0.113.64/26"), Rule::new(Rule::DENY, 1, NEVER)).unwrap();
        assert!(!cable.answers(BAD));
        drop_rights();
        assert_eq!(kernel.release().unwrap().links, 1);
        assert!(!settings().pin_dir.join("links/v0-native").exists());
        assert!(cable.answers(BAD), "nothing is judged");
        assert_eq!(kernel.reattach(), (vec![], vec![]), "it stays let go of");
        assert_eq!(kernel.release().unwrap(), Removed::default());
        assert_eq!(kernel.attach().unwrap(), (vec!["v0".to_owned()], vec![]));
        assert!(!cable.answers(BAD) && cable.answers(GOOD), "the maps are as they were");
        drop(kernel);
    });
    Cable::with(|cable| {
        let mut kernel = load(&settings());
        kernel.ban(key(BAD), ban(7)).unwrap();
        kernel.put_rule(source("203.0.113.64/26"), Rule::new(Rule::DENY, 1, NEVER)).unwrap();
        let rules = kernel.rules();
        drop(kernel);
        let mut opened = Kernel::open_pinned(&settings()).unwrap();
        assert_eq!((opened.bans(), opened.rules()), (vec![(key(BAD), ban(7))], rules));
        assert_eq!(opened.interfaces().len(), 1);
        opened.unban(key(BAD)).unwrap();
        assert!(cable.answers(BAD), "what is opened is what is in force");
        opened.ban(key(BAD), ban(8)).unwrap();
        assert!(!cable.answers(BAD));

        let foreign = settings().pin_dir.join("links/v0-other");
        HashMap::<MapData, u64, u64>::create(1, 0).unwrap().pin(&foreign).unwrap();
        let refusal = kernel::remove(&settings().pin_dir).unwrap_err().to_string();
        assert!(refusal.contains("v0-other") && refusal.contains("not the gateway's"), "{refusal}");
        assert!(!cable.answers(BAD), "nothing was removed");
        fs::remove_file(foreign).unwrap();
        assert_eq!(kernel::remove(&settings().pin_dir).unwrap().links, 1);
        assert!(!settings().pin_dir.exists() && cable.answers(BAD));
        assert_eq!(kernel::remove(&settings().pin_dir).unwrap(), Removed::default(), "nothing is left");
    });
}

#[test]
fn x06_full_maps_refuse_and_keep_what_they_have() {
    Cable::with(|_| {
        let mut kernel = load(&settings());
        for id in 0..100_u32 {
            kernel.ban(SourceKey::ipv4(id), ban(u64::from(id))).unwrap();
        }
        let refusal = kernel.ban(SourceKey::ipv4(1_000), ban(1)).unwrap_err();
        assert!(matches!(refusal, KernelError::Full { capacity: 100, .. }), "{refusal}");
        kernel.ban(SourceKey::ipv4(5), Ban { expires: 9, ..ban(5) }).unwrap();
        assert_eq!(kernel.find_ban(SourceKey::ipv4(5)).unwrap().expires, 9, "an existing entry can be changed");
        assert_eq!(kernel.bans().len(), 100);

        let network =
            |number: u8| (Source::network([10, number, 0, 0].into(), 16).unwrap(), Rule::new(Rule::DENY, 0, NEVER));
        let fifty: Vec<_> = (0..50).map(network).collect();
        kernel.swap_rules(&fifty).unwrap();
        let refusal = kernel.put_rule(network(60).0, network(60).1).unwrap_err();
        assert!(matches!(refusal, KernelError::Full { capacity: 50, .. }), "{refusal}");
        let more: Vec<_> = (0..51).map(network).collect();
        assert!(matches!(kernel.swap_rules(&more), Err(KernelError::Full { .. })));
        assert_eq!(kernel.rules().len(), 50, "the old rules are in force");
    });
}

#[test]
fn counters_are_kept_for_the_same_ban() {
    Cable::with(|_| {
        let mut kernel = load(&settings());
        let counted = Ban { packets: 5, bytes: 500, ..ban(1) };
        kernel.ban(key("2001:db8:1:2::/64"), counted).unwrap();
        kernel.ban(key("2001:db8:1:2::/64"), Ban { expires: 9, ..ban(1 | Ban::SHADOW) }).unwrap();
        let expect = Ban { expires: 9, id: 1 | Ban::SHADOW, packets: 5, bytes: 500 };
        assert_eq!(kernel.find_ban(key("2001:db8:1:2::/64")), Some(expect));
        kernel.ban(key("2001:db8:1:2::/64"), ban(2)).unwrap();
        assert_eq!(kernel.bans(), [(key("2001:db8:1:2::/64"), ban(2))]);
    });
}

#[test]
fn refusals_name_what_to_do() {
    Cable::with(|_cable| {
        let mut other = load(&Settings { interfaces: vec!["v0".into(), "nope".into()], ..settings() });
        assert_eq!(other.interfaces().len(), 1, "the one that is there is guarded");
        let (again, failing) = other.reattach();
        assert!(again.is_empty() && failing[0].contains("no network interface nope"), "{failing:?}");

        let second = Settings { pin_dir: "/sys/fs/bpf/second".into(), ..settings() };
        let refusal = Kernel::load(&Settings { mode: AttachMode::Native, ..second.clone() }, &[]).unwrap_err();
        assert!(matches!(refusal, KernelError::Busy { program: Some(_), .. }), "{refusal:?}");
        // Where nothing is demanded, it serves without, and says why.
        let mut without = load(&second);
        assert!(without.interfaces().is_empty(), "{:?}", without.interfaces());
        let (_, failing) = without.reattach();
        assert!(failing[0].contains("v0") && failing[0].contains("XDP program"), "{failing:?}");
        drop(without);

        let elsewhere = Settings { pin_dir: "/tmp/gateway-no-bpffs".into(), ..settings() };
        assert!(matches!(Kernel::load(&elsewhere, &[]), Err(KernelError::NoBpffs { .. })));

        let native = Settings { interfaces: vec!["lo".into()], mode: AttachMode::Native, ..second };
        assert!(matches!(Kernel::load(&native, &[]), Err(KernelError::NoNative(_))));
        let auto = load(&Settings { mode: AttachMode::Auto, ..native });
        assert!(!auto.interfaces()[0].native && auto.interfaces()[0].note.is_some());
    });
}

#[test]
fn a_pinned_map_of_another_shape_is_not_used() {
    Cable::with(|_| {
        let folder = settings().pin_dir.join(format!("v{LAYOUT}"));
        fs::create_dir_all(&folder).unwrap();
        let foreign = HashMap::<MapData, u64, u64>::create(100, 0).unwrap();
        foreign.pin(folder.join(name::BANS)).unwrap();
        let mut kernel = load(&settings());
        kernel.ban(key(BAD), ban(1)).unwrap();
        assert_eq!(kernel.bans(), [(key(BAD), ban(1))]);
    });
}

#[test]
fn bans_are_read_whole() {
    Cable::with(|_| {
        let mut kernel = load(&Settings { max_bans: 20_000, ..settings() });
        for address in 0..20_000_u32 {
            kernel.ban(SourceKey::ipv4(address), ban(u64::from(address))).unwrap();
        }
        let mut bans = kernel.bans();
        bans.sort_by_key(|(key, _)| *key);
        assert!(
            bans.iter().zip(0..20_000).all(|((key, ban), id)| *key == SourceKey::ipv4(id) && ban.id == u64::from(id))
        );
        assert_eq!(bans.len(), 20_000);
        let address: IpAddr = BAD.parse().unwrap();
        assert_eq!(kernel.find_ban(Source::of(address, 64).key(64).unwrap()), None);
    });
}
