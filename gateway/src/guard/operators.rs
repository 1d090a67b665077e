//! Operators and their rights: root may do everything, others what `[[operator]]` says of their user and groups.
//!
//! *Invariant:* names are found out when a configuration is prepared, never while a command waits: a directory of users
//! that does not answer keeps nobody from blocking an attacker. What was found out is kept for the next guard.

use nix::unistd::{Group, User, geteuid};
use serde::{Deserialize, Serialize};

use crate::{
    diagnostic::Diagnostic,
    guard::{
        bans::Actor,
        control::{Grant, Whoami, caller::PeerProcess},
        operators::admin_tokens::Holder,
    },
    settings::{
        guard,
        operators::{Member, Role, Roles, every_role, names},
    },
    text::digits::decimal,
};

pub(super) mod admin_tokens;

/// Who may do what, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operators(Vec<OperatorEntry>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OperatorEntry {
    id: Id,
    /// `group edge-view`.
    label: String,
    roles: Roles,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Id {
    Group(u32),
    User(u32),
}

/// Somebody who asks, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OperatorIdentity {
    /// As records name them.
    pub(crate) actor: String,
    /// The user's name.
    pub(crate) user: Option<String>,
    /// Each role, and where it is had from.
    pub(crate) grants: Vec<Grant>,
}

impl Operators {
    /// Finds out the numbers of all whom the configuration names.
    ///
    /// # Errors
    /// Each group and user that this host does not have.
    pub(crate) fn find(settings: &guard::Settings) -> Result<Self, Vec<Diagnostic>> {
        let (mut entries, mut faults) = (Vec::new(), Vec::new());
        for (index, operator) in settings.operators.iter().enumerate() {
            let found = match &operator.who {
                Member::Group(name) => group(name).map(|id| (Id::Group(id), format!("group {name}"))),
                Member::User(name) => user(name).map(|id| (Id::User(id), format!("user {name}"))),
            };
            let key = match &operator.who {
                Member::Group(_) => format!("operator[{index}].group"),
                Member::User(_) => format!("operator[{index}].user"),
            };
            match found {
                Ok((id, label)) => entries.push(OperatorEntry { id, label, roles: operator.roles.clone() }),
                Err(fault) => faults.push(Diagnostic { key, ..fault }),
            }
        }
        if let Some(Err(fault)) = settings.control_group.as_deref().map(group) {
            faults.push(Diagnostic { key: "guard.control_group".to_owned(), ..fault });
        }
        if faults.is_empty() { Ok(Self(entries)) } else { Err(faults) }
    }

    /// What a process of this host may do.
    pub(crate) fn judge(&self, peer: &PeerProcess) -> OperatorIdentity {
        let PeerProcess { uid, groups, user } = peer;
        let all = |by: &str| every_role().into_iter().map(|role| Grant { role, by: by.to_owned() }).collect();
        let grants = if *uid == 0 {
            all("root")
        } else if *uid == geteuid().as_raw() {
            all("the guard's own user")
        } else {
            let is_theirs = |entry: &&OperatorEntry| match entry.id {
                Id::Group(id) => groups.contains(&id),
                Id::User(id) => id == *uid,
            };
            self.grants(is_theirs, |_role| true)
        };
        OperatorIdentity { actor: format!("operator:{uid}"), user: user.clone(), grants }
    }

    /// Who has roles that somebody lacks.
    pub(crate) fn who_has(&self, lacks: impl Fn(Role) -> bool) -> Vec<Grant> {
        self.grants(|_entry| true, lacks)
    }

    fn grants(&self, of: impl Fn(&&OperatorEntry) -> bool, which: impl Fn(Role) -> bool) -> Vec<Grant> {
        let entries = self.0.iter().filter(of);
        let each = |entry: &OperatorEntry| {
            let grant = |role: &Role| Grant { role: *role, by: entry.label.clone() };
            entry.roles.iter().filter(|role| which(**role)).map(grant).collect::<Vec<_>>()
        };
        let mut grants: Vec<Grant> = entries.flat_map(each).collect();
        grants.sort_by_key(|grant| grant.role);
        grants
    }
}

impl OperatorIdentity {
    /// Of whoever has a token, who may do what that says and nothing else.
    pub(crate) fn of_token(Holder { name, roles }: Holder) -> Self {
        let by = format!("token {name}");
        let grants = roles.into_iter().map(|role| Grant { role, by: by.clone() }).collect();
        Self { actor: Actor::Token(name).to_string(), user: None, grants }
    }

    /// The roles of `needed` that they lack.
    pub(crate) fn lacks(&self, needed: &[Role]) -> Vec<Role> {
        let has = |role: &Role| self.grants.iter().any(|grant| grant.role == *role);
        needed.iter().copied().filter(|role| !has(role)).collect()
    }

    /// Where they have the roles of `needed` from: `group edge-view`.
    pub(crate) fn by(&self, needed: &[Role]) -> Vec<&str> {
        let mut by: Vec<&str> =
            self.grants.iter().filter(|grant| needed.contains(&grant.role)).map(|grant| grant.by.as_str()).collect();
        by.dedup();
        by
    }

    /// What they are told of themselves.
    pub(crate) fn whoami(self, operators: &Operators) -> Whoami {
        let roles: Roles = self.grants.iter().map(|grant| grant.role).collect();
        let missing = operators.who_has(|role| !roles.contains(&role));
        Whoami { actor: self.actor, user: self.user, roles, grants: self.grants, missing }
    }

    /// Why they may not do it, and what would help.
    pub(crate) fn denial(&self, lacked: &[Role], operators: &Operators) -> String {
        let who = self.user.as_ref().map_or_else(|| self.actor.clone(), |user| format!("{} ({user})", self.actor));
        let s = if lacked.len() == 1 { "" } else { "s" };
        let mut others: Vec<String> =
            operators.who_has(|role| lacked.contains(&role)).into_iter().map(|grant| grant.by).collect();
        others.dedup();
        // No table of the configuration gives a token a role: a token has those that it was made with.
        let is_token = self.actor.starts_with("token:");
        let ask = match others.as_slice() {
            _ if is_token => {
                let roles: String = lacked.iter().map(|role| format!(" --role {}", role.name())).collect();
                format!("ask for another token, made by `gateway admin-token new{roles}`")
            }
            [] => "ask root, or for an [[operator]] table that gives it".to_owned(),
            others => format!("ask for {}, or root", others.join(" or ")),
        };
        format!("{who} needs the role{s} {}: {ask}; `gateway whoami` shows what you may do", names(lacked))
    }
}

fn group(name: &str) -> Result<u32, Diagnostic> {
    number(name, Group::from_name(name).map(|found| found.map(|group| group.gid.as_raw())), "group")
}

fn user(name: &str) -> Result<u32, Diagnostic> {
    number(name, User::from_name(name).map(|found| found.map(|user| user.uid.as_raw())), "user")
}

/// A name comes before a number, as for `chown`.
fn number(name: &str, found: nix::Result<Option<u32>>, what: &str) -> Result<u32, Diagnostic> {
    match (found, decimal(name)) {
        (Ok(Some(id)), _) | (_, Some(id)) => Ok(id),
        (Ok(None), None) => {
            let fault = Diagnostic::bare(format!("there is no {what} {name:?} on this machine"));
            Err(fault.hint(format!("{what}add --system {name}, or name another one; `getent {what}` lists them")))
        }
        (Err(error), None) => Err(Diagnostic::bare(format!("the {what} {name:?} cannot be looked up: {error}"))),
    }
}

/// The number of `guard.control_group`.
///
/// # Errors
/// There is no such group.
pub(crate) fn control_group(settings: &guard::Settings) -> Result<Option<u32>, Diagnostic> {
    settings.control_group.as_deref().map(group).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operators() -> Operators {
        let entry = |id, label: &str, roles: &[Role]| OperatorEntry {
            id,
            label: label.to_owned(),
            roles: roles.iter().copied().collect(),
        };
        Operators(vec![
            entry(Id::Group(10), "group watchers", &[Role::View]),
            entry(Id::Group(11), "group on-call", &[Role::View, Role::Block]),
            entry(Id::User(1_007), "user alice", &[Role::Configure]),
        ])
    }

    #[track_caller]
    fn check(uid: u32, groups: &[u32], roles: &str, denied: &str) {
        let operators = operators();
        let peer = PeerProcess { uid, groups: groups.to_vec(), user: Some("x".to_owned()) };
        let standing = operators.judge(&peer);
        let lacked = standing.lacks(&[Role::Block, Role::Configure]);
        assert_eq!(
            standing.clone().whoami(&operators).roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(" "),
            roles
        );
        let denial = if lacked.is_empty() { String::new() } else { standing.denial(&lacked, &operators) };
        assert!(denial.contains(denied) && denial.is_empty() == denied.is_empty(), "{denial:?} {denied:?}");
    }

    /// What `[[operator]]` says helps no token.
    #[test]
    fn a_token_is_denied_by_its_own_roles() {
        let holder = Holder { name: "ci".to_owned(), roles: [Role::View].into_iter().collect() };
        for operators in [operators(), Operators(Vec::new())] {
            let standing = OperatorIdentity::of_token(holder.clone());
            let denial = standing.denial(&[Role::Block, Role::Allow], &operators);
            assert!(denial.contains("made by `gateway admin-token new --role block --role allow`"), "{denial}");
            assert!(!denial.contains("[[operator]]") && !denial.contains("group on-call"), "{denial}");
        }
    }

    #[test]
    fn roles_are_a_set() {
        check(0, &[], "view block allow configure", "");
        check(
            5,
            &[],
            "",
            "operator:5 (x) needs the roles block, configure: ask for group on-call or user alice, or root",
        );
        check(5, &[9, 10], "view", "needs the roles block, configure");
        check(5, &[10, 11], "view block", "needs the role configure: ask for user alice, or root");
        check(1_007, &[], "configure", "needs the role block: ask for group on-call, or root");
        check(1_007, &[11], "view block configure", "");
        // A group's number is no user's.
        check(11, &[1_007], "", "needs the roles");
    }

    #[test]
    fn a_token_gives_what_it_says() {
        let holder = Holder { name: "ada".to_owned(), roles: [Role::Block].into_iter().collect() };
        let standing = OperatorIdentity::of_token(holder);
        assert_eq!(standing.actor, "token:ada");
        assert_eq!((standing.lacks(&[Role::Block]), standing.by(&[Role::Block])), (Vec::new(), vec!["token ada"]));
        assert_eq!(standing.lacks(&[Role::View, Role::Configure]), [Role::View, Role::Configure]);
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(group("root").unwrap(), 0);
        assert_eq!((user("root").unwrap(), group("4711").unwrap()), (0, 4_711));
        let fault = group("no-such-group").unwrap_err().to_string();
        assert!(fault.contains("there is no group \"no-such-group\""), "{fault}");
    }
}
