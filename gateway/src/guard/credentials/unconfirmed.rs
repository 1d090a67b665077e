//! Holds an answer back until every proxy has said that it knows what has changed: "revoked" is said once no proxy takes
//! the key or the token any more.
//!
//! *Invariant:* a proxy that does not answer is not waited for longer than [`TIMEOUT`], and then the answer says so.

use std::{collections::BTreeSet, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    guard::control::{ControlAnswer, KeyMade},
    text::counted::counted,
};

/// How long every proxy may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

struct PendingConfirmation {
    /// The number of the barrier.
    number: u64,
    /// The proxies that have not confirmed yet.
    proxies: BTreeSet<u64>,
    until: Instant,
    answer: ControlAnswer,
    to: oneshot::Sender<ControlAnswer>,
}

/// The answers that wait.
#[derive(Default)]
pub(crate) struct Unconfirmed(Vec<PendingConfirmation>);

impl Unconfirmed {
    /// Keeps an answer until these proxies have confirmed the barrier.
    pub(crate) fn hold(
        &mut self,
        number: u64,
        proxies: impl IntoIterator<Item = u64>,
        answer: ControlAnswer,
        to: oneshot::Sender<ControlAnswer>,
        now: Instant,
    ) {
        let (proxies, until) = (proxies.into_iter().collect(), now + TIMEOUT);
        self.0.push(PendingConfirmation { number, proxies, until, answer, to });
        self.release(now);
    }

    /// A proxy has confirmed a barrier, and all before it.
    pub(crate) fn confirmed(&mut self, proxy: u64, number: u64, now: Instant) {
        for waiting in self.0.iter_mut().filter(|waiting| waiting.number <= number) {
            waiting.proxies.remove(&proxy);
        }
        self.release(now);
    }

    /// A proxy is gone: it serves nobody.
    pub(crate) fn gone(&mut self, proxy: u64, now: Instant) {
        for waiting in &mut self.0 {
            waiting.proxies.remove(&proxy);
        }
        self.release(now);
    }

    /// Answers whoever has waited for long enough.
    pub(crate) fn release(&mut self, now: Instant) {
        let is_over = |waiting: &PendingConfirmation| waiting.proxies.is_empty() || waiting.until <= now;
        let (over, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.0).into_iter().partition(is_over);
        self.0 = left;
        for PendingConfirmation { proxies, answer, to, .. } in over {
            let answer = if proxies.is_empty() { answer } else { late(answer, proxies.len()) };
            if to.send(answer).is_err() {
                tracing::debug!("a control client did not wait for its answer");
            }
        }
    }
}

/// What is said where proxies have not confirmed in time.
fn late(answer: ControlAnswer, proxies: usize) -> ControlAnswer {
    let seconds = TIMEOUT.as_secs();
    let unknown = format!("{} not confirmed it within {seconds} s", counted(proxies, "proxy has", "proxies have"));
    match answer {
        ControlAnswer::Done { message, .. } => {
            let message = format!(
                "{message}; this is stored, but {unknown} and may act as before until it goes on: see `gateway status`"
            );
            ControlAnswer::Refused { code: "not_confirmed".to_owned(), message }
        }
        // The key is shown all the same: nobody is told it again.
        ControlAnswer::KeyMade(made) => {
            let then = match &made.replaces {
                Some(old) => format!("and may refuse this key, and take {old} for longer"),
                None => "and may refuse this key".to_owned(),
            };
            let warning = Some(format!("{unknown} {then}, until it goes on: see `gateway status`"));
            ControlAnswer::KeyMade(Box::new(KeyMade { warning, ..*made }))
        }
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_waits_for_every_proxy() {
        let now = Instant::now();
        let mut unconfirmed = Unconfirmed::default();
        let mut hold = |number, proxies: &[u64]| {
            let (to, answer) = oneshot::channel();
            let done = ControlAnswer::Done { message: "revoked".to_owned(), changed: 1 };
            unconfirmed.hold(number, proxies.iter().copied(), done, to, now);
            answer
        };
        let mut nobody = hold(1, &[]);
        assert!(nobody.try_recv().is_ok(), "no proxy serves");
        let (mut one, mut two, mut three) = (hold(2, &[7, 8]), hold(3, &[7, 8]), hold(4, &[8]));
        unconfirmed.confirmed(7, 3, now);
        assert!(one.try_recv().is_err() && two.try_recv().is_err());
        unconfirmed.confirmed(8, 2, now);
        assert!(one.try_recv().is_ok() && two.try_recv().is_err());
        unconfirmed.gone(8, now);
        assert!(two.try_recv().is_ok() && three.try_recv().is_ok());
        let (to, mut late) = oneshot::channel();
        let done = ControlAnswer::Done { message: "revoked: a".to_owned(), changed: 1 };
        unconfirmed.hold(5, [9], done, to, now);
        unconfirmed.release(now + TIMEOUT - Duration::from_millis(1));
        assert!(late.try_recv().is_err());
        unconfirmed.release(now + TIMEOUT);
        let said = late.try_recv().unwrap();
        assert!(matches!(&said, ControlAnswer::Refused { code, .. } if code == "not_confirmed"), "{said:?}");
        // A key is shown in any case, and it is said that the one before may still be taken.
        for (replaces, expect) in [(Some("old"), "may refuse this key, and take old for longer"), (None, "key, until")]
        {
            let (to, mut late) = oneshot::channel();
            let made: KeyMade = serde_json::from_value(serde_json::json!(
                {"id": "new", "name": "a", "key": "k", "replaces": replaces}
            ))
            .unwrap();
            unconfirmed.hold(6, [9], ControlAnswer::KeyMade(Box::new(made)), to, now);
            unconfirmed.release(now + TIMEOUT);
            let ControlAnswer::KeyMade(made) = late.try_recv().unwrap() else { panic!("no key") };
            let warning = made.warning.unwrap();
            assert!(made.key == "k" && warning.contains(expect), "{warning}");
        }
    }
}
