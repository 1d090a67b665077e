//! Notices where no token has the claim that its roles are read from: a path with a slip of the pen, or a provider that was
//! never told to put roles into tokens. Nobody is refused for that at first sight, and everybody lacks permissions.
//!
//! *Invariant:* a token that is remembered costs nothing here. What is kept is one number, and one bit for each path.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::settings::claims::{ClaimRules, RoleSource};

/// So many tokens without a claim are no accident.
pub const ENOUGH: u64 = 100;

/// The most paths that are told of at once.
pub const MOST: usize = 64;

/// A path that no token has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnseenRoles {
    /// The table of the issuer: `jwt`, `issuer.NAME`, `introspection.NAME`.
    pub issuer: String,
    /// The path.
    pub path: String,
    /// How many tokens were seen.
    pub tokens: u64,
}

/// The paths of one issuer.
#[derive(Debug)]
pub(super) struct RolePaths {
    issuer: String,
    paths: Box<[(String, AtomicBool)]>,
    seen: AtomicU64,
    /// Nothing is left to notice.
    is_done: AtomicBool,
}

/// Which of the paths of some rules a token has: a bit each, in their order.
pub(super) fn present(claims: &Map<String, Value>, rules: &ClaimRules) -> u64 {
    let places = rules.roles_claims.iter().take(MOST).enumerate();
    places.filter(|(_, path)| path.find(claims).is_some()).fold(0, |bits, (at, _)| bits | 1 << at)
}

impl RolePaths {
    /// Those of the rules of `issuer`, a table of the configuration. Where nothing is read from them, there are none.
    pub(super) fn new(issuer: &str, rules: &ClaimRules) -> Self {
        let is_mapped = rules.role_map.iter().any(|mapping| matches!(mapping.from, RoleSource::Group(_)));
        let are_read = is_mapped || rules.roles.as_ref().is_none_or(|roles| !roles.is_empty());
        let paths = rules.roles_claims.iter().take(MOST).filter(|_| are_read);
        let paths: Box<[_]> = paths.map(|path| (path.to_string(), AtomicBool::new(false))).collect();
        let is_done = AtomicBool::new(paths.is_empty());
        Self { issuer: issuer.to_owned(), paths, seen: AtomicU64::new(0), is_done }
    }

    /// A token was good, and had these paths.
    pub(super) fn note(&self, present: u64) {
        if self.is_done.load(Ordering::Relaxed) {
            return;
        }
        self.seen.fetch_add(1, Ordering::Relaxed);
        for (at, (_, is_seen)) in self.paths.iter().enumerate().filter(|(at, _)| present >> at & 1 == 1) {
            debug_assert!(at < MOST, "a bit each");
            is_seen.store(true, Ordering::Relaxed);
        }
        let are_all_seen = self.paths.iter().all(|(_, is_seen)| is_seen.load(Ordering::Relaxed));
        self.is_done.store(are_all_seen, Ordering::Relaxed);
    }

    /// Those that no token had, of many.
    pub(super) fn unseen(&self) -> impl Iterator<Item = UnseenRoles> {
        let tokens = self.seen.load(Ordering::Relaxed);
        let unseen = self.paths.iter().filter(move |(_, is_seen)| tokens >= ENOUGH && !is_seen.load(Ordering::Relaxed));
        unseen.map(move |(path, _)| UnseenRoles { issuer: self.issuer.clone(), path: path.clone(), tokens })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{identity::claim::ClaimPath, policy::auth::claims::tests::rules, settings::claims::RoleMapping};

    /// Which paths are told of after so many tokens with these claims.
    #[track_caller]
    fn check(rules: &ClaimRules, tokens: &[(u64, Value)], expect: &[(&str, u64)]) {
        let paths = RolePaths::new("issuer.staff", rules);
        for (count, claims) in tokens {
            (0..*count).for_each(|_| paths.note(present(claims.as_object().unwrap(), rules)));
        }
        let unseen: Vec<_> = paths.unseen().collect();
        let found: Vec<_> = unseen.iter().map(|it| (it.path.as_str(), it.tokens)).collect();
        assert_eq!(found, expect, "{tokens:?}");
        assert!(unseen.iter().all(|it| it.issuer == "issuer.staff"));
    }

    #[test]
    fn a_path_that_no_token_has() {
        let two = ClaimRules {
            roles_claims: vec![ClaimPath::of(&["roles"]), ClaimPath::of(&["realm_access", "roles"])],
            ..rules()
        };
        let with = || json!({"roles": []});
        let without = || json!({"realm_access": {"Roles": ["a"]}, "groups": ["a"]});
        check(&rules(), &[(ENOUGH - 1, without())], &[]);
        check(&rules(), &[(ENOUGH, without())], &[("roles", ENOUGH)]);
        check(&rules(), &[(ENOUGH, without()), (1, with())], &[]);
        check(&rules(), &[(1, with()), (2 * ENOUGH, without())], &[]);
        check(&two, &[(ENOUGH, with())], &[("realm_access.roles", ENOUGH)]);
        check(&two, &[(7, without()), (ENOUGH, with())], &[("realm_access.roles", ENOUGH + 7)]);
        // Where the path gives nothing, nobody misses it.
        let by_scope = RoleMapping { from: RoleSource::Scope("a".to_owned()), roles: vec!["b".to_owned()] };
        let unread = ClaimRules { roles: Some(Vec::new()), role_map: vec![by_scope.clone()], ..rules() };
        check(&unread, &[(ENOUGH, without())], &[]);
        let by_group = RoleMapping { from: RoleSource::Group("a".to_owned()), ..by_scope };
        check(&ClaimRules { role_map: vec![by_group], ..unread }, &[(ENOUGH, without())], &[("roles", ENOUGH)]);
    }
}
