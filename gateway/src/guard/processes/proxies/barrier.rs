//! Holds an answer back until the proxy has acknowledged what it says, so that whoever has the answer can rely on it.
//!
//! *Invariant:* an answer waits until its deadline at most, whatever the proxy does. There are as many that wait as
//! there are control clients at most.

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};

use crate::guard::control::ControlAnswer;

/// How long an answer about bans waits. A proxy that has not answered by then is busy; its bans are in the kernel, and
/// will be in its table.
pub(crate) const BARRIER_TIMEOUT: Duration = Duration::from_millis(100);

/// How long an answer about a new configuration waits for the proxy of the old one to accept no more connections.
pub(crate) const RETIREMENT: Duration = Duration::from_secs(2);

struct PendingAnswer {
    generation: u64,
    number: u64,
    until: Instant,
    /// A barrier says nothing of it: what it waits for takes a proxy long, and others are answered meanwhile.
    is_to_be_told: bool,
    answer: ControlAnswer,
    to: oneshot::Sender<ControlAnswer>,
}

/// The answers that wait, oldest first.
#[derive(Default)]
pub(crate) struct PendingAnswers {
    held: Vec<PendingAnswer>,
    /// The number of the last barrier.
    last: u64,
}

impl PendingAnswers {
    /// Keeps an answer until a proxy has acknowledged the barrier whose number is returned, or until the deadline.
    pub(crate) fn hold(
        &mut self,
        generation: u64,
        until: Instant,
        answer: ControlAnswer,
        to: oneshot::Sender<ControlAnswer>,
    ) -> u64 {
        self.push(generation, until, false, answer, to)
    }

    /// Keeps an answer until the proxy has told what was asked for by the number that is returned, or until the deadline.
    pub(crate) fn hold_until_told(
        &mut self,
        generation: u64,
        until: Instant,
        answer: ControlAnswer,
        to: oneshot::Sender<ControlAnswer>,
    ) -> u64 {
        self.push(generation, until, true, answer, to)
    }

    fn push(
        &mut self,
        generation: u64,
        until: Instant,
        is_to_be_told: bool,
        answer: ControlAnswer,
        to: oneshot::Sender<ControlAnswer>,
    ) -> u64 {
        self.last += 1;
        self.held.push(PendingAnswer { generation, number: self.last, until, is_to_be_told, answer, to });
        self.last
    }

    /// The number of a barrier that no answer waits for.
    pub(crate) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A proxy has acknowledged a barrier: what waited for it is answered. One that lies gains nothing.
    pub(crate) fn acknowledged(&mut self, generation: u64, number: u64) {
        self.release(|held| held.generation == generation && held.number <= number && !held.is_to_be_told);
    }

    /// A proxy has told what was asked for at a barrier: `complete` adds it to the answer.
    pub(crate) fn told(&mut self, generation: u64, number: u64, complete: impl FnOnce(&mut ControlAnswer)) {
        let is_it = |held: &PendingAnswer| held.generation == generation && held.number == number;
        if let Some(held) = self.held.iter_mut().find(|held| is_it(held)) {
            complete(&mut held.answer);
            self.release(is_it);
        }
    }

    /// A proxy is gone: it acknowledges nothing any more, and serves nobody.
    pub(crate) fn gone(&mut self, generation: u64) {
        self.release(|held| held.generation == generation);
    }

    /// When the next answer has waited for long enough.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.held.iter().map(|held| held.until).min()
    }

    /// Answers whoever has waited for long enough.
    pub(crate) fn give_up(&mut self, now: Instant) {
        self.release(|held| held.until <= now);
    }

    fn release(&mut self, is_over: impl Fn(&PendingAnswer) -> bool) {
        let (over, left) = std::mem::take(&mut self.held).into_iter().partition(is_over);
        self.held = left;
        for PendingAnswer { answer, to, .. } in over {
            if to.send(answer).is_err() {
                tracing::debug!("a control client did not wait for its answer");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_waits_for_its_mark_and_not_for_ever() {
        let now = Instant::now();
        let mut waiting = PendingAnswers::default();
        let mut hold = |generation, timeout| {
            let (to, answer) = oneshot::channel();
            let done = ControlAnswer::Done { message: String::new(), changed: 1 };
            (waiting.hold(generation, now + timeout, done, to), answer)
        };
        let [(first, mut one), (_, mut two), (last, mut three), (_, mut four)] =
            [hold(1, BARRIER_TIMEOUT), hold(1, BARRIER_TIMEOUT), hold(2, RETIREMENT), hold(3, BARRIER_TIMEOUT)];
        let mut answered = || [&mut one, &mut two, &mut three, &mut four].map(|answer| answer.try_recv().is_ok());
        assert_eq!(answered(), [false; 4]);
        waiting.acknowledged(1, first);
        assert_eq!(answered(), [true, false, false, false]);
        // Another proxy's barrier, and one that was never sent.
        waiting.acknowledged(1, last + 7);
        assert_eq!(answered(), [false, true, false, false]);
        assert_eq!(waiting.due(), Some(now + BARRIER_TIMEOUT));
        waiting.give_up(now + BARRIER_TIMEOUT - Duration::from_millis(1));
        assert_eq!(answered(), [false; 4]);
        waiting.give_up(now + BARRIER_TIMEOUT);
        assert_eq!(answered(), [false, false, false, true]);
        assert_eq!(waiting.due(), Some(now + RETIREMENT));
        waiting.gone(1);
        assert_eq!(answered(), [false; 4]);
        waiting.gone(2);
        assert_eq!(answered(), [false, false, true, false]);
        assert_eq!(waiting.due(), None);
    }

    #[test]
    fn what_takes_a_proxy_long_is_not_answered_by_a_barrier() {
        let now = Instant::now();
        let mut waiting = PendingAnswers::default();
        let (to, mut answer) = oneshot::channel();
        let done = |message: &str| ControlAnswer::Done { message: message.to_owned(), changed: 1 };
        let number = waiting.hold_until_told(1, now + RETIREMENT, done("late"), to);
        let later = waiting.number();
        waiting.acknowledged(1, later);
        waiting.told(2, number, |answer| *answer = done("another proxy's"));
        assert!(answer.try_recv().is_err());
        waiting.told(1, number, |answer| *answer = done("told"));
        assert_eq!(answer.try_recv().unwrap(), done("told"));
    }
}
