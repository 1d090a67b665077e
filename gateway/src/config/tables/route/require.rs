//! Reads `route.require`: who is let through.

use super::{super::issuer, references::RouteReferences};
use crate::{
    config::{
        reader::Reader,
        table::{Table, values},
        value::{closest, form::described, line, word},
    },
    diagnostic::Diagnostic,
    identity::{claim::ClaimCondition, permission},
    settings::{auth::Methods, authz::Requirement},
};

/// The word for what the document of the route's API says.
const OPENAPI: &str = "openapi";

/// Whether the document of the route's API says who is let through.
pub(super) fn is_of_document(table: &Table<'_>) -> bool {
    let words = table.list("require", word::permission);
    matches!(words.as_slice(), [(_, word)] if word == OPENAPI)
}

pub(super) fn read(table: &Table<'_>, known: &RouteReferences<'_>, reader: &Reader<'_>) -> Requirement {
    if !table.has("require") {
        let warning = Diagnostic::new(table.key("require"), "is missing: nobody has access");
        reader.warn(warning.hint("write [\"public\"], [\"authenticated\"], or the permissions it takes"));
    }
    let words = table.list("require", word::permission);
    let Some((key, first)) = words.first() else { return Requirement::Nobody };
    let special = |word: &str| matches!(word, "public" | "authenticated" | "certificate" | OPENAPI);
    if let Some((key, word)) = words.iter().find(|(_, word)| words.len() > 1 && special(word)) {
        let hint = format!("write [{word:?}] alone, or permissions alone");
        reader.report(Diagnostic::new(key, format!("{word:?} cannot be combined with other words")).hint(hint));
    }
    if first == OPENAPI {
        if !table.has("api") {
            let diagnostic = Diagnostic::new(key, "asks for what a document says, but the route has no `api`");
            reader.report(diagnostic.hint("write api = \"NAME\" for an [api.NAME]"));
        }
        return Requirement::Nobody;
    }
    if first == "public" {
        return Requirement::Public;
    }
    if first == "certificate" {
        if !known.certificates {
            let diagnostic =
                Diagnostic::new(key, "requires a client certificate, but there is no [client_certificates.NAME]");
            reader.report(diagnostic.hint("add one with `ca` and `hosts`"));
        }
        return Requirement::Certificate;
    }
    if known.methods.is_empty() {
        let diagnostic = Diagnostic::new(key, "requires a token, but there is no [jwt]");
        reader.report(diagnostic.hint("add a [jwt] table, or write require = [\"public\"]"));
    }
    if first == "authenticated" {
        return Requirement::Authenticated;
    }
    for (key, word) in words.iter().filter(|(_, word)| !special(word)) {
        if permission::is_pattern(word) || !permission::is_well_formed(word) {
            let diagnostic = Diagnostic::new(key, format!("{word:?} has a `*`, and a route requires what it names"));
            reader.report(diagnostic.hint("name each permission; roles may have patterns"));
            continue;
        }
        let granted = || known.roles.values().flatten().map(String::as_str);
        if granted().any(|given| permission::gives(given, word)) {
            let named: Vec<&str> = granted().filter(|given| !permission::is_pattern(given)).collect();
            warn_of_likely_slip(key, word, &named, reader);
            continue;
        }
        let diagnostic =
            Diagnostic::new(key, format!("no role grants the permission {word:?}: nobody would have access"));
        let named = granted().filter(|given| !permission::is_pattern(given));
        let words = ["public", "authenticated", "certificate"].into_iter().chain(named);
        reader.report(match closest(word, words) {
            Some(near) => diagnostic.hint(format!("did you mean {near:?}?")),
            None => diagnostic.hint("add it to a role under [roles]"),
        });
    }
    Requirement::Permissions(words.into_iter().map(|(_, word)| word).collect())
}

/// A pattern of a role gives misspelt permissions, too. `named` are the permissions that roles have in full.
fn warn_of_likely_slip(key: &str, word: &str, named: &[&str], reader: &Reader<'_>) {
    if let Some(near) = closest(word, named.iter().copied()).filter(|near| *near != word) {
        let warning = Diagnostic::new(key, format!("{word:?} is given by patterns of roles alone"));
        reader.warn(warning.hint(format!("did you mean {near:?}?")));
    }
}

/// Scopes and claims: what only tokens have.
pub(super) fn of_tokens(
    table: &Table<'_>,
    require: &Requirement,
    authenticate: &Methods,
    known: &RouteReferences<'_>,
    reader: &Reader<'_>,
) -> (Vec<String>, Vec<ClaimCondition>) {
    let scopes = table.list("scopes", described("scope", |value| scope(line(value)?)));
    let claims = issuer::conditions(table.table("claims", issuer::CLAIMS), reader);
    for (key, is_used) in [("scopes", !scopes.is_empty()), ("claims", !claims.is_empty())] {
        let wrong = match require {
            _ if !is_used => continue,
            Requirement::Public | Requirement::Nobody => "has no effect: no token is looked at",
            Requirement::Certificate => "cannot be met: no token is looked at, and certificates have none",
            Requirement::Authenticated | Requirement::Permissions(_) if !known.tokens => {
                "cannot be met: there is no [jwt]"
            }
            _ if !authenticate.may_prove_by_token() => {
                "cannot be met: by `authenticate`, no token says who the client is"
            }
            Requirement::Authenticated | Requirement::Permissions(_) => continue,
        };
        table.report(key, Diagnostic::bare(wrong).hint("write require = [\"authenticated\"], or permissions"));
    }
    (values(scopes), claims)
}

/// One scope (RFC 6749 3.3).
fn scope(text: String) -> Result<String, Diagnostic> {
    let fine = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if text.bytes().all(fine) {
        return Ok(text);
    }
    Err(Diagnostic::bare(format!("{text:?} is no scope")).hint("write one word, as in \"items:read\""))
}
