//! Estimates which sources are over a budget, from samples of dropped packets.
//!
//! *Invariant:* at most [`MOST`] sources are known between two looks; of more, the later ones are not.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

use crate::guard::control::ControlRequest;

const MOST: usize = 1_024;

/// Packets by source and verdict.
pub(super) type PacketCounts = HashMap<(String, String), u64>;

/// What was seen since it was taken last.
#[derive(Clone, Debug, Default)]
pub(super) struct TopSamples(Arc<Mutex<PacketCounts>>);

impl TopSamples {
    /// Gathers on a thread of its own for as long as the gateway tells. Without it there are no samples.
    pub(super) fn gather(&self, socket: PathBuf) {
        let samples = self.clone();
        thread::spawn(move || {
            if let Err(error) = samples.listen(&socket) {
                tracing::debug!(%error, "no samples of packets");
            }
        });
    }

    fn listen(&self, socket: &std::path::Path) -> std::io::Result<()> {
        let mut stream = UnixStream::connect(socket)?;
        let mut line = serde_json::to_vec(&ControlRequest::Watch { decisions: false, packets: true, kernel: None })?;
        line.push(b'\n');
        stream.write_all(&line)?;
        for line in BufReader::new(stream).lines() {
            self.note(&line?);
        }
        Ok(())
    }

    pub(super) fn note(&self, line: &str) {
        let Ok(packet) = serde_json::from_str::<Value>(line) else { return };
        let text = |name: &str| packet.get(name).and_then(Value::as_str);
        let (Some(source), Some(verdict)) = (text("source"), text("verdict")) else { return };
        let Ok(mut seen) = self.0.lock() else { return };
        let key = (source.to_owned(), verdict.to_owned());
        let many = packet.get("one_in").and_then(Value::as_u64).unwrap_or(1);
        if let Some(packets) = seen.get_mut(&key) {
            *packets = packets.saturating_add(many);
        } else if seen.len() < MOST {
            seen.insert(key, many);
        }
    }

    pub(super) fn take(&self) -> PacketCounts {
        self.0.lock().map(|mut seen| std::mem::take(&mut *seen)).unwrap_or_default()
    }
}
