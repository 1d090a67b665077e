//! Logs each process of the gateway once, with its rights as the kernel has them: whoever starts it in a terminal sees
//! what it became.

use crate::{
    guard::{
        control::ProcessStatus,
        lifecycle::{processes::process_log::Rights, service::Service},
    },
    os::{launch::ProcessRole, sandbox::Confinement},
};

impl Service<'_> {
    /// Tells of the processes that came since the last call.
    pub(in crate::guard::lifecycle) fn tell_processes(&mut self) {
        let all = self.process_ids();
        let pids: Vec<u32> = all.iter().map(|(_, pid, _)| *pid).collect();
        self.process_log.keep(&pids);
        if !pids.iter().any(|pid| self.process_log.is_open(*pid)) {
            return;
        }
        let filters = Confinement::of(self.launcher.pid).map_or(0, |launcher| launcher.seccomp_filters);
        for (role, pid, _) in all {
            if !self.process_log.is_open(pid) {
                continue;
            }
            let seen = Confinement::of(pid);
            let said = self.process_log.judge(pid, role, seen.as_ref(), filters);
            let rights = seen.map(|seen| seen.to_string()).unwrap_or_default();
            match said {
                Rights::Confined => tracing::info!(role, pid, rights, "the {role} is confined, as the kernel has it"),
                Rights::Excessive => tracing::error!(role, pid, rights, "the {role} has more rights than it should"),
                Rights::Hidden => {
                    tracing::info!(role, pid, "the {role} runs; its rights cannot be seen from the guard")
                }
                Rights::Unsettled => {}
            }
        }
    }

    pub(in crate::guard::lifecycle) fn all_processes(&self) -> Vec<ProcessStatus> {
        let process = |(role, pid, state): (&str, u32, Option<&str>)| ProcessStatus {
            role: role.to_owned(),
            pid,
            state: state.map(str::to_owned),
            sandbox: Confinement::of(pid),
        };
        self.process_ids().into_iter().map(process).collect()
    }

    /// Each process: its role, its id, and what a proxy does.
    fn process_ids(&self) -> Vec<(&'static str, u32, Option<&'static str>)> {
        let own =
            [(ProcessRole::LAUNCHER, self.launcher.pid, None), (ProcessRole::Guard.name(), std::process::id(), None)];
        let proxies =
            self.supervisor.states().into_iter().map(|(pid, state)| (ProcessRole::Proxy.name(), pid, Some(state)));
        let observer = self.observer.as_ref().and_then(crate::guard::processes::observer::Observer::pid);
        let observer = observer.map(|pid| (ProcessRole::Observer.name(), pid, None));
        own.into_iter().chain(proxies).chain(observer).collect()
    }
}
