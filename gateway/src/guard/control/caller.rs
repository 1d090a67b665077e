//! Who asks the guard for something: a process on the other end of the control socket, as the kernel knows it.

use std::{io, os::fd::AsFd as _, time::Duration};

use nix::unistd::{Uid, User};
use tokio::{net::UnixStream, task::spawn_blocking, time::timeout};

use crate::os;

/// How long a directory of users may take to name one.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A process of this host.
    Peer(Peer),
}

/// A process of this host, as it was when it connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its user id.
    pub(crate) uid: u32,
    /// All groups that it was in.
    pub(crate) groups: Vec<u32>,
    /// The user's name, where it could be found out.
    pub(crate) user: Option<String>,
}

impl Peer {
    /// Whoever has connected.
    ///
    /// # Errors
    /// The kernel does not know.
    pub(crate) async fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let mut groups = os::peer_groups(stream.as_fd())?;
        groups.push(credentials.gid());
        let uid = credentials.uid();
        Ok(Self { uid, groups, user: user_name(uid).await })
    }
}

/// Beside the guard's loop: the directory may be on another machine.
async fn user_name(uid: u32) -> Option<String> {
    if uid == 0 {
        return Some("root".to_owned());
    }
    let found = spawn_blocking(move || User::from_uid(Uid::from_raw(uid)));
    timeout(PATIENCE, found).await.ok()?.ok()?.ok()?.map(|user| user.name)
}
