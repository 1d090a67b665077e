//! The secret that keys of counters are made with. It stays the same, so that keys on the disk are those of requests.

use std::{fs, io, path::Path};

use super::store;
use crate::guard::state_files::{secret, set_aside};

/// The file in the state folder.
pub(crate) const FILE: &str = "counters.key";

/// The secret of a state folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seed {
    /// `None`: it can be neither read nor made, and counts of quotas do not survive a restart.
    pub(crate) secret: Option<[u8; 16]>,
    /// What an operator should know: counts were lost.
    pub(crate) finding: Option<String>,
}

/// The secret of this state folder, made where there is none.
pub(crate) fn open(state_dir: &Path) -> Seed {
    let path = state_dir.join(FILE);
    let lost = match fs::read(&path).map(<[u8; 16]>::try_from) {
        Ok(Ok(secret)) => return Seed { secret: Some(secret), finding: None },
        Ok(Err(bytes)) => Some(format!("has {} bytes instead of 16", bytes.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::error!(%error, file = FILE, "it cannot be read: what was used up of quotas is not known");
            return Seed { secret: None, finding: None };
        }
    };
    // Whoever puts it back from a backup finds what it was.
    let aside = lost.as_ref().map(|_| set_aside(&path));
    let made = secret::make(&path)
        .inspect_err(|error| tracing::error!(%error, file = FILE, "counts of quotas will not survive a restart"));
    // Where nothing was ever counted, nothing is lost: it is the first start, or the disk was full at the first start.
    let finding = state_dir.join(store::FILE).exists().then(|| {
        let aside = aside.and_then(Result::ok).map(|aside| format!(", and was set aside as {}", aside.display()));
        let (lost, aside) = (lost.as_deref().unwrap_or("is missing"), aside.unwrap_or_default());
        let finding = format!(
            "{} {lost}{aside}: quotas begin anew, as {} cannot be read without it; stop the gateway and restore it from a \
             backup, or set what was used by `gateway quota set`",
            path.display(),
            store::FILE
        );
        tracing::error!("{finding}");
        finding
    });
    Seed { secret: made.ok(), finding }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_and_what_is_lost_is_told() {
        let folder = std::env::temp_dir().join(format!("gateway-seed-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let first = open(&folder);
        assert!(first.secret.is_some() && first.finding.is_none(), "{first:?}");
        assert_eq!(open(&folder), first);
        // Nothing was counted yet.
        fs::write(folder.join(FILE), b"cut").unwrap();
        let second = open(&folder);
        assert!(second.secret != first.secret && second.finding.is_none() && open(&folder) == second, "{second:?}");
        fs::write(folder.join(store::FILE), b"counts").unwrap();
        for (what, is_missing) in [("has 3 bytes instead of 16, and was set aside", false), ("is missing: ", true)] {
            if is_missing {
                fs::remove_file(folder.join(FILE)).unwrap();
            } else {
                fs::write(folder.join(FILE), b"cut").unwrap();
            }
            let Seed { secret, finding } = open(&folder);
            let finding = finding.unwrap();
            assert!(finding.contains(what) && finding.contains("quotas begin anew"), "{finding}");
            assert_eq!(open(&folder), Seed { secret, finding: None }, "told once");
        }
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(open(&folder), Seed { secret: None, finding: None }, "there is no folder");
    }
}
