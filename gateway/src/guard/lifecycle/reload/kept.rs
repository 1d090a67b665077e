//! What a guard has the launcher keep for the next one: the configuration in force, so that a file that was changed or
//! broken meanwhile changes nothing.

use std::{io, os::fd::OwnedFd};

use serde::{Deserialize, Serialize};

use crate::{
    guard::{
        bans::Actor,
        lifecycle::{
            files::named_files::NamedFiles,
            processes::{resolved::ResolvedNames, restarts::Restarts},
            reload::reloading::Provenance,
            service::Service,
        },
        operators::Operators,
        processes::observer,
    },
    message::{
        Bundle, InForce,
        channel::sealed::{seal, unseal},
        observer::ObserverConfig,
    },
    os::launch::ProgramId,
    policy::limit::spent::SpentBudgets,
};

/// Raised with every change of [`Kept`] or what it holds: a guard of another program may read it.
const FORM: u32 = 7;

/// What is kept.
#[derive(Serialize, Deserialize)]
pub(in crate::guard::lifecycle) struct Kept {
    /// The configuration, and the files that it names. What is in force besides is in the store; TLS sessions are resumed
    /// by new keys if the proxy, too, has to be started again.
    pub(in crate::guard::lifecycle) bundle: Bundle,
    /// What the observer alone knows of it.
    pub(in crate::guard::lifecycle) observer: Option<ObserverConfig>,
    /// Where it came from.
    pub(in crate::guard::lifecycle) provenance: Provenance,
    /// What the files that are watched held.
    pub(in crate::guard::lifecycle) named: NamedFiles,
    /// Who may do what, by number.
    pub(in crate::guard::lifecycle) operators: Operators,
    /// Whom else it names.
    pub(in crate::guard::lifecycle) resolved: ResolvedNames,
    /// What budgets have spent, where the next guard makes room for another program.
    pub(in crate::guard::lifecycle) spent: Vec<SpentBudgets>,
    /// What the guard was that put it in force.
    pub(in crate::guard::lifecycle) guard: ProgramId,
    /// What the proxies are: a reload may have brought another program.
    pub(in crate::guard::lifecycle) proxies: ProgramId,
    /// How often processes had to be started again.
    pub(in crate::guard::lifecycle) restarts: Restarts,
    /// Who wants a reload that only a guard that starts can do: it loads the kernel program before.
    pub(in crate::guard::lifecycle) reload: Option<Actor>,
}

impl Kept {
    /// As a file in memory.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub(in crate::guard::lifecycle) fn seal(self) -> io::Result<OwnedFd> {
        // Keys of tickets are to be forgotten after some hours; what is kept here stays for months.
        let bundle = Bundle { in_force: InForce::default(), tickets: None, ..self.bundle };
        let bytes = postcard::to_stdvec(&Self { bundle, ..self }).map_err(io::Error::other)?;
        seal(&(FORM, bytes))
    }

    /// What an earlier guard had kept.
    ///
    /// # Errors
    /// That one was another program and kept something else.
    pub(in crate::guard::lifecycle) fn open(file: OwnedFd) -> io::Result<Self> {
        let (form, bytes): (u32, Vec<u8>) = unseal(file)?;
        if form != FORM {
            return Err(io::Error::other(format!("it has form {form} and not {FORM}")));
        }
        postcard::from_bytes(&bytes).map_err(io::Error::other)
    }
}

impl Service<'_> {
    /// Has the configuration in force kept for the guard after this one.
    pub(in crate::guard::lifecycle) fn keep(&mut self) {
        let programs = self.supervisor.programs();
        let kept = Kept {
            bundle: self.supervisor.bundle.clone(),
            observer: self.observer.as_ref().map(observer::Observer::config),
            provenance: self.reloading.in_force.clone(),
            named: NamedFiles::clone(&self.watched.files.named),
            operators: self.commands.operators.clone(),
            resolved: self.resolved.clone(),
            spent: self.ending.upgrade_at.map(|_at| self.supervisor.spent.clone()).unwrap_or_default(),
            guard: programs.own,
            proxies: programs.proxies,
            restarts: self.restarts(),
            reload: self.reloading.handed_on.clone(),
        };
        (self.keeping.proxies, self.keeping.restarts) = (programs.proxies, self.restarts());
        let kept = kept.seal();
        let kept = kept.and_then(|kept| self.supervisor.launcher.keep(&kept));
        let left = self.keeping.done(kept);
        let has = |address| self.config.proxy.listeners.iter().any(|listener| listener.address == address);
        // What is kept no longer names them: a guard after this one has no use for their sockets.
        left.into_iter().filter(|address| !has(*address)).for_each(|address| self.supervisor.launcher.unbind(address));
    }

    /// Has it kept where proxies are another program than before: a guard after this one goes on with that.
    pub(in crate::guard::lifecycle) fn keep_program(&mut self) {
        if self.keeping.proxies != self.supervisor.programs().proxies {
            self.keep();
        }
    }

    /// Goes on counting where the guard before died.
    pub(in crate::guard::lifecycle) fn count_on(&mut self, restarts: Restarts) {
        (self.supervisor.restarts, self.supervisor.standstills) = (restarts.proxy, restarts.standstills);
        if let Some(observer) = &mut self.observer {
            observer.restarts = restarts.observer;
        }
        let resolver = &mut self.watched.resolver;
        resolver.proxies.held = restarts.proxies_resolve.unwrap_or(resolver.proxies.held);
        resolver.observer.held = restarts.observer_resolves.unwrap_or(resolver.observer.held);
    }

    fn restarts(&self) -> Restarts {
        Restarts {
            proxy: self.supervisor.restarts,
            standstills: self.supervisor.standstills,
            observer: self.observer.as_ref().map_or(self.keeping.restarts.observer, |observer| observer.restarts),
            proxies_resolve: Some(self.watched.resolver.proxies.held),
            observer_resolves: Some(self.watched.resolver.observer.held),
        }
    }

    /// Tries again what has failed, and has it kept that a process was started again.
    pub(in crate::guard::lifecycle) fn keep_again(&mut self) {
        if self.keeping.has_failed() || self.keeping.restarts != self.restarts() {
            self.keep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{guard::lifecycle::files::resolver_files::ResolverFiles, os::launch::RunAs};

    #[test]
    fn what_is_kept_is_what_was_in_force() {
        let files = vec![("/a.pem".into(), vec![1, 2])];
        let bundle = Bundle { number: 7, path: "/g.toml".into(), text: "[guard]".into(), files, ..Bundle::default() };
        let observer = Some(ObserverConfig { token: Some(vec![7; 20]), ..ObserverConfig::default() });
        let provenance = Provenance { since: 99, by: "start".to_owned(), digest: "ab".to_owned() };
        let run_as = Some(RunAs { uid: 7, gid: 8 });
        let resolved =
            ResolvedNames { run_as, observer_as: None, control_group: Some(9), standing: vec!["x".to_owned()] };
        let (guard, proxies) = (ProgramId { device: 1, inode: 2 }, ProgramId { device: 1, inode: 3 });
        let restarts = Restarts {
            proxy: 3,
            standstills: 1,
            observer: 2,
            proxies_resolve: Some(ResolverFiles::look()),
            observer_resolves: None,
        };
        let kept = Kept {
            bundle: bundle.clone(),
            observer: observer.clone(),
            provenance: provenance.clone(),
            named: NamedFiles::default(),
            operators: Operators::default(),
            resolved: resolved.clone(),
            spent: Vec::new(),
            guard,
            proxies,
            restarts,
            reload: Some(Actor::Operator(7)),
        };
        let kept = Kept::open(kept.seal().unwrap()).unwrap();
        assert_eq!((kept.bundle, kept.observer, kept.provenance), (bundle.clone(), observer, provenance));
        assert_eq!(kept.named, NamedFiles::default());
        assert_eq!((kept.resolved, kept.guard, kept.proxies), (resolved, guard, proxies));
        assert_eq!(kept.restarts, restarts);
        assert_eq!(kept.reload, Some(Actor::Operator(7)));
        let other = seal(&(FORM + 1, Vec::<u8>::new())).unwrap();
        assert!(Kept::open(other).is_err() && Kept::open(seal(&bundle).unwrap()).is_err());
    }
}
