//! Takes what the observer says is not usual, for the guard's loop.
//!
//! *Invariant:* the observer says what deviates, and asks for nothing. It is heard once a second at most: proxies look through
//! all that they count each time.

use std::time::Duration;

use tokio::{sync::mpsc, time::sleep};

use crate::message::{channel::Channel, observer::anomalies::Deviations};

/// It says something once a minute.
const PACE: Duration = Duration::from_secs(1);

/// Hears one observer until it is gone, or says what is no message.
pub(super) async fn hear(channel: Channel, findings: mpsc::Sender<Deviations>) {
    loop {
        match channel.receive_alone::<Deviations>().await {
            Ok(Some(deviations)) => {
                if findings.send(deviations).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => {
                tracing::error!(%error, "what the observer finds cannot be read; no more is taken from it");
                break;
            }
        }
        sleep(PACE).await;
    }
    // It may have sent what nobody reads.
    channel.close();
}
