//! Snapshots and what is shown of them; keys and what they do.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::{Terminal, backend::TestBackend};

use super::{screen::Sort, *};
use crate::guard::control::{self, BlockEntry, BudgetStatus, FeedStatus, GuardStatus, InterfaceStatus, VerdictCount};

fn entry(id: u64, source: &str, packets: u64, reason: &str, left: Option<u64>) -> BlockEntry {
    BlockEntry {
        relay: None,
        refused: 0,
        id,
        source: source.parse().unwrap(),
        reason: reason.to_owned(),
        actor: "rule:bad-tokens".to_owned(),
        mode: if id == 3 { "shadow" } else { "enforce" }.to_owned(),
        started: "2026-11-23T19:00:00Z".to_owned(),
        expires: None,
        remaining_seconds: left,
        confirm_seconds: None,
        packets,
        bytes: packets * 60,
    }
}

fn snapshot(seconds: u64, blocked: u64, entries: Vec<BlockEntry>, samples: &[&str]) -> TopSnapshot {
    let counted = |verdict: &str, packets| VerdictCount { verdict: verdict.to_owned(), packets, bytes: packets * 60 };
    let status = GuardStatus {
        upstreams: Vec::new(),
        key_sets: Vec::new(),
        cluster: None,
        version: "0.1.0".to_owned(),
        config: "gateway.toml".to_owned(),
        guard_pid: 10,
        proxy_pid: Some(11),
        proxy_restarts: 0,
        proxy_standstills: 0,
        uptime_seconds: 61,
        enforcement: "xdp".to_owned(),
        interfaces: vec![InterfaceStatus { name: "eth0".to_owned(), mode: "native".to_owned(), adopted: false }],
        listeners: Vec::new(),
        blocks: 3,
        feeds: vec![FeedStatus {
            name: "drop\u{1b}".to_owned(),
            entries: 1_000,
            mode: "shadow".to_owned(),
            origin: "file".to_owned(),
            loaded: String::new(),
            is_stale: false,
        }],
        allows: 1,
        verdicts: vec![counted("malformed", 0), counted("blocked", blocked), counted("passed", 7)],
        warnings: vec!["the clock\u{1b}[31m".to_owned()],
        budgets: vec![BudgetStatus { of: "bytes".to_owned(), per_second: 1 << 20, burst: 2_048, shadow: true }],
        kernel: control::KernelBudgets::default(),
        paused: None,
        ..GuardStatus::default()
    };
    let gathered = TopSamples::default();
    samples.iter().for_each(|line| gathered.note(line));
    TopSnapshot {
        top: control::TopStatus { unix_millis: 0, status, entries },
        samples: gathered.take(),
        at: Duration::from_secs(seconds),
        is_down: false,
    }
}

fn pair() -> (TopSnapshot, TopSnapshot) {
    let before = vec![entry(1, "192.0.2.1", 10, "first", Some(600)), entry(2, "192.0.2.2", 900, "second", None)];
    let now = vec![
        entry(1, "192.0.2.1", 2_010, "first", Some(598)),
        entry(2, "192.0.2.2", 900, "second \u{1b}]0;x\u{7}", None),
        entry(3, "2001:db8::/64", 50, "new", Some(5)),
    ];
    let samples = [
        r#"{"event":"packet","source":"198.51.100.7","verdict":"over_packets","one_in":30}"#,
        r#"{"event":"packet","source":"198.51.100.7","verdict":"over_packets","one_in":30}"#,
        r#"{"event":"packet","source":"192.0.2.1","verdict":"blocked","one_in":9}"#,
        r#"{"event":"packet","verdict":"malformed"}"#,
        "no JSON",
    ];
    (snapshot(10, 1_000, before, &[]), snapshot(12, 3_001, now, &samples))
}

#[test]
fn rates_are_of_what_changed() {
    let (before, now) = pair();
    let view = View::new(&now, Some(&before), &Screen::default());
    let rates: Vec<_> = view.verdicts.iter().map(|rate| (&*rate.verdict, rate.packets_per_second)).collect();
    assert_eq!(rates, [("blocked", 1_001), ("passed", 0), ("malformed", 0)]);
    assert_eq!(view.verdicts[0].bytes_per_second, 60_030);
    let sources = view.sources.iter().map(|it| (&*it.source, &*it.verdict, it.packets_per_second, it.estimated));
    assert_eq!(
        sources.collect::<Vec<_>>(),
        [("192.0.2.1", "blocked", 1_000, false), ("198.51.100.7", "over_packets", 30, true)]
    );
    // Nothing before, a counter that began anew, no time between.
    assert!(View::new(&now, None, &Screen::default()).verdicts.iter().all(|rate| rate.packets_per_second == 0));
    assert_eq!(View::new(&before, Some(&now), &Screen::default()).verdicts[0].packets_per_second, 0);
    assert_eq!(View::new(&now, Some(&now), &Screen::default()).verdicts[0].packets_per_second, 0);
}

#[test]
fn blocks_are_sorted_and_filtered() {
    let (before, now) = pair();
    for (sort, filter, expect) in [
        (Sort::Rate, "", vec![1, 2, 3]),
        (Sort::Packets, "", vec![1, 2, 3]),
        (Sort::Left, "", vec![3, 1, 2]),
        (Sort::Age, "", vec![3, 2, 1]),
        (Sort::Age, "192.0", vec![2, 1]),
        (Sort::Age, "SHADOW", vec![3]),
        (Sort::Age, "no such", vec![]),
    ] {
        let screen = Screen { sort, filter: filter.to_owned(), ..Screen::default() };
        let view = View::new(&now, Some(&before), &screen);
        assert_eq!(view.blocks.iter().map(|block| block.id).collect::<Vec<_>>(), expect, "{sort:?} {filter}");
    }
}

#[test]
fn a_frame() {
    let (before, now) = pair();
    let text = draw::text(&View::new(&now, Some(&before), &Screen::default()), 120, 60).unwrap();
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text}");
    for line in [
        "gateway 0.1.0  guard 10 up 1m1s, proxy 11, 0 restarts",
        "enforcement xdp on eth0 (native)  allowlisted 1  breaker: rules may ban",
        "budgets per source: bytes 1.0 MiB/s, burst 2.0 KiB (shadow)",
        "lists: drop\\u{1b} 1000 (shadow)",
        "! the clock\\u{1b}[31m",
        "│blocked                  1001 58.6 KiB/s      3001 175.8 KiB│",
        "│192.0.2.1                              1000 blocked     │",
        "│198.51.100.7                            ~30 over_packets│",
        "3 of 3 blocks, by packets/s",
        "│     1 192.0.2.1                9m58s         1000      2010  117.7 KiB enforce rule:bad-tokens first",
        "second \\u{1b}]0;x\\u{7}",
        "│     3 2001:db8::/64            5s               0        50    2.9 KiB shadow ",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    // Any size is drawn.
    for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 90)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let screen = Screen { shows_help: true, selected: 99, ..Screen::default() };
        terminal.draw(|frame| draw::frame(frame, &View::new(&now, None, &screen), &screen)).unwrap();
    }
}

/// An address without its end is another address, and so is a number.
#[test]
fn addresses_are_shown_as_a_whole_or_not_at_all() {
    let sources = [
        "203.0.113.177",
        "203.0.113.128/25",
        "2001:db8:1111:2222:3333:4444:5555:6666",
        "2001:db8:1111:2222::/64",
        "2001:db8:aaaa:bbbb:cccc:dddd:eeee:fff8/125",
    ];
    let reason = "a reason that is longer than any column is, so that something has to be cut";
    let entries = (1..).zip(sources).map(|(id, source)| entry(id * 1_234_567, source, 12_345_678_901, reason, None));
    let samples: Vec<String> = sources
        .iter()
        .map(|source| format!(r#"{{"event":"packet","source":"{source}","verdict":"over_packets","one_in":1234567}}"#))
        .collect();
    let samples: Vec<&str> = samples.iter().map(String::as_str).collect();
    let mut now = snapshot(12, 12_345_678_901, entries.collect(), &samples);
    now.top.status.warnings = vec![format!("listener [{}]:443 waits", sources[2])];
    let before = snapshot(10, 0, Vec::new(), &[]);
    for width in 20..200 {
        let text = draw::text(&View::new(&now, Some(&before), &Screen::default()), width, 90).unwrap();
        for source in sources {
            for length in 6..source.len() {
                let part = &source[..length];
                let rest = text.match_indices(part).map(|(at, _)| text[at + length..].chars().next().unwrap_or(' '));
                for next in rest {
                    let is_other = sources.iter().any(|other| *other != source && other.starts_with(part));
                    assert!(source[length..].starts_with(next) || is_other, "{width} {part}{next}\n{text}");
                }
            }
        }
        if width >= 80 {
            assert!(sources.iter().all(|source| text.contains(source)), "{width}\n{text}");
            // Once as a source that packets are dropped of, once as one that is blocked.
            let mut long = sources.iter().filter(|source| source.contains(':'));
            assert!(long.all(|source| text.matches(source).count() >= 2), "{width}\n{text}");
            assert!(text.contains("12345678901") && text.contains("4938268"), "{width}\n{text}");
            assert!(text.contains("~617284"), "{width}\n{text}");
        }
    }
}

#[test]
fn keys() {
    let (before, now) = pair();
    let mut screen = Screen::default();
    let press = |screen: &mut Screen, keys: &str| {
        let mut last = Act::Nothing;
        for letter in keys.chars() {
            let view = View::new(&now, Some(&before), screen);
            let code = match letter {
                '\n' => KeyCode::Enter,
                '<' => KeyCode::Backspace,
                '\u{1b}' => KeyCode::Esc,
                letter => KeyCode::Char(letter),
            };
            last = screen.press(KeyEvent::new(code, KeyModifiers::NONE), &view);
        }
        last
    };
    assert_eq!(press(&mut screen, "jd"), Act::Nothing);
    assert_eq!(screen.asks, Some("192.0.2.2".parse().unwrap()));
    assert_eq!(press(&mut screen, "n"), Act::Nothing);
    assert_eq!((screen.asks, press(&mut screen, "y")), (None, Act::Nothing), "nothing is left to be confirmed");
    assert_eq!(press(&mut screen, "kdy"), Act::Unblock("192.0.2.1".parse().unwrap()));
    assert_eq!(press(&mut screen, "/qqx<\n"), Act::Nothing);
    assert_eq!((&*screen.filter, screen.is_typing), ("qq", false));
    assert_eq!(press(&mut screen, "d"), Act::Nothing);
    assert_eq!(screen.asks, None, "nobody is shown");
    assert_eq!(press(&mut screen, "\u{1b}"), Act::Nothing);
    assert_eq!(screen.filter, "");
    assert_eq!(press(&mut screen, "?q"), Act::Nothing, "help is closed by any key");
    press(&mut screen, "ssp");
    assert_eq!((screen.sort, screen.is_paused), (Sort::Left, true));
    assert_eq!(press(&mut screen, "q"), Act::Quit);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen.press(control_c, &View::new(&now, None, &Screen::default())), Act::Quit);
}
