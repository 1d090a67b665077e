//! The key of a machine: by its signature the other machines know whose word it is.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use aws_lc_rs::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use data_encoding::BASE64;
use zeroize::Zeroizing;

use crate::{diagnostic::Diagnostic, settings::cluster};

/// More than a key takes.
const LONGEST: u64 = 4_096;

/// How many bytes a secret has that is made here.
const SECRET: usize = 32;

/// Makes a key for this machine, in a file that only its owner can read.
///
/// # Errors
/// The file is there already, or cannot be written.
pub fn make_key(path: &Path) -> io::Result<String> {
    let unspecified = |_unspecified| io::Error::other("the machine has no randomness");
    let fresh = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(unspecified)?;
    let pair = Ed25519KeyPair::from_pkcs8(fresh.as_ref()).map_err(io::Error::other)?;
    write(path, fresh.as_ref())?;
    Ok(public(&pair))
}

/// Makes a secret for a cluster, in a file that only its owner can read.
///
/// # Errors
/// The file is there already, or cannot be written.
pub fn make_secret(path: &Path) -> io::Result<()> {
    let mut secret = Zeroizing::new([0; SECRET]);
    SystemRandom::new().fill(&mut *secret).map_err(|_unspecified| io::Error::other("the machine has no randomness"))?;
    write(path, &*secret)
}

/// The public half of the key in a file, as `[cluster.nodes]` has it.
///
/// # Errors
/// There is no key.
pub fn public_key(path: &Path) -> io::Result<String> {
    read(path).map(|pair| public(&pair))
}

/// Whether the key of this machine is there, and the one that the others know.
///
/// Says everything that is wrong with it.
pub(crate) fn judge(settings: &cluster::Settings) -> Vec<Diagnostic> {
    let path = settings.key_file.display();
    let wrong = |what: String| Diagnostic::new("cluster.key_file", format!("{path} {what}"));
    let pair = match read(&settings.key_file) {
        Ok(pair) => pair,
        Err(error) => {
            let wrong = wrong(format!("cannot be used: {error}"));
            return vec![wrong.hint(format!("make a key: gateway cluster key new {path}"))];
        }
    };
    let mut faults = Vec::new();
    let own = settings.nodes.iter().find(|node| node.name == settings.node);
    if own.is_some_and(|own| own.key != pair.public_key().as_ref()) {
        let public = public(&pair);
        let wrong = wrong(format!("has another public key than {:?} in [cluster.nodes]", settings.node));
        faults.push(wrong.hint(format!("write `{} = \"{public}\"` there, on every machine", settings.node)));
    }
    let mode = fs::metadata(&settings.key_file).map_or(0, |found| found.permissions().mode());
    if mode & 0o077 != 0 {
        let wrong = wrong(format!("may be read by others (mode {:04o})", mode & 0o7777));
        faults.push(wrong.hint(format!("chmod 0600 {path}; make another key if others may have read it")));
    }
    faults
}

pub(super) fn read(path: &Path) -> io::Result<Ed25519KeyPair> {
    let mut bytes = Zeroizing::new(Vec::new());
    fs::File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
    Ed25519KeyPair::from_pkcs8(&bytes)
        .map_err(|_rejected| io::Error::new(io::ErrorKind::InvalidData, "it is no Ed25519 key in PKCS#8"))
}

fn public(pair: &Ed25519KeyPair) -> String {
    format!("ed25519:{}", BASE64.encode(pair.public_key().as_ref()))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
