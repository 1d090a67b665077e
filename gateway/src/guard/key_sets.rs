//! What the guard keeps of the keys of issuers: how they are, for operators, and the last good ones in a file, for the
//! next proxy.
//!
//! *Invariant:* only keys of issuers that are configured are kept, at most [`MAX_KEY_SETS`], each bounded. A file that is
//! damaged or missing costs nothing but that: the next proxy begins without keys.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    auth::jwt::source,
    clock,
    message::{KeptKeys, KeySetReport, MAX_KEY_SETS},
    settings::{auth::Settings, jwt::Issuer},
};

/// The file in the state folder.
const FILE: &str = "keys.json";

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 32 * 1024 * 1024;

/// What the guard keeps of the keys of issuers.
#[derive(Debug, Default)]
pub(crate) struct KeySets {
    path: PathBuf,
    kept: BTreeMap<String, KeptKeys>,
    reports: BTreeMap<String, KeySetReport>,
    /// The file has not what is kept.
    is_behind: bool,
    /// It could not be written; told once.
    failed: bool,
}

impl KeySets {
    /// Reads what an earlier guard kept in `state_dir`.
    pub(crate) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let kept = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(file = %path.display(), %error, "the kept keys of issuers cannot be read");
            }
            Vec::new()
        });
        let kept = kept.into_iter().filter(KeptKeys::fits).take(MAX_KEY_SETS);
        Self { path, kept: kept.map(|keys| (keys.issuer.clone(), keys)).collect(), ..Self::default() }
    }

    /// A proxy tells how the keys of an issuer are.
    pub(crate) fn hear(&mut self, report: KeySetReport, settings: &Settings) {
        if find(settings, &report.issuer).is_none() {
            return;
        }
        if let Some(kept) = self.kept.get_mut(&report.issuer)
            && report.confirmed > kept.confirmed
        {
            kept.confirmed = report.confirmed;
            self.is_behind = true;
        }
        self.reports.insert(report.issuer.clone(), report);
    }

    /// A proxy hands over the last good keys of an issuer.
    pub(crate) fn keep(&mut self, keys: KeptKeys, settings: &Settings) {
        let is_its = |issuer: &Issuer| source(issuer).as_deref() == Some(&keys.source);
        let has_room = self.kept.len() < MAX_KEY_SETS || self.kept.contains_key(&keys.issuer);
        if has_room && find(settings, &keys.issuer).is_some_and(is_its) {
            self.kept.insert(keys.issuer.clone(), keys);
            self.is_behind = true;
        }
    }

    /// The keys for a proxy that begins.
    pub(crate) fn for_proxy(&self) -> Vec<KeptKeys> {
        self.kept.values().cloned().collect()
    }

    /// Writes the file if it has not what is kept. To be called every second.
    pub(crate) fn write(&mut self, settings: &Settings) {
        self.reports.retain(|issuer, _| find(settings, issuer).is_some());
        if !std::mem::take(&mut self.is_behind) {
            return;
        }
        self.kept.retain(|issuer, keys| find(settings, issuer).and_then(source).as_deref() == Some(&keys.source));
        let kept: Vec<_> = self.kept.values().collect();
        match write(&self.path, &kept) {
            Ok(()) => self.failed = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    let file = self.path.display();
                    tracing::warn!(%file, %error, "the keys of issuers cannot be kept: a restart begins without them");
                }
            }
        }
    }

    /// How the keys are, by issuer.
    pub(crate) fn reports(&self) -> Vec<KeySetReport> {
        self.reports.values().cloned().collect()
    }

    /// What an operator should know of them.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        self.reports.values().filter(|report| report.failing_since > 0).map(|report| {
            let KeySetReport { issuer, source, why, usable, confirmed, .. } = report;
            let since = clock::rfc3339(report.failing_since);
            let so = match (*usable, *confirmed) {
                (true, confirmed) => format!("tokens are verified by the keys of {}", clock::rfc3339(confirmed)),
                (false, 0) => "its tokens are answered 503: there were no keys yet".to_owned(),
                (false, confirmed) => {
                    format!("its tokens are answered 503: the last keys are of {}", clock::rfc3339(confirmed))
                }
            };
            format!("{issuer}: the keys at {source} cannot be fetched since {since}: {why}; {so}")
        })
    }
}

/// The issuer of a table, if its keys are fetched.
fn find<'a>(settings: &'a Settings, key: &str) -> Option<&'a Issuer> {
    let issuers = settings.jwt.iter().flat_map(|jwt| &jwt.issuers);
    issuers.into_iter().find(|issuer| issuer.key == key && issuer.keys.fetch().is_some())
}

fn read(path: &Path) -> io::Result<Vec<KeptKeys>> {
    let found = fs::metadata(path)?;
    if !found.is_file() || found.len() > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no file of a size that was written here"));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// As a whole, or not at all.
fn write(path: &Path, kept: &[&KeptKeys]) -> io::Result<()> {
    let next = path.with_extension("json.new");
    fs::write(&next, serde_json::to_vec(kept)?)?;
    fs::rename(&next, path)
}
