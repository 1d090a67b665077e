//! What the control thread makes of fetched keys: it blames those whose keys are nobody's, and takes blame back.

use super::Control;
use crate::{
    message::{Counted, KeptKeys, KeySetReport, MAX_KEPT, MAX_WHY, ToGuard},
    os::clock,
    policy::{
        auth::jwt::{KeySet, keys::JwtKeys},
        detect::BanRequest,
    },
    proxy::{
        generation::Compiled,
        lookup::{Requester, news::News},
    },
    signal::Signal,
};

impl Control<'_> {
    /// The next news; none ever, if nobody tells any.
    pub(super) async fn news(news: &mut Option<tokio::sync::mpsc::Receiver<News>>) -> News {
        match news.as_mut() {
            Some(news) => match news.recv().await {
                Some(news) => news,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// The keys of this configuration are fetched from now on, and its store is asked, and no others.
    pub(super) async fn keep_keys(&self, compiled: &Compiled) {
        self.serve_cluster(compiled);
        self.shared.lookups.serve(&compiled.snapshot.authenticators).await;
        if compiled.snapshot.crawlers.asks_name_servers() {
            self.shared.lookups.serve_crawlers();
        }
    }

    /// Keys were fetched, or could not be.
    pub(super) fn hear_keys(&mut self, news: &News) {
        let report = report(news);
        let kept = news.document.as_deref().and_then(|document| kept(&news.set, document));
        self.telemetry.add_fetch(news, report.clone(), kept.clone());
        self.guard.say(ToGuard::KeySet(Box::new(report)));
        if let Some(kept) = kept {
            self.guard.say(ToGuard::FetchedKeys(Box::new(kept)));
        }
        for asker in &news.unknown {
            self.blame(asker);
        }
        let detector = &self.snapshot().detector;
        for asker in &news.wronged {
            detector.take_back(&asker.observed());
        }
    }

    /// Tells another guard what the one before was told.
    pub(super) fn tell_keys(&mut self) {
        for (report, kept) in self.telemetry.fetched_keys() {
            self.guard.say(ToGuard::KeySet(Box::new(report.clone())));
            if let Some(kept) = kept {
                self.guard
                    .say(ToGuard::FetchedKeys(Box::new(KeptKeys { confirmed: report.confirmed, ..kept.clone() })));
            }
        }
    }

    /// A request came by a key that is nobody's, and its client was not told so. A load balancer is not to blame for what
    /// it relays.
    fn blame(&mut self, asker: &Requester) {
        let Requester { relay, is_trusted, .. } = *asker;
        if is_trusted {
            return;
        }
        let signals = Signal::ALL.iter().map(|signal| u64::from(*signal == Signal::UnknownKey)).collect();
        let counted = Counted { signals, ..Counted::default() };
        self.telemetry.add(&counted);
        self.delta.add(&counted);
        for ask in self.snapshot().detector.note(&asker.observed(), clock::monotonic()) {
            if let Some(ask) = self.shared.asks.ask(BanRequest { relay, ..ask }) {
                self.guard.say(ToGuard::BanRequest(Box::new(ask)));
            }
        }
    }
}

fn report(news: &News) -> KeySetReport {
    let (set, (failing_since, mut why)) = (&news.set, news.failing.clone().unwrap_or_default());
    why.truncate(why.floor_char_boundary(MAX_WHY));
    KeySetReport {
        issuer: set.key().to_owned(),
        source: set.source().to_owned(),
        keys: u32::try_from(set.load().as_ref().as_ref().map_or(0, JwtKeys::len)).unwrap_or(u32::MAX),
        confirmed: set.confirmed(),
        usable: set.is_usable(clock::monotonic()),
        failing_since,
        why,
    }
}

/// The keys as the guard keeps them for the next proxy.
fn kept(set: &KeySet, document: &[u8]) -> Option<KeptKeys> {
    let document = String::from_utf8(JwtKeys::reduce(document)?).ok()?;
    if document.len() > MAX_KEPT {
        tracing::warn!(issuer = set.key(), bytes = document.len(), "its keys are too large to be kept for a restart");
        return None;
    }
    let (issuer, source) = (set.key().to_owned(), set.source().to_owned());
    Some(KeptKeys { issuer, source, document, confirmed: set.confirmed() })
}
