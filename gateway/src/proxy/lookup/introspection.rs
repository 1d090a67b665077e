//! Asks introspection servers about tokens: one question for all requests that show the same token.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::{
    sync::{Mutex, oneshot},
    task::spawn_local,
    time::timeout,
};

use super::{
    client::{self, FailureKind, OutboundClient, OutboundFailure},
    flights::{Flights, Joined},
    keepers::Keepers,
    metadata::discover,
};
use crate::{
    os::clock::{self, Now},
    outbound::Server,
    policy::auth::{
        LookupAnswer,
        introspection::{
            IntrospectionRequest, MAX_ANSWER, ServerEvent, ServerResponse,
            question::{BUSY, NO_KEY, Question},
        },
        jwt::{KeysAnswer, KeysLookup, discovery},
    },
    settings::introspection::Endpoint,
    web::url::Url,
};

/// The most tokens that are asked about at once, over all servers.
const FLIGHTS: usize = 1_024;

/// The most requests that wait for the answer about one token.
const MAX_WAITING: usize = 4_096;

/// Metadata is read again after so long, or when the server cannot be asked.
const METADATA: u64 = 60 * clock::MINUTE;

/// The most servers that are remembered.
const MAX_PLACES: usize = 256;

type TokenHash = [u8; 32];

/// What the metadata of a server was last found to say, and when. Locked while it is read: whoever comes then waits for it.
type CachedEndpoint = Rc<Mutex<Option<(Result<Url, OutboundFailure>, u64)>>>;

/// What is under way.
pub(super) struct IntrospectionLookups {
    client: OutboundClient,
    /// Who has the keys that signed answers are by.
    keepers: Rc<Keepers>,
    flights: RefCell<Flights<TokenHash, oneshot::Sender<LookupAnswer>>>,
    /// How servers are asked, by their tables.
    servers: RefCell<HashMap<String, Arc<Server>>>,
    /// Where servers are asked, by their tables and issuers.
    places: RefCell<HashMap<(String, Url), CachedEndpoint>>,
}

impl IntrospectionLookups {
    pub(super) fn new(client: OutboundClient, keepers: Rc<Keepers>) -> Rc<Self> {
        let flights = RefCell::new(Flights::new(FLIGHTS, MAX_WAITING));
        Rc::new(Self { client, keepers, flights, servers: RefCell::default(), places: RefCell::default() })
    }

    /// Finds out what the server of a question says, unless that is under way.
    pub(super) fn ask(self: &Rc<Self>, question: Question, answer: oneshot::Sender<LookupAnswer>) {
        let id = question.id();
        // Between a worker's look at what is remembered and here, the answer to another request may have come.
        if let Some(answered) = question.answered(Now::read()) {
            // The request may be over.
            return drop(answer.send(LookupAnswer::Introspection(answered)));
        }
        // Whoever has no room is told so by the dropped channel.
        if self.flights.borrow_mut().join(id, answer) != Joined::First {
            return;
        }
        let this = Rc::clone(self);
        spawn_local(async move {
            let answer = this.find(&question).await;
            for waiting in this.flights.borrow_mut().land(&id) {
                // The request may be over.
                drop(waiting.send(answer.clone()));
            }
        });
    }

    async fn find(&self, question: &Question) -> LookupAnswer {
        let Some(_place) = question.begin() else {
            return LookupAnswer::Introspection(Err(question.unasked(BUSY.into())));
        };
        let received = self.request(question).await;
        let received = match &received {
            // That says nothing of the server.
            Err(failure) if failure.kind == FailureKind::Busy => {
                return LookupAnswer::Introspection(Err(question.unasked(failure.why.clone())));
            }
            Ok(client::OutboundResponse { status, headers, body }) => {
                Ok(ServerResponse { status: *status, headers, body })
            }
            Err(failure) => Err(&*failure.why),
        };
        let missing = received.as_ref().ok().and_then(|received| question.missing_key(received, Now::read()));
        // A key that the issuer does not have is a fault of the server; one that cannot be looked for now is nobody's.
        if let Some(missing) = missing
            && !self.looked_for(missing).await
        {
            return LookupAnswer::Introspection(Err(question.unasked(NO_KEY.into())));
        }
        let (said, event) = question.received(received, Now::read());
        tell(&question.settings().key, event);
        LookupAnswer::Introspection(said)
    }

    async fn request(&self, question: &Question) -> Result<client::OutboundResponse, OutboundFailure> {
        let server = self.server(question)?;
        let url = self.endpoint(question, &server).await?;
        let mut nonce = [0; 16];
        aws_lc_rs::rand::fill(&mut nonce)
            .map_err(|_unspecified| OutboundFailure::new(FailureKind::Busy, "the machine has no randomness"))?;
        let IntrospectionRequest { headers, body } = question.request(u128::from_ne_bytes(nonce), Now::read());
        let asked =
            client::OutboundRequest { method: Method::POST, url, headers, body: Bytes::from(body), most: MAX_ANSWER };
        let answered = self.client.ask(&server, asked).await;
        if may_have_moved(&answered) {
            self.forget_endpoint(question);
        }
        answered
    }

    /// Has keys fetched, as for a token by a key that is not there; whether it is known by now if the issuer has the key.
    async fn looked_for(&self, missing: KeysLookup) -> bool {
        let wait = missing.timeout();
        let (answer, answered) = oneshot::channel();
        self.keepers.ask(missing, None, answer);
        let found = timeout(wait, answered).await;
        matches!(found, Ok(Ok(LookupAnswer::Keys(KeysAnswer::Known | KeysAnswer::Absent))))
    }

    /// How the server is asked: made once for its settings.
    fn server(&self, question: &Question) -> Result<Arc<Server>, OutboundFailure> {
        let settings = question.settings();
        let mut servers = self.servers.borrow_mut();
        if let Some(known) = servers.get(&settings.key).filter(|known| known.settings == settings.outbound) {
            return Ok(Arc::clone(known));
        }
        // The snapshot has tried it before.
        let made = Server::new(&settings.outbound)
            .map_err(|_wrong| OutboundFailure::new(FailureKind::Tls, "its `fetch` cannot be used for TLS"))?;
        if servers.len() >= MAX_PLACES {
            servers.clear();
        }
        let made = Arc::new(made);
        servers.insert(settings.key.clone(), Arc::clone(&made));
        Ok(made)
    }

    /// Where the server is asked, as its settings or its metadata say.
    async fn endpoint(&self, question: &Question, server: &Server) -> Result<Url, OutboundFailure> {
        let settings = question.settings();
        let issuer_url = match &settings.endpoint {
            Endpoint::At(url) => return Ok(url.clone()),
            Endpoint::Discovered(issuer) => issuer,
        };
        let place = (settings.key.clone(), issuer_url.clone());
        let (place, came) = (self.place(place), clock::monotonic());
        let mut known = place.lock().await;
        match &*known {
            Some((Ok(url), found)) if clock::monotonic().saturating_sub(*found) < METADATA => return Ok(url.clone()),
            // It failed for those who waited, too.
            Some((Err(failure), found)) if *found >= came => return Err(failure.clone()),
            _ => {}
        }
        let issuer = settings.issuer.as_deref().unwrap_or_default();
        let read = discover(&self.client, server, issuer_url, issuer, discovery::INTROSPECTION).await;
        *known = Some((read.clone(), clock::monotonic()));
        read
    }

    fn place(&self, id: (String, Url)) -> CachedEndpoint {
        let mut places = self.places.borrow_mut();
        if places.len() >= MAX_PLACES && !places.contains_key(&id) {
            places.clear();
        }
        Rc::clone(places.entry(id).or_default())
    }

    fn forget_endpoint(&self, question: &Question) {
        if let Endpoint::Discovered(issuer) = &question.settings().endpoint {
            self.places.borrow_mut().remove(&(question.settings().key.clone(), issuer.clone()));
        }
    }
}

/// Whether the server may be elsewhere by now. A token cannot make it look so.
fn may_have_moved(answered: &Result<client::OutboundResponse, OutboundFailure>) -> bool {
    match answered {
        Ok(answer) => matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::GONE),
        Err(failure) => match failure.kind {
            FailureKind::Address
            | FailureKind::Connection
            | FailureKind::Redirect
            | FailureKind::Resolve
            | FailureKind::Timeout
            | FailureKind::Tls => true,
            FailureKind::Busy | FailureKind::Content | FailureKind::Status | FailureKind::TooLarge => false,
        },
    }
}

/// Tells the operator.
fn tell(server: &str, event: Option<ServerEvent>) {
    match event {
        Some(ServerEvent::Paused(why)) => {
            tracing::error!(
                server,
                why,
                "tokens cannot be asked about: whoever shows one that is not remembered gets 503"
            );
        }
        Some(ServerEvent::Recovered) => tracing::info!(server, "tokens can be asked about again"),
        None => {}
    }
}
