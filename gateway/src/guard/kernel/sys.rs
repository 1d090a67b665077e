//! Calls of bpf(2) that aya does not offer: whole maps at once, the trie in force, and other holders of an interface.

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

const LOOKUP: libc::c_long = 1;
const UPDATE: libc::c_long = 2;
const DELETE: libc::c_long = 3;
const LOOKUP_BATCH: libc::c_long = 24;
const UPDATE_BATCH: libc::c_long = 26;
const DELETE_BATCH: libc::c_long = 27;

/// The kernel's own error where a kind of map has no batches.
const ENOTSUPP: i32 = 524;

/// Entries asked for at once. More than lie in any one bucket of a hash map, or the kernel answers `ENOSPC`.
const BATCH: u32 = 4_096;

/// Elements of an array asked for at once.
const ELEMENTS: u32 = 65_537;

/// The attributes of `BPF_MAP_*_BATCH`.
#[repr(C)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// The attributes of `BPF_MAP_*_ELEM`.
#[repr(C)]
struct Element {
    map: u64,
    key: u64,
    value: u64,
    flags: u64,
}

/// How far a walk over a map has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BatchCursor {
    /// Where the next batch begins: a bucket's number or a key, which is never longer than this.
    at: [u8; 32],
    begun: bool,
    pub(super) done: bool,
}

impl BatchCursor {
    /// Nothing is left.
    pub(super) const fn ended() -> Self {
        Self { at: [0; 32], begun: true, done: true }
    }
}

/// Every entry of a map, as bytes, at most twice its capacity: entries may come and go meanwhile.
pub(super) fn dump<const K: usize, const V: usize>(
    map: BorrowedFd<'_>,
    capacity: u32,
) -> io::Result<Vec<([u8; K], [u8; V])>> {
    let (mut entries, mut place) = (Vec::new(), BatchCursor::default());
    while !place.done && entries.len() < 2 * capacity as usize + 1 {
        entries.extend(some(map, &mut place, BATCH)?);
    }
    Ok(entries)
}

/// Every element of an array, as bytes.
pub(super) fn elements<const V: usize>(map: BorrowedFd<'_>, length: u32) -> io::Result<Vec<[u8; V]>> {
    let (mut all, mut place) = (Vec::with_capacity(length as usize), BatchCursor::default());
    while !place.done && all.len() < length as usize {
        all.extend(
            some::<4, V>(map, &mut place, ELEMENTS.min(length.saturating_add(1)))?.into_iter().map(|(_, it)| it),
        );
    }
    if all.len() == length as usize { Ok(all) } else { Err(io::Error::other("the array has another length")) }
}

/// Enters entries into a map, or replaces them. On an error also how many were done before it.
pub(super) fn enter<K, V>(map: BorrowedFd<'_>, keys: &[K], values: &[V]) -> Result<(), (usize, io::Error)> {
    // A ban is one entry: a batch would have the kernel allocate for it.
    if let ([key], [value]) = (keys, values) {
        return one(map, UPDATE, key, Some(value)).map_err(|error| (0, error));
    }
    match batch(map, UPDATE_BATCH, keys, values) {
        Err((0, error)) if error.raw_os_error() == Some(ENOTSUPP) => {}
        result => return result,
    }
    for (done, (key, value)) in keys.iter().zip(values).enumerate() {
        one(map, UPDATE, key, Some(value)).map_err(|error| (done, error))?;
    }
    Ok(())
}

/// Removes entries from a map; those that are not there are passed over.
pub(super) fn remove<K>(map: BorrowedFd<'_>, keys: &[K]) -> io::Result<()> {
    let mut left = keys;
    while !left.is_empty() {
        match batch::<_, u8>(map, DELETE_BATCH, left, &[]) {
            Ok(()) => return Ok(()),
            // The kernel stops at the first that is missing.
            Err((done, error)) if error.raw_os_error() == Some(libc::ENOENT) => {
                left = left.get(done + 1..).unwrap_or_default();
            }
            Err((0, error)) if error.raw_os_error() == Some(ENOTSUPP) => {
                return left.iter().try_for_each(|key| match one::<_, u8>(map, DELETE, key, None) {
                    Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
                    _ => Ok(()),
                });
            }
            Err((_, error)) => return Err(error),
        }
    }
    Ok(())
}

/// Runs one `BPF_MAP_*_BATCH` that reads keys and, where there are any, values; on an error also how many entries were
/// done before it.
fn batch<K, V>(map: BorrowedFd<'_>, command: libc::c_long, keys: &[K], values: &[V]) -> Result<(), (usize, io::Error)> {
    let Ok(count) = u32::try_from(keys.len()) else {
        return Err((0, io::Error::from_raw_os_error(libc::EINVAL)));
    };
    if count == 0 {
        return Ok(());
    }
    let mut batch = Batch {
        from: 0,
        to: 0,
        keys: read_address(keys),
        values: if values.is_empty() { 0 } else { read_address(values) },
        count,
        map: descriptor(map),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the attributes are the kernel's own layout; both pointers are to as many keys and values as `count`
    // says, of the sizes that the map was checked to have when it was opened, and live through the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut batch, size_of::<Batch>()) };
    if answer < 0 { Err((batch.count.min(count) as usize, io::Error::last_os_error())) } else { Ok(()) }
}

/// Runs one `BPF_MAP_*_ELEM` that reads a key and, where there is one, a value.
fn one<K, V>(map: BorrowedFd<'_>, command: libc::c_long, key: &K, value: Option<&V>) -> io::Result<()> {
    let mut element = Element {
        map: u64::from(descriptor(map)),
        key: read_address(std::slice::from_ref(key)),
        value: value.map_or(0, |value| read_address(std::slice::from_ref(value))),
        flags: 0,
    };
    // SAFETY: as for a batch of one.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut element, size_of::<Element>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// At most `most` entries of a map, from where the last call ended. Entries that come and go meanwhile may be missed, or
/// be told twice.
pub(super) fn some<const K: usize, const V: usize>(
    map: BorrowedFd<'_>,
    place: &mut BatchCursor,
    most: u32,
) -> io::Result<Vec<([u8; K], [u8; V])>> {
    let (mut keys, mut values) = (vec![[0; K]; most as usize], vec![[0; V]; most as usize]);
    let mut to = [0_u8; 32];
    let mut batch = Batch {
        from: if place.begun { address(&mut place.at) } else { 0 },
        to: address(&mut to),
        keys: address(keys.as_mut_slice()),
        values: address(values.as_mut_slice()),
        count: most,
        map: descriptor(map),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the attributes are the kernel's own layout; each pointer is to memory that lives through the call and is
    // as large as `count` entries of the sizes that the map was checked to have when it was opened.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, &raw mut batch, size_of::<Batch>()) };
    if answer < 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ENOENT) {
            return Err(error);
        }
        place.done = true;
    }
    (place.at, place.begun) = (to, true);
    Ok(keys.into_iter().zip(values).take(batch.count.min(most) as usize).collect())
}

/// The id of the map at index 0 of an array of maps; `None` if there is none.
pub(super) fn inner_id(outer: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let (mut key, mut id) = (0_u32, 0_u32);
    let mut element =
        Element { map: u64::from(descriptor(outer)), key: address(&mut key), value: address(&mut id), flags: 0 };
    // SAFETY: the attributes are the kernel's own layout; key and value of an array of maps are 32-bit words that live
    // through the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, LOOKUP, &raw mut element, size_of::<Element>()) };
    if answer == 0 {
        return Ok(Some(id));
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOENT) { Ok(None) } else { Err(error) }
}

/// Opens what is pinned at `path`, a link or a map.
pub(super) fn open_pin(path: &std::path::Path) -> io::Result<OwnedFd> {
    use std::os::{fd::FromRawFd as _, unix::ffi::OsStrExt as _};
    const GET: libc::c_long = 7;
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // Path, descriptor and flags; then descriptor and length, and where to.
    let mut open = [name.as_ptr().addr() as u64, 0];
    // SAFETY: the attributes are the kernel's own layout; the path lives through the call and ends with a zero.
    let link = unsafe { libc::syscall(libc::SYS_bpf, GET, &raw mut open, size_of_val(&open)) };
    if link < 0 {
        return Err(io::Error::last_os_error());
    }
    let link = i32::try_from(link).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// Pins a link or a map at `path`.
pub(super) fn pin(what: &OwnedFd, path: &std::path::Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    const PIN: libc::c_long = 6;
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // Path; then descriptor and flags.
    let word = u64::from(what.as_raw_fd().unsigned_abs());
    let mut ask = [name.as_ptr().addr() as u64, if cfg!(target_endian = "big") { word.rotate_left(32) } else { word }];
    // SAFETY: the attributes are the kernel's own layout; the path lives through the call and ends with a zero.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, PIN, &raw mut ask, size_of_val(&ask)) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The interface that the XDP link pinned at `path` is on, by its number in its own namespace; 0: it is dead.
pub(super) fn link_interface(path: &std::path::Path) -> io::Result<u32> {
    const INFO: libc::c_long = 15;
    let link = open_pin(path)?;
    let mut info = [0_u32; 32];
    let lengths = u64::from(link.as_raw_fd().unsigned_abs()) | (size_of_val(&info) as u64) << 32;
    let mut ask = [if cfg!(target_endian = "big") { lengths.rotate_left(32) } else { lengths }, address(&mut info)];
    // SAFETY: the attributes are the kernel's own layout; the information lives through the call and is as long as is
    // said.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, INFO, &raw mut ask, size_of_val(&ask)) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // Kind, id, program, padding; then what is special to XDP.
    Ok(info.get(4).copied().unwrap_or(0))
}

/// A pointer as the kernel takes it: to memory that it writes.
fn address<T: ?Sized>(to: &mut T) -> u64 {
    std::ptr::from_mut(to).cast::<u8>().addr() as u64
}

/// A pointer as the kernel takes it: to memory that it reads.
fn read_address<T>(from: &[T]) -> u64 {
    from.as_ptr().addr() as u64
}

fn descriptor(map: BorrowedFd<'_>) -> u32 {
    u32::try_from(map.as_raw_fd()).unwrap_or(u32::MAX)
}

/// The id of the XDP program that is attached to an interface, by whatever means; `None` if there is none.
pub(super) fn attached_program(interface: u32) -> io::Result<Option<u32>> {
    const GETLINK: u16 = 18;
    const NEWLINK: u16 = 16;
    const REQUEST: u16 = 1;
    const XDP: u16 = 43;
    /// `IFLA_XDP_PROG_ID`, and those of the driver's and the network stack's hook.
    const PROGRAM_IDS: [u16; 3] = [4, 5, 6];
    let link = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let mut request = Vec::with_capacity(32);
    request.extend(32_u32.to_ne_bytes());
    request.extend(GETLINK.to_ne_bytes());
    request.extend(REQUEST.to_ne_bytes());
    request.extend([0; 12]);
    request.extend(interface.to_ne_bytes());
    request.extend([0; 8]);
    sendto(link.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = vec![0; 32 * 1024];
    let length = recv(link.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let answer = answer.get(..length).unwrap_or_default();
    if answer.get(4..6) != Some(&NEWLINK.to_ne_bytes()) {
        return Err(io::Error::other("the kernel does not describe the interface"));
    }
    // The header of the message, and of the link in it, are 32 bytes together.
    let xdp = answer.get(32..).and_then(|attributes| attribute(attributes, XDP));
    let id = |kind| Some(u32::from_ne_bytes(*attribute(xdp?, kind)?.first_chunk()?));
    Ok(PROGRAM_IDS.into_iter().find_map(id))
}

/// The first netlink attribute of a kind.
fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let [a, b, c, d] = *attributes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = attributes.get(4..length)?;
        // The upper two bits say how it is nested and ordered.
        if u16::from_ne_bytes([c, d]) & 0x3fff == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes() {
        let bytes = [5, 0, 1, 0, 9, 0, 0, 0, 8, 0, 2, 0x80, 1, 2, 3, 4];
        assert_eq!(attribute(&bytes, 1), Some(&[9][..]));
        assert_eq!(attribute(&bytes, 2), Some(&[1, 2, 3, 4][..]));
        assert_eq!(attribute(&bytes, 3), None);
        assert_eq!(attribute(&[0, 0, 1, 0], 1), None);
        assert_eq!(attribute(&[200, 0, 1, 0], 1), None);
    }
}
