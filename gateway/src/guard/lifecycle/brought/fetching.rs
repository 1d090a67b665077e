//! Fetches lists by URL: the observer asks their servers, and what it brings is read and judged here, beside the loop.

use std::{collections::HashMap, io, os::fd::OwnedFd, time::Duration};

use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    guard::{
        audit,
        bans::{self, Actor, Guard},
        control::ControlAnswer,
        feeds::{
            fetched::{FetchOutcome, judge, weigh},
            fetches::FetchOrder,
            list::{FeedNews, FileContent},
        },
        lifecycle::{
            brought::ListFetched,
            service::{Done, Service, in_background, reply},
        },
    },
    message::{
        channel::Channel,
        observer::fetch::{FetchAnswer, Fetched, copy},
    },
    os::clock::Now,
};

/// The longest time to wait for the observer beyond the `timeout` of the server, for the list, its checksum and
/// its signature.
const BEYOND: Duration = Duration::from_secs(10);

impl Service<'_> {
    /// Once a second: fetches the lists that are due.
    pub(in crate::guard::lifecycle) fn fetch_lists(&mut self, beside: &mpsc::Sender<Done>) {
        let feeds = &self.config.guard.feeds;
        let now = Now::read();
        if feeds.iter().all(|feed| feed.fetched().is_none()) {
            self.watched.fetches.configure(&[], &HashMap::new(), now);
            return self.watched.fetches.write();
        }
        let in_force = self.guard.feed_digests();
        self.watched.fetches.configure(feeds, &in_force, now);
        self.watched.fetches.write();
        // What is on its way into force is judged first.
        if self.guard.has_lists() {
            return;
        }
        for order in self.watched.fetches.due(feeds, &in_force, now) {
            let missing = || io::Error::new(io::ErrorKind::NotConnected, "there is no observer");
            let given = self.observer.as_ref().ok_or_else(missing);
            match given.and_then(|observer| observer.fetch(&order.question, order.most)) {
                Ok((answer, memory)) => drop(tokio::spawn(wait(order, answer, memory, beside.clone()))),
                Err(error) => {
                    let why = format!("the observer cannot be asked: {error}");
                    self.watched.fetches.interrupted(&order.feed.name, &why, now);
                }
            }
        }
    }

    /// An operator wants a list now.
    pub(in crate::guard::lifecycle) fn refresh_feed(
        &mut self,
        name: &str,
        accept: bool,
        actor: &Actor,
        to: oneshot::Sender<ControlAnswer>,
    ) {
        let now = Now::read();
        match self.watched.fetches.refresh(name, accept, to, now) {
            Ok(()) => {
                let members = json!({"actor": actor.to_string(), "feed": name, "accept": accept});
                self.guard.tell("feed_refresh", now, audit::members(members));
            }
            Err(to) => {
                let message = format!("no feed {name} is fetched: `gateway feed list` shows those that are");
                reply(Some(to), ControlAnswer::Refused { code: "not_found".to_owned(), message });
            }
        }
    }

    /// A list was fetched, or not.
    pub(in crate::guard::lifecycle) fn list_fetched(
        &mut self,
        ListFetched { feed, in_force, outcome, operators }: ListFetched,
    ) {
        let (now, fetches) = (Now::read(), &mut self.watched.fetches);
        // The configuration may have changed meanwhile.
        if !self.config.guard.feeds.contains(&feed) {
            return fetches.interrupted(&feed.name, "the configuration has changed", now);
        }
        let name = feed.name.clone();
        match outcome {
            FetchOutcome::Interrupted(why) => fetches.interrupted(&name, &why, now),
            FetchOutcome::Failed(why, alone) => fetches.failed(&name, &why, alone, now),
            FetchOutcome::Refused(digest, why) => self.refuse_list(&name, digest, &why, now),
            FetchOutcome::Same(validators) => {
                let digest = in_force.unwrap_or_default();
                if fetches.unchanged(&name, digest, validators, now) {
                    self.guard.feed_file(feed, FeedNews::Same, now);
                }
            }
            FetchOutcome::Changed(content, validators) => {
                let before = self.guard.listed(&name, now);
                let weighed = match fetches.may_shrink(&name) {
                    Some(most) => weigh(&content, before, most),
                    // An operator may empty it, though not by what is no list.
                    None if content.entries.is_empty() && content.failed > 0 => weigh(&content, before, 1_000_000),
                    None => Ok(()),
                };
                if let Err(why) = weighed {
                    return self.refuse_list(&name, content.digest, &why, now);
                }
                if let Some(why) = Guard::refuses_ranges(feed.purpose, &content) {
                    return self.refuse_list(&name, content.digest, &why, now);
                }
                fetches.changed(&name, validators, content.digest.clone(), content.entries.len(), now);
                self.guard.operators_are(operators);
                // An operator may empty it.
                let content = FileContent { is_blank: false, ..content };
                self.guard.feed_file(feed, FeedNews::Changed(content), now);
            }
        }
    }

    fn refuse_list(&mut self, name: &str, digest: String, why: &str, now: Now) {
        if self.watched.fetches.refused(name, digest, why, now) {
            self.guard.refuse_list(name, why, now);
        }
    }
}

/// Waits for what the observer brings, and reads it. Nothing that it says is believed without a look.
async fn wait(order: FetchOrder, answer: OwnedFd, memory: OwnedFd, beside: mpsc::Sender<Done>) {
    let time_limit = order.feed.fetched().map_or(Duration::ZERO, |fetched| fetched.source.dial.timeout * 3);
    let fetched = heard(answer, time_limit).await;
    in_background(&beside, move || {
        let outcome = match fetched {
            Ok(answer) => read(&order, &answer, memory),
            Err(NoAnswer::Failed(why)) => FetchOutcome::Failed(why, 0),
            Err(NoAnswer::Interrupted(why)) => FetchOutcome::Interrupted(why),
        };
        let FetchOrder { feed, in_force, .. } = order;
        Done::Fetched(Box::new(ListFetched { feed, in_force, outcome, operators: bans::operators() }))
    });
}

/// Why there is no answer.
pub(in crate::guard::lifecycle) enum NoAnswer {
    /// The server is away, or not what it should be.
    Failed(String),
    /// The observer is away.
    Interrupted(String),
}

/// What the observer says, which may wait for servers for `time_limit`.
pub(in crate::guard::lifecycle) async fn heard(answer: OwnedFd, time_limit: Duration) -> Result<FetchAnswer, NoAnswer> {
    let heard = async {
        let channel = Channel::new(answer)?;
        let heard = timeout(time_limit + BEYOND, channel.receive_alone::<Fetched>()).await;
        channel.close();
        io::Result::Ok(heard)
    };
    match heard.await.unwrap_or_else(|error| Ok(Err(error))) {
        Ok(Ok(Some(Fetched(answer)))) => answer.map_err(NoAnswer::Failed),
        Ok(Ok(None)) => Err(NoAnswer::Interrupted("the observer died meanwhile".to_owned())),
        Ok(Err(error)) => Err(NoAnswer::Interrupted(format!("the observer says what is no answer: {error}"))),
        Err(_elapsed) => Err(NoAnswer::Interrupted("the observer does not answer".to_owned())),
    }
}

fn read(order: &FetchOrder, answer: &FetchAnswer, memory: OwnedFd) -> FetchOutcome {
    match copy(memory, answer.length) {
        Ok(bytes) => judge(&order.feed, answer, &bytes, order.in_force.as_ref(), &order.asked),
        Err(error) => FetchOutcome::Interrupted(format!("what the observer brought cannot be read: {error}")),
    }
}
