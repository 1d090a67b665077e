//! Facts about the host: other programs on an interface, its offloads, its clock, and what earlier versions of this
//! program have left.

use std::{
    fs, io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use aya::{maps::MapData, programs::loaded_programs};
use gateway_common::maps::LAYOUT;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Names of programs and who loads them.
const TOOLS: [(&str, &str); 6] = [
    ("xdp_dispatcher", "libxdp, as xdp-filter and xdp-loader use it"),
    ("cil_xdp", "Cilium"),
    ("balancer_ing", "Katran"),
    ("xdp_root", "Katran"),
    ("xdp_prog_simple", "xdp-tutorial"),
    ("guard", "another gateway, with another guard.pin_dir"),
];

/// A program by its id: its name and tag, and whose it likely is. `None`: it is gone, or there is no right to look.
#[must_use]
pub fn program_named(id: u32) -> Option<String> {
    let info = loaded_programs().flatten().find(|loaded| loaded.id() == id)?;
    let name = info.name_as_str().filter(|name| !name.is_empty()).unwrap_or("without a name");
    Some(describe(name, info.tag()))
}

/// The name may be anybody's: nothing that a terminal obeys is let through.
fn describe(name: &str, tag: u64) -> String {
    let tool = TOOLS.iter().find(|(prefix, _)| name.starts_with(prefix));
    let tool = tool.map(|(_, tool)| format!(", likely of {tool}")).unwrap_or_default();
    format!("{}, tag {tag:016x}{tool}", name.escape_default())
}

/// Whether the network card joins packets before XDP could see them (large receive offload): drivers refuse one for the
/// other.
///
/// # Errors
/// There is no such interface, or it has no such settings.
pub fn joins_packets(interface: &str) -> io::Result<bool> {
    const GET_FLAGS: u32 = 0x25;
    const LRO: u32 = 1 << 15;
    let asked = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut value = [GET_FLAGS, 0];
    // SAFETY: an interface request is plain bytes, valid as zeros.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    // SAFETY: the request, which ends its name with a zero, and the two words that it points to live through the call.
    let answer = unsafe { libc::ioctl(asked.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value[1] & LRO != 0)
}

/// Whether something keeps the clock right, by what the kernel was told (`adjtimex`).
///
/// # Errors
/// The kernel does not say.
pub fn clock_is_kept() -> io::Result<bool> {
    // SAFETY: the structure is plain numbers, valid as zeros, which change nothing.
    let mut asked: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: it lives through the call.
    let answer = unsafe { libc::adjtimex(&raw mut asked) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer != libc::TIME_ERROR && asked.status & libc::STA_UNSYNC == 0)
}

/// Folders of maps that earlier versions of this program have pinned and this one does not use.
#[must_use]
pub fn earlier_layouts(pin_dir: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(pin_dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_earlier = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix('v').and_then(|digits| digits.parse::<u32>().ok()).is_some_and(|layout| layout < LAYOUT)
    };
    let mut earlier: Vec<PathBuf> = folders.filter(|path| path.is_dir() && is_earlier(path)).collect();
    earlier.sort();
    earlier
}

/// Removes what earlier versions have pinned: the program that used it is replaced by now. A folder in which anything
/// but maps lies stays as it is.
pub(super) fn remove_earlier(pin_dir: &Path) {
    for folder in earlier_layouts(pin_dir) {
        match remove_maps(&folder) {
            Ok(maps) => tracing::info!(folder = %folder.display(), maps, "maps of an earlier version are removed"),
            Err(error) => tracing::warn!(folder = %folder.display(), %error, "maps of an earlier version stay"),
        }
    }
}

fn remove_maps(folder: &Path) -> io::Result<usize> {
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    for path in &paths {
        MapData::from_pin(path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
    }
    paths.iter().try_for_each(fs::remove_file)?;
    fs::remove_dir(folder)?;
    Ok(paths.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_it_likely_is() {
        for (name, expect) in [
            (
                "xdp_dispatcher",
                "xdp_dispatcher, tag 000000000000abcd, likely of libxdp, as xdp-filter and xdp-loader use it",
            ),
            ("cil_xdp_entry", "cil_xdp_entry, tag 000000000000abcd, likely of Cilium"),
            ("mine\u{1b}", "mine\\u{1b}, tag 000000000000abcd"),
        ] {
            assert_eq!(describe(name, 0xabcd), expect);
        }
        assert!(joins_packets("there-is-no-such-interface").is_err());
        assert!(earlier_layouts(Path::new("/nowhere")).is_empty());
        assert!(clock_is_kept().is_ok());
    }
}
