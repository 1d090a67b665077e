//! Bodies with a `Content-Encoding`: who sees what of them, over the wire.

use std::io::Write as _;

use data_encoding::HEXLOWER;
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use support::{
    admin,
    daemon::Daemon,
    http1::{Client, Request, Response},
    report,
    settings::{Settings, route},
    upstream::Upstream,
    world::{GOOD_V4, World},
};

const GOOD: &str = r#"{"name":"nail"}"#;
const ATTACK: &str = r#"{"q":"<script>alert(1)</script>"}"#;

fn settings() -> Settings {
    let tables = "[waf.strict]\nmode = \"enforce\"\ninspect_body = \"64KiB\"\n[waf.calm]\ninspect_body = \"64KiB\"\n";
    let (schema, strict, calm) = ("schema = \"item.schema.json\"", "waf = \"strict\"", "waf = \"calm\"");
    let routes = [
        ("/schema/none", schema, ""),
        ("/schema/inspect", schema, "inspect"),
        ("/schema/decode", schema, "decode"),
        ("/strict/none", strict, ""),
        ("/strict/inspect", strict, "inspect"),
        ("/strict/decode", strict, "decode"),
        ("/calm/none", calm, ""),
        ("/calm/inspect", calm, "inspect"),
        ("/open/none", "", ""),
        ("/open/refuse", "", "refuse"),
        ("/open/decode", "", "decode"),
    ];
    let routes = routes.map(|(path, judge, encoding)| {
        let encoding = if encoding.is_empty() { String::new() } else { format!("content_encoding = \"{encoding}\"\n") };
        route(path, "[]", "[\"public\"]", &format!("{judge}\n{encoding}rewrite = \"/echo\"\nmax_body = \"1MiB\""))
    });
    let more = format!("{tables}{}{}", routes.concat(), admin::TABLE);
    Settings { interfaces: Vec::new(), more, rules: String::new(), ..Settings::default() }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// The good body and the attack in every coding.
fn encoded() -> [(&'static str, Vec<u8>, Vec<u8>); 4] {
    let brotli = (
        hex("0b07807b226e616d65223a226e61696c227d03"),
        hex("0b10807b2271223a223c7363726970743e616c6572742831293c2f7363726970743e227d03"),
    );
    let zstd = (
        hex("28b52ffd240f7900007b226e616d65223a226e61696c227d25785fb3"),
        hex("28b52ffd24210901007b2271223a223c7363726970743e616c6572742831293c2f7363726970743e227dc3000fa2"),
    );
    [
        ("gzip", gzip(GOOD.as_bytes()), gzip(ATTACK.as_bytes())),
        ("deflate", zlib(GOOD.as_bytes()), zlib(ATTACK.as_bytes())),
        ("br", brotli.0, brotli.1),
        ("zstd", zstd.0, zstd.1),
    ]
}

fn request(path: &str, coding: &str, body: &[u8]) -> Request {
    Request::new("POST", path).header("Content-Encoding", coding).body("application/json", body)
}

#[test]
fn b05_encoded_bodies_are_judged_decoded_or_refused() {
    if !report::may_run("encodings") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    let send = |request: &Request| -> Response {
        upstream.forget();
        client.send(request).unwrap()
    };
    for (coding, good, attack) in encoded() {
        for (path, body, status, is_decoded) in [
            ("/schema/none", &good, 415, false),
            ("/schema/inspect", &good, 200, false),
            ("/schema/inspect", &attack, 422, false),
            ("/schema/decode", &good, 200, true),
            ("/schema/decode", &attack, 422, false),
            ("/strict/none", &good, 415, false),
            ("/strict/inspect", &good, 200, false),
            ("/strict/inspect", &attack, 403, false),
            ("/strict/decode", &good, 200, true),
            ("/strict/decode", &attack, 403, false),
            ("/calm/none", &attack, 200, false),
            ("/calm/inspect", &attack, 200, false),
            ("/open/none", &attack, 200, false),
            ("/open/refuse", &good, 415, false),
            ("/open/decode", &good, 200, true),
        ] {
            let response = send(&request(path, coding, body));
            assert_eq!(response.status, status, "{path} {coding}: {}", response.text());
            let received = upstream.received();
            assert_eq!(received.len(), usize::from(status == 200), "{path} {coding}: what reached the upstream");
            let Some(received) = received.first() else { continue };
            let expect = if is_decoded { vec![] } else { vec![coding] };
            assert_eq!(received.header("content-encoding"), expect, "{path} {coding}");
            let got: &[u8] = if is_decoded { GOOD.as_bytes() } else { body };
            assert_eq!(response.body, got, "{path} {coding}: the body that reached the upstream");
            let line = daemon.logged(&response.id());
            let detail = match path {
                "/calm/none" => Some("waf calm: not inspected: Content-Encoding"),
                "/calm/inspect" => Some("waf calm: xss in body \"json.q\""),
                _ => None,
            };
            let logged = line["detail"].as_str().unwrap_or_default();
            assert!(logged.starts_with(detail.unwrap_or_default()), "{path} {coding}: {line}");
            assert_eq!(line["would_deny"] == "waf", detail.is_some(), "{path} {coding}: {line}");
        }
        // What is damaged, several, or not what it says.
        let twice = [&*good, &*good].concat();
        let cut = &good[..good.len() - 1];
        for (path, coding, body, status) in [
            ("/strict/inspect", coding, cut, 400),
            ("/strict/decode", coding, cut, 400),
            ("/open/decode", coding, cut, 400),
            ("/calm/inspect", coding, cut, 200),
            ("/strict/inspect", coding, &*twice, 400),
            ("/strict/inspect", coding, GOOD.as_bytes(), 400),
            ("/strict/inspect", &format!("{coding}, {coding}"), &*good, 415),
            ("/strict/inspect", "compress", &*good, 415),
            ("/open/decode", "compress", &*good, 415),
            ("/strict/inspect", "identity", GOOD.as_bytes(), 200),
            ("/strict/none", "identity", GOOD.as_bytes(), 200),
            ("/strict/none", "identity", ATTACK.as_bytes(), 403),
        ] {
            let response = send(&request(path, coding, body));
            assert_eq!(response.status, status, "{path} {coding}: {}", response.text());
        }
    }
    // Without a body there is nothing to decode.
    let empty =
        Request::new("POST", "/strict/inspect").header("Content-Encoding", "gzip").header("Content-Length", "0");
    assert_eq!(send(&empty).status, 200);
}

#[test]
fn b01_bombs_are_refused_and_the_proxy_goes_on() {
    if !report::may_run("encodings: bombs") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let proxy = daemon.proxy_pid();
    let client = Client::new(&world, GOOD_V4);
    let zeros = vec![0; 10_000_000];
    // 10 GB in blocks of 128 KiB that are one byte many times.
    let zstd = [hex("28b52ffd0040"), hex("02001000").repeat(80_000), hex("03001000")].concat();
    for (coding, body) in
        [("gzip", gzip(&zeros)), ("deflate", zlib(&zeros)), ("br", hex("9f7f9698f82700e2b14020c71113")), ("zstd", zstd)]
    {
        for path in ["/schema/inspect", "/strict/inspect", "/strict/decode", "/open/decode"] {
            let response = client.send(&request(path, coding, &body)).unwrap();
            let detail = daemon.logged(&response.id())["detail"].clone();
            assert_eq!(response.status, 413, "{path} {coding}: {detail}");
        }
    }
    assert_eq!(upstream.received().len(), 0);
    assert_eq!(client.send(&request("/strict/inspect", "gzip", &gzip(GOOD.as_bytes()))).unwrap().status, 200);
    assert_eq!(daemon.proxy_pid(), proxy, "the proxy was started anew");
}
