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

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use data_encoding::HEXLOWER;

use super::finding::Finding;
use crate::guard::state_files::{KEY, LOG, PUBLIC, set_aside};

/// More than a key takes.
const LONGEST: u64 = 4_096;

/// The key that signs, and the public halves of all that ever did.
#[derive(Debug)]
pub(super) struct Key {
    pair: Ed25519KeyPair,
    /// What is to be written to [`KEY`]; `None`: it is there.
    unkept: Option<Vec<u8>>,
    public: PublicKeys,
    /// It is a new one in the place of one that was lost.
    pub(super) replaces: bool,
    /// Nothing is written, and nothing signed.
    read_only: bool,
}

/// Public halves.
#[derive(Clone, Debug, Default)]
pub(super) struct PublicKeys(Vec<Vec<u8>>);

impl PublicKeys {
    /// Reads them; an error that says what is wrong.
    pub(super) fn read(state_dir: &Path) -> Result<Self, String> {
        let text =
            fs::read_to_string(state_dir.join(PUBLIC)).map_err(|error| format!("{PUBLIC} cannot be read: {error}"))?;
        let keys = text.lines().map(|line| HEXLOWER.decode(line.trim().as_bytes()));
        let keys: Vec<Vec<u8>> =
            keys.collect::<Result<_, _>>().map_err(|error| format!("{PUBLIC} is not hexadecimal: {error}"))?;
        if keys.is_empty() {
            return Err(format!("{PUBLIC} is empty"));
        }
        Ok(Self(keys))
    }

    /// Whether one of them made this signature.
    pub(super) fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        self.0.iter().any(|key| UnparsedPublicKey::new(&ED25519, key).verify(text, signature).is_ok())
    }
}

impl Key {
    /// Reads the key of a state folder, or makes one.
    ///
    /// # Errors
    /// None can be made.
    pub(super) fn open(state_dir: &Path) -> io::Result<(Self, Vec<Finding>)> {
        let path = state_dir.join(KEY);
        let had_chain = fs::metadata(state_dir.join(LOG)).is_ok_and(|found| found.len() > 0);
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
            findings.push(Finding::new("key_replaced", text));
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

    /// Whether a key that is known made this signature.
    pub(super) fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        self.public.verify(text, signature)
    }

    /// Writes the key down, if it is not yet: whole, or not at all.
    fn keep(&mut self, state_dir: &Path) {
        let Some(bytes) = &self.unkept else { return };
        let (path, new) = (state_dir.join(KEY), state_dir.join(format!("{KEY}.new")));
        let write = || {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        match write() {
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
        if self.public.0.contains(&own) {
            return;
        }
        let path = state_dir.join(PUBLIC);
        if path.is_dir() || path.exists() && self.public.0.is_empty() {
            drop(set_aside(&path));
        }
        self.public.0.push(own);
        let text: String = self.public.0.iter().map(|key| HEXLOWER.encode(key) + "\n").collect();
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
fn exposed(path: &Path) -> Option<Finding> {
    let found = fs::metadata(path).ok()?;
    let owner = nix::unistd::geteuid().as_raw();
    let what = if found.uid() != owner {
        format!("belongs to user {}", found.uid())
    } else if found.mode() & 0o077 != 0 {
        format!("may be read by others (mode {:03o})", found.mode() & 0o777)
    } else {
        return None;
    };
    Some(Finding::new("key_exposed", format!("{} {what}: its signatures prove nothing", path.display())))
}
