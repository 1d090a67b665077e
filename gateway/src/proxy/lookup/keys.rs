//! Keeps the keys of one issuer up to date: fetches them in time, and sooner for tokens by keys that are not there. When,
//! [`Refresh`] says.
//!
//! *Invariant:* what is fetched comes into force as a whole or not at all. Keys that are good stay so, whatever the issuer
//! answers, until `stale_for` is over.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode, header};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, spawn_local},
    time::sleep,
};

use super::{
    client::{FailureKind, OutboundClient, OutboundFailure, OutboundRequest},
    job::Requester,
    metadata::{discover, expect_json},
    news::News,
};
use crate::{
    os::{
        clock::{self, Now},
        program_log::sparse::Sparse,
    },
    outbound::Server,
    policy::auth::{
        LookupAnswer,
        jwt::{
            KeyName, KeySet, KeysAnswer, discovery,
            keys::{JwtKeys, MAX_SET, told},
            refresh::{KeyPresence, Refresh, RefreshDecision, Settled, max_age},
        },
    },
    web::url::Url,
};

/// The metadata of an issuer is read again after so long, or when its keys cannot be fetched.
const METADATA: u64 = 24 * 60 * clock::MINUTE;

/// How often the same trouble with an issuer is logged at most.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The most requests that wait for a fetch that is under way.
const MAX_WAITING: usize = 4_096;

/// A request that waits for keys.
pub(super) struct KeyRequest {
    pub(super) name: KeyName,
    /// Whose request shows a token by this key; `None`: it is not a client that names the key.
    pub(super) asker: Option<Requester>,
    pub(super) answer: oneshot::Sender<LookupAnswer>,
}

/// Where the keys are, as the issuer's metadata says, and when it said so.
#[derive(Clone, Debug)]
struct JwksEndpoint {
    url: Url,
    found: u64,
}

/// What a fetch brought.
struct FetchedKeySet {
    place: Option<JwksEndpoint>,
    /// `None`: they are as they were.
    keys: Option<(JwtKeys, Vec<u8>)>,
    etag: Option<HeaderValue>,
    max_age: Option<Duration>,
}

type Result<T> = std::result::Result<T, OutboundFailure>;

/// Keeps the keys of `set` up to date, as long as it is asked.
pub(super) async fn keep(
    set: Arc<KeySet>,
    client: OutboundClient,
    mut asks: mpsc::Receiver<KeyRequest>,
    news: mpsc::Sender<News>,
) {
    let Some(mut keeper) = Keeper::new(set, client, news) else { return };
    loop {
        let due = keeper.refresh.due().map(|due| Duration::from_nanos(due.saturating_sub(clock::monotonic())));
        tokio::select! {
            fetched = landing(&mut keeper.fetching) => keeper.land(fetched).await,
            ask = asks.recv() => match ask {
                Some(ask) => keeper.ask(ask),
                None => return,
            },
            () = sleep(due.unwrap_or_default()), if due.is_some() => keeper.begin(),
        }
    }
}

/// Waits for the fetch that is under way.
async fn landing(fetching: &mut Option<JoinHandle<Result<FetchedKeySet>>>) -> Result<FetchedKeySet> {
    let Some(fetch) = fetching else { return std::future::pending().await };
    let fetched = fetch.await;
    *fetching = None;
    fetched.unwrap_or_else(|_died| Err(OutboundFailure::new(FailureKind::Content, "the fetch died")))
}

struct Keeper {
    set: Arc<KeySet>,
    server: Arc<Server>,
    client: OutboundClient,
    news: mpsc::Sender<News>,
    refresh: Refresh<Option<Requester>>,
    fetching: Option<JoinHandle<Result<FetchedKeySet>>>,
    place: Option<JwksEndpoint>,
    etag: Option<HeaderValue>,
    /// Those who wait for the fetch that is under way, and since when.
    waiting: Vec<(u64, KeyRequest)>,
    asked: u64,
    /// What was fetched last.
    document: Vec<u8>,
    /// The keys before those of now.
    before: Arc<Option<JwtKeys>>,
    /// Since when fetching fails, and why: milliseconds since the Unix epoch.
    failing: Option<(u64, String)>,
    told: Sparse,
}

impl Keeper {
    fn new(set: Arc<KeySet>, client: OutboundClient, news: mpsc::Sender<News>) -> Option<Self> {
        let fetch = set.fetch()?;
        let server = Server::new(&fetch.server).map_err(|wrong| {
            // The snapshot has tried it before.
            tracing::error!(issuer = set.key(), ?wrong, "its keys cannot be fetched");
        });
        let server = Arc::new(server.ok()?);
        let refresh = Refresh::new(fetch, clock::monotonic());
        Some(Self {
            refresh,
            server,
            client,
            news,
            fetching: None,
            place: None,
            etag: None,
            waiting: Vec::new(),
            asked: 0,
            document: Vec::new(),
            before: Arc::new(None),
            failing: None,
            told: Sparse::default(),
            set,
        })
    }

    fn begin(&mut self) {
        let now = clock::monotonic();
        self.refresh.begin(now);
        let place = self.place.clone().filter(|place| now.saturating_sub(place.found) < METADATA);
        // The metadata may say another place: what this one calls its version means nothing there.
        let etag = self.etag.clone().filter(|_| place.is_some() || !self.set.is_discovered());
        self.fetching = Some(spawn_local(fetch(
            self.client.clone(),
            Arc::clone(&self.server),
            Arc::clone(&self.set),
            place,
            etag,
            now,
        )));
    }

    fn ask(&mut self, ask: KeyRequest) {
        self.asked = self.asked.saturating_add(1);
        let now = clock::monotonic();
        // A fetch may have brought it while this was on its way.
        if self.has(&ask.name) && self.set.is_usable(now) {
            return answer(ask.answer, KeysAnswer::Known);
        }
        match self.refresh.ask(&ask.name, ask.asker, now) {
            RefreshDecision::Absent => answer(ask.answer, KeysAnswer::Absent),
            RefreshDecision::Fetch => {
                self.waiting.push((now, ask));
                self.begin();
            }
            RefreshDecision::Join if self.waiting.len() < MAX_WAITING => self.waiting.push((now, ask)),
            RefreshDecision::Join => answer(ask.answer, KeysAnswer::Later(self.refresh.pause(now))),
            RefreshDecision::Later(pause) => answer(ask.answer, KeysAnswer::Later(pause)),
        }
    }

    fn has(&self, name: &KeyName) -> bool {
        self.set.load().as_ref().as_ref().is_some_and(|keys| keys.has(name))
    }

    /// A fetch has come back.
    async fn land(&mut self, fetched: Result<FetchedKeySet>) {
        let (now, mut random) = (Now::read(), [0; 8]);
        // Without it every gateway asks at the same time, and that is all.
        aws_lc_rs::rand::fill(&mut random).unwrap_or_default();
        let random = u64::from_ne_bytes(random);
        let waiting = std::mem::take(&mut self.waiting);
        let (result, document, settled) = match fetched {
            Ok(fetched) => {
                let (document, settled) = self.succeed(fetched, waiting, random, now);
                ("ok", document, settled)
            }
            Err(failure) => {
                self.fail(&failure, waiting, random, now);
                (failure.kind.name(), None, Settled { unknown: Vec::new(), wronged: Vec::new() })
            }
        };
        let news = News {
            set: Arc::clone(&self.set),
            result,
            failing: self.failing.clone(),
            document,
            asked: std::mem::take(&mut self.asked),
            unknown: settled.unknown.into_iter().flatten().collect(),
            wronged: settled.wronged.into_iter().flatten().collect(),
        };
        // The control thread always comes to it.
        self.news.send(news).await.unwrap_or_default();
    }

    fn succeed(
        &mut self,
        fetched: FetchedKeySet,
        waiting: Vec<(u64, KeyRequest)>,
        random: u64,
        now: Now,
    ) -> (Option<Vec<u8>>, Settled<Option<Requester>>) {
        let document = match fetched.keys {
            Some((keys, document)) => {
                // An issuer may answer the same again and again.
                if self.document != document {
                    self.before = self.set.load();
                    if let Some(skipped) = told(keys.skipped()) {
                        tracing::warn!(issuer = self.set.key(), skipped, "keys that were fetched cannot be used");
                    }
                }
                self.set.replace(keys, now);
                (self.document != document).then(|| {
                    self.document.clone_from(&document);
                    document
                })
            }
            None => {
                self.set.confirm(now);
                None
            }
        };
        if let Some((_, why)) = self.failing.take() {
            tracing::info!(issuer = self.set.key(), before = why, "its keys can be fetched again");
        }
        (self.place, self.etag) = (fetched.place, fetched.etag);
        let (loaded, before, refresh) = (self.set.load(), &self.before, &mut self.refresh);
        let has =
            |keys: &Arc<Option<JwtKeys>>, name: &KeyName| keys.as_ref().as_ref().is_some_and(|keys| keys.has(name));
        let find = |name: &KeyName| match has(&loaded, name) {
            true => KeyPresence::Known,
            false if has(before, name) => KeyPresence::Gone,
            false => KeyPresence::Never,
        };
        let mut settled = refresh.succeed(find, fetched.max_age, random, now.monotonic);
        for (asked, KeyRequest { name, asker, answer: to }) in waiting {
            let found = find(&name);
            if found == KeyPresence::Known {
                answer(to, KeysAnswer::Known);
            } else if refresh.decides(asked) {
                // Whoever does not wait any more was told that nothing can be said.
                if to.send(LookupAnswer::Keys(KeysAnswer::Absent)).is_err() {
                    settled.unknown.push(asker);
                }
                refresh.note_absent(name, found, asker, now.monotonic);
            } else {
                refresh.defer(name, asker, asked);
                answer(to, KeysAnswer::Later(refresh.pause(now.monotonic)));
            }
        }
        (document, settled)
    }

    fn fail(&mut self, failure: &OutboundFailure, waiting: Vec<(u64, KeyRequest)>, random: u64, now: Now) {
        self.refresh.fail(random, now.monotonic);
        (self.place, self.etag) = (None, None);
        let (since, _) = self.failing.take().unwrap_or((now.unix_millis, String::new()));
        self.failing = Some((since, failure.to_string()));
        if let Some(others) = self.told.is_due_every(TOLD_EVERY, now.monotonic) {
            let (issuer, source) = (self.set.key(), self.set.source());
            let usable = self.set.is_usable(now.monotonic);
            tracing::warn!(issuer, source, %failure, others, usable, "keys cannot be fetched; those before stay in use while usable");
        }
        let pause = self.refresh.pause(now.monotonic);
        for (_, ask) in waiting {
            answer(ask.answer, KeysAnswer::Later(pause));
        }
    }
}

/// The request may be over.
fn answer(to: oneshot::Sender<LookupAnswer>, keys: KeysAnswer) {
    drop(to.send(LookupAnswer::Keys(keys)));
}

/// Fetches the keys of `set`: from where it says, or from `place`, or from where the issuer's metadata says.
async fn fetch(
    client: OutboundClient,
    server: Arc<Server>,
    set: Arc<KeySet>,
    place: Option<JwksEndpoint>,
    etag: Option<HeaderValue>,
    now: u64,
) -> Result<FetchedKeySet> {
    let settings = set.fetch().ok_or_else(|| OutboundFailure::new(FailureKind::Content, "its keys are in a file"))?;
    let place = match (set.is_discovered(), place) {
        (false, _) => None,
        (true, Some(place)) => Some(place),
        (true, None) => {
            let url = discover(&client, &server, &settings.url, set.issuer(), discovery::KEYS).await?;
            Some(JwksEndpoint { url, found: now })
        }
    };
    let url = place.as_ref().map_or(&settings.url, |place| &place.url);
    let mut request = OutboundRequest::get(url.clone(), MAX_SET);
    if let Some(etag) = etag {
        request.headers.insert(header::IF_NONE_MATCH, etag);
    }
    let is_conditional = request.headers.contains_key(header::IF_NONE_MATCH);
    let answer = client.ask(&server, request).await?;
    let keys = match answer.status {
        StatusCode::OK => {
            expect_json(&answer.headers)?;
            let keys = JwtKeys::new(&answer.body).map_err(|diagnostics| {
                let wrong: Vec<_> = diagnostics.iter().take(3).map(|one| one.message.as_str()).collect();
                OutboundFailure::new(FailureKind::Content, wrong.join("; "))
            })?;
            Some((keys, answer.body.to_vec()))
        }
        StatusCode::NOT_MODIFIED if is_conditional => None,
        status => {
            return Err(OutboundFailure::new(FailureKind::Status, format!("it answers with the status {status}")));
        }
    };
    let line = |name| answer.headers.get_all(name).iter().filter_map(|value: &HeaderValue| value.to_str().ok());
    let cache_control: Vec<&str> = line(header::CACHE_CONTROL).collect();
    let max_age = max_age(&cache_control, line(header::AGE).next());
    let etag = answer.headers.get(header::ETAG).cloned();
    Ok(FetchedKeySet { place, keys, etag, max_age })
}
