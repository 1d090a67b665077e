//! Lets a command pass that whoever gives it may give. Every command comes through here, however it reaches the guard.

use serde_json::{Map, Value, json};

use crate::{
    guard::{
        audit,
        bans::Actor,
        control::{
            BAD_TOKEN, ControlAnswer, ControlRequest, TOO_MANY,
            caller::{Bearer, Caller},
            required::{is_local, name, only_asks, required},
            server::Call,
        },
        lifecycle::service::{Service, reply},
        operators::{OperatorIdentity, admin_tokens::NoHolder},
    },
    os::clock::Now,
    settings::operators::Role,
};

impl Service<'_> {
    /// The call, if it may be answered; who may not ask for it is told so.
    pub(in crate::guard::lifecycle) fn authorize(&mut self, call: Call) -> Option<Call> {
        let now = Now::read();
        let (call, standing) = self.identify(call, now)?;
        if call.request == ControlRequest::Whoami {
            reply(Some(call.answer), ControlAnswer::Whoami(Box::new(standing.whoami(&self.commands.operators))));
            return None;
        }
        let (call, needed) = self.permit(call, &standing, now)?;
        if is_root(&call.caller) || only_asks(&call.request) {
            return Some(call);
        }
        if !self.pace.allows(&standing.actor, now) {
            let message = "600 commands at once and one a second after that are recorded of one operator: wait, or use \
                           `gateway block import` for many sources";
            reply(Some(call.answer), ControlAnswer::Refused { code: TOO_MANY.to_owned(), message: message.to_owned() });
            return None;
        }
        self.record_command(&call, &standing, &needed, now);
        Some(call)
    }

    /// As [`Self::authorize`], for a call that has waited: what it would weaken may have changed meanwhile, and a token may
    /// have ended. It is recorded already.
    pub(in crate::guard::lifecycle) fn authorize_again(&mut self, call: Call) -> Option<Call> {
        let now = Now::read();
        let (call, standing) = self.identify(call, now)?;
        self.permit(call, &standing, now).map(|(call, _)| call)
    }

    /// The call, and who gives it; whoever cannot prove that is told so.
    fn identify(&mut self, call: Call, now: Now) -> Option<(Call, OperatorIdentity)> {
        let bearer = match &call.caller {
            Caller::Peer(peer) => {
                let standing = self.commands.operators.judge(peer);
                return Some((call, standing));
            }
            Caller::Token(bearer) => bearer,
        };
        match self.commands.admin_tokens.find(&bearer.digest, now) {
            Ok(holder) => Some((call, OperatorIdentity::of_token(holder))),
            Err(refusal) => {
                self.record_bad_token(&call.request, bearer, &refusal, now);
                reply(Some(call.answer), no_holder(refusal));
                None
            }
        }
    }

    /// The call, and the roles that it takes, if whoever gives it has them.
    fn permit(&mut self, call: Call, standing: &OperatorIdentity, now: Now) -> Option<(Call, Vec<Role>)> {
        let mut needed = required(&call.request).to_vec();
        if self.guard.weakens(&call.request, now) {
            needed.push(Role::Allow);
        }
        if let ControlRequest::AdminTokenNew { roles, .. } = &call.request {
            needed.extend(roles);
        }
        let lacked = standing.lacks(&needed);
        let is_elsewhere = matches!(call.caller, Caller::Token(_)) && is_local(&call.request);
        let message = if is_elsewhere {
            "this command is given on the gateway's own host alone, at the control socket".to_owned()
        } else if lacked.is_empty() {
            return Some((call, needed));
        } else {
            standing.denial(&lacked, &self.commands.operators)
        };
        self.record_denial(&call, standing, &lacked, now);
        reply(Some(call.answer), ControlAnswer::denied(message));
        None
    }

    /// Whoever is not root leaves a record of what gave them the right, beside that of what was done.
    fn record_command(&mut self, call: &Call, standing: &OperatorIdentity, needed: &[Role], now: Now) {
        let members = json!({"command": name(&call.request), "roles": needed, "by": standing.by(needed)});
        self.guard.tell("command", now, about(call, standing, members));
    }

    fn record_denial(&mut self, call: &Call, standing: &OperatorIdentity, lacked: &[Role], now: Now) {
        let command = name(&call.request);
        if let Some(others) = self.commands.denials.is_log_due(now) {
            let (actor, user) = (&standing.actor, standing.user.as_deref().unwrap_or_default());
            tracing::warn!(actor, user, command, others, "a command was denied");
        }
        let Some(others) = self.commands.denials.is_record_due(now) else { return };
        let members = json!({"command": command, "lacks": lacked, "others": others});
        self.guard.tell("denied", now, about(call, standing, members));
    }

    /// Somebody has shown what is no token, or none any more.
    fn record_bad_token(&mut self, request: &ControlRequest, bearer: &Bearer, refusal: &NoHolder, now: Now) {
        let command = name(request);
        let from = bearer.address.map(|address| address.to_string());
        let why = match refusal {
            NoHolder::Expired { name, .. } => format!("the token {name} has expired"),
            NoHolder::TooMany | NoHolder::Unknown => "unknown token".to_owned(),
        };
        if let Some(others) = self.commands.denials.is_log_due(now) {
            let from = from.as_deref().unwrap_or_default();
            tracing::warn!(why, from, command, others, "a command with a bad token was denied");
        }
        let Some(others) = self.commands.denials.is_record_due(now) else { return };
        let members = json!({"command": command, "why": why, "from": from, "others": others});
        self.guard.tell("denied", now, audit::members(members));
    }

    /// Who does what a call asks for, as the records of it name them. It was authorized in this turn of the loop.
    pub(in crate::guard::lifecycle) fn actor(&mut self, caller: &Caller) -> Actor {
        match caller {
            Caller::Peer(peer) => Actor::Operator(peer.uid),
            Caller::Token(bearer) => {
                let holder = self.commands.admin_tokens.find(&bearer.digest, Now::read());
                Actor::Token(holder.map_or_else(|_ended| "expired".to_owned(), |holder| holder.name))
            }
        }
    }
}

fn is_root(caller: &Caller) -> bool {
    matches!(caller, Caller::Peer(peer) if peer.uid == 0)
}

fn no_holder(refusal: NoHolder) -> ControlAnswer {
    let refused = |code: &str, message: String| ControlAnswer::Refused { code: code.to_owned(), message };
    match refusal {
        NoHolder::Expired { name, expired } => {
            let message = format!("the token {name} expired at {expired}: `gateway admin-token new` makes another");
            refused(BAD_TOKEN, message)
        }
        NoHolder::TooMany => refused(TOO_MANY, "too many tokens were wrong: try again in some seconds".to_owned()),
        NoHolder::Unknown => refused(BAD_TOKEN, "this is no token of the gateway, or it was revoked".to_owned()),
    }
}

/// A record's members, with who it was.
fn about(call: &Call, standing: &OperatorIdentity, members: Value) -> Map<String, Value> {
    let mut members = audit::members(members);
    members.insert("actor".to_owned(), standing.actor.clone().into());
    members.extend(standing.user.clone().map(|user| ("user".to_owned(), user.into())));
    if let Caller::Token(Bearer { address: Some(address), .. }) = &call.caller {
        members.insert("from".to_owned(), address.to_string().into());
    }
    members
}
