//! Detaches the program from the kernel at an operator's word, and attaches it again.

use crate::{guard::bans::*, text::counted::counted};

impl Guard {
    /// An operator wants the program out of the kernel: to recover, or to make room for another.
    pub(in crate::guard::bans) fn detach(&mut self, actor: &Actor, now: Now) -> Result<(String, u64), Refused> {
        if let Some(by) = self.enforcer.detached() {
            return Err(Refused::new("detached", format!("it was detached already, by {by}")));
        }
        // Recorded whatever comes of it: an attempt to stop enforcement is worth a record.
        let members = members(json!({"actor": actor.to_string()}));
        // A disk that is full keeps nobody from recovering.
        self.record("detach", members, now);
        let removed = self.enforcer.release(&actor.to_string());
        let removed = removed.map_err(|error| Refused::new("kernel_failed", error.to_string()))?;
        if self.enforcer.detached().is_none() {
            let why = self.unattached().unwrap_or_default();
            let message = format!("nothing of this gateway was in the kernel: {why}");
            return Ok((message, 0));
        }
        tracing::warn!(%actor, links = removed.links, maps = removed.maps, "detached: no packet is dropped in the kernel");
        let lists = match self.listed_to_block() {
            0 => String::new(),
            listed => {
                let listed = counted(listed, "listed source is", "listed sources are");
                format!(". {listed} served meanwhile: lists are enforced in the kernel alone")
            }
        };
        let message = format!(
            "{} and {} are out of the kernel: bans are enforced when connections are accepted until `gateway attach`, or until the gateway is started again{lists}",
            counted(removed.links, "link", "links"),
            counted(removed.maps, "map", "maps")
        );
        Ok((message, u64::try_from(removed.links).unwrap_or(0)))
    }

    /// Undoes [`Self::detach`].
    pub(in crate::guard::bans) fn attach(&mut self, actor: &Actor, now: Now) -> Result<(String, u64), Refused> {
        if self.settings.interfaces.is_empty() {
            let message = "there is nothing to attach to: guard.interfaces is empty; name the interfaces that clients come in by, \
                           as in interfaces = [\"eth0\"], and reload";
            return Err(Refused::new("no_interfaces", message));
        }
        let (attached, failing) =
            self.enforcer.attach().map_err(|error| Refused::new("kernel_failed", error.to_string()))?;
        let members = members(json!({"actor": actor.to_string(), "interfaces": attached, "failing": failing}));
        self.tell("attach", now, members);
        if !failing.is_empty() {
            return Err(Refused::new("not_attached", failing.join("; ")));
        }
        if let Some(why) = self.unattached() {
            return Err(Refused::new("not_attached", why));
        }
        let message = match attached.as_slice() {
            [] => "everything that guard.interfaces names was attached already".to_owned(),
            names => format!("attached to {}", names.join(", ")),
        };
        Ok((message, u64::try_from(attached.len()).unwrap_or(0)))
    }

    /// Why no packet is dropped in the kernel, and what to do about it; `None`: packets are.
    pub(in crate::guard::bans) fn unattached(&self) -> Option<String> {
        if !self.enforcer.path().interfaces().is_empty() {
            return None;
        }
        Some(match self.enforcer.detached() {
            _ if self.settings.interfaces.is_empty() => {
                "no interface is guarded; name one in guard.interfaces".to_owned()
            }
            Some(by) => format!("XDP is detached by {by}; `gateway attach` undoes it"),
            None if !self.enforcer.path().can_guard(&self.settings.interfaces) => {
                "the kernel program is not loaded, which only a start can do; `gateway status` says why, a restart \
                 tries it again"
                    .to_owned()
            }
            None => "XDP is attached to none of guard.interfaces; `gateway status` says why, `gateway attach` tries \
                     it again"
                .to_owned(),
        })
    }
}

/// For status.
pub(in crate::guard::bans) fn warning(actor: &str) -> String {
    format!(
        "DETACHED by {actor}: no packet is dropped in the kernel, bans are enforced when connections are accepted; `gateway attach` undoes it"
    )
}
