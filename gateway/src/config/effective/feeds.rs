//! Shows `[[feed]]` in force.

use serde_json::{Value, json};

use super::{Sensitive, alerts::dial, tls::file};
use crate::{
    config::value::{show_duration, show_size},
    settings::feed::{Feed, FeedPlace, FeedPurpose, FetchedFeed, ListFormat},
};

pub(super) fn feed(feed: &Feed, sensitive: Sensitive) -> Value {
    let mut shown = match &feed.place {
        FeedPlace::File(path) => json!({ "path": path }),
        FeedPlace::Url(fetched) => self::fetched(fetched, sensitive),
    };
    if let Some(members) = shown.as_object_mut() {
        members.insert("name".to_owned(), feed.name.clone().into());
        members.insert("format".to_owned(), feed.format.map(ListFormat::name).into());
        members.insert("ban".to_owned(), feed.ban.map(show_duration).into());
        if feed.purpose == FeedPurpose::Ban {
            members.insert("shadow".to_owned(), feed.shadow.into());
        }
        members.insert("use".to_owned(), feed.purpose.name().into());
        members.insert("services".to_owned(), feed.services.clone().into());
        if feed.path().is_some() {
            members.insert("stale_after".to_owned(), feed.file_stale_after.map(show_duration).into());
        }
    }
    shown
}

fn fetched(feed: &FetchedFeed, sensitive: Sensitive) -> Value {
    let source = &feed.source;
    let mut shown = json!({
        "token_file": source.token.as_ref().map(file),
        "sha256_url": source.checksum.as_ref().map(|url| sensitive.show(url.clone())),
        "minisign": source.signed.as_ref().map(|signed| &signed.key),
        "signature_url":
            source.signed.as_ref().and_then(|signed| signed.url.as_ref()).map(|url| sensitive.show(url.clone())),
        "every": show_duration(feed.every),
        "stale_after": show_duration(feed.stale_after),
        "max_shrink": f64::from(feed.max_shrink) / 1e6,
        "max_size": show_size(source.max_size),
    });
    if let Some(members) = shown.as_object_mut() {
        match &source.url.file {
            Some(path) => members.insert("url_file".to_owned(), file(path).into()),
            None => members.insert("url".to_owned(), sensitive.show(source.url.text.clone())),
        };
        dial(&source.dial, |key, value| drop(members.insert(key.to_owned(), value)));
    }
    shown
}
