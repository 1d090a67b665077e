//! Shows `[crawler.NAME]` and `[crawlers]`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::settings::crawlers::{self, Crawler};

/// Adds both to the tables of a configuration, where there is a crawler.
pub(super) fn add(root: &mut Value, settings: &crawlers::Settings) {
    let Some(root) = root.as_object_mut().filter(|_| !settings.crawlers.is_empty()) else { return };
    let one = |crawler: &Crawler| {
        let Crawler { name, agents, hosts, feeds } = crawler;
        (name.clone(), json!({ "agents": agents, "hosts": hosts, "feeds": feeds }))
    };
    root.insert("crawler".to_owned(), json!(settings.crawlers.iter().map(one).collect::<BTreeMap<_, _>>()));
    let resolvers: Vec<String> = settings.resolvers.iter().map(ToString::to_string).collect();
    root.insert("crawlers".to_owned(), json!({ "resolvers": (!resolvers.is_empty()).then_some(resolvers) }));
}
