//! Runs a step of a task and prints it: its name first, its command line with it, its failure by name.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, bail};

/// Runs one step, its output going where ours goes.
pub(crate) fn step(name: &str, command: &mut Command) -> anyhow::Result<()> {
    eprintln!("== {name}: {}", text(command));
    let start = Instant::now();
    let status = command.status().with_context(|| format!("{name}: `{}` does not start", text(command)))?;
    if !status.success() {
        bail!("{name} failed ({status}): {}", text(command));
    }
    eprintln!("== {name}: done in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// A command as a person would type it.
pub(crate) fn text(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    command.get_args().fold(name, |line, argument| {
        let argument = argument.to_string_lossy();
        let plain = argument.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=./:@,+%[]".contains(&byte));
        if plain && !argument.is_empty() { format!("{line} {argument}") } else { format!("{line} '{argument}'") }
    })
}

/// Where `program` is, if the path knows it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // Root's tools, which a bare `su` leaves out of the path.
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// Fails, naming the package, if a program is not there.
pub(crate) fn need(program: &str, package: &str) -> anyhow::Result<()> {
    if find(program).is_none() {
        bail!("`{program}` is missing: install the package {package} (`cargo xtask setup` does)");
    }
    Ok(())
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
