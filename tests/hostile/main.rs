//! A proxy in wrong hands, an observer, and a guard: started by the real guard in the place of the real ones, they say and do what
//! these never would. What the proxy does, and by which random numbers, the file `scenario` beside its program says;
//! `observer-scenario` says it of the observer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a program of tests: whatever fails here ends it, and its test sees that"
)]

use std::{
    env, fs,
    net::Shutdown,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use gateway::message::{ToGuard, ToProxy, channel::Channel};
use socket2::SockRef;
use support::{random::Random, wait::pause};

mod descriptors;
mod guard;
mod messages;
mod observer;
mod wire;

use wire::{LONG, send, version};

fn main() -> ExitCode {
    let program = env::args().next().unwrap();
    if env::args().any(|word| word == "guard") {
        guard::play(&program);
        return ExitCode::SUCCESS;
    }
    match env::args().nth(1).as_deref() {
        Some("observer") => {
            observer::play(&program);
            return ExitCode::SUCCESS;
        }
        // Honest: what this program serves badly has to come into force first.
        Some("compiler") => return gateway::cli::main(),
        _ => {}
    }
    let told = fs::read_to_string(Path::new(&program).with_file_name("scenario")).unwrap();
    let (scenario, seed) = told.trim().split_once(' ').unwrap();
    if scenario == "honest" {
        return gateway::cli::main();
    }
    let (socket, listeners) = start();
    let proxy = Hostile { version: version(), socket, random: Random::seeded(seed.parse().unwrap()) };
    // Its standard error is the guard's own.
    eprintln!("hostile: {scenario}");
    proxy.play(scenario, &listeners);
    ExitCode::SUCCESS
}

/// Takes everything that the guard hands over, and waits until it is to serve, as the real proxy does.
fn start() -> (OwnedFd, Vec<OwnedFd>) {
    let channel = gateway::os::launch::wait_for_introduction(std::io::stdin()).unwrap();
    let socket = channel.try_clone().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let listeners = runtime.block_on(async {
        let channel = Channel::new(channel).unwrap();
        let Some((ToProxy::Start { listeners, .. }, _bundle)) = channel.receive().await.unwrap() else {
            panic!("the guard did not start with the start")
        };
        let mut all = Vec::new();
        for _ in 0..listeners {
            let (_listen, sockets) = channel.receive::<ToProxy>().await.unwrap().unwrap();
            all.extend(sockets);
        }
        channel.send(&ToGuard::Configured { reload: 0 }, &[]).await.unwrap();
        while !matches!(channel.receive().await.unwrap().unwrap(), (ToProxy::Commit { .. }, _)) {}
        all
    });
    (socket, listeners)
}

struct Hostile {
    version: u8,
    socket: OwnedFd,
    random: Random,
}

impl Hostile {
    fn play(mut self, scenario: &str, listeners: &[OwnedFd]) {
        let until = Instant::now() + LONG;
        let goes_on = || Instant::now() < until;
        match scenario {
            // Ready, and then neither a word nor an ear.
            "silent" => self.say(&ToGuard::Ready),
            "bytes" => {
                self.say(&ToGuard::Ready);
                pause(Duration::from_millis(200));
                let length = self.random.below(2_000);
                let mut bytes: Vec<u8> = (0..length).map(|_| self.random.below(256).to_le_bytes()[0]).collect();
                bytes.insert(0, self.version);
                self.send(&bytes, &[]);
            }
            "half" => {
                self.say(&ToGuard::Ready);
                let whole = messages::encoded(self.version, &messages::any(&mut self.random));
                self.send(&whole[..whole.len() / 2], &[]);
            }
            "other-version" => {
                self.say(&ToGuard::Ready);
                self.send(&[self.version + 1, 0], &[]);
            }
            // No message at all, and it lives on.
            "closed" => {
                self.say(&ToGuard::Ready);
                self.send(&[], &[]);
            }
            "too-much" => {
                self.say(&ToGuard::Ready);
                let message = messages::too_much(&mut self.random);
                self.say(&message);
            }
            "ready-and-failed" => {
                for _ in 0..1_000 {
                    self.say(&ToGuard::Ready);
                }
                while goes_on() {
                    self.say(&ToGuard::Failed { reason: "\u{1b}[31mgone\nfor good".repeat(1_000) });
                }
            }
            "flood" => {
                self.say(&ToGuard::Ready);
                while goes_on() {
                    let message = messages::any(&mut self.random);
                    self.say(&message);
                }
            }
            // All copies of a listening socket are one socket.
            "shuts" => {
                for listener in listeners {
                    SockRef::from(listener).shutdown(Shutdown::Read).unwrap();
                }
                self.say(&ToGuard::Ready);
            }
            "acks" => {
                self.say(&ToGuard::Ready);
                let ack = messages::encoded(self.version, &ToGuard::Ack { number: u64::MAX });
                while goes_on() {
                    self.send(&ack, &[]);
                }
            }
            "bans" => {
                self.say(&ToGuard::Ready);
                // Everybody is good, and everybody is to be banned.
                for _ in 0..200 {
                    let good = messages::good(&mut self.random);
                    self.say(&good);
                }
                while goes_on() {
                    let ask = messages::ask(&mut self.random);
                    self.say(&ask);
                }
            }
            "descriptors" => {
                let held = descriptors::slow_to_close(listeners);
                let ready = messages::encoded(self.version, &ToGuard::Ready);
                self.send(&ready, &[]);
                pause(Duration::from_millis(200));
                self.send(&ready, &held.iter().map(OwnedFd::as_fd).collect::<Vec<_>>());
                // More of them, unread when the guard closes the channel.
                self.send(&ready, &held.iter().map(OwnedFd::as_fd).collect::<Vec<_>>());
                drop(held);
            }
            other => panic!("no scenario {other:?}"),
        }
        while goes_on() {
            pause(Duration::from_millis(100));
        }
    }

    fn say(&self, message: &ToGuard) {
        self.send(&messages::encoded(self.version, message), &[]);
    }

    /// Sends bytes as one message. Ends with the channel.
    fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        if !send(self.socket.as_fd(), bytes, descriptors) {
            pause(LONG);
        }
    }
}
