//! Deadlines that hold although the other side does something now and then that moves nothing (H07, D01), and goodbyes that
//! do not wait for who does not answer them.

use std::{fs, time::Duration};

use nix::sys::signal::Signal;
use support::{
    authority::{Authority, Speaks},
    daemon::Daemon,
    http1::{Client, TIMEOUT},
    pki::PKI,
    report,
    settings::{Settings, route},
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{GOOD_V4, World},
};

use crate::h2_hostile::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, Raw, SETTINGS, WINDOW_UPDATE, frame, get, has_status,
    settings,
};

/// Between two things that a client does: much less than any deadline here.
const REST: Duration = Duration::from_millis(100);
const END: u8 = END_STREAM | END_HEADERS;

#[test]
fn h07_frames_that_move_nothing_keep_no_answer() {
    if !report::may_run("deadlines: stalled") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let _daemon = Daemon::start(&world, &settings("body = \"1s\""));
    let client = Client::new(&world, GOOD_V4);
    for (name, keeps) in [
        ("nothing", Vec::new()),
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])),
        ("the connection's window", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("another kind", frame(0xbe, 0, 1, &[1])),
    ] {
        let mut raw = Raw::open(&client, &[0, 4, 0, 0, 0, 0]).unwrap();
        raw.write(&frame(HEADERS, END, 1, &get("/health", &[]))).unwrap();
        until(name, SOON, || {
            let heard = raw.hear(REST, |heard| !heard.resets.is_empty());
            (heard.ended || !heard.resets.is_empty() || raw.write(&keeps).is_err()).then_some(())
        });
    }
}

/// A page that pauses one download goes on with its other requests.
#[test]
fn h07_an_answer_that_is_not_taken_ends_alone() {
    if !report::may_run("deadlines: one stream") {
        return;
    }
    const CANCEL: u32 = 8;
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings("body = \"1s\""));
    let client = Client::new(&world, GOOD_V4);
    // No answer may be sent until its window is opened.
    let mut raw = Raw::open(&client, &[0, 4, 0, 0, 0, 0]).unwrap();
    for stalled in [1, 5] {
        raw.write(&frame(HEADERS, END, stalled, &get("/health", &[]))).unwrap();
        let heard = raw.hear(TIMEOUT, |heard| !heard.resets.is_empty());
        assert_eq!((heard.resets, heard.goaway, heard.ended), (vec![(stalled, CANCEL)], None, false));
        let taken = stalled + 2;
        raw.write(&frame(HEADERS, END, taken, &get("/health", &[]))).unwrap();
        raw.write(&frame(WINDOW_UPDATE, 0, taken, &[0, 1, 0, 0])).unwrap();
        let heard = raw.hear(TIMEOUT, |heard| heard.data > 0);
        assert!(heard.data > 0 && heard.resets.is_empty(), "{heard:?}");
    }
    until("both in the log", SOON, || {
        let slow = daemon.access_log().iter().filter(|line| line["signal"] == "slow_client").count();
        (slow == 2).then_some(())
    });
}

/// What waits behind answers that are not taken ends with them: no row of batches, each as patient as the first.
#[test]
fn h04_h07_answers_that_are_not_taken_end_together() {
    if !report::may_run("deadlines: many streams") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let _daemon = Daemon::start(&world, &settings("body = \"2s\""));
    let client = Client::new(&world, GOOD_V4);
    let mut raw = Raw::open(&client, &[0, 4, 0, 0, 0, 0]).unwrap();
    // Far more than is held for one connection, and fewer than what ends it as a flood.
    let asked: Vec<u8> = (0..60).flat_map(|at| frame(HEADERS, END, 1 + 2 * at, &get("/files/big", &[]))).collect();
    raw.write(&asked).unwrap();
    let first = raw.hear(TIMEOUT, |heard| !heard.resets.is_empty());
    let rest = raw.hear(TIMEOUT, |heard| heard.resets.len() >= 59);
    assert_eq!((first.resets.len(), rest.resets.len()), (1, 59), "{:?}", rest.goaway);
}

/// What the route says counts, and not what the client says that it sends.
#[test]
fn d01_a_media_type_is_no_leave_to_be_slow() {
    if !report::may_run("deadlines: gRPC") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut settings = settings("body = \"1s\"\nleast_rate = \"64KiB\"");
    settings.routes += &route("/sink", "[\"POST\"]", "[\"public\"]", "rewrite = \"/items\"");
    settings.routes +=
        &route("/patient", "[\"POST\"]", "[\"public\"]", "rewrite = \"/items\"\n[route.timeouts]\nleast_rate = 0");
    let _daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let begin = |path: &str, media_type: &str| {
        let head = crate::h2_hostile::fields(&[
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", support::pki::HOST),
            (":path", path),
            ("content-type", media_type),
            ("te", "trailers"),
        ]);
        let mut raw = Raw::open(&client, &[]).unwrap();
        raw.write(&frame(HEADERS, END_HEADERS, 1, &head)).unwrap();
        // A message of so many bytes.
        raw.write(&frame(DATA, 0, 1, &[0, 0, 0, 0, 40])).unwrap();
        raw
    };
    for media_type in ["application/grpc", "application/grpc+proto", "text/plain"] {
        let mut raw = begin("/sink", media_type);
        until(media_type, SOON, || {
            let heard = raw.hear(REST, |heard| !heard.heads.is_empty());
            (!heard.heads.is_empty() || raw.write(&frame(DATA, 0, 1, b"x")).is_err()).then_some(())
        });
    }
    let mut patient = begin("/patient", "application/grpc");
    for _ in 0..39 {
        patient.write(&frame(DATA, 0, 1, b"x")).unwrap();
        pause(REST);
    }
    patient.write(&frame(DATA, END_STREAM, 1, b"x")).unwrap();
    let heard = patient.hear(TIMEOUT, |heard| !heard.heads.is_empty());
    assert!(heard.heads.first().is_some_and(|(_, block)| has_status(block, "201")), "{heard:?}");
}

/// L03: who is revoked is served no more, whatever he does not answer.
#[test]
fn l03_revoked_by_http2() {
    if !report::may_run("deadlines: revoked") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let partners = Authority::new("partners");
    fs::write(world.folder.join("partners.pem"), partners.pem()).unwrap();
    fs::write(world.folder.join("partners.crl"), partners.crl(&[], 2040)).unwrap();
    let tls = "certificate = \"server.crt\"\nprivate_key = \"server.key\"\n";
    let settings = Settings {
        proxy: "workers = 1\ndrain = \"1s\"".to_owned(),
        listeners: format!("[[listener]]\naddress = \"10.0.0.1:443\"\n{tls}client_certificates = \"partners\"\n"),
        more: "[client_certificates.partners]\nca = \"partners.pem\"\ncrl = \"partners.crl\"\n".to_owned(),
        ..settings("")
    };
    let _daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let shown = partners.client("billing", 7, 2040);
    let speaks =
        Speaks { trusts: &[&PKI.authority_pem], shows: Some(&shown), protocols: &[b"h2"], ..Speaks::default() };
    let open = || Raw::open_with(&client, &[], speaks.config());
    let (mut asking, mut streaming) = (open().unwrap(), open().unwrap());
    let ask = |raw: &mut Raw, stream: u32, path: &str| raw.write(&frame(HEADERS, END, stream, &get(path, &[])));
    ask(&mut asking, 1, "/me").unwrap();
    assert!(has_status(&asking.hear(TIMEOUT, |heard| !heard.heads.is_empty()).heads[0].1, "200"));
    ask(&mut streaming, 1, "/stream?2000").unwrap();
    assert!(streaming.hear(TIMEOUT, |heard| heard.data > 0).data > 0);

    fs::write(world.folder.join("partners.crl"), partners.crl(&[7], 2040)).unwrap();
    let (mut stream, mut told) = (1, false);
    until("the end of who is revoked", SOON, || {
        stream += 2;
        let is_sent = ask(&mut asking, stream, "/me").is_ok();
        let before = upstream.received().len();
        let heard = asking.hear(REST, |heard| !heard.heads.is_empty() || !heard.resets.is_empty());
        assert!(!told || heard.heads.is_empty(), "served after the goodbye: {heard:?}");
        assert!(!told || upstream.received().len() == before);
        told |= heard.goaway.is_some();
        (heard.ended || !is_sent).then_some(())
    });
    assert!(told, "the end came without a goodbye");
    // What he was being served has an end as well.
    until("the end of his stream", SOON, || streaming.hear(REST, |_| false).ended.then_some(()));
    assert!(
        open()
            .and_then(|mut raw| ask(&mut raw, 1, "/me").map(|()| raw.hear(TIMEOUT, |_| false)))
            .map_or(true, |it| it.ended)
    );
}

/// A drain does not wait for who asks on and answers no goodbye.
#[test]
fn goodbyes_have_a_deadline() {
    if !report::may_run("deadlines: goodbye") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { proxy: "workers = 1\ndrain = \"10m\"".to_owned(), ..settings("") };
    let mut daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let mut asking = Raw::open(&client, &[]).unwrap();
    let mut pinging = Raw::open(&client, &[]).unwrap();
    asking.write(&frame(HEADERS, END, 1, &get("/health", &[]))).unwrap();
    assert!(!asking.hear(TIMEOUT, |heard| !heard.heads.is_empty()).heads.is_empty());
    daemon.signal(Signal::SIGTERM);
    let mut stream = 1;
    until("the end of both", SOON, || {
        stream += 2;
        let ended = asking.write(&frame(HEADERS, END, stream, &get("/health", &[]))).is_err()
            || asking.hear(REST, |heard| !heard.heads.is_empty()).ended;
        let pings = pinging.write(&frame(PING, 0, 0, &[0; 8])).is_ok() && !pinging.hear(REST, |_| false).ended;
        (ended && !pings).then_some(())
    });
    assert!(daemon.ended().success(), "{}", daemon.standard_error());
}
