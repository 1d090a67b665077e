//! Lists as tables: what each format's lines become.

use super::{line::go_duration, *};
use crate::os::file::seed;

mod published;

#[track_caller]
fn check(format: Option<ListFormat>, text: &[u8], expect: &[&str]) {
    seed(text);
    assert_eq!(reading::fault(text), None);
    let mut told = Vec::new();
    let read = read(text, format, |line, read| {
        told.push(match read {
            Ok(Listed { source, seconds, reason }) => {
                let seconds = seconds.map(|seconds| format!(" {seconds}s")).unwrap_or_default();
                let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                format!("{line} {source}{seconds}{reason}")
            }
            Err(message) => format!("{line} ! {message}"),
        });
    });
    if let Err(unreadable) = read {
        told.push(unreadable.to_string());
    }
    assert_eq!(told.len(), expect.len(), "{told:#?}");
    for (told, expect) in told.iter().zip(expect) {
        assert!(told.starts_with(expect), "{told:?} is not {expect:?}");
    }
}

#[test]
fn plain_lists() {
    check(None, b"", &[]);
    check(None, b"# nothing\n\n;either\n", &[]);
    check(
        None,
        b"192.0.2.1\r\n  192.0.2.0/24 # a note\n2001:db8::/32;x\n",
        &["1 192.0.2.1", "2 192.0.2.0/24", "3 2001:db8::/32"],
    );
    check(None, b"192.0.2.1 bad host", &["1 192.0.2.1"]);
    for excepted in ["!192.0.2.9", "! 192.0.2.9", "-192.0.2.8/30", "note !192.0.2.9", "!2001:db8::1"] {
        let told: &[&str] = &["1 ! \"192.0.2.0/24 ", "2 192.0.2.1"];
        check(None, format!("192.0.2.0/24 {excepted}\n192.0.2.1\n").as_bytes(), told);
    }
    check(None, b"192.0.2.7/24\nfoo\n192.0.2.2", &["1 ! \"192.0.2.7/24\": bits are set", "2 ! \"foo\"", "3 192.0.2.2"]);
    check(None, b"192.0.2.1-192.0.2.4", &["1 192.0.2.1", "1 192.0.2.2/31", "1 192.0.2.4"]);
    check(None, b"192.0.2.0 - 192.0.2.255", &["1 192.0.2.0/24"]);
    check(None, b"0.0.0.0-255.255.255.255", &["1 0.0.0.0/0"]);
    check(None, b"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &["1 ::/0"]);
    check(
        None,
        b"192.0.2.9-192.0.2.1\n192.0.2.1-2001:db8::\n192.0.2.1-x",
        &["1 ! the range ends", "2 ! a range from", "3 ! \"x\""],
    );
    check(None, b"\xff\xff\n192.0.2.1", &["1 ! not UTF-8", "2 192.0.2.1"]);
    check(None, &[b'1'; 5_000], &["1 ! longer than"]);
    check(None, b"\xef\xbb\xbf192.0.2.1", &["1 192.0.2.1"]);
}

#[test]
fn ipset_lists() {
    let saved = b"create bad hash:net family inet hashsize 1024 maxelem 65536\nadd bad 192.0.2.0/24\n\
        add bad 192.0.2.1 timeout 60 packets 0 bytes 0 comment \"a b\"\nadd bad 192.0.2.3-192.0.2.3\nadd bad 10.0.0.1 nomatch\nadd bad\n";
    let told = ["2 192.0.2.0/24", "3 192.0.2.1 60s (a b)", "4 192.0.2.3", "5 ! an exception", "6 ! `add` wants"];
    check(None, saved, &told);
    check(None, b"create x hash:ip,port\n", &["1 ! a set of type"]);
    check(Some(ListFormat::Ipset), b"#\n# firehol_level1\n192.0.2.0/24\n", &["3 192.0.2.0/24"]);
}

#[test]
fn spamhaus_lists() {
    check(None, b"; Spamhaus DROP List 2026\n192.0.2.0/24 ; SBL1\n", &["2 192.0.2.0/24 (SBL1)"]);
    let json = b"{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL1\",\"rir\":\"x\"}\n{\"asn\":1}\n{\"cidr\":1}\n{\"type\":\"metadata\",\"size\":1}\n";
    check(None, json, &["1 192.0.2.0/24 (SBL1)", "2 ! there is no \"cidr\"", "3 ! not a JSON"]);
}

#[test]
fn crowdsec_exports() {
    let csv = b"id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id\n\
        1,crowdsec,Ip:192.0.2.1,crowdsecurity/ssh-bf,ban,FR,\"a, b\",6,3h59m0.5s,false,1\n";
    // `source` is who decided there, and comes first: the column of addresses must win.
    check(None, csv, &["2 192.0.2.1 14341s (crowdsecurity/ssh-bf)"]);
    let csv = b"value,scope,duration,reason\n192.0.2.1,Ip,4h,\"say \"\"no\"\"\"\n192.0.2.0/24,range,1h,x\nFR,Country,1h,x\n192.0.2.1,Ip,-5s,x\n192.0.2.1,Ip,soon,x\n,Ip,1h,\n";
    let told = [
        "2 192.0.2.1 14400s (say \"no\")",
        "3 192.0.2.0/24 3600s (x)",
        "4 ! a decision about",
        "5 ! the decision is over",
        "6 ! \"soon\"",
        "7 ! there is no value",
    ];
    check(None, csv, &told);
    check(Some(ListFormat::CrowdsecCsv), b"a,b\n", &["is no CSV"]);
    let json = br#"[{"id":1,"decisions":[{"value":"192.0.2.1","scope":"Ip","duration":"1h","scenario":"s","type":"ban"},
        {"value":"192.0.2.2","scope":"Ip","duration":"1h","type":"captcha"}]},{"value":"192.0.2.0/24","scope":"Range"},{"scope":"Ip"}]"#;
    check(
        None,
        json,
        &["1 192.0.2.1 3600s (s)", "2 ! the decision \"captcha\"", "3 192.0.2.0/24", "4 ! there is no \"value\""],
    );
    check(Some(ListFormat::CrowdsecJson), b"null", &[]);
    check(None, b"[{", &["is no JSON"]);
    check(Some(ListFormat::CrowdsecJson), &[b'['; 10_000], &["is no JSON"]);
}

#[test]
fn durations() {
    for (text, expect) in [("4h", 14_400), ("1h2m3s", 3_723), ("500ms", 1), ("-3s", 0), ("9999999999h", 315_360_000)] {
        assert_eq!(go_duration(text), Ok(expect), "{text}");
    }
    for text in ["", "h", "3", "3 h", "1h-2m", "..s"] {
        assert!(go_duration(text).is_err(), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        for format in ListFormat::NAMES.map(|(_, format)| Some(format)).into_iter().chain([None]) {
            drop(read(&bytes, format, |_, _| {}));
        }
    }

    #[test]
    fn ranges_are_covered_exactly(first: u32, length in 0_u32..100_000) {
        let last = first.saturating_add(length);
        let (mut next, mut count) = (u64::from(first), 0);
        let text = |bits: u32| std::net::Ipv4Addr::from_bits(bits).to_string();
        range::prefixes(&text(first), &text(last), |source| {
            let std::net::IpAddr::V4(start) = source.address() else { return };
            assert_eq!(u64::from(start.to_bits()), next);
            next += 1 << (32 - source.length());
            count += 1;
        }).unwrap();
        assert_eq!(next, u64::from(last) + 1);
        assert!(count <= 62);
    }
}

#[test]
fn odd_bytes() {
    let told = |bytes: &[u8]| {
        let (mut entries, mut errors) = (0, Vec::new());
        let format = read(bytes, None, |line, read| match read {
            Ok(_) => entries += 1,
            Err(message) => errors.push((line, message)),
        });
        (format.map(|_| entries).map_err(|error| error.0), errors)
    };
    for (bytes, entries, lines) in [
        (&b"\xef\xbb\xbf192.0.2.1\r\n192.0.2.2\r\n"[..], 2, &[][..]),
        (b"", 0, &[]),
        (b"192.0.2.1\0\n192.0.2.2\n", 1, &[1]),
        (b"\0\0\0\0", 0, &[1]),
        (b"192.0.2.1\n192.0.2.1\n192.0.2.0/24\n192.0.2.128/25\n", 4, &[]),
    ] {
        let (read, errors) = told(bytes);
        let errors: Vec<u32> = errors.into_iter().map(|(line, _)| line).collect();
        assert_eq!((read, errors.as_slice()), (Ok(entries), lines), "{}", bytes.escape_ascii());
    }
    let long = [vec![b'1'; 10 << 20], b"\n192.0.2.1\n".to_vec()].concat();
    assert_eq!(told(&long), (Ok(1), vec![(1, "longer than 4096 bytes".to_owned())]));
    assert_eq!(told(b"\x1f\x8b\x08\0").0, Err("is compressed (gzip): unpack it first".to_owned()));
}

#[test]
fn what_publishers_write() {
    // DShield: first, last, length, numbers and names.
    let dshield = b"# start\tend\tmask\n203.0.113.0\t203.0.113.255\t24\t5186\tEXAMPLE\tZZ\tabuse@example.net\n";
    check(None, dshield, &["2 203.0.113.0/24"]);
    let tor = b"ExitNode 0011BD2485AD45D984EC4159C88FC066E5E3300E\nPublished 2026-11-28 07:03:49\n\
        LastStatus 2026-11-28 08:00:00\nExitAddress 203.0.113.5 2026-11-28 08:07:20\n";
    check(None, tor, &["4 203.0.113.5"]);
    let emule =
        b"203.000.113.000 - 203.000.113.255 , 000 , Example\n203.000.114.001 - 203.000.114.001 , 200 , Friend\n";
    check(None, emule, &["1 203.0.113.0/24", "2 ! its level is 200"]);
    for (line, told) in [
        ("203.0.113.0-203.0.113.255,200,Friend", "1 ! its level is 200"),
        ("203.000.113.000-203.000.113.255 , 128 , Friend", "1 ! its level is 128"),
        ("203.0.113.0 - 203.0.113.255,200,Friend", "1 ! its level is 200"),
        ("203.0.113.0-203.0.113.255,100,Example 1.2.3.4", "1 203.0.113.0/24"),
        ("203.0.113.0-203.0.113.255,127", "1 203.0.113.0/24"),
        ("203.0.113.0-203.0.113.255,Example 200", "1 203.0.113.0/24"),
        ("203.0.113.0-203.0.113.255 200 requests", "1 203.0.113.0/24"),
        ("203.0.113.0/24,200", "1 203.0.113.0/24"),
    ] {
        check(None, format!("{line}\n198.51.100.9\n").as_bytes(), &[told, "2 198.51.100.9"]);
    }
    check(None, b"Example corp: x:203.0.113.0-203.0.113.255\n", &["1 203.0.113.0/24"]);
    let status = b"Status for the jail: sshd\n|- Filter\n|  `- File list: x\n`- Actions\n   |- Total banned: 2\n\
        \x20  `- Banned IP list:\t203.0.113.7 203.0.113.8\n";
    check(None, status, &["6 203.0.113.7", "6 203.0.113.8"]);
    check(
        None,
        b"0.0.0.0 bad.example\n127.0.0.1 localhost\n",
        &["1 ! a line of a hosts file", "2 ! a line of a hosts"],
    );
    for hosts in [
        "203.0.113.5 bad.example",
        "203.0.113.5\tbad.example www.bad.example bad # a note",
        "203.0.113.5 bad.example.",
        "203.0.113.5 a_b.xn--bcher-kva.example",
        "2001:db8::5 bad.example",
        "2001:db8::5 a.very-bad.example",
        "0.0.0.0 bad",
        "::1 localhost ip6-localhost",
        "fe80::1%lo0 localhost",
        "ff02::1 ip6-allnodes",
        "255.255.255.255 broadcasthost",
    ] {
        check(None, format!("{hosts}\n203.0.113.9\n").as_bytes(), &["1 ! a line of a hosts", "2 203.0.113.9"]);
    }
    // These are notes.
    for note in [
        "bad host",
        "e.g. a scanner",
        "2026-11-28 07:03:49 bad.example",
        "bad.example: 12 attempts",
        "ssh 22",
        "AS64500 Example",
        ", bad.example",
        "1.5",
        "# bad.example",
    ] {
        check(None, format!("203.0.113.5 {note}\n").as_bytes(), &["1 203.0.113.5"]);
    }
    // Several on a line: all of them, or the line is told.
    check(
        None,
        b"203.0.113.1, 203.0.113.2,203.0.113.3\n203.0.113.4 203.0.113.5\n203.0.113.6 seen by 203.0.113.7\n",
        &["1 203.0.113.1", "1 203.0.113.2", "1 203.0.113.3", "2 203.0.113.4", "2 203.0.113.5", "3 ! \"203.0.113.6"],
    );
    // Masks.
    check(
        None,
        b"203.0.113.0 255.255.255.0\n203.0.113.0 0.0.0.255 any\n203.0.113.0/255.255.255.128\n203.0.113.1 255.255.255.0\n\
          203.0.113.0 255.0.255.0\n203.0.113.9 0.0.0.0\n",
        &[
            "1 203.0.113.0/24",
            "2 203.0.113.0/24",
            "3 203.0.113.0/25",
            "4 ! 203.0.113.1 with",
            "5 ! 255.0.255.0 is no mask",
            "6 203.0.113.9",
        ],
    );
    check(
        None,
        b"::ffff:203.0.113.90\n::ffff:203.0.113.0/120\n203.000.113.040\n10.01.2.3\n203.0.113.22%eth0\n203.0.113.5:443\n",
        &["1 203.0.113.90", "2 203.0.113.0/24", "3 203.0.113.40", "4 ! \"10.01", "5 ! \"203", "6 ! \"203"],
    );
    check(None, "\u{feff}203.0.113.1\r\n\u{feff}203.0.113.2\r\n".as_bytes(), &["1 203.0.113.1", "2 203.0.113.2"]);
    let wide: Vec<u8> = "\u{feff}203.0.113.1\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    check(None, &wide, &["1 203.0.113.1"]);
    let feodo = b"\"first_seen_utc\",\"dst_ip\",\"dst_port\",\"c2_status\"\n\"2026-11-01 10:00:00\",\"203.0.113.15\",\"443\",\"online\"\n";
    check(None, feodo, &["2 203.0.113.15"]);
    check(None, b"network;name\n203.0.113.0/24;x\n", &["2 203.0.113.0/24"]);
    check(
        None,
        b"ipAddress,abuseConfidenceScore\n203.0.113.1,100\n203.0.113.2,30\n",
        &["2 203.0.113.1", "3 ! its score is 30"],
    );
}

#[test]
fn what_is_only_tried_out_is_told() {
    let csv = b"id,ip,action,expiration,simulated\n1,Ip:203.0.113.41,ban,4h,true\n2,Ip:203.0.113.42,ban,4h,false\n";
    check(None, csv, &["2 ! it is only simulated", "3 203.0.113.42 14400s"]);
    let json = br#"[{"simulated":true,"decisions":[{"scope":"Ip","value":"203.0.113.40"}]},{"decisions":[
        {"scope":"Ip","simulated":true,"value":"203.0.113.41"},{"scope":"Ip","simulated":false,"value":"203.0.113.42"}]}]"#;
    check(None, json, &["1 ! it is only", "2 ! it is only", "3 203.0.113.42"]);
    // As `block export` writes it.
    check(None, b"value,scope,mode\n203.0.113.1,Ip,shadow\n203.0.113.2,Ip,enforce\n", &["2 ! it is", "3 203.0.113.2"]);
    check(None, br#"[{"value":"203.0.113.1","scope":"Ip","mode":"shadow","type":"ban"}]"#, &["1 ! it is only"]);
}

#[test]
fn sets_of_addresses() {
    let netmask = b"create nets hash:ip family inet netmask 24\nadd nets 203.0.113.0\nadd nets 198.51.100.0\n";
    check(None, netmask, &["2 203.0.113.0/24", "3 198.51.100.0/24"]);
    let timeout =
        b"create a hash:ip timeout 3600\nadd a 203.0.113.1\nadd a 203.0.113.2 timeout 0\nadd a 203.0.113.3 timeout 5\n";
    check(None, timeout, &["2 203.0.113.1 3600s", "3 203.0.113.2", "4 203.0.113.3 5s"]);
    check(
        None,
        b"create a hash:net\nadd a 203.0.113.0/24\ncreate b hash:ip\nadd b 203.0.113.9\n",
        &["holds several sets"],
    );
    check(None, b"add a 203.0.113.1\nadd b 203.0.113.9\n", &["holds several sets"]);
    check(None, b"create a hash:ip,port\nadd a 203.0.113.1,tcp:80\n", &["1 ! a set of type", "2 ! a set of type"]);
    check(None, b"create a hash:ip bitmask 255.0.255.0\nadd a 203.0.113.1\n", &["1 ! a set with", "2 ! a set with"]);
    check(None, b"create a hash:ip\ndel a 203.0.113.1\n", &["2 ! takes a member"]);
}

#[test]
fn documents_of_others() {
    let aws = br#"{"syncToken":"1","prefixes":[{"ip_prefix":"203.0.113.0/24","region":"x","service":"EC2"}],
        "ipv6_prefixes":[{"ipv6_prefix":"2001:db8::/32"}]}"#;
    check(None, aws, &["1 2001:db8::/32", "2 203.0.113.0/24"]);
    check(
        None,
        br#"{"prefixes":[{"ipv4Prefix":"203.0.113.0/24"},{"ipv6Prefix":"2001:db8::/32"}]}"#,
        &["1 203", "2 2001"],
    );
    check(
        None,
        br#"{"result":{"ipv4_cidrs":["203.0.113.0/24"],"ipv6_cidrs":["2001:db8::/32"]}}"#,
        &["1 203", "2 2001"],
    );
    let scored = br#"{"meta":{},"data":[{"ipAddress":"203.0.113.1","abuseConfidenceScore":100},
        {"ipAddress":"203.0.113.2","abuseConfidenceScore":10}]}"#;
    check(None, scored, &["1 203.0.113.1", "2 ! its score is 10"]);
    check(None, br#"[{"ip_address":"203.0.113.1","port":443,"status":"online"}]"#, &["1 203.0.113.1"]);
    check(None, br#"["203.0.113.1","nonsense"]"#, &["1 203.0.113.1", "2 ! \"nonsense\""]);
    // GitHub: each array is for something else.
    check(None, br#"{"hooks":["203.0.113.0/24"],"ssh_keys":["x"]}"#, &["is JSON in which no member"]);
    check(
        None,
        br#"{"errors":[{"detail":"Daily rate limit exceeded.","status":429}]}"#,
        &["is JSON in which no member"],
    );
    for (text, says) in [
        (&b"<!DOCTYPE html>\n<p>203.0.113.1</p>"[..], "is a page"),
        (b"table inet filter {\n set bad { elements = { 203.0.113.1 } } }", "is a listing of nftables"),
        (b"Name: bad\nType: hash:ip\nMembers:\n203.0.113.1\n", "is what `ipset list` says"),
    ] {
        check(None, text, &[says]);
    }
}
