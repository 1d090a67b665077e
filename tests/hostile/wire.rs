//! What each of them says goes by these.

use std::{
    os::fd::{AsRawFd as _, BorrowedFd},
    time::Duration,
};

use gateway::message::{
    ToGuard,
    channel::{self, Sender},
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
};

/// How long a scenario goes on if nobody ends it.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// The first byte of every message.
pub(super) fn version() -> u8 {
    let (ours, theirs) = channel::pair().unwrap();
    Sender::new(ours).try_send(&ToGuard::Ready).unwrap();
    let mut bytes = [0; 16];
    nix::unistd::read(&theirs, &mut bytes).unwrap();
    bytes[0]
}

/// Sends bytes as one message, once there is room. `false`: the guard has closed the channel.
pub(super) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> bool {
    let raw: Vec<i32> = descriptors.iter().map(BorrowedFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &control[..] };
    let iov = [std::io::IoSlice::new(bytes)];
    while let Err(error) = sendmsg::<()>(socket.as_raw_fd(), &iov, control, MsgFlags::MSG_NOSIGNAL, None) {
        match error {
            nix::Error::EAGAIN => {
                let mut wait = [PollFd::new(socket, PollFlags::POLLOUT)];
                poll(&mut wait, PollTimeout::MAX).unwrap();
            }
            nix::Error::EMSGSIZE => return true,
            _ => return false,
        }
    }
    true
}
