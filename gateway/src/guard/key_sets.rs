//! What the guard keeps of the keys of issuers: how they are, for operators, and the last good ones in a file, for the
//! next proxy.
//!
//! *Invariant:* only keys of issuers that are configured are kept, at most [`MAX_KEY_SETS`], each bounded. A file that is
//! damaged or missing costs nothing but that: the next proxy begins without keys. A damaged one is set aside.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use crate::{
    guard::state_files::{json_file, set_aside},
    message::{KeptKeys, KeySetReport, MAX_KEY_SETS},
    os::clock,
    policy::auth::jwt::source,
    settings::{auth, jwt::Issuer},
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
    /// It was damaged: what an operator should know.
    finding: Option<String>,
}

impl KeySets {
    /// Reads what an earlier guard kept in `state_dir`.
    pub(crate) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let (kept, finding) = match json_file::read(&path, MAX_FILE) {
            Ok(kept) => (kept, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), None),
            Err(error) => (Vec::new(), Some(without(&path, &error))),
        };
        let kept = kept.into_iter().filter(KeptKeys::fits).take(MAX_KEY_SETS);
        Self { path, kept: kept.map(|keys| (keys.issuer.clone(), keys)).collect(), finding, ..Self::default() }
    }

    /// A proxy tells how the keys of an issuer are.
    pub(crate) fn hear(&mut self, report: KeySetReport, settings: &auth::Settings) {
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
    pub(crate) fn keep(&mut self, keys: KeptKeys, settings: &auth::Settings) {
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
    pub(crate) fn write(&mut self, settings: &auth::Settings) {
        self.reports.retain(|issuer, _| find(settings, issuer).is_some());
        if !std::mem::take(&mut self.is_behind) {
            return;
        }
        self.kept.retain(|issuer, keys| find(settings, issuer).and_then(source).as_deref() == Some(&keys.source));
        let kept: Vec<_> = self.kept.values().collect();
        match json_file::write(&self.path, &kept) {
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
        let failing = self.reports.values().filter(|report| report.failing_since > 0).map(|report| {
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
        });
        self.finding.iter().cloned().chain(failing)
    }
}

/// The issuer of a table, if its keys are fetched.
fn find<'a>(settings: &'a auth::Settings, key: &str) -> Option<&'a Issuer> {
    let issuers = settings.jwt.iter().flat_map(|jwt| &jwt.issuers);
    issuers.into_iter().find(|issuer| issuer.key == key && issuer.keys.fetch().is_some())
}

/// What is said where the file cannot be used.
fn without(path: &Path, error: &io::Error) -> String {
    let why = match set_aside(path) {
        Ok(aside) => format!("and was set aside as {}", aside.display()),
        Err(_unwritable) => "and cannot be set aside".to_owned(),
    };
    let path = path.display();
    let told = format!(
        "{path} cannot be used ({error}) {why}: the next proxy has no keys of issuers until it has fetched them"
    );
    tracing::error!("{told}");
    told
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_damaged_file_is_set_aside_and_told() {
        let folder = std::env::temp_dir().join(format!("gateway-key-sets-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(KeySets::open(&folder).warnings().count(), 0, "there is none");
        fs::write(folder.join(FILE), "[{\"issuer\": \"to").unwrap();
        let told: Vec<_> = KeySets::open(&folder).warnings().collect();
        assert!(told.len() == 1 && told[0].contains("keys.json.damaged-"), "{told:?}");
        assert_eq!(KeySets::open(&folder).warnings().count(), 0, "it was told once");
        fs::remove_dir_all(&folder).unwrap();
    }
}
