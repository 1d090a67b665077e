//! Attaches to the interfaces that a reload adds, and detaches from those that it takes away. The maps stay what they are:
//! an interface that is added is judged by all that is in force from its first packet on.
//!
//! *Invariant:* an interface that stays is not touched.

use crate::guard::kernel::{attach, error::KernelError, handle::Kernel, load};

impl Kernel {
    /// Attaches to those of these interfaces where it is not wanted yet. One that is not there is waited for, as at the
    /// start: see [`Self::reattach`]. While an operator has detached the program, all of them wait.
    ///
    /// # Errors
    /// Whatever keeps one that is there from being guarded; nothing has changed then.
    pub fn attach_also(&mut self, interfaces: &[String]) -> Result<(), KernelError> {
        let (before, mode, variant) = (self.wanted.clone(), self.mode, self.variant);
        let fresh: Vec<&String> = interfaces.iter().filter(|name| !before.contains(name)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        if let (Some(program), None) = (&mut self.program, &self.released) {
            let folder = load::links(&self.pin_dir);
            for name in &fresh {
                match attach::one((program, variant), &folder, name, mode) {
                    Ok((at, link)) => {
                        let note = at.note.as_deref().unwrap_or_default();
                        tracing::info!(interface = at.name, native = at.native, note, "XDP is attached");
                        self.interfaces.push(at);
                        self.links.push(link);
                    }
                    Err(KernelError::Interface(_)) => {
                        tracing::warn!("XDP is attached to {name} once there is such an interface");
                    }
                    Err(error) => {
                        if let Err(stays) = self.detach_others(&before) {
                            tracing::error!(error = %stays, "an interface of a refused configuration is guarded");
                        }
                        return Err(error);
                    }
                }
            }
            self.held.renew(&self.pin_dir);
        }
        self.wanted.extend(fresh.into_iter().cloned());
        Ok(())
    }

    /// Detaches from every interface but these, and waits for no other.
    ///
    /// # Errors
    /// [`KernelError::Pin`] if a pin cannot be removed: the interface is judged until it is.
    pub fn detach_others(&mut self, interfaces: &[String]) -> Result<(), KernelError> {
        self.wanted = interfaces.to_vec();
        let is_wanted = |name: &str| interfaces.iter().any(|wanted| wanted == name);
        self.absent.retain(|(at, _)| is_wanted(&at.name));
        let attached = std::mem::take(&mut self.interfaces).into_iter().zip(std::mem::take(&mut self.links));
        let (mut stay, leave): (Vec<_>, Vec<_>) = attached.partition(|(at, _)| is_wanted(&at.name));
        stay.sort_by_key(|(at, _)| interfaces.iter().position(|name| *name == at.name));
        (self.interfaces, self.links) = stay.into_iter().unzip();
        if self.program.is_none() || self.released.is_some() {
            return Ok(());
        }
        for (at, _) in &leave {
            tracing::info!(interface = at.name, "XDP is detached");
        }
        // The last of descriptor and pin to go detaches.
        drop(leave);
        self.held.release();
        let given_up = attach::give_up(&load::links(&self.pin_dir), is_wanted);
        self.held.renew(&self.pin_dir);
        given_up
    }
}
