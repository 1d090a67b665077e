//! Files of TLS and keys that have changed, on their way to the proxies.

use super::*;

impl Supervisor {
    /// Makes one copy of these files for each proxy that there is.
    ///
    /// # Errors
    /// Out of descriptors or memory: nothing was handed to anybody.
    pub(crate) fn copies(&self, files: &[(PathBuf, Vec<u8>)]) -> io::Result<Vec<(u64, OwnedFd)>> {
        let sealed = seal(&files)?;
        self.proxies.iter().map(|proxy| Ok((proxy.generation, sealed.try_clone()?))).collect()
    }

    /// Hands the proxies their copies.
    pub(crate) fn hand_over(&mut self, copies: Vec<(u64, OwnedFd)>) {
        copies.into_iter().for_each(|(generation, copy)| self.hand(generation, ToProxy::Files, copy));
    }
}
