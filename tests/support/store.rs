//! A Redis server in a namespace of its own, which gateways of several worlds reach, each by a cable of its own.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    wait::{SOON, pause, until},
    world::{Namespace, World},
};

/// The password of its only user.
pub const PASSWORD: &str = "a password of tests";

/// The interface of a gateway on which the store is.
const CABLE: &str = "store0";

/// Where it listens in every network that it is in.
const PORT: u16 = 6_379;

/// A server. It keeps nothing on the disk.
pub struct Store {
    namespace: Namespace,
    child: Child,
    folder: PathBuf,
}

impl Store {
    /// Starts one. Its files are in the world's folder.
    ///
    /// # Panics
    /// If there is no `redis-server`, or it does not start.
    #[must_use]
    pub fn start(world: &World) -> Self {
        let namespace = Namespace::new(format!("{}-store", world.name));
        namespace.configure("link set lo up\n");
        let folder = world.folder.clone();
        let child = spawn(&namespace, &folder);
        let store = Self { namespace, child, folder };
        store.wait_until_ready();
        store
    }

    /// Lays a cable from a gateway to it; where the gateway finds it. `number` is unique among the gateways.
    #[must_use]
    pub fn connect(&self, world: &World, number: u8) -> String {
        world.gate.configure(&format!(
            "link add {CABLE} type veth peer name node{number} netns {}\n\
             addr add 10.9.{number}.2/24 dev {CABLE}\n\
             link set {CABLE} up\n",
            self.namespace.name
        ));
        self.namespace.configure(&format!("addr add 10.9.{number}.1/24 dev node{number}\nlink set node{number} up\n"));
        format!("10.9.{number}.1:{PORT}")
    }

    /// Cuts a gateway off, or no longer.
    pub fn cut(&self, world: &World, is_cut: bool) {
        world.gate.configure(&format!("link set {CABLE} {}\n", if is_cut { "down" } else { "up" }));
    }

    /// Makes it take some time for everything, until what is returned is dropped: it is stopped for so long, over and
    /// over again.
    #[must_use]
    pub fn slow(&self, delay: Duration) -> Slow {
        let (pid, over) = (Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Arc::new(AtomicBool::new(false)));
        let is_over = Arc::clone(&over);
        let thread = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                kill(pid, Signal::SIGSTOP).unwrap();
                pause(delay);
                kill(pid, Signal::SIGCONT).unwrap();
                pause(Duration::from_millis(2));
            }
        });
        Slow { over, thread: Some(thread) }
    }

    /// Sends it a signal: SIGSTOP, SIGCONT.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Ends it at once. All that it knew is lost.
    ///
    /// # Panics
    /// If it is gone already.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_again(&mut self) {
        self.child = spawn(&self.namespace, &self.folder);
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        until("the store to answer", SOON, || self.say("PING").filter(|answer| answer == "+PONG"));
    }

    /// The first line of its answer to a command in one line; `None`: there is none.
    #[must_use]
    pub fn say(&self, command: &str) -> Option<String> {
        let connect = || TcpStream::connect_timeout(&([127, 0, 0, 1], PORT).into(), Duration::from_secs(1)).ok();
        let mut stream = self.namespace.enter(connect)?;
        stream.set_read_timeout(Some(SOON)).ok()?;
        write!(stream, "AUTH \"{PASSWORD}\"\r\n{command}\r\n").ok()?;
        let mut lines = BufReader::new(stream).lines();
        lines.next()?.ok().filter(|answer| answer == "+OK")?;
        lines.next()?.ok()
    }
}

/// The store is slow as long as this is there.
pub struct Slow {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(namespace: &Namespace, folder: &Path) -> Child {
    let config = folder.join("redis.conf");
    let text = format!(
        "bind 0.0.0.0\nport {PORT}\nprotected-mode no\nsave \"\"\nappendonly no\ndaemonize no\ndir {}\n\
         requirepass \"{PASSWORD}\"\n",
        folder.display()
    );
    fs::write(&config, text).unwrap();
    let log = File::create(folder.join("redis.log")).unwrap();
    let mut command = namespace.command("redis-server".as_ref());
    command.arg(&config).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().expect("`redis-server`: run `cargo xtask setup --all`")
}
