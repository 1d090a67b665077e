//! Waiting in tests: by asking again until a deadline, never by sleeping for a state.

use std::{
    env,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

/// How long a state may take that should come at once: generous, because two test worlds share two cores.
pub const SOON: Duration = Duration::from_secs(30);

/// Names how many times as long a state may take: for a machine that is emulated.
pub const PATIENCE: &str = "GATEWAY_TESTS_PATIENCE";

static TIMES: LazyLock<u32> =
    LazyLock::new(|| env::var(PATIENCE).ok().and_then(|times| times.parse().ok()).unwrap_or(1));

const PAUSE: Duration = Duration::from_millis(5);

/// Asks until there is an answer.
///
/// # Panics
/// At the caller's line, when `deadline` has passed.
#[track_caller]
pub fn until<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let (start, deadline) = (Instant::now(), deadline * *TIMES);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        thread::sleep(PAUSE);
    }
}

/// Lets time go by where time itself is what is tested: a slow peer, a ban that ends. Not for waiting for a state.
pub fn pause(time: Duration) {
    thread::sleep(time);
}

/// As [`pause`], for the upstream's slow answers.
pub async fn slowly(time: Duration) {
    tokio::time::sleep(time).await;
}
