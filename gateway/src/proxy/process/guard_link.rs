//! The way to the guard, which may be gone for a while, or stand still: the proxy serves on, waits for neither, and is
//! introduced to the next guard by the launcher.
//!
//! *Invariant:* at most [`OUTBOX`] messages wait, and none for a guard that is not there: what the next one has to know it is
//! told anew.

use std::{collections::VecDeque, io, os::fd::OwnedFd, time::Duration};

use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep_until},
};

use crate::{
    message::{
        ToGuard, ToProxy,
        channel::{Channel, Sender},
    },
    os::{clock, launch, program_log::sparse::Sparse, seqpacket},
};

/// The most messages that wait for a guard.
const OUTBOX: usize = 4_096;

/// How often it is told that there is no room for more open files.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What has come of the guard, or of the launcher.
pub(super) enum GuardEvent {
    /// The guard says something.
    Message(Box<ToProxy>, Vec<OwnedFd>),
    /// There is another guard. By this it is asked for bans directly.
    NewGuard(Option<Sender>),
    /// There is no guard.
    NoGuard,
    /// The launcher is gone: no guard will ever come.
    NoLauncher,
}

/// The way to the guard.
pub(in crate::proxy) struct GuardLink {
    launcher: AsyncFd<OwnedFd>,
    channel: Option<Channel>,
    outbox: VecDeque<ToGuard>,
    /// Messages that nobody will hear.
    lost: u64,
    /// This process cannot open more files: until then nothing is heard that may bring one, and nothing of it is lost.
    full_until: Option<Instant>,
    is_full: Sparse,
}

impl GuardLink {
    /// Waits for the launcher to introduce the guard that this proxy is started for.
    ///
    /// # Errors
    /// `launcher` leads to no launcher.
    pub(in crate::proxy) async fn meet(launcher: OwnedFd) -> io::Result<(Self, Option<Sender>)> {
        rustix::io::ioctl_fionbio(&launcher, true)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that may change their descriptor; ours owns it"
        )]
        let launcher = AsyncFd::with_interest(launcher, Interest::READABLE)?;
        let mut link = Self {
            launcher,
            channel: None,
            outbox: VecDeque::new(),
            lost: 0,
            full_until: None,
            is_full: Sparse::default(),
        };
        match link.next().await {
            GuardEvent::NewGuard(asks) => Ok((link, asks)),
            GuardEvent::Message(..) | GuardEvent::NoGuard | GuardEvent::NoLauncher => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
    }

    /// The guard's next message as a proxy starts, before which nothing else is of interest.
    ///
    /// # Errors
    /// The guard is gone, or speaks another version.
    pub(in crate::proxy) async fn receive(&self) -> io::Result<Option<(ToProxy, Vec<OwnedFd>)>> {
        match &self.channel {
            Some(channel) => channel.receive().await,
            None => Ok(None),
        }
    }

    /// Tells the guard, as soon as it reads.
    pub(in crate::proxy) fn say(&mut self, message: ToGuard) {
        if let Some(channel) = self.channel.as_ref().filter(|_| self.outbox.is_empty())
            && channel.try_send(&message).is_ok()
        {
            return;
        }
        if self.outbox.len() < OUTBOX && self.channel.is_some() {
            self.outbox.push_back(message);
        } else if self.channel.is_some() || !matches!(message, ToGuard::BanRequest(_)) {
            // Requests for bans are kept elsewhere until a guard has heard them.
            self.lost += 1;
        }
    }

    /// As [`Self::say`], and waits until everything is said, for a proxy that ends.
    pub(in crate::proxy) async fn say_last(&mut self, message: ToGuard) {
        self.outbox.push_back(message);
        let Some(channel) = &self.channel else { return };
        while let Some(message) = self.outbox.pop_front() {
            if channel.send(&message, &[]).await.is_err() {
                return;
            }
        }
    }

    /// Whether there is a guard to be told anything.
    pub(in crate::proxy) const fn has_guard(&self) -> bool {
        self.channel.is_some()
    }

    /// Whether the guard reads: what is said now is not behind what it has not heard yet.
    pub(super) fn is_listening(&self) -> bool {
        self.channel.is_some() && self.outbox.is_empty()
    }

    /// How many messages nobody will hear, since the last call.
    pub(in crate::proxy) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// What comes next. It may be dropped and asked again.
    pub(super) async fn next(&mut self) -> GuardEvent {
        loop {
            let (channel, first, full_until) = (self.channel.as_ref(), self.outbox.front(), self.full_until);
            let hear = async {
                match channel {
                    Some(channel) => channel.receive_whole::<ToProxy>().await,
                    None => std::future::pending().await,
                }
            };
            let speak = async {
                match (channel, first) {
                    (Some(channel), Some(message)) => channel.send(message, &[]).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                introduced = self.launcher.async_io(Interest::READABLE, |launcher| launch::introduced(launcher)),
                    if full_until.is_none() => match introduced
                {
                    Ok(Some(channel)) => return self.connect(channel),
                    Err(error) if seqpacket::is_full(&error) => self.wait_for_room(),
                    // What is no introduction comes from no launcher.
                    Ok(None) | Err(_) => return GuardEvent::NoLauncher,
                },
                () = until(full_until), if full_until.is_some() => self.full_until = None,
                heard = hear, if full_until.is_none() => match heard {
                    Ok(Some((message, descriptors))) => return GuardEvent::Message(Box::new(message), descriptors),
                    Ok(None) => return self.disconnect(),
                    Err(error) if seqpacket::is_full(&error) => self.wait_for_room(),
                    Err(error) => {
                        tracing::error!("a message of the guard cannot be read: {error}");
                        return self.disconnect();
                    }
                },
                said = speak => match said {
                    Ok(()) => drop(self.outbox.pop_front()),
                    Err(_gone) => return self.disconnect(),
                },
            }
        }
    }

    fn wait_for_room(&mut self) {
        self.full_until = Some(Instant::now() + seqpacket::FULL_FOR);
        if let Some(others) = self.is_full.is_due_every(TOLD_EVERY, clock::monotonic()) {
            tracing::error!(
                others,
                "the guard waits to be heard: this process has as many open files as it may (LimitNOFILE)"
            );
        }
    }

    fn connect(&mut self, channel: OwnedFd) -> GuardEvent {
        // What was meant for the guard before means nothing to this one.
        self.outbox.clear();
        let asks = channel.try_clone().map(Sender::new);
        match Channel::new(channel) {
            Ok(channel) => self.channel = Some(channel),
            Err(error) => {
                tracing::error!(%error, "there is no way to the guard");
                return self.disconnect();
            }
        }
        // Without it the control thread passes on the bans that workers ask for.
        GuardEvent::NewGuard(asks.ok())
    }

    fn disconnect(&mut self) -> GuardEvent {
        self.channel = None;
        self.outbox.clear();
        GuardEvent::NoGuard
    }
}

#[cfg(test)]
impl GuardLink {
    /// A link for a test, with the guard's end, and the launcher's.
    pub(super) async fn linked() -> (Channel, Self, OwnedFd) {
        let (launcher, proxy) = seqpacket::pair().unwrap();
        let (guard, theirs) = seqpacket::pair().unwrap();
        launch::introduce(&launcher, std::os::fd::AsFd::as_fd(&theirs)).unwrap();
        drop(theirs);
        let (link, _asks) = Self::meet(proxy).await.unwrap();
        (Channel::new(guard).unwrap(), link, launcher)
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policy::detect::BanRequest, signal::Signal};

    fn ask(number: u64) -> ToGuard {
        ToGuard::BanRequest(Box::new(BanRequest {
            source: "192.0.2.1".parse().unwrap(),
            address: "192.0.2.1".parse().unwrap(),
            relay: None,
            rule: "r".to_owned(),
            signal: Signal::ALL[0],
            evidence: Vec::new(),
            seconds: 60,
            shadow: false,
            noted: number,
        }))
    }

    /// What a guard hears.
    async fn heard(guard: &Channel) -> Vec<ToGuard> {
        let mut heard = Vec::new();
        let soon = Duration::from_millis(200);
        while let Ok(Ok(Some((message, _)))) = tokio::time::timeout(soon, guard.receive()).await {
            heard.push(message);
        }
        heard
    }

    #[test]
    fn nothing_waits_for_a_guard_that_is_not_there() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (launcher, proxy) = seqpacket::pair().unwrap();
            let introduce = || {
                let (guard, theirs) = seqpacket::pair().unwrap();
                launch::introduce(&launcher, std::os::fd::AsFd::as_fd(&theirs)).unwrap();
                Channel::new(guard).unwrap()
            };
            let first = introduce();
            let (mut link, _asks) = GuardLink::meet(proxy).await.unwrap();
            link.say(ask(1));
            drop(first);
            assert!(matches!(link.next().await, GuardEvent::NoGuard));
            link.say(ask(2));
            link.say(ToGuard::Ready);
            assert_eq!((link.take_lost(), link.outbox.len()), (1, 0), "requests for bans are not lost");
            let second = introduce();
            assert!(matches!(link.next().await, GuardEvent::NewGuard(_)));
            link.say(ToGuard::Ready);
            let (heard, _) =
                tokio::join!(heard(&second), tokio::time::timeout(Duration::from_millis(300), link.next()));
            assert_eq!(heard, [ToGuard::Ready]);
            drop(launcher);
            assert!(matches!(link.next().await, GuardEvent::NoLauncher));
        });
    }
}
