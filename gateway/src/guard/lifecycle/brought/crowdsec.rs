//! Puts decisions of CrowdSec in force, and tells it of bans: the observer asks and tells, and what it brings is read here,
//! beside the loop.

use std::{io, os::fd::OwnedFd, path::PathBuf};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use tokio::sync::mpsc;

use super::fetching::{NoAnswer, heard};
use crate::{
    guard::{
        bans,
        control::ImportEntry,
        feeds::list::{FeedNews, FileContent},
        lifecycle::{
            brought::{CrowdsecDone, CrowdsecOutcome, Trouble},
            service::{Done, Service, in_background},
        },
    },
    lists::{DecisionStream, stream},
    message::observer::fetch::{Fetch, FetchAnswer, copy},
    os::clock::{Now, SECOND},
    settings::{
        crowdsec::{self, LIST},
        feed::{Feed, FeedPlace, FeedPurpose},
    },
};

impl Service<'_> {
    /// Once a second.
    pub(in crate::guard::lifecycle) fn tick_crowdsec(&mut self, beside: &mpsc::Sender<Done>) {
        let now = Now::read();
        self.crowdsec.configure(self.config.guard.crowdsec.as_ref());
        let Some(settings) = self.config.guard.crowdsec.clone() else { return };
        let epoch = self.crowdsec.epoch;
        self.crowdsec.hear(&self.guard.watchers(), now);
        if let Some(startup) = self.crowdsec.pull(now) {
            let name = settings.api.machine.as_ref().map(|machine| machine.name.clone());
            match self.ask_crowdsec(&Fetch::Decisions { startup }, settings.api.max_size) {
                Ok((answer, memory)) => {
                    let timeout = settings.api.dial.timeout;
                    let beside = beside.clone();
                    tokio::spawn(async move {
                        let answer = heard(answer, timeout).await;
                        in_background(&beside, move || {
                            let read = answered(answer).and_then(|answer| read(&answer, memory, name.as_deref()));
                            let outcome = CrowdsecOutcome::Pulled(read, startup, bans::operators());
                            Done::Crowdsec(Box::new(CrowdsecDone(epoch, outcome)))
                        });
                    });
                }
                Err(_away) => self.crowdsec.pull_interrupted(now),
            }
        }
        if let Some(told) = self.crowdsec.push(now) {
            match self.ask_crowdsec(&told, 0) {
                Ok((answer, _memory)) => {
                    // Another session may have to be begun first.
                    let questions = if let Fetch::Lifted(sources) = &told { sources.len() } else { 1 };
                    let questions = u32::try_from(questions).unwrap_or(u32::MAX).saturating_add(2);
                    let (timeout, beside) = (settings.api.dial.timeout * questions, beside.clone());
                    tokio::spawn(async move {
                        let outcome = CrowdsecOutcome::Pushed(answered(heard(answer, timeout).await).and_then(taken));
                        let done = CrowdsecDone(epoch, outcome);
                        if beside.send(Done::Crowdsec(Box::new(done))).await.is_err() {
                            tracing::debug!("the guard stopped before CrowdSec was told of bans");
                        }
                    });
                }
                Err(_away) => self.crowdsec.push_interrupted(now),
            }
        }
        self.list_decisions(&settings, now);
    }

    fn ask_crowdsec(&self, fetch: &Fetch, most: u64) -> io::Result<(OwnedFd, OwnedFd)> {
        let missing = || io::Error::new(io::ErrorKind::NotConnected, "there is no observer");
        self.observer.as_ref().ok_or_else(missing)?.fetch(fetch, most)
    }

    /// CrowdSec was asked or told.
    pub(in crate::guard::lifecycle) fn crowdsec_done(&mut self, CrowdsecDone(epoch, outcome): CrowdsecDone) {
        let now = Now::read();
        if epoch != self.crowdsec.epoch {
            return;
        }
        match outcome {
            CrowdsecOutcome::Pulled(Ok(stream), is_all, operators) => {
                self.guard.operators_are(operators);
                self.crowdsec.pulled(stream, is_all, now);
            }
            CrowdsecOutcome::Pulled(Err(Trouble::Failed(why) | Trouble::Refused(why)), ..) => {
                self.crowdsec.not_pulled(&why, now);
            }
            CrowdsecOutcome::Pulled(Err(Trouble::Interrupted), ..) => self.crowdsec.pull_interrupted(now),
            CrowdsecOutcome::Pushed(Ok(())) => self.crowdsec.pushed(now),
            CrowdsecOutcome::Pushed(Err(Trouble::Failed(why))) => self.crowdsec.not_pushed(&why, now),
            CrowdsecOutcome::Pushed(Err(Trouble::Refused(why))) => self.crowdsec.push_refused(&why, now),
            CrowdsecOutcome::Pushed(Err(Trouble::Interrupted)) => self.crowdsec.push_interrupted(now),
        }
    }

    /// Puts in force what CrowdSec has decided, if that has changed. It is a list like others: the same safety rules hold.
    fn list_decisions(&mut self, settings: &crowdsec::Settings, now: Now) {
        if self.guard.has_lists() || !self.crowdsec.take_change() {
            return;
        }
        let place = FeedPlace::File(PathBuf::new());
        let feed = Feed { shadow: settings.shadow, ..Feed::new(LIST.to_owned(), place, FeedPurpose::Ban) };
        // Whole seconds: what stays has the same end as before, and is not entered anew.
        let now = Now { monotonic: now.monotonic / SECOND * SECOND, ..now };
        let entries = self.crowdsec.decisions().entries(now.monotonic);
        let digest = digest_of(&entries);
        let content = FileContent { digest, entries, errors: Vec::new(), failed: 0, is_blank: false };
        self.guard.feed_file(feed, FeedNews::Changed(content), now);
    }
}

/// Of the sources, in order.
fn digest_of(entries: &[ImportEntry]) -> String {
    let mut sources: Vec<_> = entries.iter().map(|entry| entry.1).collect();
    sources.sort_unstable();
    let mut hash = digest::Context::new(&digest::SHA256);
    sources.iter().for_each(|source| hash.update(format!("{source}\n").as_bytes()));
    HEXLOWER.encode(hash.finish().as_ref())
}

fn answered(answer: Result<FetchAnswer, NoAnswer>) -> Result<FetchAnswer, Trouble> {
    answer.map_err(|none| match none {
        NoAnswer::Failed(why) => Trouble::Failed(why),
        NoAnswer::Interrupted(_) => Trouble::Interrupted,
    })
}

fn read(answer: &FetchAnswer, memory: OwnedFd, own: Option<&str>) -> Result<DecisionStream, Trouble> {
    if answer.status != 200 {
        return Err(Trouble::Failed(status(answer.status)));
    }
    let bytes = copy(memory, answer.length).map_err(|_error| Trouble::Interrupted)?;
    stream(&bytes, own).map_err(|wrong| Trouble::Failed(format!("what it answers {wrong}")))
}

fn taken(answer: FetchAnswer) -> Result<(), Trouble> {
    match answer.status {
        200..300 => Ok(()),
        400 | 413 | 422 => Err(Trouble::Refused(status(answer.status))),
        other => Err(Trouble::Failed(status(other))),
    }
}

fn status(status: u16) -> String {
    match status {
        401 | 403 => format!("it answers {status}: it does not know this key, or this machine"),
        _ => format!("it answers {status}"),
    }
}
