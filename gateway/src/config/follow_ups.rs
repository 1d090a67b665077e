//! Which faults that are found by compiling may only follow from what could not be read of a configuration, so that
//! `gateway check` tells all others at once.

use super::{diagnostics::Located, document::Document};
use crate::settings::proxy;

/// The keys of a route whose faults are about other routes and tables as much as about the route.
const RELATIONS: [&str; 3] = ["api", "path", "require"];

/// A configuration with faults, as far as it could be read.
pub(super) struct PartialReading<'a> {
    pub(super) document: &'a Document,
    pub(super) faults: &'a [Located],
    pub(super) proxy: &'a proxy::Settings,
}

impl PartialReading<'_> {
    /// Whether a fault at `key` is one whatever could not be read.
    pub(super) fn is_independent(&self, key: &str) -> bool {
        if self.faults.is_empty() {
            return true;
        }
        let (entry, rest) = entry(key);
        let list = entry.split_once('[').map(|(list, _)| list);
        let is_relation = list == Some("route") && RELATIONS.contains(&rest);
        let is_spoiled = |fault: &str| {
            let (spoiled, _) = self::entry(fault);
            spoiled == entry || entry.strip_prefix(spoiled).is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        !is_relation
            && list.is_none_or(|list| self.is_complete(list))
            && !self.faults.iter().any(|fault| is_spoiled(fault.key()))
    }

    /// Whether all entries of a list could be read, at least in part. A list that lacks one has others at the places of
    /// those behind it.
    fn is_complete(&self, list: &str) -> bool {
        let read = match list {
            "certificate" => self.proxy.certificates.len(),
            "listener" => self.proxy.listeners.len(),
            "route" => self.proxy.routes.len(),
            _ => return !self.faults.iter().any(|fault| fault.key().starts_with(list)),
        };
        !self.document.names(&format!("{list}[{read}]"))
    }
}

/// The entry of a list or the named table that `key` is in, or the key of a table that has no name; and what is behind
/// it.
fn entry(key: &str) -> (&str, &str) {
    let table = key.find('.').unwrap_or(key.len());
    let is_listed = key.get(..table).is_some_and(|table| table.ends_with(']'));
    let end = match key.get(table + 1..).and_then(|rest| rest.find('.')) {
        _ if is_listed => table,
        Some(next) => table + 1 + next,
        None => key.len(),
    };
    (key.get(..end).unwrap_or(key), key.get(end + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path, sync::Arc};

    use super::{
        super::{ConfigDraft, Diagnostics, Files},
        *,
    };
    use crate::diagnostic::Diagnostic;

    const TEXT: &str = r#"
        [upstream.a]
        servers = ["127.0.0.1:9000"]
        [upstream.b]
        servers = ["127.0.0.1:9001"]
        [jwt]
        issuer = "https://issuer.example"
        audience = "api"
        jwks = "jwks.json"
        [[listener]]
        address = "127.0.0.1:80"
        [[route]]
        path = "/a"
        require = ["public"]
        upstream = "a"
        schema = "a.json"
        [[route]]
        path = "/b"
        require = ["public"]
        upstream = "b"
        schema = "b.json"
        "#;

    struct Text(String);

    impl Files for Text {
        fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
            Ok(if path.ends_with("gateway.toml") { self.0.as_bytes().into() } else { b"{}"[..].into() })
        }
    }

    /// The keys of all faults, if `from` is spoiled and compiling finds faults at `found`.
    #[track_caller]
    fn check((from, to): (&str, &str), found: &[&str], expect: &[&str]) {
        let text = Text(TEXT.replacen(from, to, 1));
        let draft = ConfigDraft::read(Path::new("/gateway.toml"), &text).unwrap_or_else(|told| panic!("{told}"));
        let told = draft.finish(found.iter().map(|&key| Diagnostic::new(key, "is broken")).collect());
        let told = told.err();
        let keys: Vec<_> = told.iter().flat_map(Diagnostics::shown).map(|shown| shown.key).collect();
        assert_eq!(keys, expect, "{from:?} is {to:?}");
    }

    #[test]
    fn faults_that_do_not_follow_from_others_are_told_with_them() {
        check(("", ""), &[], &[]);
        check(("", ""), &["jwt.jwks", "route[1].path"], &["jwt.jwks", "route[1].path"]);
        // In another entry, another named table, and at another key of a table without a name.
        check(("\"a.json\"", "5"), &["route[0].form", "route[1].schema"], &["route[0].schema", "route[1].schema"]);
        let broken = ("127.0.0.1:9000", "x");
        check(broken, &["upstream.a.tls.ca", "upstream.b.tls.ca"], &["upstream.a.servers[0]", "upstream.b.tls.ca"]);
        check(("audience", "audiense"), &["jwt.jwks"], &["jwt.audiense", "jwt.jwks"]);
        // What is about several tables may follow from a fault of any.
        check(broken, &["route[1].path", "route[1].api"], &["upstream.a.servers[0]"]);
        // A route without a path is none, and those behind it have other places.
        check(("path = \"/a\"", "path = 5"), &["route[0].schema", "jwt.jwks"], &["jwt.jwks", "route[0].path"]);
    }

    #[test]
    fn keys_are_of_entries() {
        for (key, expect) in [
            ("route[2].schema", ("route[2]", "schema")),
            ("route[2]", ("route[2]", "")),
            ("issuer.main.jwks", ("issuer.main", "jwks")),
            ("issuer.main", ("issuer.main", "")),
            ("jwt.jwks", ("jwt.jwks", "")),
            ("jwt", ("jwt", "")),
            ("audit.anchor[1].ca", ("audit.anchor[1]", "ca")),
            ("", ("", "")),
        ] {
            assert_eq!(entry(key), expect, "{key}");
        }
    }
}
