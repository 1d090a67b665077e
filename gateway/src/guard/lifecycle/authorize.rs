//! Lets a command pass that whoever gives it may give. Every command comes through here, however it reaches the guard.

use serde_json::{Map, Value, json};

use super::service::{Service, reply};
use crate::{
    clock::Now,
    guard::{
        audit,
        bans::Actor,
        control::{
            Answer, Request,
            caller::Caller,
            required::{name, only_asks, required},
            server::Call,
        },
        operators::Standing,
    },
    settings::operators::Role,
};

impl Service<'_> {
    /// The call, if it may be answered; who may not ask for it is told so.
    pub(super) fn authorize(&mut self, call: Call) -> Option<Call> {
        let now = Now::read();
        let standing = self.operators.judge(&call.caller);
        if call.request == Request::Whoami {
            reply(Some(call.answer), Answer::Whoami(Box::new(standing.whoami(&self.operators))));
            return None;
        }
        let (call, needed) = self.permit(call, &standing, now)?;
        self.record_command(&call, &standing, &needed, now);
        Some(call)
    }

    /// As [`Self::authorize`], for a call that has waited: what it would weaken may have changed meanwhile. It is
    /// recorded already.
    pub(super) fn authorize_again(&mut self, call: Call) -> Option<Call> {
        let standing = self.operators.judge(&call.caller);
        self.permit(call, &standing, Now::read()).map(|(call, _)| call)
    }

    /// The call, and the roles that it takes, if whoever gives it has them.
    fn permit(&mut self, call: Call, standing: &Standing, now: Now) -> Option<(Call, Vec<Role>)> {
        let mut needed = required(&call.request).to_vec();
        if self.guard.weakens(&call.request, now) {
            needed.push(Role::Allow);
        }
        let lacked = standing.lacks(&needed);
        if lacked.is_empty() {
            return Some((call, needed));
        }
        self.record_denial(&call.request, standing, &lacked, now);
        let message = standing.denial(&lacked, &self.operators);
        reply(Some(call.answer), Answer::denied(message));
        None
    }

    /// Whoever is not root leaves a record of what gave them the right, beside that of what was done.
    fn record_command(&mut self, call: &Call, standing: &Standing, needed: &[Role], now: Now) {
        let is_root = matches!(&call.caller, Caller::Peer(peer) if peer.uid == 0);
        if is_root || only_asks(&call.request) {
            return;
        }
        let members = json!({"command": name(&call.request), "roles": needed, "by": standing.by(needed)});
        self.guard.tell("command", now, about(standing, members));
    }

    fn record_denial(&mut self, request: &Request, standing: &Standing, lacked: &[Role], now: Now) {
        let command = name(request);
        if let Some(others) = self.denials.is_log_due(now) {
            let (actor, user) = (&standing.actor, standing.user.as_deref().unwrap_or_default());
            tracing::warn!(actor, user, command, others, "a command was denied");
        }
        let Some(others) = self.denials.is_record_due(now) else { return };
        let members = json!({"command": command, "lacks": lacked, "others": others});
        self.guard.tell("denied", now, about(standing, members));
    }
}

/// A record's members, with who it was.
fn about(standing: &Standing, members: Value) -> Map<String, Value> {
    let mut members = audit::members(members);
    members.insert("actor".to_owned(), standing.actor.clone().into());
    members.extend(standing.user.clone().map(|user| ("user".to_owned(), user.into())));
    members
}

/// Who does what the call asks for, as the records of it name them.
pub(super) const fn actor(caller: &Caller) -> Actor {
    let Caller::Peer(peer) = caller;
    Actor::Operator(peer.uid)
}
