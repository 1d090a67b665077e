//! TLS sessions that are resumed on another machine of a cluster, with both versions of TLS.

use std::sync::Arc;

use nix::sys::signal::Signal;
use rustls::{ClientConfig, HandshakeKind};
use support::{
    authority::Speaks,
    daemon::send,
    http1::{Client, Request, TIMEOUT},
    pki::PKI,
    report,
    store::Store,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

use super::cluster::{Machines, worlds};

/// A visit to a machine: whether the session was resumed.
fn is_resumed(world: &World, config: &Arc<ClientConfig>) -> bool {
    let mut connection = Client::new(world, GOOD_V4).connect_with(Arc::clone(config), TIMEOUT).unwrap();
    let response = connection.exchange(&Request::new("GET", "/health")).unwrap();
    assert_eq!(response.status, 200);
    connection.session().unwrap().handshake_kind() == Some(HandshakeKind::Resumed)
}

/// Clients that have no session yet, one for each version.
fn clients() -> [Arc<ClientConfig>; 2] {
    let versions: [&[_]; 2] = [&[&rustls::version::TLS13], &[&rustls::version::TLS12]];
    versions.map(|versions| Speaks { trusts: &[&PKI.authority_pem], versions, ..Speaks::default() }.config())
}

#[test]
fn sessions_are_resumed_on_every_machine() {
    if !report::may_run("cluster: TLS sessions") {
        return;
    }
    let worlds = worlds(2);
    let store = Store::start(&worlds[0]);
    let _upstreams: Vec<_> = worlds.iter().map(|world| Upstream::start(&world.gate, "127.0.0.1:9000")).collect();
    let machines = Machines::start_with(&worlds, &store, "ticket_keys = true\n", "");
    machines.see(true);
    let meet = || {
        for daemon in &machines.daemons {
            until("the keys of the others", SOON, || {
                let status = daemon.done(&["cluster", "status"]);
                let nodes = status["nodes"].as_array().unwrap().clone();
                nodes.iter().all(|node| node["own"] == true || node["ticket_keys"] == true).then_some(())
            });
        }
    };
    meet();
    // A client that comes from one machine to the other one, once the proxies have the keys.
    let until_resumed = |from: usize, to: usize| {
        until("sessions to be resumed", SOON, || {
            let fresh = clients();
            fresh.iter().for_each(|config| assert!(!is_resumed(&worlds[from], config)));
            fresh.iter().all(|config| is_resumed(&worlds[to], config)).then_some(())
        });
    };
    until_resumed(0, 1);
    until_resumed(1, 0);
    for config in &clients() {
        assert!(!is_resumed(&worlds[0], config));
        for (round, at) in [1, 0, 0, 1, 1, 0].into_iter().enumerate() {
            assert!(is_resumed(&worlds[at], config), "round {round} at {at}");
        }
    }
    // Cut off from each other: what is known stays good, both ways.
    store.cut(&worlds[1], true);
    until("it to notice", SOON, || {
        (machines.daemons[1].done(&["cluster", "status"])["store"]["reachable"] == false).then_some(())
    });
    for config in &clients() {
        assert!(!is_resumed(&worlds[1], config));
        assert!(is_resumed(&worlds[0], config) && is_resumed(&worlds[1], config));
    }
    store.cut(&worlds[1], false);
    machines.see(true);
    // Another guard has other keys: the other machine opens what they seal, and what the ones before have sealed.
    let before = clients();
    before.iter().for_each(|config| assert!(!is_resumed(&worlds[0], config)));
    let guard = machines.daemons[0].guard_pid();
    send(guard, Signal::SIGKILL);
    assert_ne!(machines.daemons[0].guard_pid_other_than(guard), guard);
    until_resumed(0, 1);
    before.iter().for_each(|config| assert!(is_resumed(&worlds[1], config), "sealed before"));
    until_resumed(1, 0);
}

/// Without the setting each machine resumes its own sessions alone.
#[test]
fn sessions_are_not_shared_unasked() {
    if !report::may_run("cluster: TLS sessions unasked") {
        return;
    }
    let worlds = worlds(2);
    let store = Store::start(&worlds[0]);
    let _upstreams: Vec<_> = worlds.iter().map(|world| Upstream::start(&world.gate, "127.0.0.1:9000")).collect();
    let machines = Machines::start(&worlds, &store, "");
    machines.see(true);
    machines.meet();
    for config in &clients() {
        assert!(!is_resumed(&worlds[0], config) && is_resumed(&worlds[0], config));
        assert!(!is_resumed(&worlds[1], config));
    }
}
