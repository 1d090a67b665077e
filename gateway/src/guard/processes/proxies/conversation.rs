//! Speaks with one proxy: what the guard has to say goes out, and what the proxy says comes in as events, at the pace that
//! its [`ProxyBudget`] lets it.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use tokio::sync::mpsc;

use super::share::ProxyBudget;
use crate::message::{ToGuard, ToProxy, channel::Channel};

/// Messages that wait for a proxy. One that lets so many pile up is stuck and is killed.
const OUTBOX: usize = 65_536;

/// The queue of what a proxy is to be told.
pub(super) type Outbox = mpsc::Sender<(ToProxy, Vec<OwnedFd>)>;

/// What a proxy has to say, and from which generation.
#[derive(Debug)]
pub(crate) enum ProxyEvent {
    /// A message.
    Said(u64, ToGuard),
    /// The channel is closed, or what came was no message.
    Silent(u64, Option<io::Error>),
}

/// Speaks with one proxy until either side is gone. What is put into the outbox it is told, after `opening`.
pub(super) fn converse(
    channel: Channel,
    generation: u64,
    opening: Vec<(ToProxy, Vec<OwnedFd>)>,
    events: mpsc::Sender<ProxyEvent>,
    share: Arc<ProxyBudget>,
) -> Outbox {
    let (outbox, queue) = mpsc::channel(OUTBOX);
    tokio::spawn(speak_and_listen(channel, generation, opening, queue, events, share));
    outbox
}

async fn speak_and_listen(
    channel: Channel,
    generation: u64,
    opening: Vec<(ToProxy, Vec<OwnedFd>)>,
    mut queue: mpsc::Receiver<(ToProxy, Vec<OwnedFd>)>,
    events: mpsc::Sender<ProxyEvent>,
    share: Arc<ProxyBudget>,
) {
    let speak = async {
        for (message, descriptors) in opening {
            let borrowed: Vec<_> = descriptors.iter().map(OwnedFd::as_fd).collect();
            channel.send(&message, &borrowed).await?;
        }
        while let Some((message, descriptors)) = queue.recv().await {
            let borrowed: Vec<_> = descriptors.iter().map(OwnedFd::as_fd).collect();
            channel.send(&message, &borrowed).await?;
        }
        // The supervisor has buried the proxy.
        io::Result::Ok(())
    };
    let listen = async {
        loop {
            // One that takes more than its share of the guard's time waits; its messages pile up with it.
            share.wait().await;
            match channel.receive_alone::<ToGuard>().await {
                Ok(Some(message)) => {
                    share.receive();
                    if events.send(ProxyEvent::Said(generation, message)).await.is_err() {
                        return None;
                    }
                }
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    };
    let error = tokio::select! {
        spoken = speak => spoken.err(),
        heard = listen => heard,
    };
    channel.close();
    if events.send(ProxyEvent::Silent(generation, error)).await.is_err() {
        tracing::debug!(generation, "nobody listens any more");
    }
}
