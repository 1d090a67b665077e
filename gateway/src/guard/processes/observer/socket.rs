//! Binds the socket of the admin listener, which the observer has no right to.

use std::{os::fd::OwnedFd, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    guard::{
        control::server,
        processes::launcher::{Launcher, PORT_TIMEOUT},
    },
    settings::{admin::Listen, operators::ControlMode},
};

/// Binds it. A Unix socket is for root and the group with the id `group`. With `is_ours`, an observer of this gateway may
/// listen there still: it is handed the new socket.
///
/// # Errors
/// Another program has it, or a right is missing.
pub(crate) fn bind(listen: &Listen, launcher: &mut Launcher, group: Option<u32>, is_ours: bool) -> Result<OwnedFd> {
    match listen {
        Listen::Tcp(address) => {
            let sockets = launcher.bind("admin.address", *address, 1, PORT_TIMEOUT)?;
            sockets.into_iter().next().context("admin.address: no socket")
        }
        Listen::Unix(path) => unix(path, group, is_ours).with_context(|| format!("{} cannot be made", path.display())),
    }
}

fn unix(path: &Path, group: Option<u32>, is_ours: bool) -> Result<OwnedFd> {
    let bind = if is_ours { server::bind_again } else { server::bind };
    Ok(OwnedFd::from(bind(path, ControlMode::Group, group)?))
}
