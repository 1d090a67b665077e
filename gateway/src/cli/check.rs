//! `gateway check`: whether the configuration is valid, and what is in force by it.

use clap::Args;
use nix::unistd::User;
use serde_json::{Value, json};

use super::{
    context::Context,
    exit::Exit,
    table::{clean, drawn, prose},
};
use crate::{
    config::{Config, ConfigDraft, Diagnostics, Disk},
    diagnostic::Diagnostic,
    guard::lifecycle::reload::prepare,
    os::clock::Now,
    policy::auth::ensure_crypto,
    proxy::{Probed, probe},
    snapshot::Snapshot,
    text::{counted::counted, digits::decimal},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Reads the configuration and every file that it names, as `gateway run` does, and
changes nothing. It reports all errors and warnings at once, with their lines,
on standard error. What lists of sources hold is not read: `gateway status`
tells of them. --show prints the values in force as TOML, without secrets.

Nothing is sent over the network, so that a check gives the same answer
everywhere. --online also fetches the keys of issuers, with their metadata, and
asks introspection servers about a token that nobody made, as the proxy would
from this host. It tells what came of each, and ends with 5 if any of them is of
no use while the configuration itself is valid.

Examples:
  gateway check --config gateway.toml
  gateway check --config gateway.toml --show > effective.toml
  gateway check --config gateway.toml --online
  gateway check --config gateway.toml --json | jq .errors")]
pub(super) struct CheckCommand {
    /// Print the values in force, defaults included
    #[arg(long)]
    show: bool,
    /// Also try out the servers of issuers: discovery, keys, introspection
    #[arg(long)]
    online: bool,
}

impl CheckCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        let Context { out, .. } = context;
        match load(context) {
            Ok(config) => {
                let effective = config.effective();
                let online = self.online.then(|| {
                    ensure_crypto().map_err(|error| error.to_string())?;
                    probe(&config.proxy.auth)
                });
                let probed = match online.transpose() {
                    Ok(probed) => probed,
                    Err(error) => return out.fail(&error, Exit::Refused),
                };
                let has_failed = probed.iter().flatten().any(|one| one.result.is_err());
                let exit = if has_failed { Exit::Unknown } else { Exit::Done };
                let warnings = Diagnostics::from_diagnostics(&config.document, config.warnings);
                if out.json {
                    let mut value = json!({ "valid": true, "errors": [], "warnings": warnings, "config": effective });
                    if let (Some(probed), Some(members)) = (&probed, value.as_object_mut()) {
                        members.insert("online".to_owned(), probed.iter().map(value_of).collect());
                    }
                    return out.value(&value, exit);
                }
                let path = config.document.path().display();
                let text = if self.show {
                    match toml::to_string_pretty(&effective) {
                        Ok(text) => format!("# {path} is valid. In force:\n{}", text.trim_end()),
                        Err(error) => return out.fail(&error.to_string(), Exit::Refused),
                    }
                } else {
                    let told = match warnings.shown().len() {
                        0 => String::new(),
                        count => format!(", with {}", counted(count, "warning", "warnings")),
                    };
                    prose(&format!("{path} is valid{told}. See what is in force with --show."))
                };
                let text = probed.iter().flatten().map(line_of).fold(text, |text, line| format!("{text}\n{line}"));
                let exit = out.text(&text, exit);
                // Last, where they are seen.
                if warnings.shown().len() > 0 {
                    out.complain_as_is(&drawn(&warnings.render_as_warnings(out.colour)), exit);
                }
                exit
            }
            Err(errors) => {
                let exit = Exit::of_configuration(&errors);
                if out.json {
                    return out.value(&json!({ "valid": false, "errors": errors }), exit);
                }
                out.complain_as_is(&drawn(&errors.render(out.colour)), exit);
                let count = counted(errors.shown().len(), "error", "errors");
                out.complain(&format!("\n{} is not valid: {count}", context.config().display()), exit)
            }
        }
    }
}

/// One endpoint for people.
fn line_of(probed: &Probed) -> String {
    let Probed { key, what, result } = probed;
    let (key, what) = (clean(key), clean(what));
    match result {
        Ok(said) => prose(&format!("[{key}] {what}\n  ok: {}", clean(said))),
        Err((why, hint)) => prose(&format!("[{key}] {what}\n  FAILED: {}\n  {hint}", clean(why))),
    }
}

fn value_of(probed: &Probed) -> Value {
    let Probed { key, what, result } = probed;
    let (ok, told) = (result.is_ok(), result.as_ref().unwrap_or_else(|(why, _)| why));
    let hint = result.as_ref().err().map(|(_, hint)| *hint);
    json!({ "key": key, "what": what, "ok": ok, "told": told, "hint": hint })
}

/// The configuration, and everything compiled that a proxy would be started with. What can be read of one with faults is
/// compiled as well: all faults are told at once.
fn load(context: &Context) -> Result<Config, Diagnostics> {
    let draft = ConfigDraft::read(context.config(), &Disk)?;
    let mut found = prepare::beside(draft.config()).err().unwrap_or_default();
    let warnings = match Snapshot::new(draft.config().proxy.clone()) {
        Ok(snapshot) => snapshot.warnings(Now::read()),
        Err(faults) => {
            found.extend(faults);
            Vec::new()
        }
    };
    let mut config = draft.finish(found)?;
    config.warnings.extend(warnings);
    config.warnings.extend(unknown_user(&config.proxy.user));
    config.warnings.extend(prepare::host(&config.guard));
    config.warnings.extend(prepare::absent(&config));
    config.warnings.extend(prepare::open_files(&config.proxy));
    config.warnings.extend(prepare::pins(&config.guard));
    config.warnings.extend(prepare::program(&config.guard));
    Ok(config)
}

/// Here the configuration may be meant for another machine; `gateway run` refuses a user that does not exist.
fn unknown_user(name: &str) -> Option<Diagnostic> {
    if decimal::<u32>(name).is_some() || matches!(User::from_name(name), Ok(Some(_))) {
        return None;
    }
    let diagnostic = Diagnostic::new("proxy.user", format!("there is no user {name:?} on this machine"));
    Some(diagnostic.hint(format!("useradd --system {name}")))
}
