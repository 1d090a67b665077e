//! Who keeps the keys of issuers up to date, for whoever looks for one.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, spawn_local},
};

use super::{
    client::OutboundClient,
    job::Requester,
    keys::{self, KeyRequest},
    news::News,
};
use crate::policy::auth::{
    LookupAnswer,
    jwt::{KeySet, KeysLookup},
};

/// The most requests that wait for the keys of one issuer.
const ASKS: usize = 1_024;

/// The keys of an issuer that are kept up to date.
struct KeySetTask {
    set: Arc<KeySet>,
    asks: mpsc::Sender<KeyRequest>,
    task: JoinHandle<()>,
}

/// Whoever keeps the keys of issuers up to date.
#[derive(Default)]
pub(super) struct Keepers(RefCell<HashMap<*const KeySet, KeySetTask>>);

impl Keepers {
    /// Keeps these keys up to date from now on, and no others.
    pub(super) fn keep(&self, sets: Vec<Arc<KeySet>>, client: &OutboundClient, news: &mpsc::Sender<News>) {
        let mut kept = self.0.borrow_mut();
        let mut before = std::mem::take(&mut *kept);
        for set in sets {
            let place = Arc::as_ptr(&set);
            let going_on = before.remove(&place);
            kept.insert(place, going_on.unwrap_or_else(|| keep(set, client, news)));
        }
        before.into_values().for_each(|gone| gone.task.abort());
    }

    /// Looks for a key. Whoever cannot be asked drops the answer, which tells whoever waits.
    pub(super) fn ask(&self, lookup: KeysLookup, asker: Option<Requester>, answer: oneshot::Sender<LookupAnswer>) {
        if let Some(kept) = self.0.borrow().get(&Arc::as_ptr(&lookup.set)) {
            drop(kept.asks.try_send(KeyRequest { name: lookup.name, asker, answer }));
        }
    }
}

fn keep(set: Arc<KeySet>, client: &OutboundClient, news: &mpsc::Sender<News>) -> KeySetTask {
    let (asks, asked) = mpsc::channel(ASKS);
    let task = spawn_local(keys::keep(Arc::clone(&set), client.clone(), asked, news.clone()));
    KeySetTask { set, asks, task }
}

impl Drop for KeySetTask {
    fn drop(&mut self) {
        tracing::debug!(issuer = self.set.key(), "its keys are fetched no more");
        self.task.abort();
    }
}
