//! The command line: one file per command, exit codes in one place.

use std::{env, path::PathBuf, process::ExitCode};

use clap::{Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::{context::Context, exit::Exit, output::CommandOutput};
use crate::{compiler, observer, policy::auth, proxy};

mod admin_token;
mod alert;
mod allow;
mod anomalies;
mod api;
mod attach;
mod audit;
mod block;
mod can;
mod check;
mod cluster;
mod confirm;
mod detach;
mod doctor;
mod feed;
mod init;
mod key;
mod limit;
mod logs;
mod quota;
mod reload;
mod replay;
mod resume;
mod route;
mod run;
mod shadow;
mod status;
mod token;
mod top;
mod upgrade;
mod version;
mod waf;
mod watch;
mod whoami;
mod why;

mod context;

mod arguments;
mod csv;
mod exit;
mod explained;
mod output;
mod progress;
mod read_token;
mod reference;
mod request;
mod table;

/// The variable that names the configuration.
const CONFIG: &str = "GATEWAY_CONFIG";

/// An edge guard for HTTP APIs: an authenticating proxy whose refusals become drops in the kernel.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, after_help = exit::HELP, max_term_width = 80)]
struct Arguments {
    /// The configuration [default: /etc/gateway/gateway.toml]
    #[arg(long, global = true, help_heading = "Global options", env = CONFIG, value_name = "PATH")]
    config: Option<PathBuf>,
    /// The running gateway's control socket [default: guard.control_socket of the configuration]
    #[arg(long, global = true, help_heading = "Global options", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print the result as one JSON value; `watch`, `logs` and `audit show`: one per line
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
    Run(run::RunCommand),
    /// Validate the configuration, and show the values in force
    Check(check::CheckCommand),
    /// Show which route matches a request, and why others do not
    Route(route::RouteCommand),
    /// Look into OpenAPI documents, and try requests on them
    #[command(subcommand)]
    Api(api::ApiCommand),
    /// Explain whether a principal may make a request
    Can(can::CanCommand),
    /// Judge a request by the rules that look for attacks
    #[command(subcommand)]
    Waf(waf::WafCommand),
    /// Explain a token, revoke tokens and list revocations
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Show the state of the running gateway
    Status(status::StatusCommand),
    /// Block sources, list and unblock them
    #[command(subcommand)]
    Block(block::BlockCommand),
    /// List the lists that are fetched by URL, and fetch them now
    #[command(subcommand)]
    Feed(feed::FeedCommand),
    /// Keep a block that was added with `--confirm`
    Confirm(confirm::ConfirmCommand),
    /// Allowlist sources: never limit, block or ban them
    #[command(subcommand)]
    Allow(allow::AllowCommand),
    /// Make, rotate and revoke API keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Explain what happens to an address, and why
    Why(why::WhyCommand),
    /// Verify the audit chain: the record of every decision
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Show decisions as they are made
    Watch(watch::WatchCommand),
    /// Show drops and blocks live
    Top(top::TopCommand),
    /// Show what limits on requests let through and refuse
    #[command(subcommand)]
    Limit(limit::LimitCommand),
    /// Show the other machines of a cluster, and make their keys
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Show what was used up of quotas, and change it
    #[command(subcommand)]
    Quota(quota::QuotaCommand),
    /// List what is not usual: requests, failures, latency, sizes
    Anomalies(anomalies::AnomaliesCommand),
    /// List alerts, test receivers, and silence alerts
    #[command(subcommand)]
    Alert(alert::AlertCommand),
    /// Show the access log, filtered, and follow it
    Logs(logs::LogsCommand),
    /// Show whom a configuration's rules would have banned, by access logs
    Replay(replay::ReplayCommand),
    /// Find problems of this host and this gateway
    Doctor(doctor::DoctorCommand),
    /// Remove the XDP program from the kernel
    Detach(detach::DetachCommand),
    /// Attach the XDP program again after `detach`
    Attach(attach::AttachCommand),
    /// Report what runs in shadow mode, and enforce it
    #[command(subcommand)]
    Shadow(shadow::ShadowCommand),
    /// End the breaker's pause: rules can ban again
    Resume(resume::ResumeCommand),
    /// Reload the configuration
    Reload(reload::ReloadCommand),
    /// Run the program that is on disk now
    Upgrade(upgrade::UpgradeCommand),
    /// Show what you may do with the running gateway
    Whoami(whoami::WhoamiCommand),
    /// Make, list and revoke operators' tokens for the admin listener
    #[command(subcommand)]
    AdminToken(admin_token::AdminTokenCommand),
    /// Show the program's version
    Version(version::VersionCommand),
    /// The process that decides; the gateway starts it for itself
    #[command(hide = true)]
    Guard(run::RunCommand),
    /// The process that compiles a configuration; the gateway starts it for itself
    #[command(hide = true)]
    Compiler,
    /// The process that serves requests; the gateway starts it for itself
    #[command(hide = true)]
    Proxy,
    /// The process that serves metrics; the gateway starts it for itself
    #[command(hide = true)]
    Observer,
}

/// Parses the arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let read = |matches| Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command()));
    let parsed = command().try_get_matches().and_then(read);
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(asked) => {
            let exit = if asked.use_stderr() { Exit::Usage } else { Exit::Done };
            // The arguments are not understood, but for this one.
            if exit == Exit::Usage && env::args_os().take_while(|word| word != "--").any(|word| word == "--json") {
                let message = asked.render().to_string();
                let message = message.trim().trim_start_matches("error: ");
                return CommandOutput::new(true).fail(message, exit).into();
            }
            if exit == Exit::Usage {
                return CommandOutput::new(false).complain(asked.render().to_string().trim_end(), exit).into();
            }
            // Nothing is left to be told to whom the message could not be.
            drop(asked.print());
            return exit.into();
        }
    };
    let context =
        Context { config: arguments.config, socket: arguments.socket, out: CommandOutput::new(arguments.json) };
    let command = match arguments.command {
        Command::Guard(_)
        | Command::Check(_)
        | Command::Init(_)
        | Command::Compiler
        | Command::Proxy
        | Command::Observer => {
            if let Err(error) = auth::crypto::install() {
                return context.out.fail(&error.to_string(), Exit::Refused).into();
            }
            arguments.command
        }
        command => command,
    };
    match command {
        // They stay until a signal ends them and have their own ways to fail.
        Command::Run(run) => run.execute(context.config()),
        Command::Guard(run) => run.guard(context.config()),
        Command::Compiler => compiler::main(),
        Command::Proxy => proxy::main(),
        Command::Observer => observer::main(),

        Command::Init(init) => init.execute(&context).into(),
        Command::Check(check) => check.execute(&context).into(),
        Command::Route(route) => route.execute(&context).into(),
        Command::Api(api) => api.execute(&context).into(),
        Command::Can(can) => can.execute(&context).into(),
        Command::Waf(waf) => waf.execute(&context).into(),
        Command::Token(token) => token.execute(&context).into(),
        Command::Status(status) => status.execute(&context).into(),
        Command::Block(block) => block.execute(&context).into(),
        Command::Feed(feed) => feed.execute(&context).into(),
        Command::Confirm(confirm) => confirm.execute(&context).into(),
        Command::Allow(allow) => allow.execute(&context).into(),
        Command::Key(key) => key.execute(&context).into(),
        Command::Why(why) => why.execute(&context).into(),
        Command::Audit(audit) => audit.execute(&context).into(),
        Command::Replay(replay) => replay.execute(&context).into(),
        Command::Doctor(doctor) => doctor.execute(&context).into(),
        Command::Limit(limit) => limit.execute(&context).into(),
        Command::Cluster(cluster) => cluster.execute(&context).into(),
        Command::Quota(quota) => quota.execute(&context).into(),
        Command::Anomalies(anomalies) => anomalies.execute(&context).into(),
        Command::Alert(alert) => alert.execute(&context).into(),
        Command::Logs(logs) => logs.execute(&context).into(),
        Command::Watch(watch) => watch.execute(&context).into(),
        Command::Top(top) => top.execute(&context).into(),
        Command::Detach(detach) => detach.execute(&context).into(),
        Command::Attach(attach) => attach.execute(&context).into(),
        Command::Shadow(shadow) => shadow.execute(&context).into(),
        Command::Resume(resume) => resume.execute(&context).into(),
        Command::Reload(reload) => reload.execute(&context).into(),
        Command::Upgrade(upgrade) => upgrade.execute(&context).into(),
        Command::Whoami(whoami) => whoami.execute(&context).into(),
        Command::AdminToken(admin_token) => admin_token.execute(&context).into(),
        Command::Version(version) => version.execute(&context).into(),
    }
}

/// All commands with their arguments. An empty variable is as none.
fn command() -> clap::Command {
    let is_empty = env::var_os(CONFIG).is_some_and(|path| path.is_empty());
    with_amounts(if is_empty { without_variable(Arguments::command()) } else { Arguments::command() })
}

/// The commands, whatever the variable names.
fn without_variable(command: clap::Command) -> clap::Command {
    command.mut_arg("config", |config| config.env(None::<&str>))
}

/// What stands behind an option for a number or a time is its value, also with a sign, and so is a number that stands by
/// itself: a hint how to write other arguments would mislead.
fn with_amounts(command: clap::Command) -> clap::Command {
    const AMOUNTS: [&str; 5] = ["AGE", "DURATION", "NUMBER", "SECONDS", "TIME"];
    let is_amount = |argument: &Arg| {
        let names = argument.get_value_names().unwrap_or_default();
        names.iter().any(|name| AMOUNTS.contains(&name.as_str()))
    };
    let command = command.mut_args(|argument| match argument.is_positional() {
        true => argument.allow_negative_numbers(true),
        false if is_amount(&argument) => argument.allow_hyphen_values(true),
        false => argument,
    });
    command.mut_subcommands(with_amounts)
}

/// The reference of all commands, as Markdown.
#[must_use]
pub fn reference() -> String {
    reference::page(Arguments::command())
}

#[cfg(test)]
mod tests;
