//! Tokens by which operators command the gateway over the admin listener: who has one, with which roles, until when.
//!
//! *Invariant:* a token is known by its hash alone, and ends by itself. It is in force once it is on the disk; one that is
//! revoked is out of force at once, whatever the disk does. A file that cannot be read lets nobody in.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::{digest, rand};
use data_encoding::BASE64URL_NOPAD;
use gateway_common::limit::{ArrivalTime, Rate};
use tokio::sync::oneshot;

use crate::{
    config,
    guard::{
        control::{AdminToken, ControlAnswer, NewAdminToken},
        state_files::set_aside,
    },
    os::clock::{Now, SECOND, rfc3339},
    settings::operators::Roles,
};

mod file;

use file::Stored;

/// What every token begins with: programs that look for secrets in files know them by that.
const PREFIX: &str = "gwat_";

/// How many random bytes a token has: nobody guesses one.
const RANDOM: usize = 32;

/// The most tokens.
const MOST: usize = 1_000;

/// The longest life of a token, in seconds.
pub const LONGEST: u64 = 366 * 86_400;

/// How many tokens that are none get an answer of their own: one a second, and 20 at once. Whoever sends more is told to
/// wait. A token that is one is never kept waiting: nobody locks an operator out by guessing.
const FAILURES: Rate = Rate { interval: SECOND, burst: 20 * SECOND };

/// All tokens.
pub(crate) struct AdminTokens {
    path: PathBuf,
    in_force: Arc<Mutex<BTreeMap<String, Token>>>,
    /// Whoever writes the file; the state in force is not held meanwhile.
    writing: Arc<Mutex<()>>,
    failures: ArrivalTime,
    /// What an operator should know.
    damage: Option<String>,
}

struct Token {
    stored: Stored,
    /// Milliseconds since 1970; `None`: not since the guard started.
    used: Option<u64>,
}

/// Whoever has a token that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) name: String,
    pub(crate) roles: Roles,
}

/// Why a token lets nobody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoHolder {
    /// It was one.
    Expired { name: String, expired: String },
    /// Too many were none lately.
    TooMany,
    /// It is none, or none any more.
    Unknown,
}

impl AdminTokens {
    /// Reads those of a state folder.
    pub(crate) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(file::NAME);
        let mut damage = None;
        let read = file::read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                damage = Some(without(&path, &error));
            }
            Vec::new()
        });
        if let Some(damage) = &damage {
            tracing::error!("{damage}");
        }
        let tokens = read.into_iter().map(|stored| (stored.name.clone(), Token { stored, used: None }));
        Self { path, in_force: Arc::new(Mutex::new(tokens.collect())), writing: Arc::default(), failures: 0, damage }
    }

    /// What an operator should know.
    pub(crate) fn warning(&self) -> Option<String> {
        self.damage.clone()
    }

    /// Whose the token with this hash is.
    ///
    /// # Errors
    /// It lets nobody in.
    pub(crate) fn find(&mut self, hash: &[u8; 32], now: Now) -> Result<Holder, NoHolder> {
        let mut tokens = lock(&self.in_force);
        // A hash of so many random bytes tells nothing to whoever times the comparison.
        let found = tokens.values_mut().find(|token| token.stored.hash == *hash);
        let refusal = match found {
            Some(token) if token.stored.expires > now.unix_seconds() => {
                token.used = Some(now.unix_millis);
                return Ok(Holder { name: token.stored.name.clone(), roles: token.stored.roles.clone() });
            }
            Some(token) => {
                let (name, expired) = (token.stored.name.clone(), moment(token.stored.expires));
                NoHolder::Expired { name, expired }
            }
            None => NoHolder::Unknown,
        };
        match FAILURES.spend(self.failures, now.monotonic, 1) {
            Some(next) => {
                self.failures = next;
                Err(refusal)
            }
            None => Err(NoHolder::TooMany),
        }
    }

    /// All of them.
    pub(crate) fn list(&self, now: Now) -> Vec<AdminToken> {
        let tokens = lock(&self.in_force);
        let tokens = tokens.values().map(|Token { stored, used }| AdminToken {
            name: stored.name.clone(),
            roles: stored.roles.clone(),
            created: moment(stored.created),
            by: stored.by.clone(),
            expires: moment(stored.expires),
            expired: stored.expires <= now.unix_seconds(),
            used: used.map(rfc3339),
        });
        tokens.collect()
    }

    /// Makes a token, if it may be made.
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) fn draw(
        &self,
        name: &str,
        roles: &Roles,
        seconds: u64,
        by: String,
        now: Now,
    ) -> Result<Drawn, ControlAnswer> {
        let refused = |code: &str, message: String| Err(ControlAnswer::Refused { code: code.to_owned(), message });
        if !config::is_name(name) || roles.is_empty() || !(1..=LONGEST).contains(&seconds) {
            let message = "a token has a name of 1 to 64 letters, digits, \"-\" or \"_\", a role or more, and lives for at \
                           most 366d";
            return refused("bad_request", message.to_owned());
        }
        {
            let tokens = lock(&self.in_force);
            let is_left = |token: &Token| token.stored.expires > now.unix_seconds();
            if tokens.get(name).is_some_and(is_left) {
                let message =
                    format!("there is a token {name}: `gateway admin-token revoke {name}`, or use another name");
                return refused("exists", message);
            }
            if tokens.values().filter(|token| is_left(token)).count() >= MOST {
                return refused("full", format!("there are {MOST} tokens: revoke some"));
            }
        }
        let mut random = [0; RANDOM];
        if rand::fill(&mut random).is_err() {
            return refused("no_randomness", "the machine has no randomness: try again".to_owned());
        }
        let token = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&random));
        let created = now.unix_seconds();
        let expires = created.saturating_add(seconds);
        let stored = Stored { name: name.to_owned(), hash: hash(&token), roles: roles.clone(), created, expires, by };
        Ok(Drawn { stored, token })
    }

    /// Puts a token in force once it is on the disk, beside the guard's loop; then answers.
    pub(crate) fn grant(&self, drawn: Drawn, answer: oneshot::Sender<ControlAnswer>) {
        let (path, in_force, writing) = (self.path.clone(), Arc::clone(&self.in_force), Arc::clone(&self.writing));
        tokio::task::spawn_blocking(move || {
            let _turn = writing.lock().unwrap_or_else(PoisonError::into_inner);
            let Drawn { stored, token } = drawn;
            // What has expired makes room.
            let mut tokens = stored_of(&in_force);
            tokens.retain(|other| other.expires > stored.created && other.name != stored.name);
            tokens.push(stored.clone());
            let answered = match file::write(&path, &tokens) {
                Err(error) => unwritable(&path, &error, "the token is not in force"),
                Ok(()) => {
                    let (name, roles, expires) = (stored.name.clone(), stored.roles.clone(), moment(stored.expires));
                    let mut in_force = lock(&in_force);
                    in_force.retain(|_name, token| token.stored.expires > stored.created);
                    in_force.insert(name.clone(), Token { stored, used: None });
                    ControlAnswer::AdminToken(Box::new(NewAdminToken { name, token, roles, expires }))
                }
            };
            tell(answer, answered);
        });
    }

    /// Ends a token at once, and answers once that is on the disk. `false`: there is none.
    pub(crate) fn revoke(&self, name: &str, answer: oneshot::Sender<ControlAnswer>) -> bool {
        if lock(&self.in_force).remove(name).is_none() {
            let message = format!("there is no token {name:?}; `gateway admin-token list` shows all");
            tell(answer, ControlAnswer::Refused { code: "not_found".to_owned(), message });
            return false;
        }
        let (path, in_force, writing) = (self.path.clone(), Arc::clone(&self.in_force), Arc::clone(&self.writing));
        let name = name.to_owned();
        tokio::task::spawn_blocking(move || {
            let _turn = writing.lock().unwrap_or_else(PoisonError::into_inner);
            let answered = match file::write(&path, &stored_of(&in_force)) {
                Ok(()) => ControlAnswer::Done { message: format!("the token {name} is revoked"), changed: 1 },
                Err(error) => unwritable(&path, &error, "the token is revoked until the guard restarts, and no longer"),
            };
            tell(answer, answered);
        });
        true
    }
}

/// A token that is not in force yet.
pub(crate) struct Drawn {
    stored: Stored,
    token: String,
}

/// The hash by which a token is known.
pub(crate) fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    hash
}

fn lock(tokens: &Mutex<BTreeMap<String, Token>>) -> MutexGuard<'_, BTreeMap<String, Token>> {
    tokens.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stored_of(tokens: &Mutex<BTreeMap<String, Token>>) -> Vec<Stored> {
    lock(tokens).values().map(|token| token.stored.clone()).collect()
}

fn moment(seconds: u64) -> String {
    rfc3339(seconds.saturating_mul(1_000))
}

fn tell(to: oneshot::Sender<ControlAnswer>, answer: ControlAnswer) {
    if to.send(answer).is_err() {
        tracing::debug!("a control client did not wait for its answer");
    }
}

fn unwritable(path: &Path, error: &io::Error, what: &str) -> ControlAnswer {
    let message = format!("{what}: {} cannot be written: {error}", path.display());
    tracing::error!("{message}");
    ControlAnswer::Refused { code: "not_written".to_owned(), message }
}

/// What is said where the file cannot be used.
fn without(path: &Path, error: &io::Error) -> String {
    let why = match set_aside(path) {
        Ok(aside) => format!("and was set aside as {}", aside.display()),
        Err(_unwritable) => "and cannot be set aside".to_owned(),
    };
    format!(
        "{} cannot be used ({error}) {why}: no token of the admin listener is in force; make new ones",
        path.display()
    )
}

#[cfg(test)]
mod tests;
