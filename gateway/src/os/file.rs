//! A file that the configuration names, with its content.

use std::{fmt, path::PathBuf, sync::Arc};

/// A file that the configuration names, and what was in it when the configuration was read.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// As the configuration names it, relative paths resolved against the configuration's folder.
    pub path: PathBuf,
    /// Its content. May be a secret: never printed.
    pub bytes: Arc<[u8]>,
}

impl fmt::Debug for NamedFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} ({} bytes)", self.path, self.bytes.len())
    }
}

/// Keeps what a test reads where that is asked for: a fuzzer begins with it.
#[cfg(test)]
pub(crate) fn seed(bytes: &[u8]) {
    if let Some(folder) = std::env::var_os("GATEWAY_FUZZ_SEEDS").map(PathBuf::from) {
        let name = bytes.iter().fold(0_u64, |hash, &byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        std::fs::write(folder.join(format!("seed-{name:016x}")), bytes).unwrap();
    }
}

/// Writes a file with its content: for what one process hands to another, and nothing else.
pub(crate) mod whole {
    use std::path::PathBuf;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::NamedFile;

    pub(crate) fn serialize<S: Serializer>(file: &NamedFile, serializer: S) -> Result<S::Ok, S::Error> {
        (&file.path, &*file.bytes).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NamedFile, D::Error> {
        let (path, bytes) = <(PathBuf, Vec<u8>)>::deserialize(deserializer)?;
        Ok(NamedFile { path, bytes: bytes.into() })
    }

    /// The same for a file that may be missing.
    pub(crate) mod optional {
        use super::{Deserializer, NamedFile, PathBuf, Serializer};
        use serde::{Deserialize as _, Serialize as _};

        pub(crate) fn serialize<S: Serializer>(file: &Option<NamedFile>, serializer: S) -> Result<S::Ok, S::Error> {
            file.as_ref().map(|file| (&file.path, &*file.bytes)).serialize(serializer)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NamedFile>, D::Error> {
            let file = Option::<(PathBuf, Vec<u8>)>::deserialize(deserializer)?;
            Ok(file.map(|(path, bytes)| NamedFile { path, bytes: bytes.into() }))
        }
    }
}
