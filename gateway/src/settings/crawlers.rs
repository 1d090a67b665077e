//! `[crawler.NAME]` and `[crawlers]`: well-known crawlers, and how they are told from who only says that it is one.

use std::net::SocketAddr;

/// The most crawlers.
pub const MAX_CRAWLERS: usize = 64;

/// The most networks that one list may name for a crawler: they travel in one message.
pub const MAX_NETWORKS: usize = 3_000;

/// `[crawlers]` and `[crawler.NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `crawlers.resolvers`; empty: those of this system.
    pub resolvers: Vec<SocketAddr>,
    /// `[crawler.NAME]`, in the order of their names.
    pub crawlers: Vec<Crawler>,
}

/// One crawler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crawler {
    /// Its name.
    pub name: String,
    /// `agents`: a `User-Agent` that contains one of these says that it is this crawler.
    pub agents: Vec<String>,
    /// `hosts`: the names of its addresses end with one of these; in lower case, each begins with a dot.
    pub hosts: Vec<String>,
    /// `feeds`: the lists that name its networks.
    pub feeds: Vec<String>,
}
