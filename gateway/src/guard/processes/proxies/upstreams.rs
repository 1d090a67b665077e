//! What proxies say of their upstreams, kept by the proxy that says it: a proxy speaks before it serves, and goes on
//! while it drains, and only the one that serves is believed.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    config::is_name,
    message::{ServerState, UpstreamReport},
    os::clock::rfc3339,
    policy::detect::MAX_DISCOUNTED,
    settings::upstream::Upstream,
    text::counted::counted,
};

/// The most upstreams that are kept in mind of one proxy, and servers of each.
const MOST_UPSTREAMS: usize = 1_000;
const MOST_SERVERS: usize = 64;

/// How upstreams are, by the generation of the proxy that says so.
#[derive(Default)]
pub(crate) struct Upstreams {
    told: BTreeMap<u64, BTreeMap<String, UpstreamReport>>,
}

impl Upstreams {
    /// A proxy tells how an upstream is. Nothing is believed of it but what can be shown.
    pub(crate) fn hear(&mut self, generation: u64, state: UpstreamReport) {
        let told = self.told.entry(generation).or_default();
        let room = told.len() < MOST_UPSTREAMS || told.contains_key(&state.name);
        let fits = state.servers.len() <= MOST_SERVERS
            && state.failing.len() <= MOST_SERVERS
            && state.discounted.len() <= MAX_DISCOUNTED;
        if room && is_name(&state.name) && fits {
            told.insert(state.name.clone(), state);
        }
    }

    /// A proxy is gone, and what it said is.
    pub(crate) fn gone(&mut self, generation: u64) {
        self.told.remove(&generation);
    }

    /// Forgets upstreams that are no longer configured.
    pub(crate) fn keep(&mut self, upstreams: &[Upstream]) {
        let is_there = |name: &String| upstreams.iter().any(|upstream| upstream.name == *name);
        self.told.values_mut().for_each(|told| told.retain(|name, _| is_there(name)));
    }

    /// As the proxy that serves has it, in the order of the names. Only of those that are `configured`: a proxy may speak of
    /// a removed one before it reads that another configuration is in force.
    pub(crate) fn of(&self, serving: Option<u64>, configured: &[Upstream]) -> Vec<UpstreamReport> {
        let Some(told) = serving.and_then(|generation| self.told.get(&generation)) else { return Vec::new() };
        let configured: BTreeSet<&str> = configured.iter().map(|upstream| &*upstream.name).collect();
        told.values().filter(|report| configured.contains(&*report.name)).cloned().collect()
    }
}

/// What an operator should know of them.
pub(crate) fn warnings(upstreams: &[UpstreamReport]) -> Vec<String> {
    let warning = |upstream: &UpstreamReport| {
        let is_out = |state: &ServerState| matches!(state, ServerState::Down | ServerState::Ejected);
        let out: Vec<&str> =
            upstream.servers.iter().filter(|(_, state)| is_out(state)).map(|(address, _)| &**address).collect();
        let (name, some, all) = (&upstream.name, out.len(), upstream.servers.len());
        let all = counted(all, "server is", "servers are");
        (some > 0).then(|| format!("upstream {name}: {some} of {all} not used: {}", out.join(", ")))
    };
    upstreams.iter().flat_map(|upstream| warning(upstream).into_iter().chain(failing(upstream))).collect()
}

/// The servers that no health check asks, and that could not be connected to.
fn failing(upstream: &UpstreamReport) -> Option<String> {
    let UpstreamReport { name, servers, failing, .. } = upstream;
    let is_used = |server: &str| servers.iter().any(|(it, state)| it == server && *state == ServerState::Failing);
    let told: Vec<String> = failing
        .iter()
        .filter(|it| is_used(&it.server))
        .map(|it| format!("{} (since {}: {})", it.server, rfc3339(it.since), it.why))
        .collect();
    let (some, all) = (told.len(), servers.len());
    let told = told.join(", ");
    (some > 0).then(|| {
        format!(
            "upstream {name}: {some} of {all} servers could not be connected to when a request last tried: {told}; \
             `health` in the upstream would take them out"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::FailingServer;

    fn state(name: &str, servers: &[ServerState]) -> UpstreamReport {
        let servers = servers.iter().enumerate().map(|(number, state)| (number.to_string(), *state)).collect();
        let failing = Vec::new();
        UpstreamReport {
            name: name.to_owned(),
            servers,
            failing,
            without_server: 0,
            over_limit: 0,
            retries: 0,
            limit: None,
            discounted: Vec::new(),
        }
    }

    fn configured(names: &[&str]) -> Vec<Upstream> {
        names.iter().map(|name| Upstream { name: (*name).to_owned(), ..Upstream::default() }).collect()
    }

    /// The names that are shown where whatever a proxy has spoken of is configured.
    fn names(upstreams: &Upstreams, serving: Option<u64>) -> Vec<String> {
        let told: Vec<&str> = upstreams.told.values().flatten().map(|(name, _)| &**name).collect();
        upstreams.of(serving, &configured(&told)).into_iter().map(|upstream| upstream.name).collect()
    }

    #[test]
    fn only_the_proxy_that_serves_is_believed_whenever_it_spoke() {
        let mut upstreams = Upstreams::default();
        upstreams.hear(1, state("old", &[ServerState::Up]));
        // The next speaks before it serves, the first while it drains.
        upstreams.hear(2, state("new", &[ServerState::Up]));
        assert_eq!(names(&upstreams, Some(1)), ["old"]);
        upstreams.hear(1, state("older", &[ServerState::Down]));
        assert_eq!(names(&upstreams, Some(2)), ["new"]);
        upstreams.gone(1);
        assert_eq!(names(&upstreams, Some(2)), ["new"]);
        upstreams.gone(2);
        assert!(names(&upstreams, Some(2)).is_empty() && names(&upstreams, None).is_empty());
    }

    #[test]
    fn a_late_report_does_not_bring_a_removed_upstream_back() {
        let mut upstreams = Upstreams::default();
        upstreams.hear(1, state("kept", &[ServerState::Up]));
        upstreams.hear(1, state("removed", &[ServerState::Up]));
        let in_force = configured(&["kept"]);
        upstreams.keep(&in_force);
        upstreams.hear(1, state("removed", &[ServerState::Down]));
        let shown: Vec<_> = upstreams.of(Some(1), &in_force).into_iter().map(|report| report.name).collect();
        assert_eq!(shown, ["kept"]);
    }

    #[test]
    fn nothing_is_believed_but_what_can_be_shown() {
        let mut upstreams = Upstreams::default();
        upstreams.hear(1, state("a b", &[ServerState::Up]));
        upstreams.hear(1, state("many", &[ServerState::Up; MOST_SERVERS + 1]));
        assert!(names(&upstreams, Some(1)).is_empty());
        (0..MOST_UPSTREAMS + 9).for_each(|number| upstreams.hear(1, state(&format!("u{number}"), &[])));
        assert_eq!(names(&upstreams, Some(1)).len(), MOST_UPSTREAMS);
        upstreams.hear(1, state("u0", &[ServerState::Ejected, ServerState::Up]));
        let warned = warnings(&upstreams.of(Some(1), &configured(&["u0"])));
        assert_eq!(warned, ["upstream u0: 1 of 2 servers are not used: 0"]);
        let one = FailingServer { server: "0".to_owned(), why: "refused".to_owned(), since: 0 };
        let many = UpstreamReport { failing: vec![one; MOST_SERVERS + 1], ..state("many", &[ServerState::Failing]) };
        upstreams.hear(1, many);
        assert!(upstreams.of(Some(1), &configured(&["many"])).is_empty());
    }

    #[test]
    fn servers_that_fail_are_told_with_the_reason() {
        let failing = |number: &str| FailingServer {
            server: number.to_owned(),
            why: "Connection refused (os error 111)".to_owned(),
            since: 1_764_000_000_000,
        };
        let told = |states: &[ServerState], failing: &[FailingServer]| {
            warnings(&[UpstreamReport { failing: failing.to_vec(), ..state("a", states) }])
        };
        let why = "1 of 2 servers could not be connected to when a request last tried: \
            1 (since 2025-11-24T16:00:00.000Z: Connection refused (os error 111));";
        for (states, expect) in [
            ([ServerState::Up, ServerState::Failing], Some(why)),
            ([ServerState::Up, ServerState::Ejected], Some("1 of 2 servers are not used: 1")),
            ([ServerState::Up, ServerState::Up], None),
        ] {
            let warned = told(&states, &[failing("1")]);
            assert_eq!(warned.len(), usize::from(expect.is_some()), "{warned:?}");
            let says = |expect: &str| warned.iter().any(|it| it.starts_with(&format!("upstream a: {expect}")));
            assert!(expect.is_none_or(says), "{warned:?}");
        }
    }
}
