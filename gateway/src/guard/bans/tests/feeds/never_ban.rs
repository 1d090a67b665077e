//! Whoever a list with `use = "never_ban"` names: no rule, no other list and no network around them bans them.

use super::*;

impl World {
    /// The list `cdn` names these networks by now.
    fn cdn(&mut self, networks: &[&str]) {
        let entry = |(line, text): (u32, &&str)| ImportEntry(line, text.parse().unwrap(), None, None);
        let entries: Vec<ImportEntry> = (1..).zip(networks).map(entry).collect();
        let digest = networks.concat().bytes().map(|byte| format!("{byte:02x}")).collect();
        let content = FileContent { digest, entries, errors: Vec::new(), failed: 0, is_blank: false };
        let now = self.now;
        self.configure_cdn();
        self.guard().feed_file(Self::cdn_feed(), FeedNews::Changed(content), now);
        self.finish();
    }

    fn configure_cdn(&mut self) {
        let state_dir = self.folder.clone();
        let settings = &mut self.guard().settings;
        (settings.state_dir, settings.feeds) = (state_dir, vec![Self::cdn_feed()]);
    }

    fn cdn_feed() -> Feed {
        Feed::new("cdn".to_owned(), FeedPlace::File(PathBuf::new()), FeedPurpose::NeverBan)
    }

    fn force(&mut self, source: &str) -> String {
        let (source, reason) = (source.parse().unwrap(), "tests".to_owned());
        self.handle(ControlRequest::BlockAdd {
            source,
            seconds: None,
            reason,
            shadow: false,
            confirm: None,
            force: true,
        })
    }
}

#[test]
fn nobody_bans_whom_a_list_spares() {
    let mut world = World::attached("never-ban");
    world.cdn(&["192.0.2.0/25", "2001:db8:7::/48"]);
    world.warned(&[]);
    for address in ["192.0.2.7", "2001:db8:7::1"] {
        assert_eq!(world.ask(address, "bad-tokens"), Err("never_ban"), "{address}");
    }
    assert!(world.ask("192.0.2.200", "bad-tokens").is_ok());
    assert_eq!((world.add("192.0.2.7").as_str(), world.add("192.0.2.0/24").as_str()), ("never_ban", "never_ban"));
    let shields = world.why("192.0.2.7").shields;
    assert_eq!(shields.len(), 1, "{shields:?}");
    assert!(shields[0].contains("192.0.2.7 is in 192.0.2.0/25, which the list cdn says"), "{shields:?}");
    // A list that bans leaves them out, also as a network around them.
    world.file(&[("192.0.2.9", None), ("192.0.2.0/24", None), ("198.51.100.1", None)]);
    assert_eq!(world.kernel(), ["192.0.2.200", "198.51.100.1"]);
    // An operator who insists is obeyed, and stays so.
    assert_eq!(world.force("192.0.2.8"), "done 1");
    world.cdn(&["192.0.2.0/25"]);
    assert_eq!(world.why("192.0.2.8").verdict, "blocked");
    assert_eq!(world.ask("2001:db8:7::1", "bad-tokens").map(|_id| ()), Ok(()), "it is listed no more");
}

#[test]
fn what_stands_against_a_list_is_taken_back_and_a_restart_forgets_nobody() {
    let mut world = World::attached("never-ban-back");
    world.ask("192.0.2.7", "bad-tokens").unwrap();
    assert_eq!(world.add("192.0.2.8"), "done 1");
    world.file(&[("192.0.2.9", Some(600)), ("198.51.100.1", Some(600)), ("198.18.0.0/24", None)]);
    world.cdn(&["192.0.2.0/24", "198.18.0.128/25"]);
    assert_eq!(world.kernel(), ["192.0.2.8", "198.51.100.1"], "what an operator has blocked stays");
    let past = world.why("192.0.2.7").history;
    assert_eq!(past[0].how, "taken back: never_ban, a list says that it is never banned");

    let drops = world.crash();
    world.start(drops);
    world.configure_cdn();
    world.guard().adopt_never_ban(true);
    assert_eq!(world.ask("192.0.2.7", "bad-tokens"), Err("never_ban"), "the guard is new");
    assert_eq!(world.guard().feed_list().iter().filter(|list| list.mode == "never_ban").count(), 1);

    // Nobody is spared by a list that the configuration has no more.
    world.guard().settings.feeds.clear();
    let now = world.now;
    world.guard().keep_feed_files(&[], now);
    assert!(world.ask("192.0.2.7", "bad-tokens").is_ok());
}

#[test]
fn a_list_never_spares_half_of_the_internet() {
    let mut world = World::new("never-ban-wide");
    world.cdn(&["192.0.2.0/24"]);
    world.cdn(&["0.0.0.0/1"]);
    world.warned(&[
        "1 network is wider than a list may spare, and passed over: 0.0.0.0/1 is the first; it names no network",
    ]);
    assert_eq!(world.ask("192.0.2.7", "bad-tokens"), Err("never_ban"));
    assert!(world.ask("11.0.0.1", "bad-tokens").is_ok());
    let all: Vec<String> = (1..=223).map(|first| format!("{first}.0.0.0/8")).collect();
    world.cdn(&all.iter().map(String::as_str).collect::<Vec<_>>());
    world.warned(&["it names more of the internet than 4 of the widest networks"]);
    assert!(world.ask("11.0.0.2", "bad-tokens").is_ok());
    world.cdn(&["192.0.2.1"; 3_001]);
    world.warned(&["it has 3001 networks, and a list may spare 3000; `services`"]);
}

#[test]
fn a_torn_file_is_told_and_set_aside_by_the_guard_alone() {
    let mut world = World::new("never-ban-torn");
    world.cdn(&["192.0.2.0/24"]);
    let file = world.folder.join("never-ban.json");
    for (text, fault) in [
        ("{\"cdn\":{\"dig", "cannot be read"),
        ("{\"cdn\":{\"digest\":\"x\",\"loaded\":1,\"networks\":[\"0.0.0.0/0\"]}}", "list cdn is not taken over"),
    ] {
        fs::write(&file, text).unwrap();
        // A command that works without the daemon.
        world.guard().adopt_never_ban(false);
        let told = world.guard().shortfalls.standing().join("\n");
        assert!(told.contains(fault) && told.contains("never-ban.json"), "{told}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    fs::write(&file, "{").unwrap();
    world.guard().adopt_never_ban(true);
    assert!(world.guard().shortfalls.standing().join("\n").contains("it is kept as"));
    assert!(!file.exists());
}
