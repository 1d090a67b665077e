//! What rules in SecLang find, by small files and small requests.

use std::{net::IpAddr, path::PathBuf};

use super::{
    super::{
        exclusion::Exclusions,
        request::{Values, WafRequest},
    },
    *,
};
use crate::{
    os::file::NamedFile,
    settings::waf::{ExceptionParameter, Exclusion, RuleMatch},
};

fn files(texts: &[(&str, &str)]) -> Vec<NamedFile> {
    let file = |(path, text): &(&str, &str)| NamedFile { path: PathBuf::from(path), bytes: text.as_bytes().into() };
    texts.iter().map(file).collect()
}

fn compiled(text: &str) -> CompiledRules {
    let files =
        files(&[("/r/a.conf", text), ("/r/words.data", "# none\nevil\nworse\n"), ("/r/nets.data", "192.0.2.0/24\n")]);
    compile(&[PathBuf::from("/r/a.conf")], &files).unwrap_or_else(|wrong| panic!("{text}\n{wrong:?}"))
}

/// The numbers of the rules that match, and `deny` where the request is refused.
fn outcome(text: &str, target: &str, headers: &[(&str, &str)], body: &str, exclusions: &Exclusions) -> Vec<String> {
    let compiled = compiled(text);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let request = WafRequest {
        method: "POST",
        target,
        protocol: "HTTP/1.1",
        headers: &headers,
        body: body.as_bytes(),
        client: IpAddr::from([192, 0, 2, 1]),
    };
    let found = run(&compiled, &Values::read(request), &[("paranoia_level", "1".to_owned())], exclusions);
    let mut all: Vec<String> = found.hits.iter().map(|hit| hit.rule.to_owned()).collect();
    all.extend(found.is_denied.then(|| "deny".to_owned()));
    all
}

#[track_caller]
fn check(text: &str, target: &str, headers: &[(&str, &str)], body: &str, expect: &[&str]) {
    assert_eq!(
        outcome(text, target, headers, body, &Exclusions::default()),
        expect,
        "{text}\n{target} {headers:?} {body}"
    );
}

/// What ModSecurity comes with, which others include before the Core Rule Set.
#[test]
fn the_recommended_configuration_of_modsecurity_loads() {
    let text = r#"
SecRuleEngine DetectionOnly
SecRequestBodyAccess On
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" \
     "id:'200000',phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRequestBodyLimit 13107200
SecRequestBodyJsonDepthLimit 512
SecArgumentsLimit 1000
SecRule &ARGS "@ge 1000" \
"id:'200007', phase:2,t:none,log,deny,status:400,msg:'Failed to fully parse request body due to large argument count',severity:2"
SecRule REQBODY_ERROR "!@eq 0" \
"id:'200002', phase:2,t:none,log,deny,status:400,msg:'Failed to parse request body.',logdata:'%{reqbody_error_msg}',severity:2"
SecRule MULTIPART_STRICT_ERROR "!@eq 0" \
"id:'200003',phase:2,t:none,log,deny,status:400, \
msg:'Multipart request body failed strict validation: \
PE %{REQBODY_PROCESSOR_ERROR}, \
BQ %{MULTIPART_BOUNDARY_QUOTED}'"
SecRule TX:/^MSC_/ "!@streq 0" "id:'200005',phase:2,t:none,deny,msg:'ModSecurity internal error flagged: %{MATCHED_VAR_NAME}'"
SecTmpDir /tmp/
SecUploadKeepFiles RelevantOnly
SecAuditLogRelevantStatus "^(?:5|4(?!04))"
SecArgumentSeparator &
SecCookieFormat 0
SecUnicodeMapFile unicode.mapping 20127
SecStatusEngine On
"#;
    assert_eq!(compiled(text).rules, 5);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    check(text, "/?q=a", &form, "a=b", &[]);
}

#[test]
fn operators_and_variables() {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let json = [("content-type", "application/json")];
    for (rule, target, headers, body, matches) in [
        ("ARGS \"@rx ^a+$\"", "/?q=aaa", &[][..], "", true),
        ("ARGS \"@rx ^a+$\"", "/?q=aab", &[], "", false),
        ("ARGS \"!@rx ^a+$\"", "/?q=aab", &[], "", true),
        ("ARGS \"!@rx ^a+$\"", "/", &[], "", false),
        ("ARGS:/^q/ \"@streq x\"", "/?query=x", &[], "", true),
        ("ARGS|!ARGS:q \"@streq x\"", "/?q=x", &[], "", false),
        ("&ARGS \"@eq 2\"", "/?a&b", &[], "", true),
        ("&REQUEST_HEADERS:Host \"@eq 0\"", "/", &[], "", true),
        ("REQUEST_HEADERS:X \"@contains b\"", "/", &[("x", "abc")], "", true),
        ("REQUEST_COOKIES \"@pm one two\"", "/", &[("cookie", "a=b; c=it is TWO")], "", true),
        ("REQUEST_FILENAME \"@endsWith .php\"", "/a/%62.php?x", &[], "", true),
        ("REQUEST_BASENAME \"@streq b.php\"", "/a/%62.php?x", &[], "", true),
        ("QUERY_STRING \"@beginsWith a=\"", "/?a=%20", &[], "", true),
        ("REQUEST_METHOD \"@within GET POST\"", "/", &[], "", true),
        ("ARGS \"@pmFromFile words.data\"", "/?q=so+EVIL", &[], "", true),
        ("REMOTE_ADDR \"@ipMatchFromFile nets.data\"", "/", &[], "", true),
        ("REMOTE_ADDR \"@ipMatch 198.51.100.0/24,10.0.0.1\"", "/", &[], "", false),
        ("ARGS \"@validateByteRange 32-126\"", "/?q=%00", &[], "", true),
        ("REQUEST_URI_RAW \"@validateUrlEncoding\"", "/?q=%zz", &[], "", true),
        ("ARGS \"@validateUtf8Encoding\"", "/?q=%ff", &[], "", true),
        ("ARGS \"@detectSQLi\"", "/?q=1'+or+'1'='1", &[], "", true),
        ("ARGS \"@detectXSS\"", "/?q=<script>", &[], "", true),
        ("ARGS_POST:a \"@gt 9\"", "/", &form, "a=10", true),
        ("ARGS:json.a.array_1 \"@streq x\"", "/", &json, "{\"a\":[1,\"x\"]}", true),
        ("ARGS_NAMES \"@streq json.k\"", "/", &json, "{\"k\":null}", true),
        ("REQBODY_PROCESSOR \"@streq JSON\"", "/", &json, "{}", true),
        ("REQBODY_ERROR \"!@eq 0\"", "/", &json, "{", true),
        ("XML:/* \"@contains evil\"", "/", &[("content-type", "text/xml")], "<a><b>is &#101;vil</b></a>", true),
        ("XML://@* \"@streq c\"", "/", &[("content-type", "text/xml")], "<a b='c'/>", true),
        ("XML:/*|XML://@* \"@streq c\"", "/", &[("content-type", "text/xml")], "<a b='c'/>", true),
        ("XML:/*|XML://@* \"@contains evil\"", "/", &[("content-type", "text/xml")], "<a b='c'>evil</a>", true),
        ("ARGS|XML:/*|XML://@*|REQUEST_BODY \"@contains evil\"", "/?q=evil", &[], "", true),
        ("ARGS:/^(?:a|b)\\/c$/|ARGS:d \"@streq x\"", "/?b/c=x", &[], "", true),
        ("ARGS:/^(?:a|b)$/|ARGS:d \"@streq x\"", "/?d=x", &[], "", true),
        ("ARGS:'/^(?:a|b)$/'|ARGS:d \"@streq x\"", "/?b=x", &[], "", true),
        ("ARGS_COMBINED_SIZE \"@ge 4\"", "/?ab=cd", &[], "", true),
        ("UNIQUE_ID \"@unconditionalMatch\"", "/", &[], "", true),
        ("FULL_REQUEST \"@beginsWith POST /a?b HTTP/1.1\"", "/a?b", &[], "", true),
        ("FULL_REQUEST \"@rx \\r\\nx-mode: evil\\r\\n\"", "/", &[("x-mode", "evil")], "", true),
        ("FULL_REQUEST \"@endsWith a=evil\"", "/", &form, "a=evil", true),
        ("FULL_REQUEST \"@contains evil\"", "/", &form, "a=good", false),
        ("RESPONSE_BODY \"@unconditionalMatch\"", "/", &form, "a=b", false),
        ("&IP:count \"@eq 0\"", "/", &[], "", true),
    ] {
        let text = format!("SecRule {rule} \"id:1,phase:2,t:none,log,pass\"");
        check(&text, target, headers, body, if matches { &["1"] } else { &[] });
    }
}

#[test]
fn chains_variables_and_skips() {
    let score = "SecAction \"id:1,phase:1,nolog,pass,setvar:tx.threshold=5,setvar:tx.level=1\"\n\
        SecRule ARGS \"@rx (e)vil\" \"id:2,phase:2,t:none,capture,block,severity:'CRITICAL',chain\"\n\
        SecRule MATCHED_VARS \"@contains %{tx.1}\" \"t:none,setvar:'tx.score=+5'\"\n\
        SecRule TX:level \"@lt 2\" \"id:3,phase:2,nolog,pass,skipAfter:END\"\n\
        SecRule ARGS \"@rx .\" \"id:4,phase:2,log,pass\"\n\
        SecMarker \"END\"\n\
        SecRule TX:score \"@ge %{tx.threshold}\" \"id:5,phase:2,t:none,log,deny\"\n";
    check(score, "/?q=evil", &[], "", &["2", "5", "deny"]);
    check(score, "/?q=good", &[], "", &[]);
    check(&format!("SecDefaultAction \"phase:2,deny\"\n{score}"), "/?q=evil", &[], "", &["2", "deny"]);
    // Once for each value; what is unset is gone; numbers go down, too.
    let count = "SecRule ARGS \"@rx x\" \"id:1,phase:2,nolog,pass,setvar:tx.n=+2\"\n\
        SecAction \"id:2,phase:2,nolog,pass,setvar:tx.n=-1\"\n\
        SecRule TX:n \"@eq 3\" \"id:3,phase:2,log,pass,setvar:!tx.n\"\n\
        SecRule &TX:n \"@eq 0\" \"id:4,phase:2,log,pass\"\n\
        SecRule TX:paranoia_level \"@eq 1\" \"id:5,phase:2,log,pass\"";
    check(count, "/?a=x&b=x", &[], "", &["3", "4", "5"]);
    let fixed = "SecAction \"id:1,phase:1,nolog,pass,setvar:tx.paranoia_level=4\"\n\
        SecRule TX:paranoia_level \"@eq 4\" \"id:2,phase:1,log,pass\"";
    check(fixed, "/", &[], "", &[]);
}

#[test]
fn rules_and_targets_are_taken_away() {
    let rules = "SecRule ARGS \"@rx evil\" \"id:10,phase:2,log,pass,tag:'bad',msg:'Evil'\"\n\
        SecRule ARGS \"@rx evil\" \"id:11,phase:2,log,pass\"\n";
    for (more, expect) in [
        ("SecRuleRemoveById 10", &["11"][..]),
        ("SecRuleRemoveById 9-11", &[]),
        ("SecRuleRemoveByTag bad", &["11"]),
        ("SecRuleRemoveByMsg Evil", &["11"]),
        ("SecRuleUpdateTargetById 11 \"!ARGS:q\"", &["10"]),
        ("SecRuleUpdateTargetByTag bad \"!ARGS:/^q/\"", &["11"]),
    ] {
        check(&format!("{rules}{more}"), "/?q=evil", &[], "", expect);
    }
    for (control, expect) in [
        ("ruleRemoveById=10", &["11"][..]),
        ("ruleRemoveByTag=bad", &["11"]),
        ("ruleRemoveTargetById=10-11;ARGS:q", &[]),
        ("ruleRemoveTargetByTag=bad;ARGS", &["11"]),
        ("ruleEngine=Off", &[]),
    ] {
        let text = format!("SecAction \"id:1,phase:1,nolog,pass,ctl:{control}\"\n{rules}");
        check(&text, "/?q=evil", &[], "", expect);
    }
    let exclusion = Exclusion {
        rules: vec![RuleMatch::Range(10, 10)],
        parameters: vec![ExceptionParameter { place: None, name: "q".to_owned() }],
        routes: Vec::new(),
    };
    assert_eq!(outcome(rules, "/?q=evil", &[], "", &Exclusions::new(vec![exclusion])), ["11"]);
}

#[test]
fn faults_are_named_by_their_lines() {
    for (text, expect) in [
        ("SecRule ARGS \"@rx (\" \"id:1\"", "rule 1: "),
        ("\nSecNothing On", "/r/a.conf:2: the directive SecNothing is not supported"),
        ("SecRule NOTHING \"@rx a\" \"id:1\"", "nobody knows the variable NOTHING"),
        ("SecRule ARGS \"@rx a\" \"id:1,t:nothing\"", "the transformation t:nothing is not supported"),
        ("SecRule ARGS \"@rx a\" \"id:1,exec:/bin/sh\"", "the action exec is not supported"),
        ("SecRule ARGS \"@rx a\" \"phase:2\"", "a rule has no id"),
        ("SecRule ARGS \"@rx a\" \"id:1\"\nSecRule ARGS \"@rx a\" \"id:1\"", "rule 1 is there twice"),
        ("SecRule ARGS \"@rx a\" \"id:1,chain\"", "a chain has no last rule"),
        ("SecRule ARGS \"@pmFromFile none.data\" \"id:1\"", "the file none.data is not there"),
        ("SecRule ARGS \"@rxx a\" \"id:1\"", "rule 1: nobody knows the operator @rxx"),
        ("Include none.conf", "no file is /r/none.conf"),
        ("Include a.conf", "files include one another"),
    ] {
        let wrong = compile(&[PathBuf::from("/r/a.conf")], &files(&[("/r/a.conf", text)])).unwrap_err();
        let shown = format!("{}:{}: {}", wrong[0].path.display(), wrong[0].line, wrong[0].message);
        assert!(shown.contains(expect), "{text}: {wrong:?}");
    }
    let warnings = compiled(
        "SecRule REMOTE_ADDR \"@geoLookup\" \"id:1\"\nSecRule RESPONSE_BODY \"@rx a\" \"id:2,phase:4,chain\"\n\
         SecRule RESPONSE_STATUS \"@rx 5\" \"t:none\"\nSecAction \"id:3,phase:5,nolog,pass\"",
    )
    .warnings;
    assert!(warnings[0].starts_with("rule 1 never matches"), "{warnings:?}");
    let others =
        ["rules for responses (phases 3 and 4) do not run: a.conf (1)", "1 rule for logs (phase 5) does not run"];
    assert_eq!(warnings[1..], others);
}

/// The head is known in phase 1 already.
#[test]
fn a_full_request_of_the_first_phase_has_no_body() {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for (phase, target, body, expect) in [(1, "/evil", "", true), (1, "/", "a=evil", false), (2, "/", "a=evil", true)] {
        let text = format!("SecRule FULL_REQUEST \"@contains evil\" \"id:1,phase:{phase},log,pass\"");
        check(&text, target, &form, body, if expect { &["1"] } else { &[] });
    }
    let by_name = "SecAction \"id:1,phase:2,nolog,pass,setvar:'tx.all=%{full_request}'\"\n\
        SecRule TX:all \"@contains a=evil\" \"id:2,phase:2,log,pass\"";
    check(by_name, "/", &form, "a=evil", &["2"]);
}

/// A rule that looks only at what never has a value has no effect: it is told, and refuses nothing.
#[test]
fn rules_that_see_no_value_are_told_and_can_refuse_nothing() {
    for (rules, refusing, warnings) in [
        ("SecRule ARGS \"@rx a\" \"id:1,phase:2,deny\"", 1, &[][..]),
        ("SecRule FULL_REQUEST \"@rx a\" \"id:1,phase:2,deny\"", 1, &[]),
        (
            "SecRule RESPONSE_BODY|RULE:id \"@rx a\" \"id:1,phase:2,deny\"",
            0,
            &["rule 1 never matches: RESPONSE_BODY, RULE have no value in phase 2"],
        ),
        ("SecRule USER \"!@rx a\" \"id:1,phase:1,deny\"", 0, &["rule 1 never matches: USER has no value in phase 1"]),
        ("SecRule IP:a|ARGS \"@rx a\" \"id:1,phase:2,deny\"", 1, &["rule 1: IP has no value in phase 2"]),
        (
            "SecRule ARGS \"@rx a\" \"id:1,phase:2,deny,chain\"\nSecRule SESSION:a \"@rx a\" \"t:none\"\n\
             SecRule MULTIPART_UNMATCHED_BOUNDARY|INBOUND_DATA_ERROR \"@eq 1\" \"id:2,phase:2,deny\"\n\
             SecRule SESSION:b \"@rx a\" \"id:3,phase:2,deny\"",
            0,
            &[
                "rule 2 never matches: INBOUND_DATA_ERROR, MULTIPART_UNMATCHED_BOUNDARY have no value in phase 2",
                "rules 1, 3 never match: SESSION has no value in phase 2",
            ],
        ),
        ("SecRule &SESSION:a \"@eq 0\" \"id:1,phase:2,deny\"", 1, &[]),
        ("SecRule ARGS|!IP:a \"@rx a\" \"id:1,phase:2,deny\"", 1, &[]),
        (
            "SecRule REQUEST_BODY|XML:/* \"@rx a\" \"id:1,phase:1,deny\"",
            0,
            &["rule 1 never matches: REQUEST_BODY, XML have no value in phase 1"],
        ),
        ("SecRule REQUEST_BODY \"@rx a\" \"id:1,phase:2,deny\"", 1, &[]),
        ("SecAction \"id:1,phase:1,deny\"", 1, &[]),
    ] {
        let compiled = compiled(rules);
        assert_eq!(compiled.refusing, refusing, "{rules}");
        assert_eq!(compiled.warnings, warnings, "{rules}");
    }
}

#[test]
fn hostile_requests_take_bounded_work() {
    let text = "SecRule ARGS|ARGS_NAMES \"@rx (a+)+$\" \"id:1,phase:2,t:none,t:urlDecodeUni,t:htmlEntityDecode,log,pass\"\n\
        SecRule ARGS \"@rx (?!b)(a*)*\\\\1c\" \"id:2,phase:2,multiMatch,t:none,t:lowercase,t:cssDecode,t:jsDecode,log,pass\"\n\
        SecRule ARGS \"@rx (.*)\" \"id:3,phase:2,nolog,pass,capture,setvar:'tx.%{tx.0}=%{tx.0}%{tx.0}'\"";
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let long = format!("q={}", "a".repeat(300_000));
    let many: String = (0..5_000).map(|index| format!("a{index}=b{index}&")).collect();
    for body in [long, many] {
        outcome(text, "/", &form, &body, &Exclusions::default());
    }
    // Digits alone are no hexadecimal number; transformations count, too.
    let digits = format!("q={}", "1".repeat(2 << 20));
    check("SecRule ARGS \"@rx ^$\" \"id:1,phase:2,t:none,t:sqlHexDecode,log,pass\"", "/", &form, &digits, &[]);
    let large = format!("q={}", "a".repeat(8 << 20));
    let trims = "t:trim,".repeat(40);
    check(&format!("SecRule ARGS \"@rx ^$\" \"id:1,phase:2,{trims}t:length\""), "/", &form, &large, &["deny"]);
}

#[test]
fn what_takes_too_many_steps_is_a_match() {
    let slow = format!("/?q={}", "a".repeat(2_000));
    for (operator, target, expect) in [
        ("@rx ^(a|a)*\\1c", &*slow, &["1"][..]),
        ("!@rx ^(a|a)*\\1c", &slow, &["1"]),
        ("!@rx ^(a|b)\\1c", "/?q=aac", &[]),
        ("!@rx ^(a|b)\\1c", "/?q=abc", &["1"]),
    ] {
        for capture in ["", "capture,"] {
            let text = format!("SecRule ARGS \"{operator}\" \"id:1,phase:2,{capture}log,pass\"");
            check(&text, target, &[], "", expect);
        }
    }
}

#[test]
fn a_rule_whose_list_is_empty_is_told() {
    for (operator, list, warning) in [
        ("@pmFromFile l.data", "word\n", ""),
        ("@pmFromFile l.data", "# none\n", "rule 1 never matches: its list is empty"),
        ("!@pmFromFile l.data", "", "rule 1 always matches: its list is empty"),
        ("@ipMatchFromFile l.data", "", "rule 1 never matches: its list is empty"),
        ("@noMatch", "", ""),
    ] {
        let rule = format!("SecRule ARGS \"{operator}\" \"id:1,phase:2,deny\"\n");
        let compiled = compile(&[PathBuf::from("/r/a.conf")], &files(&[("/r/a.conf", &rule), ("/r/l.data", list)]));
        assert_eq!(compiled.unwrap().warnings.concat(), warning, "{operator} {list:?}");
    }
}
