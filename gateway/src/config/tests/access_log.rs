//! Wrong access logs, each with what must be said about it.

use crate::{
    config::tests::{BASE, load, wrong},
    settings::access_log::{Field, LineFormat, Output, Principal, SyslogTransport, TemplatePart},
};

const ROUTE: &str = "[[route]]\n";

/// BASE with this table in front of its routes, whose line `line` is wrong.
#[track_caller]
fn table(text: &str, line: usize, key: &str, message: &str, hint: &str) {
    let before = BASE[..BASE.find(ROUTE).unwrap()].lines().count() + 1;
    let key = format!("access_log.{key}");
    wrong(ROUTE, &format!("[access_log]\n{text}\n{ROUTE}"), before + line, &key, message, hint);
}

#[test]
fn formats() {
    table("format = \"jsn\"", 1, "format", "is unknown", "write one of");
    table("format = \"template\"", 1, "format", "needs a template", "`template = ");
    table("template = \"x\"", 1, "template", "`format = \"template\"` alone", "leave it out");
    table("format = \"ecs\"\nfields = [\"time\"]", 2, "fields", "`format = \"json\"` alone", "leave it out");
    table("fields = [\"tim\"]", 1, "fields[0]", "is not a field", "did you mean \"time\"?");
    table("fields = [\"time\", \"time\"]", 1, "fields[1]", "in the list twice", "leave one out");
    table("fields = []", 1, "fields", "is empty", "fields = ");
    for (template, message, hint) in [
        ("\"\"", "is empty", "write"),
        ("\"a\\nb\"", "has control characters", "tabs alone"),
        ("\"${statu}\"", "is not a field", "did you mean \"status\"?"),
        ("\"$status\"", "begins no field", "`${status}`"),
        ("\"${status\"", "begins no field", "`$$`"),
        ("\"${request.authorization}\"", "never logged", "leave it out"),
        ("\"${response.set-cookie}\"", "never logged", "leave it out"),
        ("\"${request.a b}\"", "is not a header name", "`${request.user-agent}`"),
    ] {
        table(&format!("format = \"template\"\ntemplate = {template}"), 2, "template", message, hint);
    }
}

#[test]
fn secrets() {
    for header in ["Authorization", "cookie", "Proxy-Authorization", "x-api-key"] {
        table(&format!("request_headers = [\"{header}\"]"), 1, "request_headers[0]", "never logged", "leave it out");
    }
    table("response_headers = [\"Set-Cookie\"]", 1, "response_headers[0]", "never logged", "leave it out");
    table("principal_key = \"k\"", 1, "principal_key", "has no effect", "hashed");
    table("[access_log.redact]\npatterns = [\"(\"]", 2, "redact.patterns[0]", "not a regular expression", "regex");
    table(
        "[access_log.redact]\npatterns = [\"(?=a)\"]",
        2,
        "redact.patterns[0]",
        "not a regular expression",
        "look-around",
    );
    table("[access_log.redact]\npatterns = [\"a*\"]", 2, "redact.patterns[0]", "matches the empty text", "`+`");
    table("[access_log.redact]\npatterns = [\"[0-9]{100000}{100000}\"]", 2, "redact.patterns[0]", "not a regular", "");
    table("[access_log.redact]\nparameters = [\"a=b\"]", 2, "redact.parameters[0]", "is not a name", "decoded");
    for name in ["user[password]", "user.password", "a]"] {
        let text = format!("[access_log.redact]\nparameters = [\"{name}\"]");
        table(&text, 2, "redact.parameters[0]", "is not a name", "one part");
    }
    table("[access_log.redact]\nparameters = [\"-\"]", 2, "redact.parameters[0]", "is not a name", "letter");
    table(
        "[access_log.redact]\nshow_parameters = [\"x\"]",
        2,
        "redact.show_parameters[0]",
        "not redacted",
        "leave it out",
    );
}

#[test]
fn conditions() {
    table("statuses = [\"6xx\"]", 1, "statuses[0]", "is not a status", "\"5xx\"");
    table("statuses = [\"+4xx\"]", 1, "statuses[0]", "is not a status", "\"5xx\"");
    table("slower_than = \"0s\"", 1, "slower_than", "out of range", "1ms");
    table("routes = [\"/item\"]", 1, "routes[0]", "there is no route", "did you mean");
    table("sample = 1.5", 1, "sample", "is not a share", "from 0 to 1");
    table("sample = \"1%\"", 1, "sample", "is not a share", "from 0 to 1");
    table("only_refused = true\nsample = 0.5", 2, "sample", "has no effect", "leave it out");
}

#[test]
fn outputs() {
    let output = |text: &str, line: usize, key: &str, message: &str, hint: &str| {
        table(&format!("[[access_log.output]]\n{text}"), line + 1, &format!("output[0].{key}"), message, hint);
    };
    output("path = \"a\"", 0, "type", "is missing", "type = ");
    output("type = \"file\"", 1, "type", "needs a path", "path = ");
    output("type = \"stdout\"\npath = \"a\"", 2, "path", "has no effect", "leave it out");
    output("type = \"file\"\npath = \"a\"\nfacility = \"user\"", 3, "facility", "has no effect", "leave it out");
    output("type = \"file\"\npath = \"a\"\nrotate = false\nkeep_files = 3", 4, "keep_files", "has no effect", "rotate");
    output("type = \"file\"\npath = \"a\"\nrotate_size = \"1KiB\"", 3, "rotate_size", "out of range", "64KiB");
    let keep = "type = \"file\"\npath = \"a\"\nrotate_every = \"7d\"\nkeep_for = \"1d\"";
    output(keep, 4, "keep_for", "is shorter than", "7d");
    output("type = \"syslog\"\ntransport = \"udp\"", 2, "transport", "needs an address", "address = ");
    output("type = \"syslog\"\naddress = \"a:1\"", 2, "address", "has no effect", "transport = ");
    output("type = \"syslog\"\ntransport = \"tcp\"\naddress = \"a\"", 3, "address", "has no port", "host and port");
    output("type = \"syslog\"\ntransport = \"udp\"\naddress = \"a:1\"\ntls = true", 4, "tls", "needs `transport", "");
    output("type = \"syslog\"\napp_name = \"a b\"", 2, "app_name", "is not one word", "no spaces");
    let twice = "[[access_log.output]]\ntype = \"stdout\"\n[[access_log.output]]\ntype = \"stdout\"";
    table(twice, 4, "output[1].type", "goes where access_log.output[0] goes", "leave one of them out");
}

#[test]
fn what_is_valid_reads_as_it_is_written() {
    let text = "[access_log]\nformat = \"template\"\ntemplate = \"${client} $$ ${request.user-agent}\"\n\
        statuses = [\"5xx\", \"404\"]\nslower_than = \"1s\"\nsample = 0.25\nprincipal = \"hashed\"\n\
        [access_log.redact]\nparameters = [\"Own\", \"X-Iban\"]\nshow_parameters = [\"code\", \"Session-Id\", \"pageToken\"]\npatterns = [\"[0-9]{16}\"]\n\
        [[access_log.output]]\ntype = \"file\"\npath = \"/var/log/a\"\nrotate_every = \"1d\"\n\
        [[access_log.output]]\ntype = \"journald\"\n\
        [[access_log.output]]\ntype = \"syslog\"\ntransport = \"udp\"\naddress = \"[::1]:514\"\n";
    let config = load(&BASE.replacen(ROUTE, &format!("{text}{ROUTE}"), 1)).unwrap_or_else(|errors| panic!("{errors}"));
    let log = &config.proxy.access_log;
    let LineFormat::Template(pieces) = &log.format else { panic!("{log:?}") };
    let [TemplatePart::Field(Field::Client), TemplatePart::Text(text), TemplatePart::RequestHeader(agent)] =
        &pieces[..]
    else {
        panic!("{pieces:?}")
    };
    assert_eq!((text.as_str(), agent.as_str()), (" $ ", "user-agent"));
    assert_eq!((log.keep.sample, log.outputs.len(), log.opened()), (Some(250_000), 3, 1));
    assert!(matches!(log.principal, Principal::Hashed(None)));
    let has = |name: &str| log.redact.parameters.iter().any(|known| known == name);
    assert!(has("own") && has("x_iban") && has("token") && !has("code") && !has("session_id") && !has("sessionid"));
    assert_eq!(log.redact.shown, ["code", "session_id", "pagetoken"]);
    let Output::Syslog(syslog) = &log.outputs[2] else { panic!("{:?}", log.outputs) };
    assert_eq!(syslog.transport, SyslogTransport::Udp("[::1]:514".to_owned()));
    // What is shown is the same again.
    let text = toml::to_string_pretty(&config.effective()).unwrap();
    let again = load(&text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(again.effective(), config.effective(), "{text}");
}

#[test]
fn the_short_form_is_a_file_that_is_not_rotated() {
    let both = format!("{BASE}[[access_log.output]]\ntype = \"stdout\"\n");
    let both = both.replacen("[proxy]\n", "[proxy]\naccess_log = \"a\"\n", 1);
    let errors = load(&both).expect_err("two places");
    assert!(errors.to_string().contains("goes to `proxy.access_log` already"), "{errors}");
    let log = load(BASE).unwrap().proxy.access_log;
    assert!(matches!(&log.outputs[..], [Output::Stdout] | [Output::File(_)]), "{log:?}");
}
