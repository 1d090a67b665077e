//! Lists as tables: what each format's lines become.

use super::*;

#[track_caller]
fn check(format: Option<Format>, text: &[u8], expect: &[&str]) {
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
    check(None, b"\xff\xfe\n192.0.2.1", &["1 ! not UTF-8", "2 192.0.2.1"]);
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
    check(Some(Format::Ipset), b"#\n# firehol_level1\n192.0.2.0/24\n", &["3 192.0.2.0/24"]);
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
    check(Some(Format::CrowdsecCsv), b"a,b\n", &["is no CSV"]);
    let json = br#"[{"id":1,"decisions":[{"value":"192.0.2.1","scope":"Ip","duration":"1h","scenario":"s","type":"ban"},
        {"value":"192.0.2.2","scope":"Ip","duration":"1h","type":"captcha"}]},{"value":"192.0.2.0/24","scope":"Range"},{"scope":"Ip"}]"#;
    check(
        None,
        json,
        &["1 192.0.2.1 3600s (s)", "2 ! the decision \"captcha\"", "3 192.0.2.0/24", "4 ! there is no \"value\""],
    );
    check(Some(Format::CrowdsecJson), b"null", &[]);
    check(None, b"[{", &["is no JSON"]);
    check(Some(Format::CrowdsecJson), &[b'['; 10_000], &["is no JSON"]);
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
        for format in Format::NAMES.map(|(_, format)| Some(format)).into_iter().chain([None]) {
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
