//! What is taken out of the loaded object: its program, its maps by name, and values as the program lays them out.

use aya::{
    Ebpf, Pod,
    maps::{Map, MapError},
    programs::{ProgramError, Xdp},
};
use gateway_common::{
    maps::{Ban, Budget, Hits, Limits, PacketCount, Rule},
    trace::{Trace, TraceCount},
};

use crate::guard::kernel::error::{KernelError, refused};

/// Which of the object's programs: the verdicts of both are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::guard::kernel) enum Variant {
    /// In force while somebody traces packets: it writes lines about them.
    Traced,
    Untraced,
}

impl Variant {
    /// The program's name, by which the kernel tells it from others.
    pub(in crate::guard::kernel) const fn name(self) -> &'static str {
        match self {
            Self::Traced => "guard_traced",
            Self::Untraced => "guard",
        }
    }

    /// Whether a program of this name is one of them.
    pub(in crate::guard::kernel) fn is_one(name: &str) -> bool {
        [Self::Traced, Self::Untraced].iter().any(|variant| variant.name() == name)
    }
}

/// A value as the kernel program lays it out.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(in crate::guard::kernel) struct Laid<T>(pub(in crate::guard::kernel) T);

// SAFETY: words without padding, valid whatever their bits.
unsafe impl Pod for Laid<Ban> {}
// SAFETY: as above.
unsafe impl Pod for Laid<Budget> {}
// SAFETY: as above.
unsafe impl Pod for Laid<Hits> {}
// SAFETY: as above.
unsafe impl Pod for Laid<Limits> {}
// SAFETY: as above.
unsafe impl Pod for Laid<Rule> {}
// SAFETY: as above.
unsafe impl Pod for Laid<PacketCount> {}
// SAFETY: as above.
unsafe impl Pod for Laid<TraceCount> {}
// SAFETY: as above.
unsafe impl Pod for Laid<Trace> {}

/// A program of the object.
pub(in crate::guard::kernel) fn program(ebpf: &mut Ebpf, variant: Variant) -> Result<&mut Xdp, KernelError> {
    ebpf.program_mut(variant.name())
        .ok_or_else(|| KernelError::Object("it has no program".to_owned()))?
        .try_into()
        .map_err(|error: ProgramError| KernelError::Object(error.to_string()))
}

/// A program's number in the kernel.
pub(in crate::guard::kernel) fn id(ebpf: &mut Ebpf, variant: Variant) -> Result<u32, KernelError> {
    let info = program(ebpf, variant)?.info();
    info.map(|info| info.id()).map_err(|error| KernelError::Object(error.to_string()))
}

pub(in crate::guard::kernel) fn read_ban(bytes: &[u8; 32]) -> Ban {
    let word = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u64::from_ne_bytes);
    Ban { expires: word(0), id: word(8), packets: word(16), bytes: word(24) }
}

pub(in crate::guard::kernel) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, KernelError> {
    ebpf.take_map(name).ok_or_else(|| KernelError::Object(format!("it has no map {name}")))
}

pub(in crate::guard::kernel) fn map<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<M, KernelError> {
    take(ebpf, name)?.try_into().map_err(refused(name, "opening"))
}
