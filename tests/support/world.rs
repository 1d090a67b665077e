//! A test's network: the gateway's namespace and one outside world, joined by a veth pair.
//!
//! The same addresses in every world, because worlds cannot see each other:
//!
//! | who | IPv4 | IPv6 |
//! |---|---|---|
//! | gateway, on [`GATE`] | 10.0.0.1 | `fd00::1` |
//! | good client | 10.0.0.2 | `fd00:0:0:1::2` |
//! | attacker | 10.0.0.66 | `fd00:0:0:2::66`, `fd00:0:0:2::67` |
//! | bystanders, for cases that must not disturb each other | 10.0.0.100 to 10.0.0.131 | |
//!
//! Everything is removed when the [`World`] is dropped; what a killed test left behind, when the next one starts.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{self, Command, Stdio},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

/// The gateway's end of the veth pair.
pub const GATE: &str = "gate0";
/// The outside world's end.
pub const OUTSIDE: &str = "out0";
/// The link address of the gateway's end: known, for frames that are built by hand.
pub const GATE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The link address of the outside world's end.
pub const OUTSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The gateway.
pub const GATEWAY_V4: IpAddr = v4(1);
/// The gateway.
pub const GATEWAY_V6: IpAddr = v6(0, 1);
/// The good client.
pub const GOOD_V4: IpAddr = v4(2);
/// The good client.
pub const GOOD_V6: IpAddr = v6(1, 2);
/// The attacker.
pub const ATTACKER_V4: IpAddr = v4(66);
/// The attacker: one client with the next, because they share a /64.
pub const ATTACKER_V6: IpAddr = v6(2, 0x66);
/// The attacker's second address.
pub const ATTACKER_V6_TOO: IpAddr = v6(2, 0x67);

/// How many bystanders there are.
pub const BYSTANDERS: u8 = 32;

const PREFIX: &str = "gwt";
const NAMESPACES: &str = "/run/netns";

const fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

const fn v6(network: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, network, 0, 0, 0, last))
}

/// One of the outside world's spare addresses.
///
/// # Panics
/// At or over [`BYSTANDERS`].
#[must_use]
pub fn bystander(number: u8) -> IpAddr {
    assert!(number < BYSTANDERS, "only {BYSTANDERS} bystanders");
    v4(100 + number)
}

/// A network namespace that has a name.
pub struct Namespace {
    pub(crate) name: String,
    file: File,
}

impl Namespace {
    /// Makes one. Its name says whose it is, as that of a [`World`] does.
    ///
    /// # Panics
    /// If the machine does not let us.
    #[must_use]
    pub(crate) fn new(name: String) -> Self {
        ip(&["netns", "add", &name], "");
        let file = File::open(format!("{NAMESPACES}/{name}")).expect("the namespace just made");
        let namespace = Self { name, file };
        // The namespace's own defaults for interfaces to come: addresses work at once, and stay quiet.
        namespace.enter(|| {
            for setting in ["default/accept_dad", "default/accept_ra", "default/router_solicitations"] {
                fs::write(format!("/proc/sys/net/ipv6/conf/{setting}"), "0").expect("IPv6 is needed");
            }
        });
        namespace
    }

    /// For `nsenter --net=`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("{NAMESPACES}/{}", self.name))
    }

    /// Runs `inside` on a thread of this namespace. Sockets made there stay there.
    ///
    /// # Panics
    /// As `inside`, or if the namespace cannot be entered.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).expect("setns needs root");
                inside()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A program that will run in this namespace.
    #[must_use]
    pub fn command(&self, program: &std::ffi::OsStr) -> Command {
        // `ip netns exec` would mount a new /sys, without the bpffs below it.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program);
        command
    }

    /// Connects from `source` to `target`.
    ///
    /// # Errors
    /// As connecting; `TimedOut` if nothing answered within `timeout`.
    pub fn connect(&self, source: IpAddr, target: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        let socket = self.socket(source, target)?;
        socket.connect_timeout(&target.into(), timeout)?;
        Ok(socket.into())
    }

    /// Sends a SYN from `source` to `target` and waits for nothing.
    ///
    /// # Errors
    /// As making a socket.
    pub fn knock(&self, source: IpAddr, target: SocketAddr) -> io::Result<Socket> {
        let socket = self.socket(source, target)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(socket),
        }
    }

    fn socket(&self, source: IpAddr, target: SocketAddr) -> io::Result<Socket> {
        let socket = self.enter(|| Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP)))?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        Ok(socket)
    }

    /// Configures the namespace: lines for `ip -batch`.
    ///
    /// # Panics
    /// If `ip` refuses one.
    pub fn configure(&self, lines: &str) {
        ip(&["-n", &self.name, "-batch", "-"], lines);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status());
    }
}

/// Two namespaces and what joins them.
pub struct World {
    /// Unique on this machine while the test runs; fit for file names.
    pub name: String,
    /// Where the gateway and its upstreams run.
    pub gate: Namespace,
    /// Where clients are.
    pub outside: Namespace,
    /// A folder for whatever the test writes.
    pub folder: PathBuf,
}

impl World {
    /// Makes a world.
    ///
    /// # Panics
    /// If the machine does not let us.
    #[must_use]
    pub fn new() -> Self {
        static SWEEP: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        SWEEP.call_once(sweep);

        let name = format!("{PREFIX}-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir_all(&folder).expect("a folder in the temporary directory");
        let gate = Namespace::new(format!("{name}-gate"));
        let outside = Namespace::new(format!("{name}-out"));

        for namespace in [&gate, &outside] {
            namespace.configure("link set lo up\n");
        }
        let world = Self { name, gate, outside, folder };
        world.plug();
        world
    }

    /// Lays the cable between the two, with all addresses.
    ///
    /// # Panics
    /// If it is there.
    pub fn plug(&self) {
        let [gate, out] = [GATE_MAC, OUTSIDE_MAC].map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
        self.gate.configure(&format!(
            "link add {GATE} address {gate} type veth peer name {OUTSIDE} address {out} netns {}\n\
             addr add {GATEWAY_V4}/24 dev {GATE}\n\
             addr add {GATEWAY_V6}/64 dev {GATE} nodad\n\
             link set {GATE} up\n",
            self.outside.name
        ));
        let mut lines = format!("link set {OUTSIDE} up\n");
        for address in [GOOD_V4, ATTACKER_V4].into_iter().chain((0..BYSTANDERS).map(bystander)) {
            writeln!(lines, "addr add {address}/24 dev {OUTSIDE}").unwrap();
        }
        for address in [GOOD_V6, ATTACKER_V6, ATTACKER_V6_TOO] {
            writeln!(lines, "addr add {address}/64 dev {OUTSIDE} nodad").unwrap();
        }
        writeln!(lines, "route add fd00::/64 dev {OUTSIDE}").unwrap();
        self.outside.configure(&lines);
        self.gate.configure(&format!("route add fd00:0:0:1::/64 dev {GATE}\nroute add fd00:0:0:2::/64 dev {GATE}\n"));
    }

    /// Takes the cable away, and both interfaces with it.
    ///
    /// # Panics
    /// If it is not there.
    pub fn unplug(&self) {
        self.gate.configure(&format!("link del {GATE}\n"));
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Where a world's maps and links are pinned, in a bpffs that is mounted if it is not.
///
/// # Panics
/// If it cannot be mounted.
#[must_use]
pub fn pin_folder(world: &str) -> PathBuf {
    static MOUNT: Once = Once::new();
    MOUNT.call_once(|| {
        let mounted = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if !mounted.lines().any(|line| line.contains(" /sys/fs/bpf ")) {
            let status = Command::new("mount").args(["-t", "bpf", "bpf", "/sys/fs/bpf"]).status();
            assert!(status.is_ok_and(|status| status.success()), "cannot mount bpffs");
        }
    });
    PathBuf::from("/sys/fs/bpf").join(world)
}

fn ip(arguments: &[&str], input: &str) {
    let mut child = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`ip` of the package iproute2");
    child.stdin.take().unwrap().write_all(input.as_bytes()).expect("`ip` reads");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}\n{input}", String::from_utf8_lossy(&output.stderr));
}

/// Removes what dead test processes left: `gwt-PID-...` namespaces, pins and folders.
fn sweep() {
    for (parent, remove) in [
        (NAMESPACES.into(), (|path| drop(Command::new("ip").args(["netns", "del"]).arg(path).status())) as fn(&str)),
        (PathBuf::from("/sys/fs/bpf"), |_| ()),
        (std::env::temp_dir(), |_| ()),
    ] {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let file_name = entry.file_name();
            let Some(name) = file_name.to_str() else { continue };
            let mut parts = name.split('-');
            let owner = (parts.next() == Some(PREFIX)).then(|| parts.next()).flatten();
            let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
            if !PathBuf::from(format!("/proc/{owner}")).exists() {
                crate::small_disk::unmount_below(&entry.path());
                remove(name);
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    }
}
