//! Sends checkpoints of the audit chain to anchors: files by another thread, everybody else by the observer.

use std::{fs, io, os::fd::OwnedFd, path::PathBuf, time::Duration};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    anchor::SignedHead,
    guard::{
        anchors::{AnchorFailure, Anchors, CheckpointJob, DeliveryWay},
        lifecycle::service::{Done, Service, in_background},
        processes::observer,
    },
    message::{
        channel::Channel,
        observer::delivery::{Delivered, Delivery},
    },
    os::clock::Now,
};

/// The observer ends a delivery before that.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An observer that is busy is asked again after so long.
const BUSY: Duration = Duration::from_millis(20);

/// How long a stop waits for anchors.
const AT_STOP: Duration = Duration::from_secs(3);

impl Service<'_> {
    /// Once a second.
    pub(super) fn send_anchors(&mut self, beside: &mpsc::Sender<Done>) {
        self.background.anchors.configure(&self.config.guard.audit.anchors);
        let Some(head) = self.guard.signed_head() else { return };
        let now = Now::read();
        for job in self.background.anchors.due(head, now) {
            match job.way(host().trim(), std::process::id()) {
                DeliveryWay::Write(path) => in_background(beside, move || Done::Anchored(job.write(&path))),
                DeliveryWay::Deliver(delivery, nonce) => {
                    let missing = || io::Error::new(io::ErrorKind::NotConnected, "there is no observer");
                    let given = self.observer.as_ref().ok_or_else(missing);
                    match given.and_then(|observer| observer.deliver(&delivery)) {
                        Ok(answer) => self.wait_for_delivery(job, nonce, answer, beside),
                        Err(error) => {
                            let failure = AnchorFailure::Observer(error.to_string());
                            self.background.anchors.done(job.ended(Err(failure)), now);
                        }
                    }
                }
            }
        }
    }

    /// Waits, beside the loop, for what became of a delivery.
    fn wait_for_delivery(&self, job: CheckpointJob, nonce: u64, answer: OwnedFd, beside: &mpsc::Sender<Done>) {
        let (beside, state_dir) = (beside.clone(), self.config.guard.state_dir.clone());
        tokio::spawn(async move {
            match delivered(answer).await {
                Ok(response) => {
                    in_background(&beside, move || Done::Anchored(job.delivered(&response, nonce, &state_dir)));
                }
                Err(reason) => {
                    if beside.send(Done::Anchored(job.ended(Err(reason)))).await.is_err() {
                        tracing::debug!("the guard stopped before an anchor had answered");
                    }
                }
            }
        });
    }

    /// What sends the last checkpoint, once the guard has signed it.
    pub(super) fn last_anchors(self) -> LastAnchors {
        let Self { config, background, observer, .. } = self;
        LastAnchors { anchors: background.anchors, observer, state_dir: config.guard.state_dir }
    }
}

/// Sends the last checkpoint of a guard that ends.
pub(super) struct LastAnchors {
    anchors: Anchors,
    observer: Option<observer::Observer>,
    state_dir: PathBuf,
}

impl LastAnchors {
    /// Sends it, and waits for that for [`AT_STOP`] at most: nobody who is away keeps the gateway from stopping.
    pub(super) async fn send(mut self, head: &SignedHead) {
        let (mut sending, until) = (JoinSet::new(), Instant::now() + AT_STOP);
        for job in self.anchors.last(head, Now::read()) {
            match job.way(host().trim(), std::process::id()) {
                DeliveryWay::Write(path) => drop(sending.spawn_blocking(move || job.write(&path))),
                DeliveryWay::Deliver(delivery, nonce) => {
                    let Some(answer) = self.deliver(&delivery, until).await else { continue };
                    let state_dir = self.state_dir.clone();
                    sending.spawn(async move {
                        match delivered(answer).await {
                            Ok(response) => job.delivered(&response, nonce, &state_dir),
                            Err(reason) => job.ended(Err(reason)),
                        }
                    });
                }
            }
        }
        let all = async {
            while let Some(written) = sending.join_next().await {
                match written {
                    Ok(written) => self.anchors.done(written, Now::read()),
                    Err(error) => tracing::error!(%error, "the last checkpoint was not sent"),
                }
            }
        };
        if timeout_at(until, all).await.is_err() {
            tracing::warn!("the gateway stops before all anchors have the last checkpoint");
        }
    }
}

impl LastAnchors {
    /// Gives the observer something to deliver. Few messages fill its socket, and nothing is tried again later.
    async fn deliver(&self, delivery: &Delivery, until: Instant) -> Option<OwnedFd> {
        let observer = self.observer.as_ref()?;
        loop {
            match observer.deliver(delivery) {
                Ok(answer) => return Some(answer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => sleep(BUSY).await,
                Err(error) => {
                    tracing::warn!(%error, "the observer takes no last checkpoint");
                    return None;
                }
            }
        }
    }
}

fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default()
}

/// What became of a delivery. Nothing that the observer says is believed without a look.
async fn delivered(answer: OwnedFd) -> Result<Vec<u8>, AnchorFailure> {
    let heard = async {
        let channel = Channel::new(answer)?;
        let heard = timeout(TIMEOUT, channel.receive_alone::<Delivered>()).await;
        channel.close();
        io::Result::Ok(heard)
    };
    match heard.await.unwrap_or_else(|error| Ok(Err(error))) {
        Ok(Ok(Some(Delivered(delivered)))) => delivered.map_err(AnchorFailure::Anchor),
        Ok(Ok(None)) => Err(AnchorFailure::Observer("the observer died meanwhile".to_owned())),
        Ok(Err(error)) => Err(AnchorFailure::Observer(format!("the observer says what is no answer: {error}"))),
        Err(_elapsed) => Err(AnchorFailure::Observer("the observer does not answer".to_owned())),
    }
}
