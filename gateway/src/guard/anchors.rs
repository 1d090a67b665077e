//! Gives checkpoints of the audit chain to those who keep them elsewhere, and tells how each of them is.
//!
//! *Invariant:* no decision waits for an anchor, and none that fails keeps anything from being decided: `status` warns.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    anchor::{
        SignedHead,
        schedule::{AnchorState, Schedule},
        timestamp,
    },
    message::observer::delivery::{Delivery, Parcel},
    os::clock::{Now, rfc3339},
    settings::audit::{Anchor, AnchorTarget},
};

/// Where time stamps are kept, in the state folder.
const TIMESTAMPS: &str = "timestamps";

/// All anchors of the configuration.
#[derive(Default)]
pub(crate) struct Anchors(Vec<(Anchor, Schedule)>);

impl Anchors {
    /// Puts those of a configuration in force. What is known of one that stays as it was is kept.
    pub(crate) fn configure(&mut self, anchors: &[Anchor]) {
        let mut old = std::mem::take(&mut self.0);
        self.0 = anchors
            .iter()
            .map(|anchor| match old.iter().position(|(known, _)| known == anchor) {
                Some(at) => old.swap_remove(at),
                None => (anchor.clone(), Schedule::new(&anchor.name, anchor.target.kind(), anchor.every)),
            })
            .collect();
    }

    /// What is to be sent now.
    pub(crate) fn due(&mut self, head: &SignedHead, now: Now) -> Vec<CheckpointJob> {
        let due = self.0.iter_mut().filter_map(|(anchor, schedule)| {
            let job = || CheckpointJob { anchor: anchor.clone(), head: head.clone() };
            schedule.begin(head, now.monotonic).then(job)
        });
        due.collect()
    }

    /// What is to be sent at the end. An authority of time stamps is not asked more often for that.
    pub(crate) fn last(&mut self, head: &SignedHead, now: Now) -> Vec<CheckpointJob> {
        let due = self.0.iter_mut().filter_map(|(anchor, schedule)| {
            let is_due = match anchor.target {
                AnchorTarget::Timestamp(_) => schedule.begin(head, now.monotonic),
                AnchorTarget::File(_) | AnchorTarget::Syslog(_) | AnchorTarget::Webhook(_) => schedule.begin_last(head),
            };
            is_due.then(|| CheckpointJob { anchor: anchor.clone(), head: head.clone() })
        });
        due.collect()
    }

    /// What became of it.
    pub(crate) fn done(&mut self, AnchorResult { name, seq, result }: AnchorResult, now: Now) {
        let Some((_, schedule)) = self.0.iter_mut().find(|(anchor, _)| anchor.name == name) else { return };
        match result {
            Ok(()) => schedule.sent(seq, rfc3339(now.unix_millis), now.monotonic),
            Err(failure) => {
                let (AnchorFailure::Anchor(reason) | AnchorFailure::Observer(reason)) = &failure;
                if schedule.state().failing.is_none() {
                    tracing::error!(anchor = name, error = reason, "a checkpoint of the audit chain could not be sent");
                }
                match &failure {
                    AnchorFailure::Anchor(reason) => schedule.failed(reason, now.monotonic),
                    AnchorFailure::Observer(reason) => schedule.interrupted(reason, now.monotonic),
                }
            }
        }
    }

    /// How each is.
    pub(crate) fn states(&self) -> Vec<AnchorState> {
        self.0.iter().map(|(_, schedule)| schedule.state().clone()).collect()
    }

    /// What an operator should know.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(|(_, schedule)| {
            let AnchorState { name, failing, failures, sent, .. } = schedule.state();
            let since = if sent.is_empty() {
                "nothing was sent since the start".to_owned()
            } else {
                format!("last sent at {sent}")
            };
            let failing = failing.as_ref()?;
            Some(format!("the audit anchor {name} cannot be reached ({failures} tries, {since}): {failing}"))
        })
    }
}

/// A checkpoint that is to be sent.
pub(crate) struct CheckpointJob {
    anchor: Anchor,
    head: SignedHead,
}

/// What became of it.
pub(crate) struct AnchorResult {
    name: String,
    seq: u64,
    result: Result<(), AnchorFailure>,
}

/// Why a checkpoint was not sent.
pub(crate) enum AnchorFailure {
    /// The anchor cannot be reached, or does not take it.
    Anchor(String),
    /// The observer, which was to deliver it, is dead, busy or wrong.
    Observer(String),
}

/// How a checkpoint gets where it is sent.
pub(crate) enum DeliveryWay {
    /// By this process, which waits for the disk.
    Write(PathBuf),
    /// By the observer; with the nonce that a time stamp has to have.
    Deliver(Delivery, u64),
}

impl CheckpointJob {
    /// How it gets there.
    pub(crate) fn way(&self, host: &str, pid: u32) -> DeliveryWay {
        let head = self.head.to_line();
        let what = match &self.anchor.target {
            AnchorTarget::File(path) => return DeliveryWay::Write(path.clone()),
            AnchorTarget::Syslog(server) => {
                Parcel::Syslog { server: server.clone(), message: self.head.to_syslog(host, pid) }
            }
            AnchorTarget::Timestamp(url) => {
                let nonce = nonce();
                let imprint = timestamp::imprint(self.head.seq, &self.head.hash);
                let body = timestamp::request(&imprint, nonce);
                let content_type = "application/timestamp-query".to_owned();
                return DeliveryWay::Deliver(
                    self.delivery(Parcel::Post { url: url.clone(), content_type, body }),
                    nonce,
                );
            }
            AnchorTarget::Webhook(url) => {
                let (content_type, body) = ("application/json".to_owned(), head.into_bytes());
                Parcel::Post { url: url.clone(), content_type, body }
            }
        };
        DeliveryWay::Deliver(self.delivery(what), 0)
    }

    fn delivery(&self, what: Parcel) -> Delivery {
        Delivery { what, ca: self.anchor.ca.as_ref().map(|ca| ca.bytes.to_vec()) }
    }

    /// Writes it to a file.
    pub(crate) fn write(self, path: &Path) -> AnchorResult {
        let result = append(path, &self.head.to_line()).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    ": the running gateway writes in the folders that it was started with: restart it"
                }
                _ => "",
            };
            format!("{}: {error}{hint}", path.display())
        });
        self.ended(result.map_err(AnchorFailure::Anchor))
    }

    /// It was delivered: a time stamp is looked at, and kept in `state_dir`.
    pub(crate) fn delivered(self, response: &[u8], nonce: u64, state_dir: &Path) -> AnchorResult {
        let result = match &self.anchor.target {
            AnchorTarget::Timestamp(_) => self.keep(response, nonce, state_dir),
            _ => Ok(()),
        };
        self.ended(result.map_err(AnchorFailure::Anchor))
    }

    /// What became of it.
    pub(crate) fn ended(self, result: Result<(), AnchorFailure>) -> AnchorResult {
        AnchorResult { name: self.anchor.name, seq: self.head.seq, result }
    }

    fn keep(&self, response: &[u8], nonce: u64, state_dir: &Path) -> Result<(), String> {
        let stamp = timestamp::Stamp::read(response)?;
        stamp.answers(&timestamp::imprint(self.head.seq, &self.head.hash), nonce)?;
        let folder = state_dir.join(TIMESTAMPS);
        let path = folder.join(format!("{}-{:020}.tsr", self.anchor.name, self.head.seq));
        let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, response));
        kept.map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }
}

fn nonce() -> u64 {
    let mut nonce = [0; 8];
    // Without randomness the nonce is known, and an old response would do, which has its time in it.
    let is_random = aws_lc_rs::rand::fill(&mut nonce).is_ok();
    if is_random { u64::from_be_bytes(nonce) } else { crate::os::clock::monotonic() }
}

/// Appends a line to a file that may be one that only takes appending. It is opened each time: what it lies on may have
/// been mounted anew.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut open = OpenOptions::new();
    // Nothing that lies there instead is waited for.
    let open = open.create(true).append(true).read(true).mode(0o640).custom_flags(libc::O_NONBLOCK);
    let mut file = open.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    // What a full disk has cut off stays a line of its own.
    let start = if last == [b'\n'] { "" } else { "\n" };
    file.write_all(format!("{start}{line}\n").as_bytes())?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_gets_every_head_once_and_a_line_each() {
        let folder = std::env::temp_dir().join(format!("gateway-anchors-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("anchors.jsonl");
        let anchor = |name: &str, path: &Path| Anchor {
            name: name.to_owned(),
            target: AnchorTarget::File(path.to_owned()),
            ca: None,
            every: Duration::from_secs(1),
        };
        let mut anchors = Anchors::default();
        anchors.configure(&[anchor("vault", &path), anchor("gone", &folder.join("missing/x"))]);
        let mut now = Now { monotonic: 0, unix_millis: 0 };
        let head = |seq| {
            let text = || "x".to_owned();
            SignedHead { anchor: 1, chain: text(), seq, hash: text(), time: text(), key: text(), signature: text() }
        };
        let mut tell = |anchors: &mut Anchors, seq: u64| {
            now.monotonic += 10 * crate::os::clock::SECOND;
            for job in anchors.due(&head(seq), now) {
                let DeliveryWay::Write(path) = job.way("host", 1) else { panic!("a file") };
                anchors.done(job.write(&path), now);
            }
        };
        tell(&mut anchors, 5);
        tell(&mut anchors, 5);
        // Cut off in the middle, as on a full disk.
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 9]).unwrap();
        // What is known of an anchor outlasts a reload.
        anchors.configure(&[anchor("vault", &path), anchor("gone", &folder.join("missing/x"))]);
        tell(&mut anchors, 7);
        let heads: Vec<_> = fs::read_to_string(&path).unwrap().lines().map(SignedHead::find).collect();
        assert_eq!(heads.iter().flatten().map(|head| head.seq).collect::<Vec<_>>(), [7]);
        assert_eq!(heads.len(), 2);
        let states = anchors.states();
        assert_eq!((states[0].seq, states[0].failing.is_none()), (7, true));
        let jobs = |anchors: &mut Anchors, seq| anchors.last(&head(seq), Now { monotonic: 0, unix_millis: 0 }).len();
        assert_eq!(jobs(&mut anchors, 7), 1, "one has it already");
        assert_eq!(jobs(&mut anchors, 8), 2, "however soon after the one before");
        let warnings: Vec<_> = anchors.warnings().collect();
        assert!(warnings.len() == 1 && warnings[0].contains("gone cannot be reached"), "{warnings:?}");
        fs::remove_dir_all(folder).unwrap();
    }
}
