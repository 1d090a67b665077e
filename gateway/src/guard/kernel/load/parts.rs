//! Optional parts of the kernel program. Where the kernel refuses the whole program, it is loaded without some of them.
//!
//! The verifier does not look at what is never reached: parts are switched off by constants of the program.

use std::{borrow::Cow, io};

use aya::{Ebpf, EbpfLoader, programs::ProgramError};

use super::object::{Variant, program};
use crate::guard::kernel::error::KernelError;

/// What the program has beside what it cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts {
    /// It answers connection attempts with SYN cookies.
    cookies: bool,
    /// It asks the network stack for connections that may use the fast lane.
    lane: bool,
    /// It takes packets that lie in pieces (XDP fragments).
    pieces: bool,
}

/// The first of these that the kernel takes is loaded.
const TRIED: [Parts; 8] = [
    Parts { cookies: true, lane: true, pieces: true },
    Parts { cookies: true, lane: false, pieces: true },
    Parts { cookies: false, lane: true, pieces: true },
    Parts { cookies: false, lane: false, pieces: true },
    Parts { cookies: true, lane: true, pieces: false },
    Parts { cookies: true, lane: false, pieces: false },
    Parts { cookies: false, lane: true, pieces: false },
    Parts { cookies: false, lane: false, pieces: false },
];

static WITH: u32 = 1;
static WITHOUT: u32 = 0;

impl Parts {
    const fn global(part: bool) -> &'static u32 {
        if part { &WITH } else { &WITHOUT }
    }

    /// The object with these parts. Whether packets may be in pieces is said by the name of the program's section.
    fn of(self, object: &[u8]) -> Cow<'_, [u8]> {
        const SECTION: &[u8] = b"xdp.frags\0";
        const SUFFIX: usize = 3;
        if self.pieces {
            return Cow::Borrowed(object);
        }
        let mut copy = object.to_vec();
        let names = object.windows(SECTION.len()).enumerate().filter(|(_, name)| *name == SECTION);
        for (at, _) in names {
            if let Some(dot) = copy.get_mut(at + SUFFIX) {
                *dot = 0;
            }
        }
        Cow::Owned(copy)
    }

    /// What these lack, each with what the kernel said when it was there.
    fn notes(self, refusals: &[(Self, String)]) -> Vec<String> {
        let why = |has: fn(&Self) -> bool| {
            refusals.iter().rev().find(|(parts, _)| has(parts)).map_or("", |(_, said)| said.as_str())
        };
        let mut notes = Vec::new();
        if !self.cookies {
            notes.push(format!(
                "the kernel refused the part that sends SYN cookies, which is left out: guard.syn_cookies has no effect ({})",
                why(|parts| parts.cookies)
            ));
        }
        if !self.lane {
            notes.push(format!(
                "the kernel refused the part that finds connections for the fast lane, which is left out: \
                 guard.total_limit.fast_lane has no effect ({})",
                why(|parts| parts.lane)
            ));
        }
        if !self.pieces {
            notes.push(format!(
                "the kernel refused packets in pieces, which is left out: drivers refuse the program where packets are longer than a page ({})",
                why(|parts| parts.pieces)
            ));
        }
        notes
    }
}

/// Loads as much of the program as the kernel takes; also what was left out, and why.
pub(in crate::guard::kernel) fn load(
    loader: &mut EbpfLoader<'_>,
    object: &[u8],
) -> Result<(Ebpf, Vec<String>), KernelError> {
    let mut refusals = Vec::new();
    for parts in TRIED {
        loader.override_global("COOKIES", Parts::global(parts.cookies), true);
        loader.override_global("LANE", Parts::global(parts.lane), true);
        loader.override_global("PIECES", Parts::global(parts.pieces), true);
        let mut ebpf = loader.load(&parts.of(object)).map_err(|error| made(&error.into()))?;
        match program(&mut ebpf, Variant::Untraced)?.load() {
            Ok(()) => {
                let mut notes = parts.notes(&refusals);
                notes.extend(untraceable(&mut ebpf)?);
                return Ok((ebpf, notes));
            }
            Err(error) => refusals.push((parts, said(error)?)),
        }
    }
    Err(KernelError::Verifier(refusals.pop().map_or_else(String::new, |(_, said)| said)))
}

/// Loads the traced variant. Where the kernel refuses it, packets are judged without: what that means, and why.
fn untraceable(ebpf: &mut Ebpf) -> Result<Option<String>, KernelError> {
    let Err(error) = program(ebpf, Variant::Traced)?.load() else { return Ok(None) };
    let said = said(error)?;
    Ok(Some(format!(
        "the kernel refused the variant of the program that writes lines, which is left out: guard.trace and `gateway watch --kernel` have no effect ({said})"
    )))
}

/// Why the maps could not be made. The object is tried on every kernel that is supported: where it does not fit, it is
/// the kernel that lacks something.
fn made(error: &anyhow::Error) -> KernelError {
    let mut codes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    match codes.find(|code| matches!(*code, libc::EPERM | libc::EACCES)) {
        Some(code) => {
            KernelError::NotPermitted { what: "making BPF maps".to_owned(), source: io::Error::from_raw_os_error(code) }
        }
        None => KernelError::Verifier(format!("{error:#}")),
    }
}

/// What the kernel said of the program: the verifier tells what is wrong in its last lines.
fn said(error: ProgramError) -> Result<String, KernelError> {
    match error {
        ProgramError::LoadError { io_error, .. } if io_error.raw_os_error() == Some(libc::EPERM) => {
            Err(KernelError::NotPermitted { what: "loading the kernel program".to_owned(), source: io_error })
        }
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let last: Vec<&str> = log.lines().rev().filter(|line| !line.trim().is_empty()).take(5).collect();
            let last = last.into_iter().rev().collect::<Vec<_>>().join(" | ");
            Ok(if last.is_empty() { io_error.to_string() } else { format!("{io_error}: {last}") })
        }
        error => Ok(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_without_pieces_differs_in_the_names_of_sections() {
        let whole = crate::guard::kernel::load::OBJECT;
        let count = |object: &[u8], name: &[u8]| object.windows(name.len()).filter(|part| *part == name).count();
        let [with, without] =
            [true, false].map(|pieces| Parts { cookies: true, lane: true, pieces }.of(whole).into_owned());
        assert_eq!(with, whole);
        assert!(count(&with, b"xdp.frags\0") > 0);
        assert_eq!(count(&without, b"xdp.frags\0"), 0);
        assert_eq!(count(&without, b"xdp\0frags\0"), count(&with, b"xdp.frags\0"));
    }

    #[test]
    fn each_part_that_is_left_out_is_told_with_its_own_reason() {
        let refused = |number: usize| (TRIED[number], format!("reason {number}"));
        for (taken, expect) in [
            (0, &[][..]),
            (1, &[("fast lane", "(reason 0)")][..]),
            (2, &[("SYN cookies", "(reason 1)")]),
            (3, &[("SYN cookies", "(reason 1)"), ("fast lane", "(reason 2)")]),
            (4, &[("in pieces", "(reason 3)")]),
            (7, &[("SYN cookies", "(reason 5)"), ("fast lane", "(reason 6)"), ("in pieces", "(reason 3)")]),
        ] {
            let refusals: Vec<_> = (0..taken).map(refused).collect();
            let notes = TRIED[taken].notes(&refusals);
            assert_eq!(notes.len(), expect.len(), "{notes:?}");
            for (note, (what, why)) in notes.iter().zip(expect) {
                assert!(note.contains(what) && note.contains(why), "{note}");
            }
        }
    }
}
