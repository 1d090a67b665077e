//! Binds the socket of the admin listener, which the observer has no right to.

use std::{os::fd::OwnedFd, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    guard::{control::server, proxies::listeners},
    settings::{admin::Listen, operators::ControlMode},
};

/// Binds it. A Unix socket is for root and the group with the id `group`.
///
/// # Errors
/// Another program has it, or a right is missing.
pub(crate) fn bind(listen: &Listen, group: Option<u32>) -> Result<OwnedFd> {
    match listen {
        Listen::Tcp(address) => {
            let sockets = listeners::bind(*address, 1, listeners::PATIENCE).context("admin.address")?;
            sockets.into_iter().next().context("admin.address: no socket")
        }
        Listen::Unix(path) => unix(path, group).with_context(|| format!("admin.socket {}", path.display())),
    }
}

fn unix(path: &Path, group: Option<u32>) -> Result<OwnedFd> {
    Ok(OwnedFd::from(server::bind(path, ControlMode::Group, group)?))
}
