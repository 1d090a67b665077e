//! Decides what the command line means: one file per command, exit codes in one place.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use self::{exit::Exit, output::Output};
use crate::{
    auth,
    config::{self, Disk, Errors, Locations},
    guard::control::{
        Answer, Request,
        client::{self, Unreachable},
    },
    proxy,
};

mod allow;
mod audit;
mod block;
mod check;
mod confirm;
mod reload;
mod run;
mod status;
mod version;
mod why;

mod exit;
mod output;
mod table;

/// An edge guard for HTTP APIs: an authenticating proxy whose refusals become drops in the kernel.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, after_help = exit::HELP, max_term_width = 100)]
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
    /// Run the gateway until SIGTERM or SIGINT (as root)
    Run(run::Run),
    /// Say whether the configuration is valid, and what is in force by it
    Check(check::Check),
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
            // Nothing is left to be told to whom the message could not be.
            drop(asked.print());
            return exit.into();
        }
    };
    let context = Context { config: arguments.config, socket: arguments.socket, out: Output::new(arguments.json) };
    let command = match arguments.command {
        Command::Run(_) | Command::Check(_) | Command::Proxy => {
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

        Command::Check(check) => check.execute(&context).into(),
        Command::Status(status) => status.execute(&context).into(),
        Command::Block(block) => block.execute(&context).into(),
        Command::Confirm(confirm) => confirm.execute(&context).into(),
        Command::Allow(allow) => allow.execute(&context).into(),
        Command::Why(why) => why.execute(&context).into(),
        Command::Audit(audit) => audit.execute(&context).into(),
        Command::Reload(reload) => reload.execute(&context).into(),
        Command::Version(version) => version.execute(&context).into(),
    }
}

/// What every command is told.
struct Context {
    config: Option<PathBuf>,
    socket: Option<PathBuf>,
    out: Output,
}

impl Context {
    fn config(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(config::DEFAULT_PATH))
    }

    /// Where the gateway keeps its things. A configuration that is not named and not there leaves the defaults; one
    /// that is broken elsewhere does not matter: the gateway may well run by its last good version.
    fn locations(&self) -> Result<Locations, Errors> {
        match Locations::load(self.config(), &Disk) {
            Err(errors) if self.config.is_none() && !errors.readable() => Ok(Locations::default()),
            found => found,
        }
    }

    /// Asks the running gateway; `show` writes what it says for people.
    fn ask(&self, request: &Request, show: impl FnOnce(&Answer) -> Option<String>) -> Exit {
        let socket = match &self.socket {
            Some(socket) => socket.clone(),
            None => match self.locations() {
                Ok(locations) => locations.control_socket,
                Err(errors) => return self.out.fail(&errors.to_string(), Exit::Usage),
            },
        };
        let answer = match client::ask(&socket, request) {
            Ok(answer) => answer,
            Err(error) => return self.out.fail(&error.to_string(), Exit::Unreachable),
        };
        let exit = if matches!(answer, Answer::Refused { .. }) { Exit::Refused } else { Exit::Done };
        if self.out.json {
            return self.out.value(&answer, exit);
        }
        match &answer {
            Answer::Done { message, .. } => self.out.text(&table::clean(message), exit),
            Answer::Refused { code, message } => {
                self.out.complain(&format!("refused ({}): {}", table::clean(code), table::clean(message)), exit)
            }
            answer => match show(answer) {
                Some(text) => self.out.text(&text, exit),
                None => {
                    let garbled = Unreachable::Garbled(socket, "it answered something else".to_owned());
                    self.out.fail(&garbled.to_string(), Exit::Unreachable)
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
