//! Fetches what the guard asks for: lists by URL, decisions of CrowdSec. The guard connects to nobody.
//!
//! *Invariant:* only servers of the configuration are asked; no URL, which may hold a key, is in what is said of a failure.

use std::{
    cell::RefCell,
    fs::File,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    rc::Rc,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{
    crowdsec::{self, Session},
    retry_after::retry_after,
};
use crate::{
    message::{
        channel::{Channel, sealed::unseal},
        observer::fetch::{
            Fetch, FetchAnswer, Fetched, LONGEST_CHECKSUM, LONGEST_SIGNATURE, LONGEST_TEXT, MAX_LIFTED, ToldBan,
        },
    },
    outbound::{
        Server,
        client::{OutboundClient, OutboundRequest},
    },
    settings::{crowdsec::LocalApi, feed::FeedSource, outbound::Dial},
    web::url::Url,
};

/// How much is fetched at once.
const AT_ONCE: usize = 8;

/// What is fetched, and by what.
pub(super) struct Fetcher {
    client: OutboundClient,
    feeds: RefCell<Vec<FeedSource>>,
    crowdsec: RefCell<Option<LocalApi>>,
    session: Session,
}

impl Default for Fetcher {
    fn default() -> Self {
        Self {
            client: OutboundClient::new(AT_ONCE),
            feeds: RefCell::default(),
            crowdsec: RefCell::default(),
            session: Session::default(),
        }
    }
}

impl Fetcher {
    /// Goes on with these lists, and this CrowdSec.
    pub(super) fn configure(&self, feeds: &[FeedSource], crowdsec: Option<&LocalApi>) {
        self.feeds.replace(feeds.to_vec());
        if self.crowdsec.replace(crowdsec.cloned()).as_ref() != crowdsec {
            self.session.forget();
        }
    }

    /// Fetches what is asked for in `sealed` into `memory`, and answers on `answer`.
    pub(super) async fn fetch(self: Rc<Self>, sealed: OwnedFd, answer: OwnedFd, memory: OwnedFd) {
        let fetched = match unseal::<Fetch>(sealed) {
            Ok(Fetch::Feed { name, etag, last_modified }) => self.feed(&name, &etag, &last_modified, memory).await,
            Ok(Fetch::Decisions { startup }) => self.decisions(startup, memory).await,
            Ok(Fetch::Alerts(bans)) => self.tell(&bans).await,
            Ok(Fetch::Lifted(sources)) => self.lift(&sources).await,
            Err(error) => Err(format!("the question cannot be read: {error}")),
        };
        let fetched = fetched.map_err(|why| short(&why));
        let told = async { Channel::new(answer)?.send(&Fetched(fetched), &[]).await };
        if let Err(error) = told.await {
            tracing::debug!(%error, "nobody waits for what was fetched");
        }
    }

    async fn feed(&self, name: &str, etag: &str, last_modified: &str, memory: OwnedFd) -> Result<FetchAnswer, String> {
        let found = self.feeds.borrow().iter().find(|feed| feed.name == name).cloned();
        let source = found.ok_or("the observer does not know this list yet")?;
        let server = server(&source.dial)?;
        let url = Url::parse(&source.url.text).map_err(|what| format!("its URL {what}"))?;
        let token =
            source.token.as_ref().map(|file| format!("Bearer {}", String::from_utf8_lossy(file.bytes.trim_ascii())));
        let mut headers = HeaderMap::new();
        put(&mut headers, header::ACCEPT, "*/*");
        put(&mut headers, header::IF_NONE_MATCH, etag);
        put(&mut headers, header::IF_MODIFIED_SINCE, last_modified);
        put(&mut headers, header::AUTHORIZATION, token.as_deref().unwrap_or_default());
        let most = usize::try_from(source.max_size).unwrap_or(usize::MAX);
        let request = OutboundRequest { method: Method::GET, url: url.clone(), headers, body: Bytes::new(), most };
        let answer = self.client.ask(&server, request).await.map_err(|failure| failure.to_string())?;
        let said = |name: HeaderName| {
            let text = answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            if text.len() > LONGEST_TEXT { String::new() } else { text.to_owned() }
        };
        let mut fetched = FetchAnswer {
            status: answer.status.as_u16(),
            length: 0,
            etag: said(header::ETAG),
            last_modified: said(header::LAST_MODIFIED),
            retry_after: retry_after(&answer.headers) / 1_000,
            checksum: None,
            signature: None,
        };
        if answer.status == StatusCode::OK {
            fetched.length = u64::try_from(answer.body.len()).unwrap_or(u64::MAX);
            write(memory, answer.body).await?;
            fetched.checksum = match &source.checksum {
                Some(url) => {
                    let url = Url::parse(url).map_err(|what| format!("sha256_url {what}"))?;
                    Some(self.beside(&server, url, "sha256_url", None, LONGEST_CHECKSUM).await?)
                }
                None => None,
            };
            fetched.signature = match &source.signed {
                Some(signed) => {
                    let elsewhere = signed.url.as_deref().map(Url::parse).transpose();
                    let elsewhere = elsewhere.map_err(|what| format!("signature_url {what}"))?;
                    // Only the server of the list knows the token.
                    let token = token.as_deref().filter(|_| elsewhere.is_none());
                    let url = elsewhere.unwrap_or_else(|| url.with_path(&signature_path(url.path())));
                    Some(self.beside(&server, url, "the signature", token, LONGEST_SIGNATURE).await?)
                }
                None => None,
            };
        }
        Ok(fetched)
    }

    /// Decisions of CrowdSec.
    async fn decisions(&self, startup: bool, memory: OwnedFd) -> Result<FetchAnswer, String> {
        let api = self.api()?;
        let answer = crowdsec::decisions(&self.client, &server(&api.dial)?, &api, startup).await?;
        let fetched = FetchAnswer {
            status: answer.status.as_u16(),
            length: u64::try_from(answer.body.len()).unwrap_or(u64::MAX),
            ..FetchAnswer::default()
        };
        write(memory, answer.body).await?;
        Ok(fetched)
    }

    /// Tells CrowdSec of bans. What it says to that is of no interest.
    async fn tell(&self, bans: &[ToldBan]) -> Result<FetchAnswer, String> {
        let api = self.api()?;
        let answer = self.session.tell(&self.client, &server(&api.dial)?, &api, bans).await?;
        Ok(FetchAnswer { status: answer.status.as_u16(), ..FetchAnswer::default() })
    }

    /// Tells CrowdSec of bans that were lifted. The first that it does not take ends it: all are told again.
    async fn lift(&self, sources: &[Option<String>]) -> Result<FetchAnswer, String> {
        let api = self.api()?;
        let server = server(&api.dial)?;
        let mut status = StatusCode::OK;
        for source in sources.iter().take(MAX_LIFTED) {
            let answer = self.session.lift(&self.client, &server, &api, source.as_deref()).await?;
            status = answer.status;
            if !status.is_success() {
                break;
            }
        }
        Ok(FetchAnswer { status: status.as_u16(), ..FetchAnswer::default() })
    }

    fn api(&self) -> Result<LocalApi, String> {
        self.crowdsec.borrow().clone().ok_or_else(|| "the observer does not know CrowdSec yet".to_owned())
    }

    /// What proves a list: its checksum or its signature, which `what` calls it. Without `token` the server may be
    /// another one than that of the list.
    async fn beside(
        &self,
        server: &Server,
        url: Url,
        what: &str,
        token: Option<&str>,
        most: usize,
    ) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        put(&mut headers, header::ACCEPT, "*/*");
        put(&mut headers, header::AUTHORIZATION, token.unwrap_or_default());
        let request = OutboundRequest { method: Method::GET, url, headers, body: Bytes::new(), most };
        let answer = self.client.ask(server, request).await.map_err(|failure| format!("{what}: {failure}"))?;
        if answer.status != StatusCode::OK {
            return Err(format!("{what}: the server answers {}", answer.status));
        }
        String::from_utf8(answer.body.to_vec()).map_err(|_binary| format!("{what}: what the server answers is no text"))
    }
}

/// Where the signature of a list is: `.minisig` behind its path, before what the list is asked by besides.
fn signature_path(path: &str) -> String {
    match path.split_once('?') {
        Some((path, query)) => format!("{path}.minisig?{query}"),
        None => format!("{path}.minisig"),
    }
}

fn server(dial: &Dial) -> Result<Server, String> {
    Server::new(&dial.server()).map_err(|faults| {
        faults.first().map_or_else(|| "its settings cannot be used".to_owned(), |fault| fault.message.clone())
    })
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Some(mut value) = HeaderValue::try_from(value).ok().filter(|value| !value.is_empty()) {
        value.set_sensitive(name == header::AUTHORIZATION);
        headers.insert(name, value);
    }
}

async fn write(memory: OwnedFd, body: Bytes) -> Result<(), String> {
    let written = tokio::task::spawn_blocking(move || File::from(memory).write_all_at(&body, 0)).await;
    let failed = |error: &dyn std::fmt::Display| format!("what was fetched cannot be handed on: {error}");
    written.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

/// What is said of a failure, on one line that is not too long.
pub(super) fn short(why: &str) -> String {
    why.chars().filter(|letter| !letter.is_control()).take(LONGEST_TEXT / 4).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_beside_their_lists() {
        for (path, expect) in
            [("/drop.txt", "/drop.txt.minisig"), ("/drop?key=a.b/c", "/drop.minisig?key=a.b/c"), ("/", "/.minisig")]
        {
            assert_eq!(signature_path(path), expect);
        }
    }
}
