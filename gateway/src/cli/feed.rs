//! `gateway feed`: lists that are fetched by URL, and fetching them now.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    context::Context,
    exit::Exit,
    table::{Table, seconds},
};
use crate::guard::control::{ControlAnswer, ControlRequest, FeedFetch, FeedStatus, GuardStatus, client};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
A list that has lost more entries than `feed.max_shrink` allows is not taken.
`--accept` takes what comes, however short it is.

Examples:
  gateway feed list
  gateway feed refresh drop
  gateway feed refresh drop --accept")]
pub(super) enum FeedCommand {
    /// List the feeds that are fetched: when, how it went, what is in force
    List,
    /// Fetch the list of a feed now
    Refresh {
        /// The feed's name
        name: String,
        /// Take what comes, also if it is much shorter than the list in force, or empty
        #[arg(long)]
        accept: bool,
    },
}

impl FeedCommand {
    pub(super) fn execute(self, context: &Context) -> Exit {
        match self {
            Self::List => show(context),
            Self::Refresh { name, accept } => context.ask(&ControlRequest::FeedRefresh { name, accept }, |_| None),
        }
    }
}

fn show(context: &Context) -> Exit {
    let socket = match context.socket() {
        Ok(socket) => socket,
        Err(exit) => return exit,
    };
    match client::ask(&socket, &ControlRequest::Status) {
        Ok(ControlAnswer::Status(status)) if context.out.json => context.out.value(&json(&status), Exit::Done),
        Ok(ControlAnswer::Status(status)) => context.out.text(&list(&status), Exit::Done),
        Ok(answer) => context.tell(&answer, &socket, |_| None),
        Err(error) => context.unreachable(&error),
    }
}

/// The lists that are fetched, each with what is in force of it.
fn json(status: &GuardStatus) -> Value {
    let lists = status.fetches.iter().map(|fetch| {
        let mut list = serde_json::to_value(fetch).unwrap_or_default();
        if let (Some(members), Some(feed)) = (list.as_object_mut(), in_force(status, &fetch.name)) {
            members.insert("entries".to_owned(), feed.entries.into());
            members.insert("mode".to_owned(), feed.mode.as_str().into());
            members.insert("loaded".to_owned(), feed.loaded.as_str().into());
        }
        list
    });
    json!({ "answer": "feeds", "feeds": lists.collect::<Vec<_>>() })
}

fn in_force<'status>(status: &'status GuardStatus, name: &str) -> Option<&'status FeedStatus> {
    status.feeds.iter().find(|feed| feed.name == name)
}

fn list(status: &GuardStatus) -> String {
    if status.fetches.is_empty() {
        return "no list is fetched: add `[[feed]]` with `url`".to_owned();
    }
    table(status)
}

/// The lists that are fetched.
pub(super) fn table(status: &GuardStatus) -> String {
    let mut table = Table::new(["FETCHED", "FROM", "ENTRIES", "CONFIRMED", "NEXT", "STATE"]);
    for fetch in &status.fetches {
        let entries = in_force(status, &fetch.name).map_or(0, |feed| feed.entries);
        let confirmed =
            if fetch.confirmed.is_empty() { "never".to_owned() } else { fetch.confirmed.replace(".000Z", "Z") };
        let next = fetch.next_seconds.map_or_else(|| "now".to_owned(), |next| format!("in {}", seconds(next)));
        let cells = [fetch.name.clone(), fetch.from.clone(), entries.to_string()];
        let [name, from, entries] = cells;
        table.row([name, from, entries, confirmed, next, state(fetch)]);
    }
    table.render()
}

fn state(fetch: &FeedFetch) -> String {
    let state = match (&fetch.failing, &fetch.refused) {
        (Some(why), _) => format!("failing: {why}"),
        (None, Some(why)) => format!("refused: {why}"),
        (None, None) => "ok".to_owned(),
    };
    match (fetch.is_stale, fetch.confirmed.is_empty()) {
        (true, true) if fetch.refused.is_none() => format!("never fetched, {state}"),
        (true, false) => format!("old, {state}"),
        _ => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_lists_alone() {
        let fetch = |name: &str| FeedFetch { name: name.to_owned(), ..FeedFetch::default() };
        let feed = |name: &str| FeedStatus {
            name: name.to_owned(),
            entries: 7,
            mode: "enforce".to_owned(),
            origin: "url".to_owned(),
            loaded: "2026-11-30T10:00:00.000Z".to_owned(),
            is_stale: false,
        };
        let status = GuardStatus {
            fetches: vec![fetch("a"), fetch("b")],
            feeds: vec![feed("b"), feed("imported")],
            ..GuardStatus::default()
        };
        let told = json(&status);
        let names: Vec<_> =
            told["feeds"].as_array().unwrap().iter().map(|list| list["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a", "b"], "{told}");
        assert_eq!((&told["feeds"][0]["entries"], &told["feeds"][1]["entries"]), (&Value::Null, &7.into()), "{told}");
        assert_eq!(json(&GuardStatus::default()), json!({ "answer": "feeds", "feeds": [] }));
    }

    #[test]
    fn how_a_list_is() {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        for (confirmed, is_stale, failing, refused, expect) in [
            ("2026-11-30T10:00:00.000Z", false, "", "", "ok"),
            ("2026-11-30T10:00:00.000Z", true, "", "", "old, ok"),
            ("2026-11-30T10:00:00.000Z", true, "503", "", "old, failing: 503"),
            ("", false, "", "", "ok"),
            ("", true, "503", "", "never fetched, failing: 503"),
            ("", true, "", "", "never fetched, ok"),
            // Lists came, and none was taken.
            ("", true, "", "too short", "refused: too short"),
        ] {
            let (failing, refused) = (text(failing), text(refused));
            let fetch =
                FeedFetch { confirmed: confirmed.to_owned(), is_stale, failing, refused, ..FeedFetch::default() };
            assert_eq!(state(&fetch), expect);
        }
    }
}
