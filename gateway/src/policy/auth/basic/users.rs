//! Reads the users and the hashes of their passwords: a file as htpasswd writes it.

use std::{collections::HashMap, sync::Arc};

use super::hash::PasswordHash;
use crate::{
    diagnostic::Diagnostic,
    policy::auth::identity::{self, Identity},
    settings::{auth::Method, basic},
    text::counted::counted,
};

/// The longest name, in bytes.
const MAX_NAME: usize = 255;

/// How many faults of one file are told.
const TOLD: usize = 10;

/// The users.
pub(super) struct Users {
    by_name: HashMap<Box<str>, User>,
    /// The hashes of all of them: what the passwords of unknown users are compared with.
    hashes: Vec<Arc<PasswordHash>>,
}

/// One user.
pub(super) struct User {
    pub(super) hash: Arc<PasswordHash>,
    pub(super) identity: Arc<Identity>,
}

impl Users {
    /// Reads the file.
    ///
    /// # Errors
    /// Its first faults, each with its line, under the key `users`.
    pub(super) fn read(settings: &basic::Settings) -> Result<Self, Vec<Diagnostic>> {
        let fault = |line: usize, what: String| Diagnostic::new("users", format!("line {line}: {what}"));
        let (mut by_name, mut hashes, mut faults) = (HashMap::new(), Vec::new(), Vec::new());
        for (index, line) in settings.users.bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            match one(line) {
                Ok((name, _)) if by_name.contains_key(name) => {
                    let what = "the user is there a second time".to_owned();
                    faults.push(fault(index + 1, what).hint("keep the line whose password counts"));
                }
                Ok((name, hash)) => {
                    let hash = Arc::new(hash);
                    let identity = Arc::new(identity_of(name, settings));
                    hashes.push(Arc::clone(&hash));
                    by_name.insert(name.into(), User { hash, identity });
                }
                Err((what, hint)) => faults.push(fault(index + 1, what).hint(hint)),
            }
        }
        if faults.is_empty() {
            return Ok(Self { by_name, hashes });
        }
        let more = faults.len().saturating_sub(TOLD);
        faults.truncate(TOLD);
        if more > 0 {
            faults.push(Diagnostic::new("users", format!("{more} more lines cannot be used")));
        }
        Err(faults)
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn find(&self, name: &str) -> Option<&User> {
        self.by_name.get(name)
    }

    /// What the password of an unknown user is compared with, so that it takes as long as it would for one of the known
    /// ones: always the same for the same `number`. `None`: there are no users.
    pub(super) fn decoy(&self, number: u64) -> Option<&Arc<PasswordHash>> {
        let count = u64::try_from(self.hashes.len()).ok().filter(|count| *count > 0)?;
        self.hashes.get(usize::try_from(number % count).ok()?)
    }

    /// What works and is unwise.
    pub(super) fn warnings(&self, settings: &basic::Settings) -> Vec<Diagnostic> {
        let mut warnings = Vec::new();
        if self.by_name.is_empty() {
            warnings
                .push(Diagnostic::new("users", "there is no user").hint("add one by `htpasswd -B -C 12 FILE NAME`"));
        }
        let weak = self.by_name.values().filter(|user| user.hash.is_weak()).count();
        if weak > 0 {
            let message = counted(
                weak,
                "password is hashed so cheaply that it can be guessed from the file",
                "passwords are hashed so cheaply that they can be guessed from the file",
            );
            warnings.push(Diagnostic::new("users", message).hint("hash them by `htpasswd -B -C 12 FILE NAME`"));
        }
        let unknown = settings.roles.keys().filter(|name| !self.by_name.contains_key(name.as_str()));
        for name in unknown.take(TOLD) {
            let message = format!("there is no user {name:?}");
            let warning = Diagnostic::new("roles", message);
            warnings.push(warning.hint(format!("add it to {}, or leave it out", settings.users.path.display())));
        }
        warnings
    }
}

/// Name and hash of one line.
fn one(line: &[u8]) -> Result<(&str, PasswordHash), (String, &'static str)> {
    const FORM: &str = "write NAME:HASH, as `htpasswd -nB NAME` does";
    let line = std::str::from_utf8(line).map_err(|_error| ("is not in UTF-8".to_owned(), FORM))?;
    let (name, hash) = line.split_once(':').ok_or_else(|| ("has no colon".to_owned(), FORM))?;
    if !identity::is_name(name) || name.len() > MAX_NAME {
        return Err(("the name is empty, too long, or has characters that cannot be seen".to_owned(), FORM));
    }
    // What comes after another colon is a comment to some programs, and a part of the hash to others.
    let hash = PasswordHash::read(hash)?;
    Ok((name, hash))
}

fn identity_of(name: &str, settings: &basic::Settings) -> Identity {
    let roles = settings.roles.get(name).unwrap_or(&settings.default_roles);
    let roles = roles.iter().map(|role| role.as_str().into()).collect();
    Identity::proved_otherwise(Method::Basic, format!("basic:{name}").into(), roles, u64::MAX)
}
