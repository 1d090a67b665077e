//! Who asks the guard for something: a process on the other end of the control socket, as the kernel knows it, or whoever
//! has shown a token to the admin listener.

use std::{io, net::IpAddr, os::fd::AsFd as _, time::Duration};

use nix::unistd::{Uid, User};
use tokio::{net::UnixStream, sync::Semaphore, task::spawn_blocking, time::timeout};

use crate::os;

/// How long a directory of users may take to name one.
const TIMEOUT: Duration = Duration::from_millis(500);

/// How many names are looked up at once. Who finds no place has none, and is served all the same.
static LOOKUPS: Semaphore = Semaphore::const_new(4);

/// Whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A process of this host.
    Peer(PeerProcess),
    /// Somebody with a token.
    Token(Bearer),
}

/// Somebody with a token that may be one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    /// SHA-256 of the token.
    pub(crate) digest: [u8; 32],
    /// Where they asked from, as the observer says; `None`: by the admin listener's Unix socket.
    pub(crate) address: Option<IpAddr>,
}

/// A process of this host, as it was when it connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerProcess {
    /// Its user id.
    pub(crate) uid: u32,
    /// All groups that it was in.
    pub(crate) groups: Vec<u32>,
    /// The user's name, where it could be found out.
    pub(crate) user: Option<String>,
}

impl PeerProcess {
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

/// Beside the guard's loop: the directory may be on another machine. One that hangs holds a few threads, and no more.
async fn user_name(uid: u32) -> Option<String> {
    if uid == 0 {
        return Some("root".to_owned());
    }
    let place = LOOKUPS.try_acquire().ok()?;
    let found = spawn_blocking(move || {
        let user = User::from_uid(Uid::from_raw(uid));
        drop(place);
        user
    });
    timeout(TIMEOUT, found).await.ok()?.ok()?.ok()?.map(|user| user.name)
}
