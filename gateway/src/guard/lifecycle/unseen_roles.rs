//! What the guard tells of paths of roles that no token has: once in the log, and in `status` for as long as it is so.

use crate::{
    os::{clock, program_log::sparse::Sparse},
    policy::auth::role_paths::UnseenRoles,
};

/// Such paths, as the proxy that serves said last.
#[derive(Debug, Default)]
pub(super) struct UnseenRolePaths {
    paths: Vec<UnseenRoles>,
    logged: Sparse,
}

impl UnseenRolePaths {
    /// A proxy tells all of them. What is new is logged, in at most one line a second: `status` names all.
    pub(super) fn hear(&mut self, unseen: Vec<UnseenRoles>) {
        let is_new =
            |it: &&UnseenRoles| !self.paths.iter().any(|old| (&old.issuer, &old.path) == (&it.issuer, &it.path));
        let mut new = unseen.iter().filter(is_new);
        if let Some(UnseenRoles { issuer, path, tokens }) = new.next()
            && self.logged.is_due(clock::monotonic()).is_some()
        {
            let others = new.count();
            tracing::warn!(issuer, path, tokens, others, "no token has had the claim that roles are read from");
        }
        self.paths = unseen;
    }

    /// One sentence each.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.paths.iter().map(|UnseenRoles { issuer, path, tokens }| {
            format!(
                "[{issuer}]: none of {tokens} tokens has {path:?}, where roles are read from (roles_claim): they have no \
                 role by it; `gateway token inspect` shows what a token has"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_as_long_as_it_is_so() {
        let unseen = |path: &str| UnseenRoles { issuer: "issuer.a".to_owned(), path: path.to_owned(), tokens: 100 };
        let mut paths = UnseenRolePaths::default();
        paths.hear(vec![unseen("roles"), unseen("groups")]);
        let told: Vec<_> = paths.warnings().collect();
        assert!(told.len() == 2 && told[0].starts_with("[issuer.a]: none of 100 tokens has \"roles\""), "{told:?}");
        paths.hear(Vec::new());
        assert_eq!(paths.warnings().count(), 0);
    }
}
