//! Makes, lists and ends tokens of the admin listener. What is done is recorded before it is in force.

use serde_json::json;
use tokio::sync::oneshot;

use crate::{
    guard::{
        audit,
        bans::Actor,
        control::ControlAnswer,
        lifecycle::service::{Service, reply},
    },
    os::clock::Now,
    settings::operators::Roles,
};

impl Service<'_> {
    pub(in crate::guard::lifecycle) fn list_admin_tokens(&self) -> ControlAnswer {
        ControlAnswer::AdminTokens { tokens: self.commands.admin_tokens.list(Now::read()) }
    }

    pub(in crate::guard::lifecycle) fn new_admin_token(
        &mut self,
        (name, roles, seconds): (&str, &Roles, u64),
        actor: &Actor,
        answer: oneshot::Sender<ControlAnswer>,
    ) {
        if self.config.admin.is_none() {
            let message = "there is no admin listener, where a token could be used: add `[admin]` to the configuration";
            let refused = ControlAnswer::Refused { code: "no_admin_listener".to_owned(), message: message.to_owned() };
            return reply(Some(answer), refused);
        }
        let now = Now::read();
        match self.commands.admin_tokens.draw(name, roles, seconds, actor.to_string(), now) {
            Err(refused) => reply(Some(answer), refused),
            Ok(drawn) => {
                let members = json!({"actor": actor.to_string(), "token": name, "roles": roles, "seconds": seconds});
                match self.guard.record_order("admin_token", now, audit::members(members)) {
                    Ok(()) => self.commands.admin_tokens.grant(drawn, answer),
                    Err(refused) => reply(Some(answer), refused.into()),
                }
            }
        }
    }

    pub(in crate::guard::lifecycle) fn revoke_admin_token(
        &mut self,
        name: &str,
        actor: &Actor,
        answer: oneshot::Sender<ControlAnswer>,
    ) {
        if self.commands.admin_tokens.revoke(name, answer) {
            let members = audit::members(json!({"actor": actor.to_string(), "token": name}));
            self.guard.record("admin_token_revoked", members, Now::read());
        }
    }
}
