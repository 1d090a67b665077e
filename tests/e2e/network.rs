//! The ground that the other tests stand on: addresses reach each other, and nothing is left behind.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use support::{
    report,
    upstream::Upstream,
    world::{ATTACKER_V4, ATTACKER_V6, ATTACKER_V6_TOO, GATEWAY_V4, GATEWAY_V6, GOOD_V4, GOOD_V6, World, bystander},
};

#[test]
fn every_client_reaches_the_gateway_and_nothing_remains() {
    if !report::may_run("network") {
        return;
    }
    let world = World::new();
    let path = world.gate.path();
    let _v4 = Upstream::start(&world.gate, "10.0.0.1:443");
    let _v6 = Upstream::start(&world.gate, "[fd00::1]:443");
    for source in [GOOD_V4, GOOD_V6, ATTACKER_V4, ATTACKER_V6, ATTACKER_V6_TOO, bystander(0), bystander(31)] {
        let target = SocketAddr::new(if source.is_ipv4() { GATEWAY_V4 } else { GATEWAY_V6 }, 443);
        let stream = world
            .outside
            .connect(source, target, Duration::from_secs(2))
            .unwrap_or_else(|error| panic!("{source}: {error}"));
        assert_eq!(stream.local_addr().unwrap().ip(), source);
    }
    let folder = PathBuf::from(&world.folder);
    drop(world);
    assert!(!path.exists() && !folder.exists());
}
