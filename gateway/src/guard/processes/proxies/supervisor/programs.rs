//! What processes are started from: what the last proxy was that got ready, until a reload finds another on disk.

use super::*;

impl Supervisor {
    /// The program on disk in the place of the one that proxies are, where it is another.
    ///
    /// # Errors
    /// It is not to be used.
    pub(crate) fn on_disk(&mut self) -> io::Result<Option<ProgramId>> {
        let found = self.find()?;
        Ok(Some(found).filter(|found| *found != self.programs.proxies))
    }

    /// The program on disk.
    ///
    /// # Errors
    /// It is not to be used.
    pub(crate) fn find(&mut self) -> io::Result<ProgramId> {
        let found = self.launcher.find()?;
        found.map_err(|unfit| io::Error::other(unfit.describe(&self.programs.place)))
    }

    /// The programs that the guard knows of.
    pub(crate) const fn programs(&self) -> &GuardPrograms {
        &self.programs
    }

    /// Starts what the last proxy was that got ready.
    pub(super) fn start_process(
        &mut self,
        role: ProcessRole,
        run_as: Option<RunAs>,
        generation: u64,
        channel: &OwnedFd,
    ) -> io::Result<u32> {
        match self.launcher.start(role, generation, run_as, self.programs.proxies, channel) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.programs.proxies != self.programs.own => {
                tracing::error!("the program that a reload brought is gone: the one that the guard is takes its place");
                self.programs.proxies = self.programs.own;
                self.launcher.start(role, generation, run_as, self.programs.own, channel)
            }
            started => started,
        }
    }
}
