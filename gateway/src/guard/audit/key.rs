//! The key that signs the audit chain's checkpoints, and the public halves of all that ever did.
//!
//! *Invariant:* the public halves of earlier keys stay in [`PUBLIC`], a line each, so that what they signed can still be
//! verified. A key that was lost is never made up for in silence.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use super::{files::has_records, finding::AuditFinding, public_keys::PublicKeys};
use crate::guard::state_files::{KEY, PUBLIC, set_aside};

/// Where a key is kept that is not in force yet.
const NEW: &str = "audit.key.new";

/// More than a key takes.
const LONGEST: u64 = 4_096;

/// The key that signs, and the public halves of all that ever did.
#[derive(Debug)]
pub(super) struct SigningKey {
    pair: Ed25519KeyPair,
    /// What is to be written to [`KEY`]; `None`: it is there.
    unkept: Option<Vec<u8>>,
    public: PublicKeys,
    /// It is a new one in the place of one that was lost.
    pub(super) replaces: bool,
    /// Nothing is written, and nothing signed.
    read_only: bool,
}

impl SigningKey {
    /// Reads the key of a state folder, or makes one.
    ///
    /// # Errors
    /// None can be made.
    pub(super) fn open(state_dir: &Path) -> io::Result<(Self, Vec<AuditFinding>)> {
        let path = state_dir.join(KEY);
        let had_chain = has_records(state_dir);
        let mut findings = Vec::new();
        let why = match read(&path) {
            Ok(pair) => {
                findings.extend(exposed(&path));
                let public = PublicKeys::read(state_dir).unwrap_or_default();
                let mut key = Self { pair, unkept: None, public, replaces: false, read_only: false };
                key.publish(state_dir);
                return Ok((key, findings));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => "is missing".to_owned(),
            Err(error) => match set_aside(&path) {
                Ok(aside) => format!("cannot be used ({error}) and was set aside as {}", aside.display()),
                Err(_unwritable) => format!("cannot be used ({error})"),
            },
        };
        let (pair, fresh) = generate()?;
        let public = PublicKeys::read(state_dir).unwrap_or_default();
        let mut key = Self { pair, unkept: Some(fresh), public, replaces: had_chain, read_only: false };
        if had_chain {
            let text = format!(
                "{} {why}: another key signs from here on, and nothing vouches for records since the last checkpoint \
                 of the one before",
                path.display()
            );
            findings.push(AuditFinding::new("key_replaced", text));
        }
        key.keep(state_dir);
        Ok((key, findings))
    }

    /// What is there, for whoever signs nothing.
    ///
    /// # Errors
    /// None can be made.
    pub(super) fn read_only(state_dir: &Path) -> io::Result<Self> {
        let public = PublicKeys::read(state_dir).unwrap_or_default();
        let (pair, is_lost) = match read(&state_dir.join(KEY)) {
            Ok(pair) => (pair, false),
            Err(_lost) => (generate()?.0, true),
        };
        Ok(Self { pair, unkept: None, public, replaces: is_lost, read_only: true })
    }

    /// Signs a text; `None` while the key cannot be kept.
    pub(super) fn sign(&mut self, state_dir: &Path, text: &[u8]) -> Option<Vec<u8>> {
        if self.read_only {
            return None;
        }
        self.keep(state_dir);
        self.unkept.is_none().then(|| self.pair.sign(text).as_ref().to_vec())
    }

    /// The public halves of all that ever signed.
    pub(super) const fn public(&self) -> &PublicKeys {
        &self.public
    }

    /// Its own public half.
    pub(super) fn own(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The next key, kept beside this one until [`Self::replace`]: a crash between leaves both.
    ///
    /// # Errors
    /// It cannot be kept, or nothing is signed here.
    pub(super) fn next(&self, state_dir: &Path) -> io::Result<NextKey> {
        if self.read_only || self.unkept.is_some() {
            return Err(io::Error::other("the key that is there cannot be kept, so that none takes its place"));
        }
        let (pair, bytes) = generate()?;
        write_key(state_dir, &bytes)?;
        Ok(NextKey(pair))
    }

    /// Puts the next key in the place of this one, once the chain names it.
    pub(super) fn replace(&mut self, NextKey(pair): NextKey, state_dir: &Path) {
        self.pair = pair;
        let (path, new) = (state_dir.join(KEY), state_dir.join(NEW));
        if let Err(error) = fs::rename(new, path) {
            // The next start finishes it: the chain names this key.
            tracing::error!(%error, "the next key of the audit chain is not in its place yet");
        }
        self.publish(state_dir);
    }

    /// Finishes what a crash has left half done: the chain names a key that is still beside the one before.
    pub(super) fn settle(&mut self, named: &[u8], state_dir: &Path) {
        if self.own() == named || self.read_only {
            return;
        }
        match read(&state_dir.join(NEW)) {
            Ok(pair) if pair.public_key().as_ref() == named => self.replace(NextKey(pair), state_dir),
            _ => tracing::error!("the chain names a key that is not there: what is signed now is not believed"),
        }
    }

    /// Writes the key down, if it is not yet: whole, or not at all.
    fn keep(&mut self, state_dir: &Path) {
        let Some(bytes) = &self.unkept else { return };
        let kept = write_key(state_dir, bytes).and_then(|()| fs::rename(state_dir.join(NEW), state_dir.join(KEY)));
        match kept {
            Ok(()) => {
                self.unkept = None;
                self.publish(state_dir);
            }
            Err(error) => tracing::error!(%error, "the key of the audit chain cannot be kept: nothing is signed"),
        }
    }

    /// Adds the public half to those that are known.
    fn publish(&mut self, state_dir: &Path) {
        let own = self.pair.public_key().as_ref().to_vec();
        if self.public.has(&own) {
            return;
        }
        let path = state_dir.join(PUBLIC);
        if path.is_dir() || path.exists() && self.public.is_empty() {
            drop(set_aside(&path));
        }
        self.public.add(own);
        let text = self.public.to_text();
        let new = state_dir.join(format!("{PUBLIC}.new"));
        let write = || {
            fs::write(&new, text)?;
            fs::set_permissions(&new, Permissions::from_mode(0o644))?;
            fs::rename(&new, &path)
        };
        if let Err(error) = write() {
            tracing::error!(%error, "the public key of the audit chain cannot be written");
        }
    }
}

/// The key that is next.
pub(super) struct NextKey(Ed25519KeyPair);

impl NextKey {
    pub(super) fn public(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    pub(super) fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.0.sign(text).as_ref().to_vec()
    }
}

/// Writes a key beside the one that is in force, to the disk.
fn write_key(state_dir: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = state_dir.join(NEW);
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(new)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn generate() -> io::Result<(Ed25519KeyPair, Vec<u8>)> {
    let unspecified = |_unspecified| io::Error::other("no key could be generated");
    let fresh = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).map_err(unspecified)?;
    Ok((Ed25519KeyPair::from_pkcs8(fresh.as_ref()).map_err(io::Error::other)?, fresh.as_ref().to_vec()))
}

fn read(path: &Path) -> io::Result<Ed25519KeyPair> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
    Ed25519KeyPair::from_pkcs8(&bytes)
        .map_err(|_rejected| io::Error::new(io::ErrorKind::InvalidData, "it is no Ed25519 key in PKCS#8"))
}

/// Whoever else can read the key can sign whatever he likes.
fn exposed(path: &Path) -> Option<AuditFinding> {
    let found = fs::metadata(path).ok()?;
    let owner = nix::unistd::geteuid().as_raw();
    let what = if found.uid() != owner {
        format!("belongs to user {}", found.uid())
    } else if found.mode() & 0o077 != 0 {
        format!("may be read by others (mode {:03o})", found.mode() & 0o777)
    } else {
        return None;
    };
    Some(AuditFinding::new("key_exposed", format!("{} {what}: its signatures prove nothing", path.display())))
}
