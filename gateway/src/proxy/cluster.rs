//! What machines of a cluster know of each other, through a store between them: on a thread of its own, so that no
//! worker and no request waits for it.
//!
//! *Invariant:* every call is bounded in time, every reply in size. Limits and letters between guards have connections of
//! their own: neither waits for the other. While the store is away, limits that are shared are enforced by this machine's
//! share; connecting again is tried for ever, ever more slowly.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use tokio::{sync::watch, task::LocalSet};

use self::{
    peer_queues::PeerQueues,
    serve::serve,
    state::{State, StoreJob},
    store::StoreAddress,
};
use crate::{policy::limit::BudgetQueue, settings::cluster};

mod budgets;
mod connection;
mod letters;
mod pause;
mod peer_queues;
mod quotas;
mod resp;
mod script;
mod serve;
mod state;
mod store;
#[cfg(test)]
mod tests;

/// The way to the thread. It is started once there is a cluster.
#[derive(Default)]
pub(in crate::proxy) struct Cluster {
    current: Mutex<Option<watch::Sender<Option<StoreJob>>>>,
    state: Arc<State>,
    peer_queues: Arc<PeerQueues>,
}

impl Cluster {
    /// Serves by this configuration from now on. Connections stay where nothing has changed for them.
    pub(in crate::proxy) fn serve(&self, settings: Option<&cluster::Settings>, asks: Option<&Arc<BudgetQueue>>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |job: &Option<StoreJob>| match (job, settings) {
            (Some(job), Some(settings)) => job.is(settings, asks),
            (None, None) => true,
            _ => false,
        };
        if current.as_ref().is_some_and(|sender| is_same(&sender.borrow())) {
            return;
        }
        let job = settings.and_then(|settings| match StoreAddress::new(settings) {
            Ok(place) => Some(StoreJob { settings: settings.clone(), place: Arc::new(place), asks: asks.cloned() }),
            // It was tried when the configuration was compiled.
            Err(wrong) => {
                wrong.iter().for_each(|wrong| tracing::error!("the store of the cluster cannot be used: {wrong}"));
                None
            }
        });
        match &*current {
            Some(sender) => sender.send_replace(job).map_or((), drop),
            None if job.is_none() => {}
            None => {
                let (sender, jobs) = watch::channel(job);
                match start(jobs, Arc::clone(&self.state), Arc::clone(&self.peer_queues)) {
                    Ok(()) => *current = Some(sender),
                    Err(error) => tracing::error!("there is no thread for the cluster: {error}"),
                }
            }
        }
    }

    pub(in crate::proxy) fn state(&self) -> &State {
        &self.state
    }

    /// Letters between guards.
    pub(in crate::proxy) fn peer_queues(&self) -> &PeerQueues {
        &self.peer_queues
    }
}

/// Starts the thread. It ends with the process.
fn start(jobs: watch::Receiver<Option<StoreJob>>, state: Arc<State>, peer_queues: Arc<PeerQueues>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    let thread = thread::Builder::new().name("cluster".to_owned());
    thread.spawn(move || LocalSet::new().block_on(&runtime, serve(jobs, state, peer_queues)))?;
    Ok(())
}
