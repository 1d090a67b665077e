//! API keys and revocations in the guard's loop: orders go to the writer of their store, and what it has done to the audit
//! chain, to every proxy, and then to whoever asked.

use std::{hash::BuildHasher as _, time::Duration};

use foldhash::quality::FixedState;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    config::{self, value::address},
    guard::{
        bans::{Actor, Refused},
        cluster::fact::ClusterFact,
        control::{ControlRequest, ImportedKey, NewKey, TokensOf, server::Call},
        credentials::{
            behind::SeenRecord,
            handed::written,
            store::Unrecorded,
            work::{CredentialCommand, CredentialJob, CredentialWork, NO_KEYS, PeerOutcome, PeerSays},
        },
        lifecycle::service::{Done, Service, reply},
    },
    message::{
        ToProxy,
        credentials::{CredentialChange, fit_a_message},
    },
    os::clock::Now,
    policy::auth::{
        api_key::{
            Tag,
            record::{KeyRecord, MOST, Profile},
            table::PERIOD,
            text::KeyId,
        },
        revocation::Revoked,
    },
    settings::guard::LONGEST_BAN,
};

mod opening;
mod revoked_file;

/// How long the first proxy waits for API keys and revocations. Until it has them it refuses keys.
pub(super) const OPENING: Duration = Duration::from_secs(20);

/// The longest id, subject or reason, in bytes.
const LONGEST: usize = 1_024;

/// The records that the writer makes.
const EVENTS: [&str; 9] = [
    "api_key_import",
    "api_key_new",
    "api_key_peer",
    "api_key_revoke",
    "api_key_rotate",
    "revocation_file",
    "revocation_peer",
    "token_revoke",
    "token_unrevoke",
];

/// What is over is lifted every so many seconds, and the file of revocations is looked at.
const MINUTE: u64 = 60;
const LOOK: u64 = 2;

/// When keys were used last is written every so many seconds, of so many at most.
const USED: u64 = 10;
const MOST_USED: usize = 20_000;

impl Service<'_> {
    /// These are the other machines of the cluster from now on.
    pub(super) fn share_credentials(&mut self, nodes: Vec<String>) {
        self.credentials.wholes.clear();
        if self.credentials.writer.is_some() {
            self.give(CredentialJob::Share { nodes, now: Now::read() });
        }
    }

    /// Asks for the next API keys that other machines are to be told of, if there are more than they are told of all the time.
    pub(super) fn ask_for_page(&mut self, now: Now) {
        let is_due = self.cluster.tells_keys() && self.credentials.shared.take_page_due();
        if is_due && !self.give(CredentialJob::Page(now)) {
            self.credentials.shared.know_page(Vec::new(), Tag::default());
        }
    }

    /// Another machine has said this; where `is_whole`, it revokes nothing else.
    pub(super) fn hear_revocations(&mut self, node: &str, facts: Vec<ClusterFact>, is_whole: bool) {
        if self.credentials.writer.is_none() || facts.is_empty() && !is_whole {
            return;
        }
        let whole = is_whole.then(|| FixedState::default().hash_one(postcard::to_stdvec(&facts).unwrap_or_default()));
        if whole.is_some() && self.credentials.wholes.get(node) == whole.as_ref() {
            return;
        }
        self.credentials.wholes.remove(node);
        let (mut revoked, mut restored, mut keys, mut is_all) = (Vec::new(), Vec::new(), Vec::new(), is_whole);
        for fact in facts {
            match fact {
                ClusterFact::Revoke { revoked: what, expires, at, by, reason } => {
                    let reason = if reason.is_empty() { by } else { format!("{reason} ({by})") };
                    revoked.push((what, expires, at, reason));
                }
                ClusterFact::Restore { revoked: what } => restored.push(what),
                ClusterFact::Key { record, created, by, pepper } => keys.push((*record, created, by, pepper)),
                ClusterFact::MoreRevoked => is_all = false,
                _ => {}
            }
        }
        let said = PeerSays { node: node.to_owned(), revoked, restored, keys, is_all, whole };
        self.give(CredentialJob::Peer { said, now: Now::read() });
    }

    /// Gives the writer a job; whether it has taken it.
    fn give(&self, job: CredentialJob) -> bool {
        let is_given = self.credentials.writer.as_ref().is_some_and(|writer| writer.ask(job).is_ok());
        if !is_given {
            tracing::error!("the store of credentials is too far behind: a job for it is lost");
        }
        is_given
    }

    /// Gives the writer what an operator asks for.
    pub(super) fn order(&self, call: Call, actor: &Actor) {
        let now = Now::read();
        let Call { request, answer, .. } = call;
        let order = match self.read_order(request, now) {
            Ok(order) => order,
            Err(refused) => return reply(Some(answer), refused.into()),
        };
        let job = CredentialJob::Order { order, actor: actor.to_string(), now, to: answer };
        let writer = &self.credentials.writer;
        let given = if let Some(writer) = writer { writer.ask(job) } else { Err(Box::new(job)) };
        if let Err(job) = given
            && let CredentialJob::Order { to, .. } = *job
        {
            let busy = Refused::new("busy", "the store of credentials is busy: try again in a moment");
            reply(Some(to), busy.into());
        }
    }

    /// What the writer is to do, if it makes sense by the configuration.
    fn read_order(&self, request: ControlRequest, now: Now) -> Result<CredentialCommand, Refused> {
        let keys = self.config.proxy.auth.api_keys.as_ref();
        let none = || Refused::new("not_configured", NO_KEYS);
        self.wanted_credentials().judge(&request)?;
        let after = |seconds: Option<u64>| {
            let longest = LONGEST_BAN.as_secs();
            seconds.map(|seconds| now.unix_seconds().saturating_add(seconds.min(longest)))
        };
        Ok(match request {
            ControlRequest::KeyNew(NewKey { name, roles, seconds, from, hosts, plan }) => {
                let prefix = keys.ok_or_else(none)?.prefix.clone();
                let profile = Profile { roles, sources: from, hosts, plan };
                CredentialCommand::Make {
                    prefix,
                    profile: self.check_key(&name, profile)?,
                    name,
                    expires: after(seconds),
                }
            }
            ControlRequest::KeyRotate { what, overlap, seconds } => {
                let prefix = keys.ok_or_else(none)?.prefix.clone();
                CredentialCommand::Rotate { prefix, what, overlap, expires: after(seconds) }
            }
            ControlRequest::KeyRevoke { what, reason } => CredentialCommand::RevokeKey { what, reason: given(reason)? },
            ControlRequest::KeyShow { what } => CredentialCommand::Show { what },
            ControlRequest::KeyList { after } => {
                let after = after.map(|(name, id)| id.parse().map(|KeyId(id)| (name, id)));
                CredentialCommand::List {
                    after: after.transpose().map_err(|wrong| Refused::new("bad_request", wrong))?,
                }
            }
            ControlRequest::KeyImport { keys: imported } => {
                keys.ok_or_else(none)?;
                CredentialCommand::Import {
                    keys: imported.into_iter().map(|key| self.read_key(key)).collect::<Result<_, _>>()?,
                }
            }
            ControlRequest::TokenRevoke { what, seconds, reason } => CredentialCommand::Revoke {
                revoked: self.read_tokens(what)?,
                expires: after(seconds),
                reason: given(reason)?,
            },
            ControlRequest::TokenRevocations { after } => CredentialCommand::Revocations { after },
            ControlRequest::TokenRevocationDel { number } => CredentialCommand::Lift { number },
            _ => return Err(Refused::new("not_here", "not a matter of credentials")),
        })
    }

    /// What a key may be used for, if it can be.
    fn check_key(&self, name: &str, profile: Profile) -> Result<Profile, Refused> {
        if !config::is_name(name) {
            let what = format!("{name:?} is no name of a key: write 1 to 64 letters, digits, \"-\" or \"_\"");
            return Err(Refused::new("bad_name", what));
        }
        if name.parse::<KeyId>().is_ok() {
            let what =
                format!("{name:?} could be the id of a key, as it has 11 letters and digits: choose another name");
            return Err(Refused::new("bad_name", what));
        }
        let Profile { roles, sources, hosts, plan } = profile;
        if roles.len() > MOST || sources.len() > MOST || hosts.len() > MOST {
            return Err(Refused::new("too_many", format!("a key has at most {MOST} roles, sources and hosts each")));
        }
        if let Some(role) = roles.iter().find(|role| !self.config.proxy.roles.contains_key(*role)) {
            let known: Vec<&str> = self.config.proxy.roles.keys().map(String::as_str).collect();
            let what = format!("there is no role {role:?} in [roles]; there are: {}", known.join(", "));
            return Err(Refused::new("no_such_role", what));
        }
        let plans = || self.config.proxy.limits.plans.iter().map(|plan| plan.name.as_str());
        if let Some(plan) = plan.as_deref().filter(|plan| !plans().any(|known| known == *plan)) {
            let known = plans().collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "there is none: add [plan.NAME]".to_owned() } else { known };
            return Err(Refused::new(
                "no_such_plan",
                format!("there is no plan {plan:?} in [plan]; there are: {known}"),
            ));
        }
        let hosts: Result<Vec<String>, _> = hosts.iter().map(|host| address::host_or_wildcard(host)).collect();
        let hosts = hosts.map_err(|wrong| Refused::new("bad_host", wrong.message))?;
        Ok(Profile { roles, sources, hosts, plan })
    }

    fn read_key(&self, key: ImportedKey) -> Result<KeyRecord, Refused> {
        let ImportedKey { id, sha256, name, roles, from, hosts, plan, expires } = key;
        let wrong = |what: &str| Refused::new("bad_key", format!("the key {name}: {what}"));
        let hash = data_encoding::HEXLOWER_PERMISSIVE.decode(sha256.as_bytes()).ok();
        let tag = hash
            .and_then(|hash| hash.try_into().ok())
            .ok_or_else(|| wrong("its sha256 is not 64 hexadecimal digits"))?;
        let is_foreign = id.is_none();
        let KeyId(id) = match id {
            Some(id) => id.parse().map_err(wrong)?,
            None => KeyId::of_foreign(&tag),
        };
        let profile = self.check_key(&name, Profile { roles, sources: from, hosts, plan })?;
        let (is_revoked, is_replaced) = (false, false);
        Ok(KeyRecord { id, tag, name, profile, expires, is_revoked, is_replaced, is_foreign })
    }

    fn read_tokens(&self, what: TokensOf) -> Result<Revoked, Refused> {
        let TokensOf { issuer: named, id, subject, before, kid } = what;
        let auth = &self.config.proxy.auth;
        let verified = auth.jwt.iter().flat_map(|jwt| &jwt.issuers);
        let verified = verified.map(|issuer| (issuer.rules.name.as_deref().unwrap_or("jwt"), issuer.issuer.as_str()));
        let asked = auth.introspection.iter();
        let asked = asked.filter_map(|server| Some((server.name.as_str(), server.issuer.as_deref()?)));
        let issuers = verified.chain(asked);
        let found = issuers.clone().find(|(name, issuer)| *issuer == named || *name == named);
        // Of a server without an `issuer` nobody knows whose tokens it speaks for: it is the `iss` of its answers.
        let is_any = auth.introspection.iter().any(|server| server.issuer.is_none());
        let issuer = found.map(|(_, issuer)| issuer.to_owned()).or_else(|| is_any.then(|| named.clone()));
        let Some(issuer) = issuer else {
            let known: Vec<&str> = issuers.map(|(name, _)| name).collect();
            let what = format!("there is no issuer {named:?}; there are: {}", known.join(", "));
            return Err(Refused::new("no_such_issuer", what));
        };
        let mut by_keys = auth.jwt.iter().flat_map(|jwt| &jwt.issuers).filter(|it| !it.keys.is_secret());
        if kid.is_some() && !by_keys.any(|it| it.issuer == issuer) {
            let what = format!(
                "tokens of {named:?} are not verified by public keys, so that no `kid` names any of them; \
                 `--issued-before now` revokes all of them"
            );
            return Err(Refused::new("no_public_keys", what));
        }
        match (id, kid, subject, before) {
            (Some(id), None, None, None) => Ok(Revoked::Token { issuer, id: short(id)? }),
            (None, Some(kid), None, None) => Ok(Revoked::Signer { issuer, kid: short(kid)? }),
            (None, None, Some(subject), before) => Ok(Revoked::Subject { issuer, subject: short(subject)?, before }),
            (None, None, None, before) => Ok(Revoked::Issuer { issuer, before }),
            (Some(_), ..) | (_, Some(_), ..) => {
                Err(Refused::new("bad_request", "a jti or a kid stands alone, without a subject or a time"))
            }
        }
    }

    /// The writer has done something: the audit chain has it, then every proxy, then whoever asked.
    pub(super) fn credentials_done(&mut self, worked: CredentialWork) {
        let CredentialWork { changes, whole, is_new, is_configured, records, answer, warnings, own, page, taken } =
            worked;
        self.record_credentials(records);
        if own.is_some_and(|own| self.credentials.shared.know(own)) {
            self.cluster.tell_whole_soon();
        }
        if let Some((keys, pepper)) = page {
            self.credentials.shared.know_page(keys, pepper);
        }
        if is_new {
            // It may be another store.
            self.credentials.wholes.clear();
        }
        if let Some(PeerOutcome { node, whole, changed, refused, no_room }) = taken {
            self.cluster.note_taken(changed, refused);
            self.cluster.note_no_room(&node, no_room, Now::read());
            self.credentials.wholes.extend(whole.map(|whole| (node, whole)));
        }
        if let Some(warnings) = warnings {
            for warning in warnings.iter().filter(|warning| !self.credentials.warnings.contains(warning)) {
                tracing::error!("{warning}");
            }
            self.credentials.warnings = warnings;
        }
        let is_told = !changes.is_empty();
        if is_told {
            self.tell_changes(changes);
        }
        if let Some(whole) = whole {
            self.supervisor.credentials.replace(whole);
            if is_new && let Err(error) = self.hand_credentials() {
                tracing::error!(%error, "the proxy does not know of all API keys and revocations");
            }
        }
        if is_configured {
            self.credentials.is_configured = true;
            self.go_on_with_reload();
        }
        match answer {
            Some((answer, to)) if is_told => {
                let number = self.commands.waiting.number();
                self.supervisor.tell(&ToProxy::Barrier { number });
                // One that starts has been handed all of it before it is told to serve.
                let proxies = self.supervisor.that_serve();
                self.credentials.unconfirmed.hold(number, proxies, answer, to, Instant::now());
            }
            Some((answer, to)) => reply(Some(to), answer),
            None => {}
        }
    }

    /// Writes what the audit chain is still to have. What it cannot take now is written the next time.
    fn record_credentials(&mut self, records: Vec<Unrecorded>) {
        let mut recorded = Vec::new();
        for Unrecorded { number, event, members } in records {
            if number <= self.credentials.recorded {
                // The store could not be told of it, or is about to be.
                recorded.push(number);
                continue;
            }
            let Some(event) = EVENTS.into_iter().find(|known| *known == event) else { continue };
            if !self.guard.record_of_others(event, Now::read(), members) {
                break;
            }
            self.credentials.recorded = number;
            recorded.push(number);
        }
        if !recorded.is_empty() {
            self.give(CredentialJob::Recorded(recorded, self.chain_end()));
        }
    }

    /// What the store of credentials is to know of the audit chain.
    fn chain_end(&self) -> SeenRecord {
        let (seq, hash) = self.guard.chain_end();
        SeenRecord { seq, hash }
    }

    /// Tells every proxy what has changed.
    fn tell_changes(&mut self, changes: Vec<CredentialChange>) {
        if self.supervisor.credentials.change(&changes) {
            self.give(CredentialJob::Gather(Now::read()));
        }
        if fit_a_message(&changes) {
            return self.supervisor.tell(&ToProxy::CredentialChanges(changes));
        }
        if let Err(error) = self.hand_changes(&changes) {
            tracing::error!(%error, "the proxy does not know of changed API keys and revocations");
        }
    }

    fn hand_changes(&mut self, changes: &[CredentialChange]) -> std::io::Result<()> {
        let file = written(changes)?;
        for generation in self.supervisor.generations() {
            self.supervisor.hand(generation, ToProxy::Credentials { replaces: false }, file.try_clone()?);
        }
        Ok(())
    }

    /// Hands all that is known to every proxy.
    fn hand_credentials(&mut self) -> std::io::Result<()> {
        for generation in self.supervisor.generations() {
            for (message, descriptors) in self.supervisor.credentials.opening()? {
                for descriptor in descriptors {
                    self.supervisor.hand(generation, message.clone(), descriptor);
                }
            }
        }
        Ok(())
    }

    /// A proxy has confirmed a barrier.
    pub(super) fn credentials_confirmed(&mut self, generation: u64, number: u64) {
        self.credentials.unconfirmed.confirmed(generation, number, Instant::now());
    }

    /// A proxy is gone.
    pub(super) fn credentials_gone(&mut self, generation: u64) {
        self.credentials.unconfirmed.gone(generation, Instant::now());
    }

    /// Proxies say when keys were used. It is written now and then: what a proxy says costs no disk.
    pub(super) fn keys_used(&mut self, used: &[(u64, u32)]) {
        let now = Now::read().unix_seconds();
        for (id, period) in used {
            if self.credentials.used.len() < MOST_USED || self.credentials.used.contains_key(id) {
                let seconds = u64::from(*period).saturating_mul(PERIOD).min(now);
                self.credentials.used.insert(*id, seconds);
            }
        }
    }

    /// Once a second.
    pub(super) fn tick_credentials(&mut self, beside: &mpsc::Sender<Done>) {
        self.credentials.unconfirmed.release(Instant::now());
        if self.ticks.is_multiple_of(MINUTE) {
            self.give(CredentialJob::Tidy(Now::read(), self.chain_end()));
        }
        if self.ticks.is_multiple_of(USED) && !self.credentials.used.is_empty() {
            let used = std::mem::take(&mut self.credentials.used);
            self.give(CredentialJob::Used(used.into_iter().collect()));
        }
        if self.ticks.is_multiple_of(LOOK) {
            self.look_at_revocations(beside);
        }
    }
}

/// A reason, which somebody must have given.
fn given(reason: String) -> Result<String, Refused> {
    if reason.is_empty() {
        return Err(Refused::new("bad_reason", format!("write a reason of 1 to {LONGEST} bytes: it is empty")));
    }
    short(reason)
}

/// A text that fits into records.
fn short(text: String) -> Result<String, Refused> {
    if text.len() <= LONGEST && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    Err(Refused::new("bad_request", format!("write at most {LONGEST} bytes, without control characters")))
}
