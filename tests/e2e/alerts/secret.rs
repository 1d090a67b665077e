//! Secrets of receivers, in files.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
};

use support::world::World;

/// A file with a secret.
pub(super) fn secret(world: &World, name: &str, text: &str) {
    let path = world.folder.join(name);
    fs::write(&path, format!("{text}\n")).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}
