//! Requests in flight, over reloads too.

use super::*;

#[test]
fn so_many_in_flight_at_once() {
    let world = World::new("[limit.a]\nby = [\"principal\"]\nconcurrent = 2\n");
    let ask = Ask { identity: principal("ada"), ..Ask::default() };
    let mut held: Vec<_> = (0..2).map(|_| world.serve(&ask, START).unwrap()).collect();
    let refusal = world.serve(&ask, START).unwrap_err();
    assert_eq!((refusal.reject, refusal.retry_after), (Reject::TooManyRequests, Some(1)));
    assert!(world.serve(&Ask { identity: principal("bob"), ..Ask::default() }, START).is_ok());
    world.limits.settle(&mut held[0], &RequestUsage::default(), START);
    assert!(world.serve(&ask, START).is_ok());
}

/// Whoever has requests in flight does not get as many again by a reload, whatever it changes of the limit.
#[test]
fn requests_in_flight_count_on_after_a_reload() {
    let text = |most: u64, capacity: usize| {
        format!("[limit.a]\nby = [\"principal\"]\nconcurrent = {most}\ncapacity = {capacity}\n")
    };
    for (most, capacity, left) in [(3, 1_000, 1), (3, 5_000, 1), (3, 10, 1), (2, 5_000, 0), (9, 10, 7)] {
        let mut world = World::new(&text(3, 1_000));
        let ask = Ask { identity: principal("ada"), ..Ask::default() };
        let mut held: Vec<_> = (0..2).map(|_| world.serve(&ask, START).unwrap()).collect();
        world.reload(&text(most, capacity), START);
        let more: Vec<_> = (0..20).map_while(|_| world.serve(&ask, START).ok()).collect();
        assert_eq!(more.len(), left, "{most} {capacity}");
        // What came before leaves, too.
        for judged in held.iter_mut().chain(&mut more.into_iter().collect::<Vec<_>>()) {
            world.limits.settle(judged, &RequestUsage::default(), START);
        }
        assert_eq!((world.sum("a").keys, world.sum("a").capacity), (0, capacity as u64), "{most} {capacity}");
    }
}
