//! How much of the guard's time the messages of one proxy may take. A proxy that says more waits, and nobody else does:
//! the command line, the other proxies and what is due every second have the rest.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// One part in so many.
const PART: u32 = 2;

/// So much at once, in the time that it makes up for: half of that is work.
const BURST: Duration = Duration::from_secs(1);

/// What one proxy has spent.
#[derive(Debug, Default)]
pub(crate) struct ProxyBudget {
    /// When all that it has spent is made up for.
    even: Mutex<Option<Instant>>,
    /// Messages that were received, and that the guard has not heard yet.
    unheard: AtomicUsize,
}

impl ProxyBudget {
    /// A message has been received, and waits for the guard.
    pub(crate) fn receive(&self) {
        self.unheard.fetch_add(1, Relaxed);
    }

    /// A message was heard, and has taken so long.
    pub(crate) fn spend(&self, took: Duration) {
        self.unheard.update(Relaxed, Relaxed, |unheard| unheard.saturating_sub(1));
        self.spend_at(took, Instant::now());
    }

    /// Whether something that the proxy has said, or may have, waits for the guard, and not the guard for the proxy.
    pub(crate) fn holds_back(&self) -> bool {
        self.unheard.load(Relaxed) > 0 || self.due(Instant::now()).is_some()
    }

    fn spend_at(&self, took: Duration, now: Instant) {
        let mut even = self.even.lock().unwrap_or_else(PoisonError::into_inner);
        *even = Some(even.map_or(now, |even| even.max(now)) + took * PART);
    }

    /// Waits until the next message may be heard.
    pub(crate) async fn wait(&self) {
        if let Some(at) = self.due(Instant::now()) {
            sleep_until(at).await;
        }
    }

    /// When the next message may be heard; `None`: now.
    fn due(&self, now: Instant) -> Option<Instant> {
        let even = *self.even.lock().unwrap_or_else(PoisonError::into_inner);
        even.and_then(|even| even.checked_sub(BURST)).filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_time_and_half_a_second_at_once() {
        let (share, start) = (ProxyBudget::default(), Instant::now());
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert_eq!(share.due(start), None);
        for millis in 0..500 {
            assert_eq!(share.due(at(0)), None, "{millis}");
            share.spend_at(Duration::from_millis(1), at(0));
        }
        assert_eq!(share.due(at(0)), None);
        share.spend_at(Duration::from_millis(100), at(0));
        assert_eq!(share.due(at(0)), Some(at(200)));
        assert_eq!(share.due(at(200)), None);
        // What was received is waited for until it was heard.
        let idle = ProxyBudget::default();
        assert!(!idle.holds_back());
        idle.receive();
        idle.receive();
        assert!(idle.holds_back());
        [(); 2].iter().for_each(|()| idle.spend(Duration::ZERO));
        assert!(!idle.holds_back());
        idle.spend(Duration::from_secs(60));
        assert!(idle.holds_back(), "nothing of it is received for a while");
        // What was not used is not saved up for ever.
        share.spend_at(Duration::from_millis(600), at(100_000));
        assert_eq!(share.due(at(100_000)), Some(at(100_200)));
    }
}
