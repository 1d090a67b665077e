//! Arguments and what they ask; data and how it is shown.

use super::*;
use crate::{
    guard::control,
    policy::detect::{Discount, Discounted},
    signal::Signal,
};

mod fits;
mod pages;
mod wrong;

#[test]
fn the_arguments_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn help_fits_a_terminal() {
    fn check(command: &mut clap::Command) {
        // What does not fit by itself is broken in the middle of a sentence.
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for help in [after, command.render_help().to_string(), command.render_long_help().to_string()] {
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
        }
        command.get_subcommands_mut().for_each(check);
    }
    let mut command = Arguments::command();
    command.build();
    check(&mut command);
}

/// `gateway TEXT` is understood, or is wrong usage.
#[track_caller]
fn parses(text: &str, expect: bool) {
    let parsed = command().try_get_matches_from(std::iter::once("gateway").chain(text.split(' ')));
    assert_eq!(parsed.is_ok(), expect, "{text}: {parsed:?}");
}

#[test]
fn arguments() {
    parses("run", true);
    parses("--config a.toml run --detach-on-exit", true);
    parses("run --config a.toml", true);
    parses("check --json", true);
    parses("route GET https://a.example/x?y --json", true);
    parses("route GET http://[::1]:8080", true);
    parses("route M-SEARCH https://a.example --header a:b --header c:", true);
    for wrong in ["https://", "a.example/x", "/x", "ftp://a.example", "https:///x", "https://a/#x", "https://a/\u{7f}"]
    {
        parses(&format!("route GET {wrong}"), false);
    }
    parses("route get https://a.example/", false);
    parses("route G@T https://a.example/", false);
    parses("route https://a.example/", false);
    parses("route GET https://a.example/ --header a", false);
    parses("route GET https://a.example/ --header a@:b", false);
    parses("route GET https://a.example/ --header host:b", false);
    parses("can ada GET https://a.example/ --role a --role b --scope s --claim a.b=1 --from 192.0.2.7", true);
    parses("can - GET https://a.example/ --token -", true);
    parses("can - GET https://a.example/ --token a --role b", false);
    parses("can GET https://a.example/", false);
    parses("can ada GET https://a.example/ --claim a", false);
    parses("can ada GET https://a.example/ --claim a..b=1", false);
    parses("can ada GET https://a.example/ --from example.com", false);
    parses("token inspect", true);
    parses("token inspect -", true);
    parses("token inspect a --json", true);
    parses("token", false);
    parses("audit verify --state-dir a --no-store --key k --anchor b --anchor c", true);
    parses("audit show --since 1h --until 2026-01-01T00:00:00Z --event ban --source 192.0.2.0/24 --last 5", true);
    parses("audit show --since yesterday", false);
    parses("audit export --format cef --since 7d", true);
    parses("audit export --format xml", false);
    parses("audit key --pem", true);
    parses("audit key --rotate --pem", false);
    parses("status --json --socket /run/a.sock", true);
    parses("status --prometheus", true);
    parses("block add 203.0.113.7", true);
    parses("block add 203.0.113.0/24 --for 1h30m --reason x --shadow --json", true);
    parses("block add 2001:db8::/48 --forever", true);
    parses("block add 203.0.113.7 --for 10m --forever", false);
    parses("block add 203.0.113.7/24", false);
    parses("block add example.com", false);
    parses("block add 203.0.113.7 --for 10", false);
    parses("block add 203.0.113.7 --for 0s", false);
    parses("block add 203.0.113.7 --for 1500ms", false);
    parses("block add 203.0.113.7 --reason a\nb", false);
    parses("block add 203.0.113.7 --confirm 60s", true);
    parses("block add 203.0.113.7 --confirm 0s", false);
    parses("block add", false);
    parses("block add 203.0.113.0/24 --force", true);
    parses("resume", true);
    parses("shadow report --json", true);
    parses("shadow promote rule.x", true);
    parses("shadow promote", false);
    parses("confirm", true);
    parses("confirm 12 --json", true);
    parses("confirm 203.0.113.7", false);
    parses("block del 203.0.113.7", true);
    parses("block list", true);
    parses("block import drop.txt", true);
    parses("block import - --format spamhaus --feed drop --for 1d --shadow --json", true);
    parses("block import", false);
    parses("block import a --format other", false);
    parses("block import a --feed a/b", false);
    parses("feed list --json", true);
    parses("feed refresh drop --accept", true);
    parses("feed refresh", false);
    parses("block export --format csv --feed drop", true);
    parses("block export", true);
    parses("block flush", false);
    parses("block flush --yes", true);
    parses("allow add 192.0.2.0/24 --reason office", true);
    parses("allow del 192.0.2.0/24", true);
    parses("allow list", true);
    parses(
        "key new --name deploy --roles reader,editor --expires 90d --from 192.0.2.0/24,2001:db8::1 --hosts a.example",
        true,
    );
    parses("key new --name a", true);
    parses("key new --roles reader", false);
    parses("key new --name a.b", false);
    parses("key new --name a --from example.com", false);
    parses("key new --name a --expires 0s", false);
    parses("key list --json", true);
    parses("key show deploy", true);
    parses("key rotate deploy --overlap 0s --expires 1d", true);
    parses("key rotate deploy --overlap 1.5h", false);
    parses("key revoke deploy --reason leaked", true);
    parses("key import - --json", true);
    parses("token revoke --issuer jwt --jti a --for 1h", true);
    parses("token revoke --issuer jwt --subject a --issued-before now", true);
    parses("token revoke --issuer jwt --issued-before 2026-01-31T12:00:00Z", true);
    parses("token revoke --issuer jwt --issued-before yesterday", false);
    parses("token revoke --issuer jwt --jti a --subject b", false);
    parses("token revoke --issuer jwt --kid k1 --for 1h", true);
    parses("token revoke --issuer jwt --kid k1 --jti a", false);
    parses("token revoke --issuer jwt --kid k1 --subject a", false);
    parses("token revoke --jti a", false);
    parses("token revocations list", true);
    parses("token revocations del 7", true);
    parses("token revocations del jti", false);
    parses("waf test request.txt --waf api --from 2001:db8::1 --json", true);
    parses("waf test -", true);
    parses("waf test", false);
    parses("waf rules", true);
    parses("why 2001:db8::1", true);
    parses("why 2001:db8::/64", false);
    parses("audit verify --state-dir /x", true);
    parses("audit", false);
    parses("reload", true);
    parses("upgrade", true);
    parses("watch --json --count 3", true);
    parses("watch --count 0", false);
    parses("detach --json", true);
    parses("doctor --json", true);
    parses("attach", true);
    parses("attach eth0", false);
    parses("version", true);
    parses("whoami --json", true);
    parses("admin-token new --name ada --role view --role block --expires 30d", true);
    parses("admin-token new --name ada --role view", true);
    parses("admin-token new --name ada", false);
    parses("admin-token new --role view", false);
    parses("admin-token new --name a/b --role view", false);
    parses("admin-token new --name ada --role root", false);
    parses("admin-token new --name ada --role view --expires 367d", false);
    parses("admin-token new --name ada --role view --expires 1500ms", false);
    parses("admin-token list --json", true);
    parses("admin-token revoke ada", true);
    parses("admin-token revoke", false);
    parses("proxy", true);
    parses("frobnicate", false);
}

#[test]
fn tables_fit_the_terminal() {
    let table = |rows: &[[&str; 3]]| {
        let mut table = table::Table::new(["ID", "SOURCE", "REASON"]);
        rows.iter().for_each(|row| table.row(row.map(str::to_owned)));
        table
    };
    for (rows, width, expect) in [
        (&[["1", "10.0.0.66", "seen"]][..], 80, "ID  SOURCE     REASON\n 1  10.0.0.66  seen"),
        (
            &[["1", "a", "three short words"]],
            20,
            "ID  SOURCE  REASON\n 1  a       three\n            short\n            words",
        ),
        // Too wide by its words: the last columns go below.
        (&[["1", "a", "onewordofmanyletters"]], 20, "ID  SOURCE\n 1  a\n    REASON\nonewordofmanyletters"),
        (&[["1", "a", "onewordofmanyletters"]], 31, "ID SOURCE REASON\n 1 a      onewordofmanyletters"),
        // Too wide by its words: a column of dashes goes, and the columns are closer.
        (&[["1", "-", "onewordofmanyletters"]], 24, "ID  REASON\n 1  onewordofmanyletters"),
        (&[["1", "-", "onewordofmanyletters"]], 23, "ID REASON\n 1 onewordofmanyletters"),
        (
            &[["1", "-", "x"], ["2", "a", "onewordofmanyletters"]],
            30,
            "ID SOURCE REASON\n 1 -      x\n 2 a      onewordofmanyletters",
        ),
        (&[["1", "a", "`two words`"]], 21, "ID SOURCE REASON\n 1 a      `two words`"),
        (&[["1", "two words", "x"]], 15, "ID  SOURCE\n 1  two words\n    REASON  x"),
        (&[], 80, "ID  SOURCE  REASON"),
    ] {
        assert_eq!(table(rows).render_within(width), expect);
    }
    // A column that would be high and narrow goes below, too.
    let long = "word ".repeat(30);
    let shown = table(&[["1", "a", long.trim_end()]]).render_within(20);
    assert_eq!(shown, format!("ID  SOURCE\n 1  a\n    REASON  {}", ["word"; 30].join("\n            ")));
    let field = table::field("  name", 14, long.trim_end());
    assert!(field.lines().all(|line| line.len() <= 80) && field.lines().count() == 3, "{field}");
    assert!(field.lines().skip(1).all(|line| line.starts_with(&" ".repeat(14))), "{field}");
    for (text, expect) in [
        ("short", "short"),
        ("three short words", "three\nshort\nwords"),
        ("a b\n  three words", "a b\n  three\n  words"),
        ("onewordofmanyletters", "onewordofmanyletters"),
        // A command can be copied.
        ("a `b c` d", "a `b c`\nd"),
        ("or write: `gateway init a.toml`, then", "or\nwrite:\n`gateway init a.toml`,\nthen"),
        ("a ` b c d e f", "a ` b c\nd e f"),
        ("`a b``c d` e", "`a b``c d`\ne"),
        ("", ""),
    ] {
        assert_eq!(table::prose_within(text, 8), expect);
    }
}

#[test]
fn terminals_obey_no_data() {
    for (text, expect) in [
        ("plain ünïcode 日本", "plain ünïcode 日本"),
        ("\u{1b}[2J", "\\u{1b}[2J"),
        ("a\nb\tc\0", "a\\nb\\tc\\u{0}"),
        ("\u{9b}31m", "\\u{9b}31m"),
        ("\u{202e}txt", "\\u{202e}txt"),
    ] {
        assert_eq!(table::clean(text), expect, "{text:?}");
    }
    assert_eq!(table::clean_lines("one\n  two\u{1b}[1m"), "one\n  two\\u{1b}[1m");
}

#[test]
fn amounts() {
    for (bytes, expect) in [(0, "0 B"), (1_023, "1023 B"), (1_024, "1.0 KiB"), (1_536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
    {
        assert_eq!(table::bytes(bytes), expect);
    }
    assert_eq!(table::bytes(u64::MAX), "16383.9 PiB");
    for (seconds, expect) in [(0, "0s"), (59, "59s"), (60, "1m0s"), (3_661, "1h1m"), (90_000, "1d1h")] {
        assert_eq!(table::seconds(seconds), expect);
    }
}

fn entry(id: u64, source: &str, reason: &str) -> control::BlockEntry {
    control::BlockEntry {
        relay: (id == 12).then(|| "10.0.0.2".parse().unwrap()),
        refused: if id == 12 { 3 } else { 0 },
        id,
        source: source.parse().unwrap(),
        reason: reason.to_owned(),
        actor: "rule:bad-tokens".to_owned(),
        mode: "enforce".to_owned(),
        started: "2026-11-23T19:00:00Z".to_owned(),
        expires: (id != 12).then(|| "2026-11-23T19:10:00Z".to_owned()),
        remaining_seconds: (id != 12).then_some(599),
        confirm_seconds: None,
        packets: id * 3,
        bytes: id * 1_024,
    }
}

#[test]
fn blocks() {
    assert_eq!(block::render(&[], &[], None), "nothing is blocked");
    let list = control::FeedStatus {
        name: "drop".to_owned(),
        entries: 42,
        mode: "enforce".to_owned(),
        origin: "import".to_owned(),
        loaded: String::new(),
        is_stale: false,
    };
    for (unattached, says) in [(None, "lists block 42 more: drop (42)"), (Some("XDP is detached"), "XDP is detached")] {
        let shown = block::render(&[], std::slice::from_ref(&list), unattached);
        assert!(shown.contains(says) && shown.contains("block none") == unattached.is_some(), "{shown}");
    }
    let nameless = control::FeedStatus { name: String::new(), ..list };
    let shown = block::render(&[], &[nameless], None);
    assert!(shown.contains("(no name) (42)") && shown.contains("--feed ''`"), "{shown}");
    let entries = [entry(7, "203.0.113.7", "10 × forged_token"), entry(12, "2001:db8::/32", "\u{1b}x")];
    let shown = block::render(&entries, &[], None);
    let expect = "\
ID  SOURCE         MODE     LEFT     PACKETS     BYTES  REFUSED  BY
 7  203.0.113.7    enforce  9m59s         21   7.0 KiB        0  rule:bad-tokens
    REASON  10 × forged_token
12  2001:db8::/32  enforce  forever       36  12.0 KiB        3  rule:bad-tokens
                   (L7)
    REASON  \\u{1b}x";
    assert_eq!(shown, expect);
}

fn score(held: u32) -> control::Score {
    control::Score {
        rule: "forged-tokens".to_owned(),
        of: "forged tokens".to_owned(),
        held,
        needed: 10,
        within_seconds: 60,
        shadow: false,
    }
}

#[test]
fn explanations() {
    let why = control::AddressReport {
        country: Some("DE".to_owned()),
        asn: Some(64_500),
        address: "203.0.113.7".parse().unwrap(),
        verdict: "blocked".to_owned(),
        unattached: Some("XDP is detached".to_owned()),
        entry: Some(entry(7, "203.0.113.7", "10 × forged_token")),
        evidence: vec![crate::web::request_id::RequestId(1), crate::web::request_id::RequestId(2)],
        reaction_micros: Some(1_234),
        connections_closed: Some(2),
        shields: Vec::new(),
        score: [4, 0].into_iter().map(score).collect(),
        discounted: Some(Discounted { signal: Signal::UpstreamNotFound, count: 12, why: Discount::NobodyServed }),
        limits: Vec::new(),
        profile: None,
        limited: None,
        clamp: None,
        plan: None,
        standing: control::BanHistory::default(),
        history: Vec::new(),
        history_unknown: Some("the ban store: disk I/O error".to_owned()),
        next: "it is let through again in 9m59s".to_owned(),
    };
    let expect = "\
203.0.113.7 is blocked
  from        DE, AS64500
  block       203.0.113.7 (id 7, enforce)
  reason      10 × forged_token
  by          rule:bad-tokens
  since       2026-11-23T19:00:00Z
  until       2026-11-23T19:10:00Z (9m59s left)
  dropped     21 packets, 7.0 KiB
  enforced    when it connects, by no packet: XDP is detached
  reaction    1.234 ms from the offence to the kernel
  closed      2 connections
  evidence    00000000000000000000000000000001
              00000000000000000000000000000002
  score       4 of 10 forged tokens within 1m0s (rule forged-tokens)
  discounted  12 × upstream_not_found counts against nobody: the upstream has
              served nobody else within a minute
  earlier     not known: the ban store: disk I/O error
  next        it is let through again in 9m59s";
    assert_eq!(why::render(&why), expect);
}

#[test]
fn how_things_are() {
    let status = control::GuardStatus {
        upstreams: Vec::new(),
        key_sets: Vec::new(),
        cluster: None,
        version: "0.1.0".to_owned(),
        config: "/etc/gateway/gateway.toml".to_owned(),
        guard_pid: 1,
        proxy_pid: Some(2),
        proxy_restarts: 0,
        proxy_standstills: 0,
        uptime_seconds: 61,
        enforcement: "xdp".to_owned(),
        interfaces: vec![control::InterfaceStatus {
            name: "eth0".to_owned(),
            mode: "native".to_owned(),
            adopted: true,
        }],
        listeners: vec!["0.0.0.0:443".to_owned()],
        blocks: 1,
        feeds: Vec::new(),
        allows: 2,
        verdicts: vec![control::VerdictCount { verdict: "blocked".to_owned(), packets: 12, bytes: 2_048 }],
        warnings: vec!["the clock went back".to_owned()],
        budgets: Vec::new(),
        kernel: control::KernelBudgets::default(),
        paused: None,
        audit: control::AuditState {
            records: 9,
            files: 2,
            bytes: 5,
            signed: 7,
            signed_at: "T".to_owned(),
            anchors: Vec::new(),
        },
        ..control::GuardStatus::default()
    };
    let expect = "\
WARNING: the clock went back

version       0.1.0
configuration /etc/gateway/gateway.toml
guard         pid 1, up 1m1s
proxy         pid 2, restarted 0 times
observer      none: there is no [admin]
listening     0.0.0.0:443
enforcement   xdp on eth0 (native, adopted)
blocks        1
allowlisted   2
audit chain   9 records in 2 files, signed up to 7 at T

VERDICT  PACKETS    BYTES
blocked       12  2.0 KiB";
    assert_eq!(status::render(&status), expect);
    let admin = || Some("http://127.0.0.1:9901".to_owned());
    for (guard_pid, admin, observer_pid, expect) in [
        (1, None, None, "none: there is no [admin]"),
        (1, admin(), Some(3), "pid 3, restarted 0 times, http://127.0.0.1:9901"),
        (1, admin(), None, "being restarted, 0 times so far, http://127.0.0.1:9901"),
        (0, admin(), None, "not running; [admin] has http://127.0.0.1:9901"),
        (0, None, None, "none: there is no [admin]"),
    ] {
        let shown =
            status::render(&control::GuardStatus { guard_pid, admin, observer_pid, ..control::GuardStatus::default() });
        assert!(shown.contains(&format!("observer      {expect}\n")), "{shown}");
    }
}

#[test]
fn events() {
    let event =
        serde_json::json!({"time": "T", "event": "ban", "id": 7, "reason": "by \u{1b}hand", "source": "10.0.0.66"});
    let shown = watch::render(event.as_object().unwrap());
    assert_eq!(shown, "T ban id=7 reason=\"by \\u{1b}hand\" source=10.0.0.66");
}

#[test]
fn servers_say_why_they_fail() {
    use crate::message::{FailingServer, ServerState, UpstreamReport};
    let failing = |server: &str, why: &str| FailingServer {
        server: server.to_owned(),
        why: why.to_owned(),
        since: 1_764_000_000_000,
    };
    let report = UpstreamReport {
        name: "a".to_owned(),
        servers: [("h:1", ServerState::Up), ("h:2", ServerState::Failing), ("n:3", ServerState::Failing)]
            .map(|(server, state)| (server.to_owned(), state))
            .to_vec(),
        failing: vec![
            failing("h:2", "Connection refused (os error 111)"),
            failing("n:3", "its name cannot be resolved: Name or service not known"),
        ],
        without_server: 0,
        over_limit: 0,
        retries: 0,
        limit: None,
        discounted: Vec::new(),
    };
    let texts: Vec<String> = report.failing.iter().map(status::failure).collect();
    assert_eq!(
        texts,
        [
            "Connection refused (os error 111), since 2025-11-24T16:00:00.000Z",
            "not resolved: Name or service not known, since 2025-11-24T16:00:00.000Z",
        ]
    );
    let table = status::upstreams(&[report]).unwrap();
    for (server, state) in [("h:1", "up"), ("h:2", "failing: Connection"), ("n:3", "failing: not resolved:")] {
        let line = table.lines().find(|line| line.contains(server)).unwrap();
        assert!(line.contains(state), "{state:?} is not in:\n{table}");
    }
}
