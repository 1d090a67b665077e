//! What is taken out of the loaded object: its program, its maps by name, and values as the program lays them out.

use aya::{
    Ebpf, Pod,
    maps::{Map, MapError},
    programs::{ProgramError, Xdp},
};
use gateway_common::maps::{Ban, Hits, Limits, Rule, Tally};

use super::error::{KernelError, refused};

/// The program's name, by which the kernel tells it from others.
pub(super) const PROGRAM: &str = "guard";

/// A value as the kernel program lays it out.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Laid<T>(pub(super) T);

// SAFETY: words without padding, valid whatever their bits.
unsafe impl Pod for Laid<Ban> {}
// SAFETY: as above.
unsafe impl Pod for Laid<Hits> {}
// SAFETY: as above.
unsafe impl Pod for Laid<Limits> {}
// SAFETY: as above.
unsafe impl Pod for Laid<Rule> {}
// SAFETY: as above.
unsafe impl Pod for Laid<Tally> {}

/// The one program of the object.
pub(super) fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, KernelError> {
    ebpf.program_mut(PROGRAM)
        .ok_or_else(|| KernelError::Object("it has no program".to_owned()))?
        .try_into()
        .map_err(|error: ProgramError| KernelError::Object(error.to_string()))
}

pub(super) fn read_ban(bytes: &[u8; 32]) -> Ban {
    let word = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u64::from_ne_bytes);
    Ban { expires: word(0), id: word(8), packets: word(16), bytes: word(24) }
}

pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, KernelError> {
    ebpf.take_map(name).ok_or_else(|| KernelError::Object(format!("it has no map {name}")))
}

pub(super) fn map<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, KernelError> {
    take(ebpf, name)?.try_into().map_err(refused(name, "opening"))
}
