//! The thread: keeps the connections to the store, and asks for what limits wait for.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    budgets::{self, BudgetAnswers},
    connection::Failure,
    letters,
    pause::{Pause, STEADY, delayed},
    peer_queues::PeerQueues,
    quotas,
    state::{State, StoreJob},
    store::{Store, StoreAddress},
};
use crate::policy::limit::{BudgetQueue, BudgetRequest, quota::QuotaAsk};

/// How often it is asked whether it is there, where nothing else is asked.
const PING: Duration = Duration::from_millis(500);

/// How often it is told at most that the store cannot count some budgets.
const WARN: Duration = Duration::from_secs(60);

/// Serves by one configuration after the other.
pub(super) async fn serve(
    mut jobs: watch::Receiver<Option<StoreJob>>,
    state: Arc<State>,
    peer_queues: Arc<PeerQueues>,
) {
    loop {
        let job = jobs.borrow_and_update().clone();
        state.change(|told| told.is_configured = job.is_some());
        let serving = async {
            match &job {
                Some(job) => {
                    let place = job.place.with_timeout_of_at_least(letters::TIMEOUT);
                    tokio::join!(keep(job, &state), letters::carry(&place, &state, &peer_queues));
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = serving => {}
            changed = jobs.changed() => if changed.is_err() {
                return;
            },
        }
        // Another store may not answer. Limits may go on with these asks.
        if let Some(asks) = job.as_ref().and_then(|job| job.asks.as_ref()) {
            asks.set_reachable(false);
        }
    }
}

/// Connects, and connects again.
async fn keep(job: &StoreJob, state: &State) {
    let mut pause = Pause::default();
    loop {
        let failure = match Store::open(&job.place).await {
            Ok(store) => spend(job, store, state, &mut pause).await,
            Err(failure) => failure,
        };
        if let Some(asks) = &job.asks {
            asks.set_reachable(false);
        }
        state.failed(&failure);
        state.count_malformed(&failure);
        pause.note(&failure);
        pause.wait().await;
    }
}

/// What is to be done next.
enum NextCall {
    Asks((Vec<BudgetRequest>, Vec<QuotaAsk>)),
    Ping,
}

/// Asks for budgets until the store fails.
async fn spend(job: &StoreJob, mut store: Store, state: &State, pause: &mut Pause) -> Failure {
    let place = &job.place;
    let mut ping = delayed(PING);
    let mut warned: Option<Instant> = None;
    let opened = Instant::now();
    loop {
        let turn = tokio::select! {
            biased;
            // The first tick is at once: nothing is asked of a store that has not answered yet.
            _ = ping.tick() => NextCall::Ping,
            asks = next(job.asks.as_ref()) => NextCall::Asks(asks),
        };
        let began = Instant::now();
        let is_ping = matches!(turn, NextCall::Ping);
        let (count, answered) = match turn {
            NextCall::Asks((budgets, quotas)) => {
                let count = u64::try_from(budgets.len() + quotas.len()).unwrap_or(u64::MAX);
                (count, ask(&mut store, place, budgets, quotas).await)
            }
            NextCall::Ping => (1, budgets::probe(&mut store, place).await.map(|()| BudgetAnswers::default())),
        };
        state.calls.fetch_add(count, Ordering::Relaxed);
        let BudgetAnswers { failed, malformed, why } = match answered {
            Ok(answered) => answered,
            Err(failure) => {
                state.failures.fetch_add(count, Ordering::Relaxed);
                return failure;
            }
        };
        state.failures.fetch_add(failed, Ordering::Relaxed);
        state.malformed.fetch_add(malformed, Ordering::Relaxed);
        if let Some((name, why)) = why.filter(|_| warned.is_none_or(|warned| warned.elapsed() >= WARN)) {
            warned = Some(began);
            tracing::warn!(
                "the store of the cluster cannot count {name}: {why}; this machine's share decides for that key"
            );
        }
        state.latency.store(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        state.reached();
        // That it is there does not say that it answers what matters.
        if !is_ping || opened.elapsed() >= STEADY {
            pause.reset();
        }
        if let Some(asks) = &job.asks {
            asks.set_reachable(true);
        }
    }
}

/// Asks about both: quotas first, of which a client comes back the latest.
async fn ask(
    store: &mut Store,
    place: &StoreAddress,
    budgets: Vec<BudgetRequest>,
    quotas: Vec<QuotaAsk>,
) -> Result<BudgetAnswers, Failure> {
    let of_quotas = quotas::ask(store, place, quotas).await?;
    if budgets.is_empty() {
        return Ok(of_quotas);
    }
    Ok(budgets::ask(store, place, budgets).await?.and(of_quotas))
}

async fn next(asks: Option<&Arc<BudgetQueue>>) -> (Vec<BudgetRequest>, Vec<QuotaAsk>) {
    match asks {
        Some(asks) => asks.next(budgets::AT_ONCE).await,
        None => std::future::pending().await,
    }
}
