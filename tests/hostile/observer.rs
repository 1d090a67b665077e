//! An observer in wrong hands: nobody listens to it, and it says all that fits all the same, with descriptors that are slow
//! to close. Then it dies, and leaves them to whoever closes the channel.

use std::{
    io::IoSlice,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use gateway::message::{channel::Channel, observer::ToObserver};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use support::wait::pause;

use super::descriptors;

/// Plays until there is no room left, and ends.
pub(crate) fn play() {
    let channel = gateway::launch::wait_for_introduction(std::io::stdin()).unwrap();
    let socket = channel.try_clone().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let listener = runtime.block_on(async {
        let channel = Channel::new(channel).unwrap();
        let Some((ToObserver::Start, sent)) = channel.receive().await.unwrap() else { panic!("no start") };
        let [_config, listener] = <[OwnedFd; 2]>::try_from(sent).unwrap();
        listener
    });
    eprintln!("hostile: observer");
    let held = descriptors::slow_to_close(&[listener]);
    let raw: Vec<i32> = held.iter().map(|one| one.as_raw_fd()).collect();
    let iov = [IoSlice::new(&[0xff; 4_096])];
    let send =
        || sendmsg::<()>(socket.as_raw_fd(), &iov, &[ControlMessage::ScmRights(&raw)], MsgFlags::MSG_NOSIGNAL, None);
    let mut sent = 0;
    while send().is_ok() {
        sent += 1;
    }
    eprintln!("hostile: observer: {sent} messages");
    pause(Duration::from_millis(200));
}
