//! Takes over the proxies of a guard that died: the same program with the same configuration goes on.

use std::io;

use tokio::time::Instant;

use super::*;
use crate::{guard::processes::launcher::Living, message::Stage};

/// How long a proxy of an earlier guard may take until it says how far it is.
const ADOPTED_WITHIN: Duration = Duration::from_secs(3);

impl Supervisor {
    /// Takes over the proxies of earlier guards, as far as they are the same program.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(crate) fn take_over(&mut self, living: Vec<Living>) -> io::Result<()> {
        // The launcher starts a guard after another only where a proxy was ready.
        self.ever_ready |= !living.is_empty();
        for Living { role: _, generation, pid, program, channel } in living {
            self.generation = self.generation.max(generation);
            let share = Arc::new(ProxyBudget::default());
            let (state, outbox) = match channel {
                Some(channel) if program == self.programs.proxies => {
                    let outbox = converse(
                        Channel::new(channel)?,
                        generation,
                        Vec::new(),
                        self.events.clone(),
                        Arc::clone(&share),
                    );
                    (ProxyState::Adopting(Instant::now() + ADOPTED_WITHIN), Some(outbox))
                }
                _ => {
                    tracing::info!(pid, generation, "a proxy of another program serves on until a new one is ready");
                    (ProxyState::Leftover, None)
                }
            };
            let log_list = self.log_list;
            let is_committed = true;
            let known = Proxy {
                log_list,
                is_committed,
                generation,
                pid,
                state,
                outbox,
                program: None,
                share,
                condemned: false,
                silent: None,
                pulse: Pulse::default(),
            };
            self.proxies.push(known);
        }
        Ok(())
    }

    /// A proxy of an earlier guard says how far it is, and by which configuration it serves.
    pub(crate) fn adopt(&mut self, generation: u64, configuration: u64, stage: Stage) {
        let (is_same, drain) = (configuration == self.bundle.number, self.drain + GRACE);
        let serving = self.generation();
        let Some(proxy) = self.proxies.iter_mut().find(|proxy| proxy.generation == generation) else { return };
        let is_awaited = matches!(proxy.state, ProxyState::Adopting(_));
        if !is_awaited && !proxy.is_leftover() {
            return;
        }
        let now = Instant::now();
        proxy.state = match stage {
            // It took its time: another is being started.
            _ if !is_awaited => ProxyState::Leftover,
            Stage::Draining => ProxyState::Draining(now + drain),
            _ if !is_same => ProxyState::Leftover,
            Stage::Starting => ProxyState::Starting(now + READY_WITHIN),
            Stage::Serving if serving.is_some_and(|other| other > generation) => ProxyState::Leftover,
            Stage::Serving => ProxyState::Serving(now),
        };
        let serves_on = matches!(proxy.state, ProxyState::Serving(_));
        tracing::info!(pid = proxy.pid, generation, ?stage, serves_on, "a proxy of the guard before is taken over");
        match seal(&self.bundle.in_force) {
            Ok(sealed) => say(&self.launcher, proxy, ToProxy::InForce, vec![sealed]),
            Err(_out_of_memory) => kill(&self.launcher, proxy, "it cannot be told what is in force"),
        }
        if is_same {
            // The guard before may have died before it had handed them over, or this proxy before it read them.
            match seal(&self.bundle.files) {
                Ok(sealed) => say(&self.launcher, proxy, ToProxy::Files, vec![sealed]),
                Err(_out_of_memory) => kill(&self.launcher, proxy, "it cannot be told what files are in force"),
            }
            // The guard before may have died between renaming a file and opening the next.
            for (output, log) in (0..).zip(&self.access_logs) {
                match log.as_fd().try_clone_to_owned() {
                    Ok(log) => say(&self.launcher, proxy, ToProxy::ReopenLogs { output }, vec![log]),
                    Err(error) => tracing::error!(%error, output, "the access log is not opened anew"),
                }
            }
        }
        self.replace_older();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::{
        guard::processes::proxies::pulse::STANDSTILL,
        os::{
            launch::{self, LauncherCommand, Notice},
            seqpacket,
        },
    };

    const OWN: ProgramId = ProgramId { device: 1, inode: 1 };

    /// What `test` makes of a supervisor of this bundle, and of the launcher's end of its channel.
    fn with<F: Future<Output = ()>>(bundle: Bundle, test: impl FnOnce(Supervisor, OwnedFd) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, theirs) = seqpacket::pair().unwrap();
            let programs = GuardPrograms { place: "gateway".into(), own: OWN, proxies: OWN };
            let begin = Notice::Begin { pid: 1, program: OWN, deaths: 1, status: 9, reverted: false };
            launch::send(ours.as_fd(), &begin, &[]).unwrap();
            let (launcher, _opening) = Launcher::meet(theirs).unwrap();
            let (nothing, events) = ((Vec::new(), Vec::new()), mpsc::channel(16).0);
            test(Supervisor::new(launcher, None, nothing, bundle, Duration::ZERO, events, programs), ours).await;
        });
    }

    /// A proxy of an earlier guard, and its end of the channel.
    fn living(generation: u64) -> (Living, OwnedFd) {
        let (guards, proxys) = seqpacket::pair().unwrap();
        let pid = 1_000 + u32::try_from(generation).unwrap();
        (Living { role: ProcessRole::Proxy, generation, pid, program: OWN, channel: Some(guards) }, proxys)
    }

    #[test]
    fn a_new_proxy_that_fails_ends_none_that_serves() {
        with(Bundle::default(), |mut supervisor, launcher| async move {
            assert!(!supervisor.ever_ready);
            let foreign = |generation| Living { program: ProgramId::default(), channel: None, ..living(generation).0 };
            supervisor.take_over(vec![foreign(1), foreign(2)]).unwrap();
            assert!(supervisor.ever_ready, "the guard does not give up");
            // Nobody says that nobody is served.
            let until_then = "serves until another is ready";
            assert_eq!(supervisor.states(), [(1_001, until_then), (1_002, until_then)]);
            assert_eq!((supervisor.pid(), supervisor.serves(), supervisor.older()), (None, false, Some(1_002)));
            if let Some(starting) = supervisor.proxies.last_mut() {
                starting.state = ProxyState::Starting(Instant::now());
            }
            supervisor.kill_starting("test");
            assert_eq!(supervisor.states()[1], (1_002, "starts"));
            let told = launch::receive::<LauncherCommand>(launcher.as_fd()).unwrap().map(|(command, _)| command);
            assert_eq!(told, Some(LauncherCommand::End { pid: 1_002, how: End::Kill }));
            assert!(launch::receive::<LauncherCommand>(launcher.as_fd()).is_err(), "the one that serves is left alone");
        });
    }

    #[test]
    fn a_proxy_that_is_adopted_gets_the_files_in_force() {
        let files = vec![("/server.crt".into(), b"renewed".to_vec())];
        let bundle = Bundle { number: 7, files: files.clone(), ..Bundle::default() };
        with(bundle, |mut supervisor, _launcher| async move {
            let (proxy, channel) = living(3);
            supervisor.take_over(vec![proxy]).unwrap();
            supervisor.adopt(3, 7, Stage::Serving);
            assert_eq!(supervisor.states(), [(1_003, "serves")]);
            let proxy = Channel::new(channel).unwrap();
            assert_eq!(proxy.receive::<ToProxy>().await.unwrap().unwrap().0, ToProxy::InForce);
            let (message, mut sent) = proxy.receive::<ToProxy>().await.unwrap().unwrap();
            let sent: Vec<(PathBuf, Vec<u8>)> = channel::sealed::unseal(sent.pop().unwrap()).unwrap();
            assert_eq!((message, sent), (ToProxy::Files, files));
            // By another configuration it serves until another is ready, and by nothing of this one.
            supervisor.adopt(3, 8, Stage::Serving);
            assert_eq!(supervisor.states(), [(1_003, "serves")], "it was taken over already");
        });
    }

    /// Pings until one stands still: which, and after how many looks.
    fn standstill(supervisor: &mut Supervisor) -> Option<(u32, u64)> {
        (0..100).find_map(|look| supervisor.ping().pop().map(|generation| (look, generation)))
    }

    #[test]
    fn a_proxy_that_does_not_answer_is_replaced_and_one_that_drains_is_not() {
        with(Bundle::default(), |mut supervisor, _launcher| async move {
            let ((draining, _one), (serving, _other)) = (living(1), living(2));
            supervisor.take_over(vec![draining, serving]).unwrap();
            supervisor.adopt(1, 0, Stage::Draining);
            supervisor.adopt(2, 0, Stage::Serving);
            for _ in 0..100 {
                assert!(supervisor.ping().is_empty(), "it answers");
                supervisor.ponged(2, supervisor.proxies[1].pulse.last());
            }
            assert_eq!(standstill(&mut supervisor), Some((STANDSTILL, 2)));
            assert_eq!((supervisor.standstills, supervisor.restarts), (1, 1));
            assert!(supervisor.restart_at().is_some(), "another is started");
            assert_eq!(supervisor.states(), [(1_001, "drains"), (1_002, "stands still")]);
            assert!(supervisor.ping().is_empty(), "it is told once");
        });
    }

    /// What a proxy has said and the guard has not heard yet may be its answer.
    #[test]
    fn a_guard_that_is_slow_finds_no_standstill() {
        with(Bundle::default(), |mut supervisor, _launcher| async move {
            let (proxy, _channel) = living(1);
            supervisor.take_over(vec![proxy]).unwrap();
            supervisor.adopt(1, 0, Stage::Serving);
            supervisor.proxies[0].share.receive();
            assert_eq!(standstill(&mut supervisor), None, "a message of it waits for the guard");
            supervisor.charge(1, Duration::from_secs(60));
            assert_eq!(standstill(&mut supervisor), None, "it has to wait, as the last one took so long");
            supervisor.proxies[0].share = Arc::new(ProxyBudget::default());
            assert_eq!(standstill(&mut supervisor), Some((STANDSTILL, 1)));
        });
    }

    /// Whatever ends a proxy that has served for long: another is started at once.
    #[test]
    fn who_has_served_for_long_is_replaced_at_once() {
        type End = fn(&mut Supervisor);
        let ends: [(&str, End); 4] = [
            ("it dies", |supervisor| drop(supervisor.exited(1_001, 9))),
            ("it cannot follow", |supervisor| assert!(supervisor.outdated(1) && supervisor.standstills == 0)),
            ("its worker stands still", |supervisor| assert!(supervisor.stalled(1) && supervisor.standstills == 1)),
            ("it stands still", |supervisor| assert!(standstill(supervisor).is_some())),
        ];
        for (what, end) in ends {
            for (served, expect) in [(Duration::ZERO, 6), (SETTLED, 1)] {
                with(Bundle::default(), |mut supervisor, _launcher| async move {
                    let (proxy, _channel) = living(1);
                    supervisor.take_over(vec![proxy]).unwrap();
                    supervisor.adopt(1, 0, Stage::Serving);
                    supervisor.deaths = 5;
                    supervisor.proxies[0].state = ProxyState::Serving(Instant::now() - served);
                    end(&mut supervisor);
                    assert_eq!(supervisor.deaths(), expect, "{what} after {served:?}");
                    assert!(supervisor.restart_at().is_some(), "{what}");
                });
            }
        }
    }
}
