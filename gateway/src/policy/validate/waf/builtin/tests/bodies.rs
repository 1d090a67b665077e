//! Which bodies the built-in rules read, and as what.

use super::*;

#[test]
fn a_body_is_inspected_whatever_its_type_says() {
    let pad = |text: &str| format!("{text}{}", "word ".repeat(200));
    let sql = "' or 1=1--";
    for (content_type, body, rule) in [
        ("text/xml", "${jndi:ldap://x/y}".to_owned(), "expression_injection"),
        ("text/xml", format!("{{\"a\":\"{sql}\"}}"), "sql_injection"),
        ("text/xml", format!("{{\"a\":\"{}\",\"b\":\"{sql}\"}}", pad("it's \\\"x\\\"")), "sql_injection"),
        ("text/xml", format!("a={}&b={sql}", pad("'\"")), "sql_injection"),
        ("application/soap+xml", format!("<a>b</a>{sql}"), "sql_injection"),
        ("application/xml", format!("<a><![CDATA[{sql}"), "sql_injection"),
        ("application/xml", "<a b=${jndi:ldap://x/y}>c</a>".to_owned(), "expression_injection"),
        ("application/xml", format!("<a x{sql}/>"), "sql_injection"),
        ("application/xml", format!("<a><b>{}</b><c>{sql}</c></a>", pad("'\"")), "sql_injection"),
        ("application/xml", format!("<!--&q={sql}&--><a/>"), "sql_injection"),
        ("application/xml", "<!-- ${jndi:ldap://x/y} --><a/>".to_owned(), "expression_injection"),
        ("application/xml", "<?php system('id');?><a/>".to_owned(), "code_injection"),
        ("application/xml", format!("<!DOCTYPE a {} SYSTEM 'http://x/'><a/>", " ".repeat(300)), "xxe"),
        ("application/json", format!("a={}&b={sql}", pad("'\"")), "sql_injection"),
        ("application/json", format!("<a><b>{}</b><c>{sql}</c></a>", pad("'\"")), "sql_injection"),
        ("application/json", "\u{feff}{\"a\":{\"$ne\":1}}".to_owned(), "nosql_injection"),
        ("text/plain", format!("{{\"a\":\"{}\",\"b\":\"{sql}\"}}", pad("it's \\\"x\\\"")), "sql_injection"),
        ("text/plain", format!("a={}&b={sql}", pad("'\"")), "sql_injection"),
        ("application/x-www-form-urlencoded", "{\"a\":{\"$ne\":1}}".to_owned(), "nosql_injection"),
        ("application/x-www-form-urlencoded-x", format!("a={}&b={sql}", pad("'\"")), "sql_injection"),
        (
            "multipart/mixed; boundary=x",
            format!("--x\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\n{sql}\r\n--x--"),
            "sql_injection",
        ),
    ] {
        let verdict = judge(settings(), "/a", &[("content-type", content_type)], &body);
        let is_found = verdict.findings.iter().any(|it| &*it.rule == rule && it.place == Collection::Body);
        assert!(is_found && verdict.is_attack, "{content_type} {body}: {verdict:?}");
    }
}

#[test]
fn what_is_no_text_is_not_read_as_text_and_what_lies_is() {
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0' or 1=1--<script>alert(1)</script>";
    let part = |disposition: &str, media_type: &str, content: &[u8]| {
        let head =
            format!("--b\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: {media_type}\r\n\r\n");
        [head.as_bytes(), content, b"\r\n--b--\r\n"].concat()
    };
    let multipart = "multipart/form-data; boundary=b";
    let script = b"<script>alert(1)</script>";
    for (content_type, body, is_attack) in [
        ("image/png", png.to_vec(), false),
        ("image/jpeg", png.to_vec(), false),
        ("application/octet-stream", png.to_vec(), false),
        ("image/png", script.to_vec(), true),
        ("text/plain", png.to_vec(), true),
        ("application/json", png.to_vec(), true),
        ("application/x-www-form-urlencoded", [b"a=", &png[..]].concat(), true),
        ("", png.to_vec(), true),
        (multipart, part("name=\"f\"", "image/png", png), true),
        (multipart, part("name=\"f\"; filename=\"a.png\"", "image/png", png), false),
        (multipart, part("name=\"f\"; filename*=UTF-8''a.png", "image/png", png), true),
        (multipart, part("name=\"f\"", "text/plain", png), true),
        (multipart, part("name=\"f\"; filename=\"a.png\"", "image/png", script), true),
        (multipart, part("name=\"f\"; filename=\"../../a.png\"", "image/png", png), true),
        (multipart, part("name=\"<script>\"; filename=\"a.png\"", "image/png", png), true),
        (multipart, part("name=\"f\"; filename=\"a\0.png\"", "image/png", png), true),
    ] {
        let verdict = judge(settings(), "/items", &[("content-type", content_type)], &body);
        assert_eq!(verdict.is_attack, is_attack, "{content_type}: {:?}: {verdict:?}", String::from_utf8_lossy(&body));
    }
}

#[test]
fn an_encoding_that_is_not_decoded_is_unreadable() {
    let (json, xml, form) = ("application/json", "text/xml", "application/x-www-form-urlencoded");
    let part = |head: &str, text: &[u8]| -> Vec<u8> {
        let head = format!("--x\r\nContent-Disposition: form-data; name=\"q\"{head}\r\n\r\n");
        [head.as_bytes(), text, b"\r\n--x--"].concat()
    };
    let charset = "--x\r\nContent-Disposition: form-data; name=\"_charset_\"\r\n\r\nutf-7\r\n--x--";
    let multipart = "multipart/form-data; boundary=x";
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let ebcdic = b"\x4c\x6f\xa7\x94\x93\x40\x4c\x5a\xc4\xd6";
    for (content_type, body, is_unreadable) in [
        (xml, b"<a/>".to_vec(), false),
        (xml, "<?xml version=\"1.0\" encoding=\"UTF-7\"?>+ADwAIQ-DOCTYPE a+AD4-".into(), true),
        (xml, "<?xml version='1.0' encoding='ibm037'?><a/>".into(), true),
        ("text/plain", "<?xml version='1.0' encoding='UTF-7'?><a/>".into(), true),
        (xml, ebcdic.to_vec(), true),
        (json, ebcdic.to_vec(), true),
        ("application/octet-stream", ebcdic.to_vec(), true),
        (xml, wide("<?xml version='1.0'?><a/>"), true),
        (xml, wide("\u{feff}<\u{4e00}/>"), true),
        (json, wide("{\"a\":1}"), true),
        ("text/plain; charset=utf-16", b"a".to_vec(), true),
        ("text/plain; charset=utf-8", b"a".to_vec(), false),
        (form, "q=a&_charset_=UTF-8".into(), false),
        (form, "_charset_=iso-8859-1&q=a".into(), false),
        (form, "_charset_=ibm037&q=%7D%40".into(), true),
        (form, "q=a&_CHARSET_=utf-7".into(), true),
        (multipart, charset.into(), true),
        (multipart, part("", b"a"), false),
        (multipart, part("\r\nContent-Type: text/plain; charset=utf-8", b"a"), false),
        (multipart, part("\r\nContent-Type: text/plain; charset=ibm037", b"a"), true),
        (multipart, part("\r\nContent-Type: text/xml", ebcdic), true),
    ] {
        let verdict = judge(settings(), "/a", &[("content-type", content_type)], &body);
        let is_found = verdict.findings.iter().any(|it| &*it.rule == "unreadable_body");
        assert_eq!(
            (is_found, verdict.is_attack),
            (is_unreadable, is_unreadable),
            "{content_type} {body:?}: {verdict:?}"
        );
    }
    let two = [("content-type", "text/plain"), ("content-type", "application/json")];
    assert!(judge(settings(), "/a", &two, "1").is_attack);
    assert!(judge(settings(), "/a?_charset_=ibm037", &[], "").is_attack);
    assert!(!judge(settings(), "/a?_charset_=utf-8", &[], "").is_attack);
}

#[test]
fn the_page_explains_every_rule() {
    let page = include_str!("../../../../../../../docs/waf.md");
    for name in rule_names() {
        assert!(page.contains(&format!("`{name}`")), "docs/waf.md lacks {name}");
    }
}
