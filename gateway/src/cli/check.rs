//! `gateway check`: whether the configuration is valid, and what is in force by it.

use clap::Args;
use nix::unistd::User;
use serde_json::json;

use super::{context::Context, exit::Exit};
use crate::{
    clock::Now,
    config::{Config, Diagnostics, Disk},
    diagnostic::Diagnostic,
    guard::lifecycle::prepare,
    snapshot::Snapshot,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Reads the configuration and every file that it names, as `gateway run` does, and changes nothing. It reports all errors
and warnings at once, with their lines, on standard error. --show prints the values in force as TOML, without secrets.

Examples:
  gateway check --config gateway.toml
  gateway check --config gateway.toml --show > effective.toml
  gateway check --config gateway.toml --json | jq .errors")]
pub(super) struct Check {
    /// Print the values in force, defaults included
    #[arg(long)]
    show: bool,
}

impl Check {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        let Context { out, .. } = context;
        match load(context) {
            Ok(config) => {
                let effective = config.effective();
                let warnings = Diagnostics::from_diagnostics(&config.document, config.warnings);
                if out.json {
                    let value = json!({ "valid": true, "errors": [], "warnings": warnings, "config": effective });
                    return out.value(&value, Exit::Done);
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
                        1 => ", with 1 warning".to_owned(),
                        count => format!(", with {count} warnings"),
                    };
                    format!("{path} is valid{told}. See what is in force with --show.")
                };
                let exit = out.text(&text, Exit::Done);
                // Last, where they are seen.
                if warnings.shown().len() > 0 {
                    out.complain(&warnings.render_as_warnings(out.colour), exit);
                }
                exit
            }
            Err(errors) => {
                let exit = if errors.readable() { Exit::Refused } else { Exit::Usage };
                if out.json {
                    return out.value(&json!({ "valid": false, "errors": errors }), exit);
                }
                out.complain(&errors.render(out.colour), exit);
                let count = errors.shown().len();
                let s = if count == 1 { "" } else { "s" };
                out.complain(&format!("\n{} is not valid: {count} error{s}", context.config().display()), exit)
            }
        }
    }
}

/// The configuration, and everything compiled that a proxy would be started with.
fn load(context: &Context) -> Result<Config, Diagnostics> {
    let mut config = Config::load(context.config(), &Disk)?;
    prepare::observer(&config)?;
    match Snapshot::new(config.proxy.clone()) {
        Ok(snapshot) => {
            config.warnings.extend(snapshot.warnings(Now::read()));
            config.warnings.extend(unknown_user(&config.proxy.user));
            config.warnings.extend(prepare::host(&config.guard));
            config.warnings.extend(prepare::absent(&config));
            config.warnings.extend(prepare::open_files(&config.proxy));
            config.warnings.extend(prepare::program(&config.guard));
            Ok(config)
        }
        Err(diagnostics) => Err(Diagnostics::from_diagnostics(&config.document, diagnostics)),
    }
}

/// Here the configuration may be meant for another machine; `gateway run` refuses a user that does not exist.
fn unknown_user(name: &str) -> Option<Diagnostic> {
    if name.parse::<u32>().is_ok() || matches!(User::from_name(name), Ok(Some(_))) {
        return None;
    }
    let diagnostic = Diagnostic::new("proxy.user", format!("there is no user {name:?} on this machine"));
    Some(diagnostic.hint(format!("useradd --system {name}")))
}
