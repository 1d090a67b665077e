//! Whether the launcher has the configuration in force, and which sockets wait for that.

use std::{io, net::SocketAddr};

use crate::{guard::lifecycle::processes::restarts::Restarts, os::launch::ProgramId};

/// Whether the launcher has the configuration in force, and what waits for that.
#[derive(Default)]
pub(in crate::guard::lifecycle) struct Keeping {
    /// Why it has an older one.
    failed: Option<String>,
    /// Listeners that the configuration in force does not have, and that an older one may.
    left: Vec<SocketAddr>,
    /// What was last kept of what proxies are.
    pub(in crate::guard::lifecycle) proxies: ProgramId,
    /// What was last kept of how often processes were started again.
    pub(in crate::guard::lifecycle) restarts: Restarts,
}

impl Keeping {
    /// The configuration in force does not have these listeners. Their sockets stay until it is kept.
    pub(in crate::guard::lifecycle) fn leave(&mut self, listeners: Vec<SocketAddr>) {
        self.left.extend(listeners);
    }

    /// It was kept, or not; the listeners that no kept configuration has.
    pub(in crate::guard::lifecycle) fn done(&mut self, kept: io::Result<()>) -> Vec<SocketAddr> {
        match kept {
            Ok(()) => {
                self.failed = None;
                std::mem::take(&mut self.left)
            }
            Err(error) => {
                if self.failed.is_none() {
                    tracing::error!(%error, "a guard after this one would not know the configuration in force");
                }
                self.failed = Some(error.to_string());
                Vec::new()
            }
        }
    }

    /// Whether it is to be tried again.
    pub(in crate::guard::lifecycle) const fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// What an operator should know of it.
    pub(in crate::guard::lifecycle) fn warning(&self) -> Option<String> {
        let failed = self.failed.as_ref()?;
        Some(format!(
            "should the guard die, an older configuration comes back: the one in force is not kept ({failed})"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_let_go_once_the_configuration_without_them_is_kept() {
        let mut keeping = Keeping::default();
        let left: Vec<SocketAddr> = vec!["127.0.0.1:80".parse().unwrap()];
        keeping.leave(left.clone());
        for _ in 0..2 {
            assert!(keeping.done(Err(io::ErrorKind::OutOfMemory.into())).is_empty());
            assert!(keeping.warning().is_some());
        }
        assert_eq!(keeping.done(Ok(())), left);
        assert_eq!((keeping.warning(), keeping.done(Ok(()))), (None, Vec::new()));
    }
}
