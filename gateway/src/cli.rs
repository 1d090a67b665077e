//! Decides what the command line means: one file per command, exit codes in one place.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use self::{exit::Exit, output::Output};
use crate::{
    auth,
    config::{self, Disk, Errors, Locations},
    guard::{
        control::{
            Answer, Request,
            client::{self, Unreachable},
        },
        offline,
    },
    proxy,
};

mod allow;
mod attach;
mod audit;
mod block;
mod check;
mod confirm;
mod detach;
mod doctor;
mod export;
mod import;
mod init;
mod reload;
mod resume;
mod route;
mod run;
mod shadow;
mod status;
mod top;
mod version;
mod watch;
mod why;

mod exit;
mod output;
mod progress;
mod prometheus;
mod table;

/// An edge guard for HTTP APIs: an authenticating proxy whose refusals become drops in the kernel.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, after_help = exit::HELP, max_term_width = 80)]
struct Arguments {
    /// The configuration [default: /etc/gateway/gateway.toml]
    #[arg(long, global = true, help_heading = "Global options", env = "GATEWAY_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
    /// The running gateway's control socket [default: guard.control_socket of the configuration]
    #[arg(long, global = true, help_heading = "Global options", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Say it as one JSON value
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first configuration, for one upstream
    Init(init::Init),
    /// Run the gateway until SIGTERM or SIGINT (as root)
    Run(run::Run),
    /// Say whether the configuration is valid, and what is in force by it
    Check(check::Check),
    /// Say which route takes a request, and why others do not
    Route(route::Route),
    /// Show how the running gateway is
    Status(status::Status),
    /// Block sources, list and unblock them
    #[command(subcommand)]
    Block(block::Block),
    /// Let a block stay that was added with `--confirm`
    Confirm(confirm::Confirm),
    /// Let sources through whatever else is said, list and undo it
    #[command(subcommand)]
    Allow(allow::Allow),
    /// Explain what happens to an address, and why
    Why(why::Why),
    /// Check the record of everything that was decided
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Show decisions as they are made
    Watch(watch::Watch),
    /// Show what is dropped and who is blocked as it changes
    Top(top::Top),
    /// Say what is off with this host and this gateway
    Doctor(doctor::Doctor),
    /// Take the program out of the kernel, to recover or to make room
    Detach(detach::Detach),
    /// Attach again after `detach`
    Attach(attach::Attach),
    /// Show what is counted only, and enforce it
    #[command(subcommand)]
    Shadow(shadow::Shadow),
    /// Let rules ban again that were paused for asking too much
    Resume(resume::Resume),
    /// Read the configuration again
    Reload(reload::Reload),
    /// Show the program's version
    Version(version::Version),
    /// The process that the gateway starts for itself
    #[command(hide = true)]
    Proxy,
}

/// Parses the arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(asked) => {
            let exit = if asked.use_stderr() { Exit::Usage } else { Exit::Done };
            // The arguments are not understood, but for this one.
            if exit == Exit::Usage && env::args_os().take_while(|word| word != "--").any(|word| word == "--json") {
                let message = asked.render().to_string();
                let message = message.trim().trim_start_matches("error: ");
                return Output::new(true).fail(message, exit).into();
            }
            // Nothing is left to be told to whom the message could not be.
            drop(asked.print());
            return exit.into();
        }
    };
    let context = Context { config: arguments.config, socket: arguments.socket, out: Output::new(arguments.json) };
    let command = match arguments.command {
        Command::Run(_) | Command::Check(_) | Command::Init(_) | Command::Proxy => {
            if let Err(error) = auth::crypto::install() {
                return context.out.fail(&error.to_string(), Exit::Refused).into();
            }
            arguments.command
        }
        command => command,
    };
    match command {
        // Both stay until a signal ends them and have their own ways to fail.
        Command::Run(run) => run.execute(context.config()),
        Command::Proxy => proxy::main(),

        Command::Init(init) => init.execute(&context).into(),
        Command::Check(check) => check.execute(&context).into(),
        Command::Route(route) => route.execute(&context).into(),
        Command::Status(status) => status.execute(&context).into(),
        Command::Block(block) => block.execute(&context).into(),
        Command::Confirm(confirm) => confirm.execute(&context).into(),
        Command::Allow(allow) => allow.execute(&context).into(),
        Command::Why(why) => why.execute(&context).into(),
        Command::Audit(audit) => audit.execute(&context).into(),
        Command::Doctor(doctor) => doctor.execute(&context).into(),
        Command::Watch(watch) => watch.execute(&context).into(),
        Command::Top(top) => top.execute(&context).into(),
        Command::Detach(detach) => detach.execute(&context).into(),
        Command::Attach(attach) => attach.execute(&context).into(),
        Command::Shadow(shadow) => shadow.execute(&context).into(),
        Command::Resume(resume) => resume.execute(&context).into(),
        Command::Reload(reload) => reload.execute(&context).into(),
        Command::Version(version) => version.execute(&context).into(),
    }
}

/// What every command is told.
#[derive(Clone)]
struct Context {
    config: Option<PathBuf>,
    socket: Option<PathBuf>,
    out: Output,
}

impl Context {
    fn config(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(config::DEFAULT_PATH))
    }

    /// Where the gateway keeps its things. A configuration that is not named and not there leaves the defaults; what is
    /// broken in one does not matter: the gateway may well run by its last good version.
    fn locations(&self) -> Result<Locations, Errors> {
        match Locations::load(self.config(), &Disk) {
            Err(errors) if self.config.is_none() && !errors.readable() => Ok(Locations::default()),
            Err(errors) if errors.readable() => {
                let found = Locations::salvage(self.config(), &Disk);
                self.note_broken(&errors, &found);
                Ok(found)
            }
            found => found,
        }
    }

    /// Says that the configuration is broken, and where the gateway is looked for all the same.
    fn note_broken(&self, errors: &Errors, found: &Locations) {
        let what = errors.shown().next().map(|fault| {
            let line = fault.line.map(|line| format!(":{line}")).unwrap_or_default();
            format!("{}{line}: {}", fault.file, table::clean(fault.message))
        });
        let socket = found.control_socket.display();
        let note = format!("note: {}; the gateway is looked for at {socket}", what.unwrap_or_default());
        self.out.complain(&note, Exit::Done);
    }

    /// Where the running gateway is spoken to; how the command ends if that cannot be known.
    fn socket(&self) -> Result<PathBuf, Exit> {
        match &self.socket {
            Some(socket) => Ok(socket.clone()),
            None => match self.locations() {
                Ok(locations) => Ok(locations.control_socket),
                Err(errors) => Err(self.out.fail(&errors.to_string(), Exit::Usage)),
            },
        }
    }

    /// Asks the running gateway; `show` writes what it says for people.
    fn ask(&self, request: &Request, show: impl FnOnce(&Answer) -> Option<String>) -> Exit {
        let socket = match self.socket() {
            Ok(socket) => socket,
            Err(exit) => return exit,
        };
        let (answer, is_down) = match client::ask(&socket, request) {
            Ok(answer) => (answer, false),
            Err(error) => match self.ask_offline(request, &error) {
                Some(Ok(answer)) => (answer, true),
                Some(Err(reason)) => return self.out.fail(&format!("{error}\n{reason}"), Exit::Unreachable),
                None => return self.out.fail(&error.to_string(), Exit::Unreachable),
            },
        };
        if is_down { self.tell_offline(&answer, show) } else { self.tell(&answer, &socket, show) }
    }

    fn tell(&self, answer: &Answer, socket: &Path, show: impl FnOnce(&Answer) -> Option<String>) -> Exit {
        let exit = exit_of(answer);
        if self.out.json {
            return self.out.value(answer, exit);
        }
        self.show(answer, socket, exit, show)
    }

    /// What store and pinned maps say, where nobody answers at the configured socket. `None`: nothing can be said.
    fn ask_offline(&self, request: &Request, error: &Unreachable) -> Option<Result<Answer, String>> {
        let is_down = matches!(error, Unreachable::Missing(_) | Unreachable::Gone(_));
        if self.socket.is_some() || !is_down {
            return None;
        }
        offline::answer(self.config(), request.clone(), nix::unistd::getuid().as_raw())
    }

    /// Says loudly that no guard has answered.
    fn tell_offline(&self, answer: &Answer, show: impl FnOnce(&Answer) -> Option<String>) -> Exit {
        // What status asks about is not there.
        let exit =
            if matches!(answer, Answer::Status(_) | Answer::Top(_)) { Exit::Unreachable } else { exit_of(answer) };
        if self.out.json {
            let mut value = serde_json::to_value(answer).unwrap_or_default();
            if let Some(members) = value.as_object_mut() {
                members.insert("daemon".to_owned(), "down".into());
            }
            return self.out.value(&value, exit);
        }
        self.out.complain("WARNING: the gateway is not running; done on its store and the pinned maps", exit);
        self.show(answer, Path::new(""), exit, show)
    }

    /// Takes everything out of the kernel, with the running gateway or without.
    fn detach(&self) -> Exit {
        let locations = match self.locations() {
            Ok(locations) => locations,
            Err(errors) => return self.out.fail(&errors.to_string(), Exit::Usage),
        };
        let socket = self.socket.as_ref().unwrap_or(&locations.control_socket);
        match client::ask(socket, &Request::Detach) {
            Err(Unreachable::Missing(_) | Unreachable::Gone(_)) if self.socket.is_none() => {}
            Err(error) => return self.out.fail(&error.to_string(), Exit::Unreachable),
            Ok(answer) => return self.tell(&answer, socket, |_answer| None),
        }
        match offline::detach(&locations, nix::unistd::getuid().as_raw()) {
            Ok(answer) => self.tell_offline(&answer, |_answer| None),
            Err(reason) => self.out.fail(&reason, Exit::Refused),
        }
    }

    fn show(&self, answer: &Answer, socket: &Path, exit: Exit, show: impl FnOnce(&Answer) -> Option<String>) -> Exit {
        match answer {
            Answer::Done { message, .. } => self.out.text(&table::clean(message), exit),
            Answer::Refused { code, message } => {
                self.out.complain(&format!("refused ({}): {}", table::clean(code), table::clean_lines(message)), exit)
            }
            answer => match show(answer) {
                Some(text) => self.out.text(&text, exit),
                None => {
                    let garbled = Unreachable::Garbled(socket.to_owned(), "it answered something else".to_owned());
                    self.out.fail(&garbled.to_string(), Exit::Unreachable)
                }
            },
        }
    }
}

const fn exit_of(answer: &Answer) -> Exit {
    if matches!(answer, Answer::Refused { .. }) { Exit::Refused } else { Exit::Done }
}

#[cfg(test)]
mod tests;
