//! Puts the traced variant of the program in force while somebody traces packets, and the other one otherwise.
//!
//! *Invariant:* a swap leaves no packet unjudged, and needs no right but the open descriptors.

use std::os::fd::OwnedFd;

use gateway_common::trace::Trace;

use crate::guard::kernel::{
    attach,
    error::KernelError,
    handle::Kernel,
    load::object::{self, Variant},
    trace::{TracedPacket, Tracer},
};

impl Kernel {
    /// Has packets traced, for as many as [`TRACES`](gateway_common::trace::TRACES), and nothing else; none: the traced variant is out of force.
    ///
    /// # Errors
    /// [`KernelError::Map`]; [`KernelError::Attach`] where a link stays with the other variant until
    /// [`Self::reattach`] puts it right. Where [`Self::is_traceable`] says no, nothing is done.
    pub fn trace(&mut self, wanted: &[Trace]) -> Result<(), KernelError> {
        let (Some(tracer), Some(ebpf)) = (&mut self.tracer, &mut self.program) else { return Ok(()) };
        tracer.set(wanted)?;
        let variant = if wanted.is_empty() { Variant::Untraced } else { Variant::Traced };
        if variant == self.variant {
            return Ok(());
        }
        self.program_id = object::id(ebpf, variant)?;
        self.variant = variant;
        let (interfaces, links) = (std::mem::take(&mut self.interfaces), std::mem::take(&mut self.links));
        let mut failed = None;
        for (at, link) in interfaces.into_iter().zip(links) {
            match attach::swap(ebpf, variant, link) {
                Ok(link) => {
                    self.interfaces.push(at);
                    self.links.push(link);
                }
                // The pin keeps the link: it is taken over again from there.
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whether packets can be traced.
    #[must_use]
    pub const fn is_traceable(&self) -> bool {
        self.tracer.is_some()
    }

    /// What was traced since the last call, oldest first. The kernel keeps some hundred lines.
    pub fn traced(&mut self) -> Vec<TracedPacket> {
        self.tracer.as_mut().map(Tracer::take).unwrap_or_default()
    }

    /// Readable while there is something [`Self::traced`]. `None`: there never is.
    #[must_use]
    pub fn traces_waiting(&self) -> Option<OwnedFd> {
        self.tracer.as_ref().and_then(Tracer::descriptor)
    }
}
