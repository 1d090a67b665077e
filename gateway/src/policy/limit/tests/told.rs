//! What clients are told of limits, in `RateLimit` and `RateLimit-Policy`.

use super::*;

#[test]
fn clients_are_told_what_is_left() {
    let world = World::new(
        "[limit.address]\nrequests = 10\nper = \"1m\"\n[limit.far]\nrequests = 1000\nper = \"1h\"\n\
         [limit.hidden]\nrequests = 2\nheaders = false\n[limit.once]\nconcurrent = 5\nroutes = [\"slow\"]\n",
    );
    let judged = world.serve(&Ask::default(), START).unwrap();
    assert_eq!(world.told(&judged), ("\"address\";r=9;t=6".to_owned(), "\"address\";q=10;w=60".to_owned()));
    let judged = world.serve(&Ask { route: EXPORT, ..Ask::default() }, START).unwrap();
    let policy = "\"once\";q=5;qu=\"concurrent-requests\"";
    assert_eq!(world.told(&judged), ("\"once\";r=4".to_owned(), policy.to_owned()));
    let world = World::new("[limit.a]\nunits = \"1MiB\"\ncost = \"response_bytes\"\nburst = \"2MiB\"\n");
    let judged = world.serve(&Ask::default(), START).unwrap();
    let policy = "\"a\";q=2097152;qu=\"content-bytes\";w=2";
    assert_eq!(world.told(&judged), ("\"a\";r=2097151;t=1".to_owned(), policy.to_owned()));
}

/// Of a refusal: what is left though it is too few, and the moment of `Retry-After`.
#[test]
fn refused_clients_are_told_what_is_left() {
    let search = Ask { route: SEARCH, ..Ask::default() };
    let export = Ask { route: EXPORT, ..Ask::default() };
    for (text, before, ask, expect) in [
        ("[limit.a]\nrequests = 2\nper = \"1h\"\n", 2, Ask::default(), "\"a\";r=0;t=1800"),
        // One is left, and the request counts 4: three more of them are there in an hour and a half.
        ("[limit.a]\nrequests = 2\nburst = 9\nper = \"1h\"\nweights = { search = 4 }\n", 2, search, "\"a\";r=1;t=5400"),
        ("[limit.a]\nconcurrent = 5\nweights = { slow = 4 }\n", 1, export, "\"a\";r=1"),
    ] {
        let world = World::new(text);
        // They go on.
        let _held: Vec<LimitResult> = (0..before).map(|_| world.serve(&ask, START).unwrap()).collect();
        let Err(refused) = world.judge(&ask, START) else { panic!("{text}") };
        let (refusal, judged) = *refused;
        let (told, _) = world.told(&judged);
        assert_eq!(told, expect, "{text}");
        let wait = refusal.retry_after.unwrap().to_string();
        assert!(told.split_once(";t=").is_none_or(|(_, reset)| reset == wait), "{text}: {wait}");
    }
}
