//! Wrong `[[alert]]`, `[alerts]`, `[receiver.NAME]` and `[anomalies]` tables, each with what must be said about it.

use super::{BASE, load, wrong};
use crate::settings::{
    alert::{Aggregation, ReceiverKind},
    anomalies::{AnomalyAction, AnomalyActions},
};

const ADMIN: &str = "[admin]\naddress = \"127.0.0.1:9901\"\n";

/// A configuration with this table, whose faulty line is `line` lines below its head.
#[track_caller]
fn table(head: &str, lines: &str, line: usize, key: &str, message: &str, hint: &str) {
    let first = BASE.lines().position(|line| line == "[guard]").unwrap() + 3;
    wrong("[guard]\n", &format!("{ADMIN}{head}\n{lines}\n[guard]\n"), first + line, key, message, hint);
}

#[track_caller]
fn alert(lines: &str, key: &str, message: &str, hint: &str) {
    let lines = format!("name = \"a\"\n{lines}");
    let line = lines.lines().position(|line| line.starts_with(key.split(['[', '.']).next().unwrap())).unwrap() + 1;
    table("[[alert]]", &lines, line, &format!("alert[0].{key}"), message, hint);
}

#[track_caller]
fn receiver(lines: &str, line: usize, key: &str, message: &str, hint: &str) {
    table("[receiver.r]", lines, line, &format!("receiver.r.{key}"), message, hint);
}

#[test]
fn alerts_look_at_what_there_is() {
    let metric = "metric = \"gateway_blocks\"\ncondition = \"> 1\"";
    alert("metric = \"gateway_block\"\ncondition = \"> 1\"", "metric", "is no metric", "\"gateway_blocks\"");
    alert("metric = \"eror_share\"\ncondition = \"> 1\"", "metric", "is no metric", "\"error_share\"");
    alert("metric = \"gateway_blocks\"\ncondition = \"1\"", "condition", "is no condition", "> 5 %");
    alert("metric = \"gateway_blocks\"\ncondition = 5", "condition", "found an integer", "> 5 %");
    alert("metric = \"error_share\"\ncondition = \"> 5\"", "condition", "holds always or never", "\"> 5 %\"");
    alert("metric = \"requests\"\ncondition = \"> 5 %\"", "condition", "something else than a number", "\"> 10\"");
    alert(&format!("{metric}\nby = [\"route\"]"), "by[0]", "has no label \"route\"", "it has none");
    alert(&format!("{metric}\nmeasure = \"rate\""), "measure", "is a gauge", "\"value\"");
    alert(&format!("{metric}\nmeasure = \"left\""), "measure", "no moment", "_timestamp_seconds");
    alert(&format!("{metric}\nsummary = \"{{route}} fails\""), "summary", "neither the value nor a label", "{value}");
    alert("metric = \"error_share\"\ncondition = \"> 1 %\"\nmeasure = \"rate\"", "measure", "contradicts", "one of");
    alert(
        "metric = \"requests\"\ncondition = \"> 1\"\ndivided_by = \"gateway_blocks\"",
        "divided_by",
        "cannot be",
        "two gauges",
    );
    for (metric, filter, message, hint) in [
        ("gateway_http_requests_total", "status = \"404\"", "is never \"404\"", "4xx, 5xx, client_left"),
        ("requests", "status = \"!404\"", "is never \"404\"", "4xx, 5xx, client_left"),
        ("requests", "status = \"!*\"", "is always \"*\"", "4xx, 5xx, client_left"),
        ("requests", "status = \"6*\"", "is never \"6*\"", "4xx"),
        ("upstream_error_share", "status = \"client_left\"", "is never", "error"),
        ("gateway_http_refusals_total", "reason = \"no_token\"", "is never", "missing_token"),
        ("gateway_signals_total", "signal = \"forged\"", "is never", "forged_token"),
        ("gateway_packets_total", "verdict = \"drop\"", "is never", "blocked"),
        ("gateway_process_up", "role = \"workers\"", "is never", "observer"),
    ] {
        let label = filter.split(' ').next().unwrap();
        let name = format!("metric = \"{metric}\"\ncondition = \"> 0.5\"\nwhere = {{ {filter} }}");
        alert(&name, &format!("where.{label}"), message, hint);
    }
    let share = "metric = \"gateway_http_requests_total\"\ncondition = \"> 1 %\"\nshare = { status = \"500\" }";
    alert(share, "share.status", "is never \"500\"", "5xx");
    for filter in ["status = \"4*\"", "status = \"!5xx\"", "status = \"*\"", "route = \"/anything\""] {
        let text = format!(
            "{ADMIN}[[alert]]\nname = \"a\"\nmetric = \"requests\"\ncondition = \"> 1\"\nwhere = {{ {filter} }}\n[guard]\n"
        );
        let read = load(&BASE.replacen("[guard]\n", &text, 1));
        assert!(read.is_ok(), "{filter}: {}", read.unwrap_err());
    }
    let without = "[[alert]]\nname = \"a\"\nmetric = \"requests\"\ncondition = \"> 1\"\n[guard]\n";
    wrong("[guard]\n", without, 2, "alert[0].name", "needs the observer", "[admin]");
    table("[alerts]", "except = [\"disk_ful\"]", 1, "alerts.except[0]", "unknown", "disk_full");
    table("[anomalies]", "time_zone = \"Berlin\"", 1, "anomalies.time_zone", "no time zone", "");
    table("[anomalies]", "action = \"drop\"", 1, "anomalies.action", "unknown", "ban");
    table("[anomalies]", "for = \"30d\"", 1, "anomalies.for", "out of range", "7d");
    let packets = "[guard.packet_limit]\npackets = 20000\n";
    let clamp = format!("{ADMIN}[anomalies]\naction = \"clamp\"\n");
    wrong(packets, &clamp, 12, "anomalies.action", "no budget to divide", "[guard.packet_limit]");
    table("[anomalies]", "[anomalies.actions]\nlatency = \"ban\"", 2, "anomalies.actions.latency", "unknown", "");
    table(
        "[anomalies]",
        "for = \"2h\"\naction = \"tell\"\n[anomalies.actions]\nrequests = \"clamp\"",
        1,
        "anomalies.for",
        "longer than the hour",
        "ban",
    );
}

#[test]
fn each_measure_has_its_action() {
    let actions = |text: &str| {
        let config = load(&BASE.replace("[guard]\n", &format!("{ADMIN}[anomalies]\n{text}\n[guard]\n"))).unwrap();
        assert_eq!(config.guard.anomalies, config.anomalies.as_ref().unwrap().actions);
        let AnomalyActions { failures, requests, .. } = config.guard.anomalies;
        let clamps: Vec<String> = config.guard.clamps.into_iter().map(|(name, _)| name).collect();
        (failures, requests, clamps, config.proxy.detect.contributors)
    };
    let none = Vec::new;
    assert_eq!(actions(""), (AnomalyAction::Tell, AnomalyAction::Tell, none(), 20_000));
    assert_eq!(actions("action = \"ban\"\ncapacity = 300"), (AnomalyAction::Ban, AnomalyAction::Ban, none(), 300));
    let both = "action = \"limit\"\n[anomalies.actions]\nfailures = \"ban\"";
    assert_eq!(actions(both), (AnomalyAction::Ban, AnomalyAction::Limit, none(), 20_000));
    let clamp = "[anomalies.actions]\nrequests = \"clamp\"";
    let clamps = vec!["anomaly.requests".to_owned()];
    assert_eq!(actions(clamp), (AnomalyAction::Tell, AnomalyAction::Clamp, clamps, 20_000));
    assert_eq!(load(BASE).unwrap().proxy.detect.contributors, 0, "it costs nothing where it is not wanted");
}

#[test]
fn receivers_have_what_they_need() {
    let hook = "type = \"webhook\"\nurl = \"https://alerts.example/\"";
    receiver("type = \"hook\"", 1, "type", "unknown", "webhook");
    receiver("type = \"webhook\"", 0, "url", "is missing", "url_file");
    receiver("type = \"webhook\"\nurl = \"http://alerts.example/\"", 2, "url", "is http", "https://");
    receiver("type = \"webhook\"\nurl = \"http://127.0.0.1/\"", 2, "url", "is http", "allow_http");
    receiver(
        &format!("{hook}\nkey_file = \"key\""),
        3,
        "key_file",
        "is not for receivers of the type \"webhook\"",
        "leave it out",
    );
    receiver(
        &format!("{hook}\nheartbeat = \"1m\"").replace("webhook", "slack"),
        3,
        "heartbeat",
        "are programs",
        "webhook",
    );
    receiver(
        &format!("{hook}\nrepeat = \"0s\"").replace("webhook", "alertmanager"),
        3,
        "repeat",
        "Alertmanager without news",
        "repeat = \"1m\"",
    );
    receiver("type = \"pagerduty\"", 0, "key_file", "is missing", "key");
    receiver("type = \"syslog\"\nserver = \"log.example\"", 2, "server", "no server of syslog", "udp://");
    let mail = "type = \"email\"\nfrom = \"a@example.com\"\nto = [\"b@example.com\"]";
    receiver(mail, 0, "server", "is missing", "smtp://");
    receiver(&format!("{mail}\nserver = \"mail.example:25\""), 4, "server", "is no mail server", "smtps://");
    receiver(&format!("{mail}\nserver = \"smtp+plain://mail.example:25\""), 4, "server", "as it is", "STARTTLS");
    receiver(
        &format!("{mail}\nserver = \"smtps://mail.example:465\"\nuser = \"u\""),
        0,
        "password_file",
        "belong together",
        "",
    );
    receiver(
        "type = \"email\"\nfrom = \"nobody\"\nto = [\"b@example.com\"]\nserver = \"smtps://m.example:465\"",
        2,
        "from",
        "no mail address",
        "ops@",
    );
}

#[test]
fn built_in_alerts_are_on_where_somebody_is_told() {
    let read = |more: &str| {
        let text = BASE.replacen("[guard]\n", &format!("{ADMIN}{more}\n[guard]\n"), 1);
        load(&text).unwrap_or_else(|errors| panic!("{errors}")).alerts
    };
    assert_eq!(read("").rules.len(), 0);
    let hook = "[receiver.r]\ntype = \"webhook\"\nurl = \"https://alerts.example/\"\n";
    let all = read(hook).rules.len();
    assert!(all > 20 && read(&format!("{hook}[alerts]\nexcept = [\"drift\"]\n")).rules.len() == all - 1);
    assert_eq!(read(&format!("{hook}[alerts]\nbuiltin = false\n")).rules.len(), 0);
    // One of the operator's takes the place of one that is built in.
    let own = "[[alert]]\nname = \"disk_full\"\nmetric = \"error_share\"\nby = [\"route\"]\ncondition = \"> 5 %\"\n";
    let settings = read(&format!("{hook}{own}"));
    assert_eq!(settings.rules.len(), all);
    assert!(matches!(&settings.rules[0].measure, Aggregation::Share(share) if share[0].pattern == "5xx"));
    assert_eq!(settings.rules[0].summary, "error_share of route {route} is {value} (> 5 %)");
    assert!(matches!(&settings.receivers[0].kind, ReceiverKind::Webhook { .. }));
    assert_eq!(settings.receivers[0].repeat.as_secs(), 4 * 3_600);
}

#[test]
fn addresses_that_are_never_asked() {
    let hook = |url: &str| format!("type = \"webhook\"\nurl = \"{url}\"");
    for (url, message, hint) in [
        ("https://169.254.169.254/latest", "is a cloud's metadata service", "another server"),
        ("https://[::ffff:169.254.169.254]/", "is a cloud's metadata service", "another server"),
        ("https://[fd00:ec2::254]/", "is a cloud's metadata service", "another server"),
        ("http://169.254.169.254/", "is a cloud's metadata service", "another server"),
        ("https://0.0.0.0/", "is this network", "another server"),
        ("https://127.0.0.1:8443/", "is this host", "allow_private = true"),
        ("https://localhost/", "is this host", "allow_private = true"),
        ("https://[::1]/", "is this host", "allow_private = true"),
        ("https://10.0.0.2/", "is private", "allow_private = true"),
        ("https://169.254.1.1/", "is link-local", "allow_private = true"),
        ("http://alerts.example/", "could read what is sent", "https://"),
    ] {
        receiver(&hook(url), 2, "url", message, hint);
    }
    // No setting allows metadata.
    let allowed = format!("{}\nallow_private = true\nallow_http = true", hook("https://169.254.169.254/"));
    receiver(&allowed, 2, "url", "is a cloud's metadata service", "another server");
    for url in ["https://127.0.0.1/", "https://10.0.0.2/"] {
        let text = format!("{ADMIN}[receiver.r]\n{}\nallow_private = true\n[guard]\n", hook(url));
        let read = load(&BASE.replacen("[guard]\n", &text, 1));
        assert!(read.is_ok(), "{url}: {}", read.unwrap_err());
    }
    let mail = "type = \"email\"\nfrom = \"a@example.com\"\nto = [\"b@example.com\"]\nserver = ";
    for (server, message) in [("smtps://169.254.169.254:465", "metadata"), ("smtp://127.0.0.1:587", "is this host")] {
        receiver(&format!("{mail}\"{server}\""), 4, "server", message, "");
    }
    receiver(&format!("{mail}\"smtp+plain://localhost:25\""), 4, "server", "is this host", "allow_private = true");
}

/// What is warned of a receiver with these lines, beside an alert of the team `shop`.
#[track_caller]
fn warned(lines: &str, expect: &[&str]) {
    let text = format!(
        "{ADMIN}[[alert]]\nname = \"errors\"\nmetric = \"error_share\"\nby = [\"route\"]\ncondition = \"> 5 %\"\n\
         labels = {{ team = \"shop\" }}\n[receiver.r]\ntype = \"webhook\"\nurl = \"https://a.example/\"\n{lines}\n[guard]\n"
    );
    let config = load(&BASE.replacen("[guard]\n", &text, 1)).unwrap_or_else(|errors| panic!("{lines}: {errors}"));
    let told = config.warnings.iter().filter(|warning| warning.key.starts_with("receiver."));
    let told: Vec<String> = told.map(ToString::to_string).collect();
    assert_eq!(told.len(), expect.len(), "{lines}: {told:#?}");
    for (told, expect) in told.iter().zip(expect) {
        assert!(told.contains(expect), "{lines}: {told}");
    }
}

#[test]
fn receivers_that_no_alert_reaches_are_warned_of() {
    for (lines, expect) in [
        ("", &[][..]),
        ("match = { team = \"shop\" }", &[]),
        ("match = { team = \"!shop\", upstream = \"items\" }", &[]),
        ("match = { instance = \"edge1\", route = \"/a\" }", &[]),
        ("severity = \"critical\"", &[]),
        ("match = { tema = \"shop\" }", &["no alert has the label \"tema\""]),
        ("match = { tema = \"!shop\" }", &["no alert has the label \"tema\""]),
        ("match = { severity = \"criticall\" }", &["no alert has severity=criticall"]),
        ("match = { alertname = \"disk_ful\" }", &["no alert has alertname=disk_ful"]),
        ("match = { team = \"shopp\" }", &["no alert has team=shopp"]),
        ("match = { alertname = \"disk_full\", team = \"shop\" }", &["is told of nothing"]),
        ("group_by = [\"alertnam\"]", &["no alert has the label \"alertnam\""]),
        ("heartbeat = \"1m\"\nmatch = { alertname = \"none\" }", &[]),
    ] {
        warned(lines, expect);
    }
}
