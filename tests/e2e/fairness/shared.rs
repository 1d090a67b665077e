//! One upstream that is too slow for all: fifty equal clients ask for twice what it can do. Each gets the same, also beside
//! one that asks for a hundred times its share; and where some are of a higher class, none of them is refused.

use serde_json::json;
use support::scripted::Scripted;

use super::*;

/// How long a response takes, and how many there are at once.
const TAKES: Duration = Duration::from_millis(20);
const AT_ONCE: u32 = 5;

/// How often each client asks: so that all of them ask for twice what there is.
const PACE: Duration = Duration::from_millis(100);

/// What each of the equal ones can have in a second.
const EACH: u64 = 5;

const _: () = assert!(2 * 1_000 / 20 * AT_ONCE as usize == CLIENTS * 10, "twice the capacity");

fn upstream(world: &World) -> Scripted {
    Scripted::start(&world.gate, "127.0.0.1:9000", |exchange| {
        pause(TAKES);
        exchange.answer("200 OK", "Content-Type: text/plain\r\n", "served").map(|()| true)
    })
}

fn gateway<'world>(world: &'world World, more: &str) -> Daemon<'world> {
    let concurrency = format!("concurrency = {{ limit = {AT_ONCE}, queue = 10, wait = \"5s\" }}");
    let upstream = format!("servers = [\"127.0.0.1:9000\"]\n{concurrency}");
    start_with(world, Settings { upstream, more: more.to_owned(), ..Settings::default() })
}

/// What clients with these tokens get, each at its pace, and one more that is greedy on so many connections.
fn run(world: &World, tokens: &[String], greedy: u32) -> (Vec<Got>, Got, Duration) {
    let hungry = token("greedy");
    let (is_over, client, begin) =
        (AtomicBool::new(false), Client::new(world, GOOD_V4), Barrier::new(tokens.len() + 1));
    thread::scope(|scope| {
        let spread = PACE / u32::try_from(tokens.len()).unwrap();
        let clients: Vec<_> = (0..)
            .zip(tokens)
            .map(|(number, token)| {
                let (is_over, client, begin) = (&is_over, &client, &begin);
                scope.spawn(move || {
                    begin.wait();
                    pause(spread * number);
                    Got::over_http1(client, token, PACE, is_over)
                })
            })
            .collect();
        let pace = Duration::from_secs(1) * greedy / u32::try_from(EACH * 100).unwrap();
        let greedy: Vec<_> = (0..greedy)
            .map(|_| {
                let (is_over, client, hungry) = (&is_over, &client, &hungry);
                scope.spawn(move || Got::over_http1(client, hungry, pace, is_over))
            })
            .collect();
        begin.wait();
        let from = Instant::now();
        pause(length());
        is_over.store(true, Ordering::Relaxed);
        let got = clients.into_iter().map(|client| client.join().unwrap()).collect();
        let greedy = Got::sum(greedy.into_iter().map(|one| one.join().unwrap()));
        (got, greedy, from.elapsed())
    })
}

#[test]
fn d05_equal_clients_share_a_slow_upstream() {
    if !report::may_run("fairness: upstream") {
        return;
    }
    let world = World::new();
    let _upstream = upstream(&world);
    let _daemon = gateway(&world, "");
    let tokens: Vec<String> = (0..CLIENTS).map(|number| token(&format!("client-{number}"))).collect();
    let (alone, _, _) = run(&world, &tokens, 0);
    let (beside, greedy, elapsed) = run(&world, &tokens, 2 * GREEDY);
    let (fair, fair_beside) = (jain(&alone), jain(&beside));
    let (before, after) = (p99(&alone), p99(&beside));
    let is_greedy = greedy.sent >= EACH * 95 * elapsed.as_secs();
    let [least, most] = [beside.iter().map(|got| got.admitted).min(), beside.iter().map(|got| got.admitted).max()];
    report::note(&format!(
        "fairness: one slow upstream: Jain {fair:.4} alone, {fair_beside:.4} beside one that sent {} in {elapsed:?} and got {} \
         (others {least:?} to {most:?}); p99 {before:?}, then {after:?}: {}",
        greedy.sent,
        greedy.admitted,
        verdict(is_greedy && fair >= 0.99 && fair_beside >= 0.99 && after <= before.mul_f64(1.2))
    ));
    if judges() {
        assert!(is_greedy, "the greedy one sent only {} in {elapsed:?}: nothing is shown", greedy.sent);
        assert!(fair >= 0.99 && fair_beside >= 0.99, "Jain {fair} alone, {fair_beside} beside a greedy one");
        assert!(after <= before.mul_f64(1.2), "p99 was {before:?} and is {after:?} beside a greedy one");
        assert!(greedy.admitted <= 2 * most.unwrap_or(0), "the greedy one gets what others get");
    } else if alone.iter().chain(&beside).all(|got| got.sent >= 9 * length().as_secs()) {
        // Few requests: one more or less is much.
        assert!(fair >= 0.9 && fair_beside >= 0.9, "Jain {fair} alone, {fair_beside} beside a greedy one");
    }
}

/// Of what is asked for, which is twice what there is, the highest class asks for 30 in a hundred.
#[test]
fn d05_the_highest_class_is_never_refused() {
    if !report::may_run("fairness: classes") {
        return;
    }
    let world = World::new();
    let _upstream = upstream(&world);
    let _daemon = gateway(&world, "[plan.gold]\nclaims = { plan = \"gold\" }\n[priority.paying]\nplans = [\"gold\"]\n");
    let token = |number: usize| {
        let mut claims = tokens::claims(&format!("client-{number}"), &["reader"]);
        claims["plan"] = json!(if number % 10 < 3 { "gold" } else { "free" });
        tokens::ISSUERS.token(Algorithm::Es256, &claims)
    };
    let tokens: Vec<String> = (0..CLIENTS).map(token).collect();
    let (got, _, elapsed) = run(&world, &tokens, 0);
    let (mut paying, mut others) = (Vec::new(), Vec::new());
    (0..).zip(got).for_each(|(number, got)| if number % 10 < 3 { paying.push(got) } else { others.push(got) });
    let before = p99(&paying);
    let (paying, others) = (Got::sum(paying.into_iter()), Got::sum(others.into_iter()));
    let refused = paying.sent - paying.admitted;
    let is_reached = paying.sent + others.sent >= 95 * 5 * elapsed.as_secs();
    report::note(&format!(
        "fairness: at twice the capacity: {refused} of {} of the highest class refused (p99 {before:?}), {} of {} others, in \
         {elapsed:?}: {}",
        paying.sent,
        others.sent - others.admitted,
        others.sent,
        verdict(refused == 0 && is_reached)
    ));
    assert_eq!(refused, 0, "of the highest class");
    if judges() {
        assert!(is_reached, "only {} were sent in {elapsed:?}: nothing is shown", paying.sent + others.sent);
    }
}
