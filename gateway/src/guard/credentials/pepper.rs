//! The pepper that API keys are hashed with: a file that the configuration names, or one of the state folder, which is
//! made where there are no keys yet.

use std::{fs, io, path::Path};

use crate::{guard::state_files::secret, policy::auth::api_key::Pepper};

/// How long one is that is made, in bytes.
const LONG: usize = 32;

/// The file in the state folder.
pub(super) const FILE: &str = "api_keys.pepper";

/// Reads the pepper.
///
/// # Errors
/// Why there is none, for people.
pub(super) fn read(state_dir: &Path, configured: Option<&[u8]>, has_keys: bool) -> Result<Vec<u8>, String> {
    if let Some(bytes) = configured {
        return Ok(bytes.to_vec());
    }
    let path = state_dir.join(FILE);
    match fs::read(&path) {
        Ok(bytes) if bytes.len() >= Pepper::SHORTEST => Ok(bytes),
        Ok(_short) => Err(format!("{} is cut off: restore it from a backup", path.display())),
        // Another one would make every key that there is invalid for good.
        Err(error) if error.kind() == io::ErrorKind::NotFound && has_keys => {
            Err(format!("{} is missing: restore it from a backup, with the mode 0600", path.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = secret::make::<LONG>(&path);
            made.map(Vec::from).map_err(|error| format!("{} cannot be made: {error}", path.display()))
        }
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_pepper_is_made_once_and_never_replaced() {
        let folder = std::env::temp_dir().join(format!("gateway-pepper-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(read(&folder, Some(b"x"), true), Ok(b"x".to_vec()));
        assert!(read(&folder, None, true).unwrap_err().contains("is missing: restore it"));
        fs::write(folder.join("api_keys.pepper.new"), "rubbish of a crash").unwrap();
        let made = read(&folder, None, false).unwrap();
        assert_eq!(made.len(), LONG);
        assert_eq!(fs::metadata(folder.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&folder, None, true), Ok(made));
        fs::write(folder.join(FILE), "short").unwrap();
        assert!(read(&folder, None, false).unwrap_err().contains("cut off"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
