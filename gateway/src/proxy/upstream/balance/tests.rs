//! Who is chosen, as tables.

use super::*;
use crate::settings::upstream::HashBy;

fn servers(weights: &[u32]) -> Vec<UpstreamServer> {
    let server =
        |(index, weight): (usize, &u32)| UpstreamServer { address: format!("10.0.0.{index}:80"), weight: *weight };
    weights.iter().enumerate().map(server).collect()
}

#[track_caller]
fn check_turns(weights: &[u32], usable: u64, expect: &[usize]) {
    let balancer = Balancer::new(&Balance::RoundRobin, &servers(weights), 0);
    let made: Vec<usize> = expect.iter().filter_map(|_| balancer.choose(usable, 0, |_| 0)).collect();
    assert_eq!(made, expect, "{weights:?} {usable:b}");
}

#[test]
fn turns() {
    check_turns(&[1], 1, &[0, 0, 0]);
    check_turns(&[1, 1, 1], 0b111, &[0, 1, 2, 0, 1, 2]);
    check_turns(&[50, 50], 0b11, &[0, 1, 0, 1]);
    check_turns(&[5, 1, 1], 0b111, &[0, 0, 1, 0, 2, 0, 0]);
    check_turns(&[2, 1], 0b11, &[0, 1, 0, 0, 1, 0]);
    check_turns(&[1, 1, 1], 0b101, &[0, 2, 2, 0, 2, 2]);
    check_turns(&[1, 1], 0b10, &[1, 1, 1]);
}

#[test]
fn nobody_is_chosen_of_nobody() {
    for balance in [Balance::RoundRobin, Balance::LeastRequests, Balance::Hash(HashBy::Path)] {
        let balancer = Balancer::new(&balance, &servers(&[1, 2]), 7);
        assert_eq!(balancer.choose(0, 1, |_| 0), None);
        assert_eq!(balancer.choose(1 << 5, 1, |_| 0), None, "{balance:?}");
        for _ in 0..100 {
            assert_eq!(balancer.choose(0b10, 1, |_| 9), Some(1), "{balance:?}");
        }
    }
}

/// Chooses so often, with a load that stays, and counts.
fn counts(balancer: &Balancer, servers: usize, load: &[u32]) -> Vec<usize> {
    let mut counts = vec![0; servers];
    for key in 0..10_000_u64 {
        let chosen = balancer.choose(u64::MAX >> (64 - servers), mix(key), |server| load[server]).unwrap();
        counts[chosen] += 1;
    }
    counts
}

#[test]
fn fewer_requests_are_better() {
    #[track_caller]
    fn check(weights: &[u32], load: &[u32], expect: &[std::ops::Range<usize>]) {
        let balancer = Balancer::new(&Balance::LeastRequests, &servers(weights), 7);
        let counts = counts(&balancer, weights.len(), load);
        let fits = counts.iter().zip(expect).all(|(count, range)| range.contains(count));
        assert!(fits, "{weights:?} {load:?}: {counts:?}, not {expect:?}");
    }
    // The idle one wins whenever it is drawn; the busiest is taken only if it is drawn twice, which never happens.
    check(&[1, 1], &[9, 0], &[0..1, 10_000..10_001]);
    check(&[1, 1, 1], &[9, 9, 0], &[1_000..2_300, 1_000..2_300, 5_800..7_500]);
    check(&[1, 1, 1], &[0, 0, 0], &[2_500..4_200, 2_500..4_200, 2_500..4_200]);
    // Three times the weight may have three times the load.
    check(&[3, 1], &[2, 1], &[10_000..10_001, 0..1]);
    check(&[3, 1], &[9, 1], &[0..1, 10_000..10_001]);
}

#[test]
fn what_is_alike_stays_together() {
    let by = Balance::Hash(HashBy::Source);
    let (three, four) = (Balancer::new(&by, &servers(&[1; 3]), 1), Balancer::new(&by, &servers(&[1; 4]), 2));
    let mut moved = 0;
    for key in 0..10_000_u64 {
        let key = hash(&key.to_be_bytes());
        let chosen = three.choose(0b111, key, |_| 0).unwrap();
        assert_eq!(three.choose(0b111, key, |_| 0), Some(chosen));
        // Without the other two, and with one more, only what has to move moves.
        let left = three.choose(0b111 & !bit((chosen + 1) % 3), key, |_| 0);
        assert_eq!(left, Some(chosen));
        match four.choose(0b1111, key, |_| 0).unwrap() {
            3 => moved += 1,
            same => assert_eq!(same, chosen),
        }
    }
    assert!((1_700..3_300).contains(&moved), "{moved}");
    let weighted = Balancer::new(&by, &servers(&[3, 1]), 3);
    let counts = counts(&weighted, 2, &[0, 0]);
    assert!((6_500..8_500).contains(&counts[0]), "{counts:?}");
}

#[test]
fn nobody_is_swamped() {
    // Everything is alike: the ring gives it to one server, the bound to all.
    let balancer = Balancer::new(&Balance::Hash(HashBy::Path), &servers(&[1, 1, 2]), 1);
    let mut load = [0_u32; 3];
    for _ in 0..1_000 {
        let chosen = balancer.choose(0b111, 42, |server| load[server]).unwrap();
        load[chosen] += 1;
    }
    assert!(load[0] <= 314 && load[1] <= 314 && load[2] <= 627, "{load:?}");
}
