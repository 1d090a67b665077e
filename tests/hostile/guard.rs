//! A guard in wrong hands, which an upgrade has brought: it wants junk to be kept, sockets to be closed, and processes that
//! are root, or another program. What it hears of that it writes to the file `guard-heard` beside its program.

use std::{
    fs::File,
    io::Write as _,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use gateway::os::launch::{self, LauncherCommand, Notice, ProcessRole, ProgramId, RunAs};
use support::wait::{SOON, until};

/// Plays until it has heard of everything, and ends without ever having served.
pub(crate) fn play(program: &str) {
    let launcher = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut heard = Vec::new();
    let own = loop {
        match next(&launcher) {
            Notice::Kept => heard.push("kept".to_owned()),
            Notice::Begin { program, .. } => break program,
            _ => {}
        }
    };
    let (ours, theirs) = gateway::message::channel::pair().unwrap();
    let junk = File::open("/dev/null").unwrap();
    launch::send(&launcher, &LauncherCommand::Keep, &[junk.as_fd()]).unwrap();
    launch::send(&launcher, &LauncherCommand::Unbind { address: "10.0.0.1:443".parse().unwrap() }, &[]).unwrap();
    let unknown = ProgramId { device: own.device, inode: own.inode.wrapping_add(1) };
    let somebody = Some(RunAs { uid: 65_534, gid: 65_534 });
    for (generation, run_as, program) in [(900, None, own), (901, somebody, unknown)] {
        let start = LauncherCommand::Start { role: ProcessRole::Proxy, generation, run_as, program };
        launch::send(&launcher, &start, &[theirs.as_fd()]).unwrap();
        let told = loop {
            if let Notice::Started { generation: of, pid, error } = next(&launcher)
                && of == generation
            {
                break if pid == 0 { format!("not started: {error}") } else { format!("started: {pid}") };
            }
        };
        heard.push(told);
    }
    drop((ours, theirs));
    let mut file = File::create(Path::new(program).with_file_name("guard-heard")).unwrap();
    file.write_all(heard.join("\n").as_bytes()).unwrap();
}

fn next(launcher: &OwnedFd) -> Notice {
    until("the launcher to say something", SOON, || {
        launch::receive::<Notice>(launcher).ok().map(|told| told.expect("the launcher is there").0)
    })
}
