//! Calls of the kernel that aya does not have: programs written as instructions, and timed runs.

use std::{
    io,
    mem::size_of_val,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;

const PROG_ARRAY: u32 = 3;
const XDP: u32 = 6;
/// `BPF_XDP`, the attach type.
const ATTACHED_AS: u32 = 37;
/// `BPF_F_XDP_HAS_FRAGS`.
const FRAGS: u32 = 1 << 5;

const XDP_PASS: i32 = 2;
const TAIL_CALL: i32 = 12;

/// Where in a frame the generator of sources keeps its state: behind an IPv4 packet with a TCP header.
const STATE: i16 = 54;
/// Where the source address is.
const SOURCE: i16 = 26;

/// One instruction: operation, registers (the upper half is where from), offset, immediate.
type Instruction = (u8, u8, i16, i32);

/// The program that passes every packet: what is left of a measurement is the harness.
pub(crate) fn empty(takes_frags: bool) -> io::Result<OwnedFd> {
    load(&[(0xb7, 0x00, 0, XDP_PASS), (0x95, 0, 0, 0)], takes_frags)
}

/// A program that gives each packet another source, drawn from `count` addresses from `first` on, and goes on in
/// `target`. The frame must be one of [`with_state`].
pub(crate) fn from_random_sources(
    target: BorrowedFd<'_>,
    takes_frags: bool,
    first: u32,
    count: u32,
) -> io::Result<(OwnedFd, OwnedFd)> {
    // Type, sizes of key and value, entries, flags.
    let made = call(MAP_CREATE, &mut [PROG_ARRAY, 4, 4, 1, 0])?;
    let array = owned(made)?;
    let (key, value) = (0_u32, target.as_raw_fd());
    let mut update = [descriptor(&array).into(), address(&key), address(&value), 0_u64];
    call(MAP_UPDATE, &mut update)?;
    let narrow = |wide: u32| i32::try_from(wide).map_err(io::Error::other);
    let program = [
        // r6 = context; r2 = data; r3 = its end; to the end unless the state lies before it.
        (0xbf, 0x16, 0, 0),
        (0x61, 0x12, 0, 0),
        (0x61, 0x13, 4, 0),
        (0xbf, 0x24, 0, 0),
        (0x07, 0x04, 0, i32::from(STATE) + 4),
        (0x2d, 0x34, 14, 0),
        // The state's next value, of the linear congruential generator of Numerical Recipes.
        (0x61, 0x25, STATE, 0),
        (0x24, 0x05, 0, 1_664_525),
        (0x04, 0x05, 0, 1_013_904_223),
        (0x63, 0x52, STATE, 0),
        // Its upper bits choose the source.
        (0x27, 0x05, 0, narrow(count)?),
        (0x77, 0x05, 0, 32),
        (0x07, 0x05, 0, narrow(first)?),
        (0xdc, 0x05, 0, 32),
        (0x63, 0x52, SOURCE, 0),
        // Tail call: context, array, index.
        (0xbf, 0x61, 0, 0),
        (0x18, 0x12, 0, array.as_raw_fd()),
        (0, 0, 0, 0),
        (0xb7, 0x03, 0, 0),
        (0x85, 0, 0, TAIL_CALL),
        (0xb7, 0x00, 0, XDP_PASS),
        (0x95, 0, 0, 0),
    ];
    Ok((load(&program, takes_frags)?, array))
}

/// A frame with room for the state of [`from_random_sources`] behind it.
pub(crate) fn with_state(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(64), 0);
    frame
}

/// Runs a frame through a program so many times: its last action, and nanoseconds for each on average.
pub(crate) fn run(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> io::Result<(u32, u32)> {
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    let [data_low, data_high] = halves(frame.as_ptr().addr() as u64);
    // Program; action; sizes in and out; data in and out; repeat; duration; contexts; flags, CPU, batch.
    let mut attributes = [0_u32; 20];
    attributes[0] = u32::try_from(program.as_raw_fd()).map_err(io::Error::other)?;
    attributes[2] = length;
    (attributes[4], attributes[5], attributes[8]) = (data_low, data_high, repeat);
    call(PROG_TEST_RUN, &mut attributes)?;
    Ok((attributes[1], attributes[9]))
}

fn load(program: &[Instruction], takes_frags: bool) -> io::Result<OwnedFd> {
    let code: Vec<u8> = program
        .iter()
        .flat_map(|&(operation, registers, offset, immediate)| {
            let ([a, b], [c, d, e, f]) = (offset.to_ne_bytes(), immediate.to_ne_bytes());
            [operation, registers, a, b, c, d, e, f]
        })
        .collect();
    let license = c"GPL";
    let [code_low, code_high] = halves(code.as_ptr().addr() as u64);
    let [license_low, license_high] = halves(license.as_ptr().addr() as u64);
    let mut attributes = [0_u32; 20];
    attributes[0] = XDP;
    attributes[1] = u32::try_from(program.len()).map_err(io::Error::other)?;
    (attributes[2], attributes[3], attributes[4], attributes[5]) = (code_low, code_high, license_low, license_high);
    attributes[11] = if takes_frags { FRAGS } else { 0 };
    attributes[17] = ATTACHED_AS;
    owned(call(PROG_LOAD, &mut attributes)?)
}

fn call<T>(command: libc::c_long, attributes: &mut [T]) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are laid out as the kernel's own, as long as is said, and live through the call, as does
    // what they point to; what the kernel writes, it writes into them.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes)) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn owned(answer: libc::c_long) -> io::Result<OwnedFd> {
    let number = i32::try_from(answer).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn descriptor(of: &OwnedFd) -> u32 {
    of.as_raw_fd().unsigned_abs()
}

fn address<T>(of: &T) -> u64 {
    std::ptr::from_ref(of).addr() as u64
}

/// The words of a 64-bit field, as they lie in memory.
fn halves(wide: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = wide.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}
