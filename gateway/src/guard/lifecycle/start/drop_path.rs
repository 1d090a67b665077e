//! Chooses where bans take effect: in the kernel, or when connections are accepted.
//!
//! *Invariant:* `guard.mode = "auto"` serves whatever keeps the kernel program from being loaded, and says so. A mode
//! that is demanded is had, or the gateway does not start.

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::{
    guard::{
        bans::UNGUARDED,
        enforcement::{AtAccept, Enforcement},
        kernel::{self, Kernel, KernelError},
    },
    settings::guard::{self, AttachMode},
};

/// What is said in front of why the kernel program is not loaded.
const AT_ACCEPT: &str = "no packet is dropped in the kernel, bans are enforced when connections are accepted";

/// What becomes of a start where the kernel program is not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// The gateway does not start.
    End,
    /// It serves, and what an earlier program does in the kernel ends: nobody could undo it.
    ServeAlone,
    /// It serves. What is pinned stays: it is another gateway's, or it cannot be changed.
    ServeBeside,
}

impl Remedy {
    const fn of(error: &KernelError, mode: AttachMode) -> Self {
        match (mode, error) {
            (AttachMode::Generic | AttachMode::Native, _) | (AttachMode::Auto, KernelError::Full { .. }) => Self::End,
            (AttachMode::Auto, error) if error.is_refusal() => Self::ServeAlone,
            (AttachMode::Auto, _) => Self::ServeBeside,
        }
    }
}

/// Loads the kernel program, or does without where that is what was asked for, or where no mode was demanded.
pub(super) fn drop_path(
    settings: &guard::Settings,
    ports: &[u16],
    standing: &mut Vec<String>,
) -> Result<Box<dyn Enforcement>> {
    if settings.interfaces.is_empty() {
        // As long as that is so, `status` says it.
        tracing::warn!("{UNGUARDED}");
        let_go(&settings.pin_dir);
        return Ok(Box::new(AtAccept::default()));
    }
    let error = match Kernel::load(settings, ports) {
        Ok(kernel) => return Ok(loaded(kernel, standing)),
        Err(error) => error,
    };
    let left = match Remedy::of(&error, settings.mode) {
        Remedy::End => return Err(refusal(error, settings.mode)),
        Remedy::ServeAlone => match kernel::remove(&settings.pin_dir) {
            Ok(removed) if removed.links > 0 => "; an earlier program was detached".to_owned(),
            Ok(_nothing_attached) => String::new(),
            Err(error) => format!("; {error}"),
        },
        // What is another gateway's is that one's to say.
        Remedy::ServeBeside if matches!(error, KernelError::Pin { .. }) && kernel::is_pinned(&settings.pin_dir) => {
            "; what an earlier start has pinned there may drop packets: stop the gateway, then `gateway detach` ends it"
                .to_owned()
        }
        Remedy::ServeBeside => String::new(),
    };
    let without = format!("{AT_ACCEPT}: {error}{left}");
    tracing::warn!("{without}");
    standing.push(without);
    Ok(Box::new(AtAccept::default()))
}

/// Why the gateway does not start, and what would have it start.
fn refusal(error: KernelError, mode: AttachMode) -> anyhow::Error {
    let name = match mode {
        AttachMode::Auto => return error.into(),
        AttachMode::Generic => "generic",
        AttachMode::Native => "native",
    };
    let says_itself = matches!(error, KernelError::NoNative(_));
    if says_itself || Remedy::of(&error, AttachMode::Auto) == Remedy::End {
        return error.into();
    }
    anyhow!(
        "guard.mode = \"{name}\": {error}. With guard.mode = \"auto\" the gateway serves without XDP: bans are \
         enforced when connections are accepted"
    )
}

/// Loads the kernel program for a reload that the guard before this one could not do, or does without. The second value
/// says why the configuration stays as it was.
pub(super) fn drop_path_for_reload(
    settings: &guard::Settings,
    ports: &[u16],
    standing: &mut Vec<String>,
) -> (Box<dyn Enforcement>, Option<String>) {
    match Kernel::load(settings, ports) {
        Ok(kernel) => (loaded(kernel, standing), None),
        Err(error) => {
            if !settings.interfaces.is_empty() {
                standing.push(format!("{AT_ACCEPT}: {error}"));
            }
            let why = format!("the configuration stays as it was: the kernel program is not loaded: {error}");
            (Box::new(AtAccept::default()), Some(why))
        }
    }
}

/// Tells what the kernel program is attached to, and what it does without.
fn loaded(kernel: Kernel, standing: &mut Vec<String>) -> Box<dyn Enforcement> {
    for at in kernel.interfaces() {
        let note = at.note.as_deref().unwrap_or_default();
        tracing::info!(interface = at.name, native = at.native, adopted = at.adopted, note, "XDP is attached");
    }
    for what in kernel.left_out() {
        tracing::warn!("{what}");
    }
    standing.extend_from_slice(kernel.left_out());
    Box::new(kernel)
}

/// Takes out of the kernel what a gateway before this one has left there: nobody would keep its bans up. What another
/// gateway uses stays.
fn let_go(pin_dir: &Path) {
    let removed = kernel::hold(pin_dir).and_then(|hold| hold.map(|_hold| kernel::remove(pin_dir)).transpose());
    match removed {
        Ok(Some(removed)) if removed.links > 0 => {
            tracing::warn!(interfaces = removed.links, "an earlier program was detached");
        }
        Ok(_) | Err(KernelError::NotPermitted { .. } | KernelError::Shared(_)) => {}
        Err(error) => tracing::warn!(%error, "what an earlier gateway has left in the kernel stays"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn source(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    #[test]
    fn who_serves_without_xdp() {
        let pin = KernelError::Pin { path: "/sys/fs/bpf/gateway".to_owned(), reason: "read-only".to_owned() };
        let full = KernelError::Full { map: "BANS", capacity: 1, setting: "guard.max_bans" };
        let attach = KernelError::Attach { what: "attaching to eth0".to_owned(), source: source(libc::EIO) };
        for (error, auto) in [
            (pin, Remedy::ServeBeside),
            (attach, Remedy::ServeBeside),
            (KernelError::Shared("/sys/fs/bpf/gateway".to_owned()), Remedy::ServeBeside),
            (
                KernelError::NotPermitted { what: "making BPF maps".to_owned(), source: source(libc::EPERM) },
                Remedy::ServeBeside,
            ),
            (KernelError::NoBpffs { path: "/sys/fs/bpf".to_owned(), source: source(libc::EPERM) }, Remedy::ServeBeside),
            (KernelError::Verifier("R4 invalid".to_owned()), Remedy::ServeAlone),
            (KernelError::TooOld(source(libc::EPERM)), Remedy::ServeAlone),
            (full, Remedy::End),
        ] {
            assert_eq!(Remedy::of(&error, AttachMode::Auto), auto, "{error}");
            let told = error.to_string();
            for mode in [AttachMode::Generic, AttachMode::Native] {
                assert_eq!(Remedy::of(&error, mode), Remedy::End, "{error}");
            }
            let refused = refusal(error, AttachMode::Native).to_string();
            assert!(refused.contains(&told), "{refused}");
            assert_eq!(refused.contains("guard.mode = \"auto\""), auto != Remedy::End, "{refused}");
        }
    }
}
