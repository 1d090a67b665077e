//! Sends checkpoints of the audit chain to anchors: files by another thread, everybody else by the observer.

use std::{fs, io, os::fd::OwnedFd, time::Duration};

use tokio::{sync::mpsc, time::timeout};

use super::service::{Done, Service, in_background};
use crate::{
    clock::Now,
    guard::anchors::{Job, Way},
    message::{channel::Channel, delivery::Delivered},
};

/// The observer ends a delivery before that.
const PATIENCE: Duration = Duration::from_secs(30);

impl Service<'_> {
    /// Once a second.
    pub(super) fn send_anchors(&mut self, beside: &mpsc::Sender<Done>) {
        self.background.anchors.configure(&self.config.guard.audit.anchors);
        let Some(head) = self.guard.signed_head() else { return };
        let now = Now::read();
        for job in self.background.anchors.due(head, now) {
            let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            match job.way(host.trim(), std::process::id()) {
                Way::Write(path) => in_background(beside, move || Done::Anchored(job.write(&path))),
                Way::Deliver(delivery, nonce) => {
                    let missing = || io::Error::new(io::ErrorKind::NotConnected, "there is no observer");
                    let given = self.observer.as_ref().ok_or_else(missing);
                    match given.and_then(|observer| observer.deliver(&delivery)) {
                        Ok(answer) => self.wait_for_delivery(job, nonce, answer, beside),
                        Err(error) => self.background.anchors.done(job.ended(Err(error.to_string())), now),
                    }
                }
            }
        }
    }

    /// Waits, beside the loop, for what became of a delivery. Nothing that the observer says is believed without a look.
    fn wait_for_delivery(&self, job: Job, nonce: u64, answer: OwnedFd, beside: &mpsc::Sender<Done>) {
        let (beside, state_dir) = (beside.clone(), self.config.guard.state_dir.clone());
        tokio::spawn(async move {
            let heard = async {
                let channel = Channel::new(answer)?;
                let heard = timeout(PATIENCE, channel.receive_alone::<Delivered>()).await;
                channel.close();
                io::Result::Ok(heard)
            };
            let delivered = match heard.await.unwrap_or_else(|error| Ok(Err(error))) {
                Ok(Ok(Some(Delivered(delivered)))) => delivered,
                Ok(Ok(None)) => Err("the observer died meanwhile".to_owned()),
                Ok(Err(error)) => Err(format!("the observer says what is no answer: {error}")),
                Err(_elapsed) => Err("the observer does not answer".to_owned()),
            };
            match delivered {
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
}
