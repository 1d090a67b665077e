//! What commands show fits 80 columns, however long names, addresses and reasons are.

use std::collections::BTreeMap;

use super::*;
use crate::{
    guard::{
        self,
        cluster::{ClusterStatus, NodeStatus, SharedLimit},
        doctor::CheckState,
        feeds::LineError,
    },
    message::{
        FailingServer, KeySetReport, ServerState, UpstreamReport,
        cluster::StoreReport,
        observer::{
            alert::{AlertReport, AlertShown, ReceiverShown, SilenceShown},
            anomalies::{Anomalies, AnomalyShown, ContributorShown},
        },
    },
    policy::limit::report::LimitRow,
    settings::operators::Role,
};

const ADDRESS: &str = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff";
const PREFIX: &str = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:fff8/125";
const TIME: &str = "2026-11-30T10:00:00.000Z";

/// Of 64 bytes, as the configuration allows them.
fn name() -> String {
    "a-limit_of-64-bytes".repeat(4)[..64].to_owned()
}

/// Of 253 bytes.
fn host() -> String {
    format!("{}example.com", "abcdefghij.".repeat(22))
}

/// Of 200 bytes.
fn reason() -> String {
    "asked for 20 paths that are not there; ".repeat(6)[..200].to_owned()
}

/// Each line fits, or is one value or command that cannot be broken.
#[track_caller]
fn fits(what: &str, shown: &str) {
    for line in shown.lines() {
        assert!(line.chars().count() <= 80 || table::words(line.trim()).count() == 1, "{what}: {line}\nof:\n{shown}");
    }
}

/// Values that another would be if they were cut stand there whole.
#[track_caller]
fn shows(what: &str, shown: &str, values: &[&str]) {
    fits(what, shown);
    for value in values {
        assert!(
            shown.split_whitespace().any(|word| word.trim_end_matches([',', ':']) == *value),
            "{what}: {value}: {shown}"
        );
    }
}

fn long_entry() -> control::BlockEntry {
    control::BlockEntry { actor: format!("rule:{}", name()), packets: u64::MAX, ..entry(12, PREFIX, &reason()) }
}

#[test]
fn blocks_and_lists() {
    for entries in
        [vec![long_entry()], vec![entry(7, "203.0.113.7", &reason())], vec![long_entry(), entry(7, "10.0.0.1", "b")]]
    {
        let entries: Vec<control::BlockEntry> = entries;
        let shown = block::render(&entries, &[], None);
        shows("block list", &shown, &[&entries[0].source.to_string(), &entries[0].actor]);
    }
    let feed = |name: String| control::FeedStatus {
        name,
        entries: u64::MAX,
        mode: "enforce".to_owned(),
        origin: "import".to_owned(),
        loaded: TIME.to_owned(),
        is_stale: false,
    };
    let feeds = [feed(name()), feed(String::new())];
    shows("block list, of lists", &block::render(&[], &feeds, Some(&reason())), &[&name()]);
    let refusal = |line, message: String| control::ListRefusal {
        line,
        source: PREFIX.parse().unwrap(),
        code: "allowlisted".to_owned(),
        message,
    };
    let refusals = [refusal(1, format!("{PREFIX} is allowlisted: {}", reason())), refusal(u32::MAX, host())];
    let errors = [LineError { line: 7, message: format!("{:?} is no address: {}", host(), reason()) }];
    let told = block::import::complaints(&errors, 20, &refusals, 30);
    shows("block import", &told, &[PREFIX, &host()]);
    let allowed = control::AllowEntry {
        source: PREFIX.parse().unwrap(),
        reason: reason(),
        actor: format!("operator:{}", name()),
    };
    shows("allow list", &allow::render(&[allowed]), &[PREFIX, &format!("operator:{}", name())]);
    let fetch = control::FeedFetch {
        name: name(),
        from: host(),
        confirmed: TIME.to_owned(),
        failing: Some(reason()),
        ..control::FeedFetch::default()
    };
    let status =
        control::GuardStatus { fetches: vec![fetch], feeds: feeds.to_vec(), ..control::GuardStatus::default() };
    shows("feed list", &feed::table(&status), &[&name(), &host()]);
}

#[test]
fn the_state_of_the_gateway() {
    let failing = FailingServer { server: host(), why: reason(), since: 1_764_000_000_000 };
    let upstream = UpstreamReport {
        name: name(),
        servers: vec![(host(), ServerState::Failing), ("10.0.0.1:9000".to_owned(), ServerState::Up)],
        failing: vec![failing],
        without_server: 0,
        over_limit: 0,
        retries: 0,
        limit: Some(u32::MAX),
        discounted: Vec::new(),
    };
    let keys = KeySetReport { issuer: host(), why: reason(), failing_since: 1, ..KeySetReport::default() };
    let process = control::ProcessStatus { role: "guard".to_owned(), pid: u32::MAX, state: None, sandbox: None };
    let status = control::GuardStatus {
        config: format!("/etc/{}.toml", name()),
        config_since: TIME.to_owned(),
        config_by: reason(),
        admin: Some(format!("https://{}", host())),
        listeners: vec![format!("[{ADDRESS}]:443"); 5],
        warnings: vec![reason(), host()],
        upstreams: vec![upstream],
        key_sets: vec![keys],
        processes: vec![process],
        ..control::GuardStatus::default()
    };
    shows("status", &status::render(&status), &[&host(), &name(), &format!("[{ADDRESS}]:443")]);
    let check =
        |state, what: String| guard::doctor::Check { name: format!("file {}", host()), state, what, fix: reason() };
    let checks = [check(CheckState::Fail, reason()), check(CheckState::Ok, host())];
    shows("doctor", &doctor::render(&checks), &[&host()]);
    let whoami = control::Whoami {
        actor: format!("operator:{}", u32::MAX),
        user: Some(name()),
        roles: Role::NAMES.into_iter().map(|(_, role)| role).collect(),
        grants: vec![control::Grant { role: Role::View, by: reason() }],
        missing: Vec::new(),
    };
    fits("whoami", &whoami::render(&whoami));
    let node = |name: String, wrong: Option<String>| NodeStatus {
        name,
        own: false,
        age_seconds: Some(u64::MAX),
        refused: u64::MAX,
        wrong,
        ticket_keys: true,
    };
    let limit = SharedLimit {
        name: name(),
        units: u64::MAX,
        per_millis: u64::MAX,
        burst: u64::MAX,
        portion: u64::MAX,
        error: u64::MAX,
    };
    let quota = guard::cluster::SharedQuota {
        name: name(),
        units: u64::MAX,
        per: "month".to_owned(),
        portion: u64::MAX,
        error: u64::MAX,
    };
    let cluster = ClusterStatus {
        node: name(),
        nodes: vec![node(name(), Some(reason())), node("b".to_owned(), None)],
        mode: "sentinel".to_owned(),
        servers: vec![host(), format!("[{ADDRESS}]:6379")],
        store: StoreReport { since: 1, why: reason(), letters: reason(), lost: 9, ..StoreReport::default() },
        stale: true,
        taken: u64::MAX,
        refused: u64::MAX,
        wrong: BTreeMap::new(),
        limits: vec![limit],
        quotas: vec![quota],
    };
    shows("cluster status", &cluster::render(&cluster), &[&name()]);
}

#[test]
fn limits_and_what_is_in_shadow() {
    let most = Some(u64::MAX);
    let full = LimitRow {
        limit: name(),
        plan: Some(name()),
        key: Some(format!("principal={} route={}", host(), name())),
        mode: "enforce".to_owned(),
        admitted: most,
        refused: most,
        evicted: most,
        shared: most,
        keys: most,
        capacity: most,
        left: most,
        in_flight: most,
        full_in_seconds: most,
        last_seconds: most,
        per: Some("month".to_owned()),
        quota: most,
        used: most,
        resets: Some(1_796_000_000),
        machines: Some(9),
        elsewhere: most,
    };
    let usual = LimitRow { limit: "address".to_owned(), mode: "enforce".to_owned(), ..LimitRow::default() };
    let rows = [full, usual];
    for (what, shown) in [
        ("limit list", limit::list(&rows)),
        ("limit top", limit::top(&rows)),
        ("limit show", limit::show(&rows)),
        ("limit reset", limit::reset(&rows)),
        ("quota list", quota::list(&rows)),
        ("quota top", quota::top(&rows)),
        ("quota show", quota::show(&rows)),
        ("quota set", quota::set(&rows)),
    ] {
        shows(what, &shown, &[&name(), "address"]);
    }
    let clamp = control::ClampEntry {
        source: PREFIX.parse().unwrap(),
        limit: name(),
        divide: u32::MAX,
        mode: "enforce".to_owned(),
        started: TIME.to_owned(),
        remaining_seconds: u64::MAX,
        packets: u64::MAX,
        bytes: u64::MAX,
        evidence: Vec::new(),
    };
    shows("limit clamps", &limit::clamps(&[clamp]), &[PREFIX, &name()]);
    let shadowed = control::Shadowed {
        what: format!("route.{}.allow_if", name()),
        name: host(),
        sources: most,
        principals: most,
        packets: u64::MAX,
        requests: u64::MAX,
        good_clients: most,
    };
    let what = shadowed.what.clone();
    shows("shadow report", &shadow::render(std::slice::from_ref(&shadowed)), &[&what, &host()]);
    shows("shadow promote --dry-run", &shadow::would_enforce(&[shadowed], "all"), &[&what]);
}

#[test]
fn keys_tokens_and_revocations() {
    let id = "AbCdEfGhIjKlMnOpQrStUvWx";
    let shown = control::KeyShown {
        id: id.to_owned(),
        name: name(),
        roles: (0..9).map(|number| format!("{}{number}", name())).collect(),
        from: vec![PREFIX.to_owned(); 4],
        hosts: vec![host(), "a.example".to_owned()],
        plan: Some(name()),
        created: TIME.to_owned(),
        actor: format!("operator:{}", name()),
        expires: Some(TIME.to_owned()),
        expires_seconds: None,
        used: Some(TIME.to_owned()),
        revoked: Some(reason()),
        replaced_by: Some(id.to_owned()),
    };
    shows("key list", &key::table(std::slice::from_ref(&shown)), &[&name(), id]);
    shows("key show", &key::describe(&shown), &[&name(), PREFIX, &host()]);
    fits("key list, of none", &key::table(&[]));
    let text = format!("gw_{id}_{}", "0123456789abcdef".repeat(6));
    let made = control::KeyMade {
        id: id.to_owned(),
        name: name(),
        key: text.clone(),
        expires: Some(TIME.to_owned()),
        replaces: Some(id.to_owned()),
        replaced_until: Some(TIME.to_owned()),
        warning: Some(reason()),
    };
    let told = key::render(&made);
    shows("key new", &told, &[id]);
    assert_eq!(told.lines().next(), Some(text.as_str()), "the key has a line for itself");
    let revocation = control::RevocationShown {
        number: u64::MAX,
        what: format!("tokens of the issuer {} with the subject {}", host(), name()),
        expires: Some(TIME.to_owned()),
        reason: reason(),
        actor: format!("operator:{}", name()),
        added: TIME.to_owned(),
    };
    shows("token revocations list", &token::table(&[revocation]), &[&host(), &name(), &u64::MAX.to_string()]);
    let admin = control::AdminToken {
        name: name(),
        roles: Role::NAMES.into_iter().map(|(_, role)| role).collect(),
        created: TIME.to_owned(),
        by: format!("operator:{}", u32::MAX),
        expires: TIME.to_owned(),
        expired: true,
        used: Some(TIME.to_owned()),
    };
    shows("admin-token list", &admin_token::render(&[admin]), &[&name(), TIME]);
}

#[test]
fn alerts_and_anomalies() {
    let labels = || BTreeMap::from([("alertname".to_owned(), name()), ("upstream".to_owned(), host())]);
    let alert = AlertShown {
        name: name(),
        state: "firing".to_owned(),
        severity: "critical".to_owned(),
        since: TIME.to_owned(),
        summary: format!("{}: {}", host(), reason()),
        labels: labels(),
        runbook: None,
        fingerprint: String::new(),
    };
    let silence =
        SilenceShown { id: 7, labels: labels(), until: TIME.to_owned(), reason: reason(), by: "operator:0".to_owned() };
    let receiver = ReceiverShown {
        name: name(),
        kind: "webhook".to_owned(),
        waiting: u64::MAX,
        failures: u32::MAX,
        why: Some(reason()),
        tested: Some(false),
    };
    let report =
        AlertReport { alerts: vec![alert], more: 9, silences: vec![silence], receivers: vec![receiver], rules: 9 };
    shows("alert list", &alert::list(&report), &[&name(), &host()]);
    shows("alert test", &alert::tests(&report), &[&name()]);
    let contributor = ContributorShown {
        who: host(),
        kind: "principal".to_owned(),
        count: u64::MAX,
        stands_out: true,
        done: Some(reason()),
        requests: Vec::new(),
    };
    let anomaly = AnomalyShown {
        of: name(),
        measure: "requests".to_owned(),
        sentence: format!("{}: {}", name(), reason()),
        began: TIME.to_owned(),
        ended: None,
        sources: 9,
        principals: 9,
        contributors: vec![contributor],
    };
    let report = Anomalies { is_on: true, series: u64::MAX, learning: u64::MAX, list: vec![anomaly] };
    shows("anomalies", &anomalies::render(&report), &[&name(), &host()]);
}

/// Commands that are too long for a line can be copied all the same.
#[test]
fn what_comes_after_init() {
    assert_eq!(
        init::next("gateway.toml"),
        "gateway.toml is written. Next:\n  gateway check --config gateway.toml\n  gateway run --config gateway.toml"
    );
    let path = format!("/etc/{}.toml", name());
    let told = init::next(&path);
    fits("init", &told);
    assert!(told.contains(&format!("  gateway check --config \\\n    {path}\n")), "{told}");
}

/// Faults are told in lines that fit, and lines of the file stay as they are.
#[test]
fn faults_of_a_configuration() {
    let (said, path, line) =
        (reason(), format!("/etc/{}.toml", host()), format!("12 | name = {:?}, {}", host(), reason()));
    for (begin, end) in [("", ""), ("\u{1b}[1m\u{1b}[91m", "\u{1b}[0m")] {
        let text = format!(
            "{begin}error{end}: rule[0].name: {said}\n  {begin}-->{end} {path}:12:8\n{begin}{line}{end}\n   |\n   \
             = help: {said}"
        );
        let drawn = table::drawn(&text);
        let lines: Vec<&str> = drawn.lines().collect();
        assert!(lines.contains(&format!("{begin}{line}{end}").as_str()), "{drawn}");
        let others: Vec<&str> = lines.into_iter().filter(|it| !it.contains("12 | ") && !it.contains("12:8")).collect();
        assert!(others.len() > 6, "{drawn}");
        fits("check", &others.join("\n"));
    }
}
