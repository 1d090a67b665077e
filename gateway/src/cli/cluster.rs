//! `gateway cluster`: the other machines that share limits, and the keys that they know each other by.

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use serde_json::json;

use super::{
    context::Context,
    exit::Exit,
    table::{Table, clean, field, seconds},
};
use crate::{
    guard::{
        cluster::{ClusterStatus, make_key, make_secret, public_key},
        control::{ControlAnswer, ControlRequest, client},
    },
    message::cluster::StoreReport,
    os::clock::rfc3339,
    text::counted::counted,
};

/// Where a key is unless the command says otherwise.
const KEY: &str = "/etc/gateway/cluster.key";

/// Where the secret is.
const SECRET: &str = "/etc/gateway/cluster.secret";

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Each machine has a key of its own. All of them have the same secret.

Examples:
  gateway cluster key new /etc/gateway/cluster.key
  gateway cluster secret new /etc/gateway/cluster.secret
  gateway cluster status")]
pub(super) enum ClusterCommand {
    /// Show the store, the machines, and what shared limits allow
    Status,
    /// Make the key of this machine, and show its public half
    #[command(subcommand)]
    Key(Key),
    /// Make the secret that all machines have
    #[command(subcommand)]
    Secret(Secret),
}

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make a key, in a file that is not there yet
    New {
        /// The file
        #[arg(default_value = KEY)]
        path: PathBuf,
    },
    /// Show the public half of a key, as [cluster.nodes] has it
    Show {
        /// The file
        #[arg(default_value = KEY)]
        path: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Secret {
    /// Make a secret, in a file that is not there yet
    New {
        /// The file
        #[arg(default_value = SECRET)]
        path: PathBuf,
    },
}

impl ClusterCommand {
    pub(super) fn execute(self, context: &Context) -> Exit {
        match self {
            Self::Key(Key::New { path }) => {
                let hint = format!("`gateway cluster key show {}` shows its public half", path.display());
                told(context, &path, make_key(&path), "public_key", &hint)
            }
            Self::Key(Key::Show { path }) => {
                let hint = format!("`gateway cluster key new {}` makes one", path.display());
                told(context, &path, public_key(&path), "public_key", &hint)
            }
            Self::Secret(Secret::New { path }) => {
                let hint = "all machines of the cluster have the same: copy it to the others";
                told(context, &path, make_secret(&path).map(|()| path.display().to_string()), "path", hint)
            }
            Self::Status => status(context),
        }
    }
}

/// Prints what was made, or why it was not.
/// `hint`: what is to be done where the file is there that is to be made, or where the one to be shown is not.
fn told(context: &Context, path: &Path, made: io::Result<String>, name: &str, hint: &str) -> Exit {
    let out = &context.out;
    let path = path.display();
    match made {
        Ok(text) if out.json => out.value(&json!({ name: text }), Exit::Done),
        Ok(text) => out.text(&text, Exit::Done),
        Err(error) => {
            let what = match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    format!("{path} is there already, and stays as it is: {hint}. To make another, move it away first")
                }
                io::ErrorKind::NotFound if name == "public_key" && hint.ends_with("makes one") => {
                    format!("there is no {path}: {hint}")
                }
                io::ErrorKind::NotFound => format!("{path} cannot be made: its folder is not there: make that first"),
                io::ErrorKind::PermissionDenied => format!("{path}: {error}: run as root"),
                _ => format!("{path}: {error}"),
            };
            out.fail(&what, Exit::of_file(&error, Exit::Refused))
        }
    }
}

fn status(context: &Context) -> Exit {
    let socket = match context.socket() {
        Ok(socket) => socket,
        Err(exit) => return exit,
    };
    match client::ask(&socket, &ControlRequest::Status) {
        Ok(ControlAnswer::Status(status)) if context.out.json => context.out.value(&status.cluster, Exit::Done),
        Ok(ControlAnswer::Status(status)) => match &status.cluster {
            Some(cluster) => context.out.text(&render(cluster), Exit::Done),
            None => context.out.text("there is no [cluster] in the configuration", Exit::Done),
        },
        Ok(answer) => context.tell(&answer, &socket, |_| None),
        Err(error) => context.unreachable(&error),
    }
}

pub(super) fn render(cluster: &ClusterStatus) -> String {
    let StoreReport { reachable, since, why, letters, lost, calls, failures, latency_micros, alone, .. } =
        &cluster.store;
    let StoreReport { disbelieved, malformed, .. } = &cluster.store;
    let state = match (since, reachable) {
        (0, _) => "not asked yet".to_owned(),
        (since, true) => format!("answers since {}", rfc3339(*since)),
        (since, false) => format!("away since {}: {}", rfc3339(*since), clean(why)),
    };
    let servers: Vec<String> = cluster.servers.iter().map(|server| clean(server)).collect();
    let lines = [
        ("this machine", cluster.node.clone()),
        ("store", format!("{} ({})", servers.join(", "), cluster.mode)),
        ("state", state),
        ("calls", format!("{calls}, {failures} failed, the last took {latency_micros} us")),
        ("alone", format!("{} judged by this machine's share", counted(*alone, "request was", "requests were"))),
        (
            "facts",
            format!(
                "{} of other machines changed something here, {} refused",
                cluster.taken,
                counted(cluster.refused, "was", "were")
            ),
        ),
    ];
    let mut lines: Vec<String> = lines.iter().map(|(name, value)| field(name, 14, value)).collect();
    if !letters.is_empty() {
        lines.push(field("letters", 14, &format!("not carried: {}", clean(letters))));
    }
    if *disbelieved > 0 {
        lines.push(field("not believed", 14, &{
            let answers = counted(*disbelieved, "answer", "answers");
            format!("{answers} that would have given quotas back")
        }));
    }
    if *malformed > 0 {
        lines.push(field("malformed", 14, &format!("{malformed} answers that answered nothing that was asked")));
    }
    if *lost > 0 {
        lines.push(field("letters", 14, &format!("{lost} thrown away")));
    }
    let mut nodes = Table::new(["NODE", "HEARD", "REFUSED", "STATE"]);
    for node in &cluster.nodes {
        let heard = node.age_seconds.map_or_else(|| "-".to_owned(), |age| format!("{} ago", seconds(age)));
        let state = match (&node.wrong, node.own) {
            (_, true) => "this machine".to_owned(),
            (Some(wrong), false) => format!("its letters are refused: {}", clean(wrong)),
            (None, false) if node.ticket_keys => "TLS sessions with it are resumed here".to_owned(),
            (None, false) => String::new(),
        };
        nodes.row([node.name.clone(), heard, node.refused.to_string(), state]);
    }
    let mut limits = Table::new(["SHARED LIMIT", "UNITS", "PER", "BURST", "PORTION", "ERROR"]);
    for limit in &cluster.limits {
        let numbers = [limit.units, limit.burst, limit.portion, limit.error].map(|number| number.to_string());
        let [units, burst, portion, error] = numbers;
        limits.row([limit.name.clone(), units, format!("{} ms", limit.per_millis), burst, portion, error]);
    }
    let mut text = format!("{}\n\n{}", lines.join("\n"), nodes.render());
    if !cluster.limits.is_empty() {
        text = format!("{text}\n\n{}", limits.render());
    }
    let mut quotas = Table::new(["SHARED QUOTA", "UNITS", "PER", "PORTION", "ERROR"]);
    for quota in &cluster.quotas {
        let [units, portion, error] = [quota.units, quota.portion, quota.error].map(|number| number.to_string());
        quotas.row([quota.name.clone(), units, quota.per.clone(), portion, error]);
    }
    if !cluster.quotas.is_empty() {
        text = format!("{text}\n\n{}", quotas.render());
    }
    text
}
