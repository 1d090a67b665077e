//! The way to an upstream whose requests at once are limited. All workers share it: what counts is how many requests the
//! upstream has, and one worker alone sees too few to learn from.
//!
//! A request passes until its response begins. How long a client takes to read that, how long a stream lasts and how long
//! a tunnel is open are not the upstream's time.
//!
//! *Invariant:* whoever passed leaves once, also where the request is given up; whoever waits leaves the queue.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::StatusCode;
use tokio::sync::oneshot::{Receiver, Sender, channel};

use crate::{
    os::clock,
    policy::admission::{AdmissionDecision, Class, Departure, Gate, GateReport, Sample},
    settings::upstream::Concurrency,
};

/// The gate of one upstream. Who waits is told whether it goes on.
pub(in crate::proxy) struct SharedGate(Mutex<Gate<Sender<bool>>>);

impl SharedGate {
    pub(super) fn new(settings: &Concurrency) -> Self {
        Self(Mutex::new(Gate::new(settings, clock::monotonic())))
    }

    fn lock(&self) -> MutexGuard<'_, Gate<Sender<bool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on by other settings.
    pub(super) fn change(&self, settings: &Concurrency) {
        let mut gate = self.lock();
        gate.change(settings, clock::monotonic());
        gate.go_on(|waiter| waiter.send(true).is_ok());
    }

    /// How it is.
    pub(super) fn report(&self) -> GateReport {
        self.lock().report()
    }

    fn leave(&self, left: Departure) {
        let now = clock::monotonic();
        self.lock().leave(left, now, |waiter| waiter.send(true).is_ok());
    }
}

/// A request that passed. It leaves when this is dropped.
pub(super) struct Passage {
    gate: Arc<SharedGate>,
    left: Departure,
}

impl Passage {
    fn new(gate: &Arc<SharedGate>) -> Self {
        Self { gate: Arc::clone(gate), left: Departure { began: 0, sample: None } }
    }

    /// It is sent to a server now.
    pub(super) fn send(&mut self) {
        self.left = Departure { began: clock::monotonic(), sample: None };
    }

    /// A response has begun with this `status`, or `is_late`. `is_telling`: the time until then was the server's alone.
    pub(super) fn sent(&mut self, status: Option<StatusCode>, is_late: bool, is_telling: bool) {
        self.left.sample = match status {
            None => is_late.then_some(Sample::Overloaded),
            Some(StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) => Some(Sample::Overloaded),
            // What the client did wrong, or the server cannot do, is often answered sooner than anything else.
            Some(status) if status.as_u16() >= 400 => None,
            Some(_) => is_telling.then(|| Sample::Answered(clock::monotonic().saturating_sub(self.left.began))),
        };
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.gate.leave(self.left);
    }
}

/// A request that waits. It leaves the queue when this is dropped.
struct QueuedRequest<'a> {
    gate: &'a Arc<SharedGate>,
    class: Class,
    place: u64,
    turn: Receiver<bool>,
    is_told: bool,
}

impl QueuedRequest<'_> {
    /// Leaves the queue. `true`: its turn came at the same moment.
    fn give_up(&mut self, is_refused: bool) -> bool {
        if std::mem::replace(&mut self.is_told, true) {
            return false;
        }
        let mut gate = self.gate.lock();
        // Under the lock: nobody is told while this looks.
        self.turn.close();
        match self.turn.try_recv() {
            Ok(passes) => passes,
            Err(_) => {
                gate.give_up(self.class, self.place, is_refused);
                false
            }
        }
    }
}

impl Drop for QueuedRequest<'_> {
    fn drop(&mut self) {
        if self.give_up(false) {
            self.gate.leave(Departure { began: 0, sample: None });
        }
    }
}

/// Lets a request pass, at once or when its turn comes within `wait`. `None`: there is no room, or its turn did not come.
pub(super) async fn pass(gate: &Arc<SharedGate>, class: Class, client: u64, wait: Duration) -> Option<Passage> {
    let mut turn = None;
    let entered = gate.lock().enter(class, client, || {
        let (sender, receiver) = channel();
        turn = Some(receiver);
        sender
    });
    let (place, turn) = match (entered, turn) {
        (AdmissionDecision::Admitted, _) => return Some(Passage::new(gate)),
        (AdmissionDecision::Waits { place, displaced }, Some(turn)) => {
            if let Some(displaced) = displaced {
                // Whoever is gone needs not be told.
                displaced.send(false).unwrap_or_default();
            }
            (place, turn)
        }
        (AdmissionDecision::Refused | AdmissionDecision::Waits { .. }, _) => return None,
    };
    let mut waiting = QueuedRequest { gate, class, place, turn, is_told: false };
    let passes = match tokio::time::timeout(wait, &mut waiting.turn).await {
        Ok(told) => {
            waiting.is_told = true;
            told.unwrap_or(false)
        }
        Err(_elapsed) => waiting.give_up(true),
    };
    passes.then(|| Passage::new(gate))
}
