//! `[[feed]]`: lists of sources, in files or fetched by URL: to ban, or to spare.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::outbound::{Dial, SecretUrl};
use crate::os::file::{NamedFile, whole};

/// A list that has fewer entries may lose any number of them.
pub const SMALL: usize = 20;

/// `[[feed]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// `name`.
    pub name: String,
    /// Where it is.
    pub place: FeedPlace,
    /// `format`; `None`: as it looks.
    pub format: Option<ListFormat>,
    /// `ban`: how long an entry lasts from when it was loaded; `None`: for as long as it is listed.
    pub ban: Option<Duration>,
    /// `shadow`: count only.
    pub shadow: bool,
    /// `use`: what its entries are for.
    pub purpose: FeedPurpose,
    /// `services`: of a JSON list, only what belongs to these; empty: everything.
    pub services: Vec<String>,
    /// `stale_after` of a file: one that was not written for so long is old; `None`: it may be as old as it is.
    pub file_stale_after: Option<Duration>,
}

/// What the entries of a list are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FeedPurpose {
    /// They are banned.
    #[default]
    Ban,
    /// They are the ranges of a crawler, which `[crawler.NAME]` refers to. Nobody is banned by them.
    Crawlers,
    /// They are never banned: a CDN, health checks. Limits hold for them as for everybody.
    NeverBan,
}

impl FeedPurpose {
    /// Their names in the configuration.
    pub const NAMES: [(&str, Self); 3] =
        [("ban", Self::Ban), ("crawlers", Self::Crawlers), ("never_ban", Self::NeverBan)];

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, purpose)| *purpose == self).map_or("ban", |(name, _)| name)
    }
}

impl Feed {
    /// A list of which nothing else is said.
    #[must_use]
    pub const fn new(name: String, place: FeedPlace, purpose: FeedPurpose) -> Self {
        let services = Vec::new();
        Self { name, place, format: None, ban: None, shadow: false, purpose, services, file_stale_after: None }
    }

    /// The file that is followed; `None`: it is fetched.
    #[must_use]
    pub const fn path(&self) -> Option<&PathBuf> {
        match &self.place {
            FeedPlace::File(path) => Some(path),
            FeedPlace::Url(_) => None,
        }
    }

    /// How it is fetched; `None`: it is a file.
    #[must_use]
    pub fn fetched(&self) -> Option<&FetchedFeed> {
        match &self.place {
            FeedPlace::File(_) => None,
            FeedPlace::Url(fetched) => Some(fetched),
        }
    }
}

/// Where a list is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedPlace {
    /// `path`: the file that is followed.
    File(PathBuf),
    /// `url`, `url_file`: it is fetched again and again.
    Url(Box<FetchedFeed>),
}

/// A list that is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedFeed {
    /// Where it is fetched.
    pub source: FeedSource,
    /// `every`.
    pub every: Duration,
    /// `stale_after`: a list that was not confirmed for so long is old.
    pub stale_after: Duration,
    /// `max_shrink`: what share of its entries a list may lose at once, in millionths.
    pub max_shrink: u32,
}

/// Where a list is fetched: what the observer needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedSource {
    /// The feed's name.
    pub name: String,
    /// `url`, `url_file`.
    pub url: SecretUrl,
    /// `token_file`: the bearer token.
    #[serde(with = "whole::optional")]
    pub token: Option<NamedFile>,
    /// `sha256_url`: where the checksum of the list is.
    pub checksum: Option<String>,
    /// `minisign`, `signature_url`: how the list is signed; `None`: no signature is asked for.
    pub signed: Option<FeedSignature>,
    /// `max_size`: the longest list, in bytes.
    pub max_size: u64,
    /// How the server is connected to.
    pub dial: Dial,
}

impl FeedSource {
    /// The files that hold secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &NamedFile> {
        self.token.iter().chain(&self.url.file).chain(&self.dial.private_key)
    }

    /// Which source it is, by what the configuration says: a list of another source may be another list. What was not
    /// signed by the same key is another list.
    #[must_use]
    pub fn identity(&self) -> String {
        let url = self
            .url
            .file
            .as_ref()
            .map_or_else(|| self.url.text.clone(), |file| format!("file:{}", file.path.display()));
        self.signed.as_ref().map_or(url.clone(), |signed| format!("{url} minisign:{}", signed.key))
    }
}

/// How a list is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedSignature {
    /// `minisign`: the public key, as the second line of `minisign.pub` has it.
    pub key: String,
    /// `signature_url`; `None`: `.minisig` is added to the path of the list.
    pub url: Option<String>,
}

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ListFormat {
    /// An address, prefix or range a line; `#` and `;` start comments.
    Plain,
    /// `ipset save` of one set, and FireHOL's .netset and .ipset.
    Ipset,
    /// Spamhaus DROP and EDROP: text, or a JSON object a line.
    Spamhaus,
    /// CSV whose heading names the column of addresses: `cscli decisions list -o raw`, abuse.ch, AbuseIPDB; also what
    /// `block export --format csv` writes.
    CrowdsecCsv,
    /// `cscli decisions list -o json`; also what `block export --format json` writes.
    CrowdsecJson,
    /// Other JSON of addresses: ranges of clouds, AbuseIPDB, abuse.ch.
    Json,
}

impl ListFormat {
    /// As it is written in the configuration and on the command line.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("plain", Self::Plain),
        ("ipset", Self::Ipset),
        ("spamhaus", Self::Spamhaus),
        ("crowdsec-csv", Self::CrowdsecCsv),
        ("crowdsec-json", Self::CrowdsecJson),
        ("json", Self::Json),
    ];

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, format)| *format == self).map_or("plain", |(name, _)| name)
    }
}
