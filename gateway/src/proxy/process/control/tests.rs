//! What the guard hears of a proxy, whatever its workers say.

use std::{fs::File, os::fd::OwnedFd, sync::Arc};

use super::*;
use crate::{
    message::{Bundle, ToProxy},
    proxy::{
        bans::enforced::EnforcedBans,
        generation::{Compiled, ProcessLimits},
    },
};

const CONFIGURATION: &str = "[guard]\ninterfaces = []\n[[listener]]\naddress = \"127.0.0.1:443\"\n\
    [[route]]\npath = \"/\"\nmethods = [\"GET\"]\nrequire = [\"public\"]\nrespond = { status = 200 }\n";

/// What the guard hears from a proxy of two workers when it sends `messages` and they send `events`.
fn heard(messages: &[ToProxy], events: Vec<WorkerEvent>) -> Vec<ToGuard> {
    let bundle = Bundle { path: "gateway.toml".into(), text: CONFIGURATION.to_owned(), ..Bundle::default() };
    let limits = ProcessLimits { descriptors: 1_000, workers: 2 };
    let compiled = Arc::new(Compiled::new(&bundle, None, limits).unwrap());
    let shared = Arc::new(WorkersShared::new(EnforcedBans::new(64)));
    let null = || OwnedFd::from(File::options().write(true).open("/dev/null").unwrap());
    let sink = Sink::start(&compiled.snapshot.access_log.outputs, [File::from(null())]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (guard, mut link, _launcher) = GuardLink::linked().await;
        let report = sandbox::SandboxReport { capabilities: Vec::new(), landlock: String::new(), seccomp: 0 };
        let configurations = Configurations::new(compiled, Vec::new(), limits).unwrap();
        let mut control = Control::new(&mut link, &shared, &sink, Memory::open(), report, configurations);
        let workers: Vec<_> = std::iter::repeat_with(running).take(2).collect();
        for message in messages {
            guard.send(message, &[]).await.unwrap();
            let (message, descriptors) = control.guard.receive().await.unwrap().unwrap();
            if control.handle(message, descriptors, &workers).await {
                control.drain(&workers).await;
            }
        }
        for event in events {
            control.handle_event(event, workers.len());
        }
        drop(control);
        drop(link);
        let mut heard = Vec::new();
        while let Ok(Some((message, _))) = guard.receive().await {
            heard.push(message);
        }
        heard
    })
}

fn running() -> Running {
    Running { commands: mpsc::channel(8).0, ticks: Arc::default(), thread: std::thread::spawn(|| Ok(())) }
}

#[track_caller]
fn check(messages: &[ToProxy], events: Vec<WorkerEvent>, expect: &str) {
    let case = format!("{messages:?} {events:?}");
    assert_eq!(format!("{:?}", heard(messages, events)), expect, "{case}");
}

#[test]
fn a_drain_is_confirmed_once_nobody_accepts_any_more() {
    let barrier = |number| ToProxy::Barrier { number };
    let retired = |count| std::iter::repeat_with(|| WorkerEvent::Retired).take(count).collect();
    check(&[barrier(7)], Vec::new(), "[Ack { number: 7 }]");
    check(&[ToProxy::Drain, barrier(7)], Vec::new(), "[]");
    check(&[ToProxy::Drain, barrier(7)], retired(1), "[]");
    check(&[ToProxy::Drain, barrier(7)], retired(2), "[Ack { number: 7 }]");
    check(&[ToProxy::Drain, barrier(7), barrier(8)], retired(2), "[Ack { number: 8 }]");
}

#[test]
fn a_message_without_its_descriptors_changes_nothing() {
    let without = [ToProxy::ReopenLogs { output: 0 }, ToProxy::Telemetry, ToProxy::Listen { listener: 0 }];
    check(&without, Vec::new(), "[]");
    for (message, what) in [
        (ToProxy::Files, "changed files of TLS or keys cannot be used: the guard sent no files"),
        (ToProxy::InForce, "bans made or lifted without a guard are not known: the guard sent nothing"),
    ] {
        check(&[message], Vec::new(), &format!("[Outdated {{ reason: {what:?} }}]"));
    }
    let refused = "[NotConfigured { reload: 1, reason: \"the guard sent no configuration\" }]";
    check(&[ToProxy::Configure { reload: 1 }], Vec::new(), refused);
}

#[test]
fn a_ping_is_answered_in_its_turn() {
    let ping = |number| ToProxy::Ping { number, heard: 0 };
    let expect = "[Pong { number: 1 }, Ack { number: 7 }, Pong { number: 2 }]";
    check(&[ping(1), ToProxy::Barrier { number: 7 }, ping(2)], Vec::new(), expect);
}

#[test]
fn what_every_worker_says_is_told_once() {
    let closed = |connections| WorkerEvent::Closed { ban: 3, connections };
    let banned = ToProxy::Banned { id: 3, source: "192.0.2.1".parse().unwrap(), expires: u64::MAX };
    let commit = |reload| ToProxy::Commit { reload };
    let started = || vec![WorkerEvent::Started, WorkerEvent::Started];
    check(&[], vec![WorkerEvent::Started], "[]");
    check(&[], started(), "[Configured { reload: 0 }]");
    check(&[commit(0)], vec![WorkerEvent::Configured], "[]");
    check(&[commit(0)], vec![WorkerEvent::Configured, WorkerEvent::Configured], "[Ready]");
    // Nothing else than what is compiled comes into force.
    check(&[commit(7), ToProxy::Barrier { number: 1 }], Vec::new(), "[Ack { number: 1 }]");
    check(&[commit(0), ToProxy::Barrier { number: 1 }], vec![WorkerEvent::Configured], "[]");
    check(std::slice::from_ref(&banned), vec![closed(2)], "[]");
    check(&[banned], vec![closed(2), closed(5)], "[Closed { ban: 3, connections: 7 }]");
}
