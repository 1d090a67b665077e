//! The reference of the commands, `docs/reference/commands.md`: made from the arguments that they take.

use std::fmt::Write as _;

use clap::{Arg, Command};

const HEAD: &str = "\
# Command reference

<!-- Written by `cargo xtask reference` from the code. Change the code instead. -->

Every command of `gateway`, with its arguments and options. `gateway COMMAND --help` prints the same.
";

/// The whole page, of the command with everything below it.
pub(super) fn page(mut command: Command) -> String {
    command.build();
    let mut page = HEAD.to_owned();
    page.push_str("\n## Global options\n\n");
    let global: Vec<&Arg> = command.get_arguments().filter(|argument| argument.is_global_set()).collect();
    options(&mut page, &global);
    if let Some(after) = command.get_after_help() {
        write!(page, "\n## Exit codes and first examples\n\n```text\n{after}\n```\n").unwrap_or_default();
    }
    for inner in command.get_subcommands() {
        section(&mut page, "gateway", inner);
    }
    page
}

/// One command and those below it. Writing to a text cannot fail.
fn section(page: &mut String, parent: &str, command: &Command) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = format!("{parent} {}", command.get_name());
    let level = if parent == "gateway" { "##" } else { "###" };
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    write!(page, "\n{level} `{name}`\n\n{about}.\n\n```text\n{usage}\n```\n").unwrap_or_default();
    let is_own = |argument: &&Arg| !argument.is_global_set() && !argument.is_hide_set() && argument.get_id() != "help";
    let own = command.get_arguments().filter(is_own);
    let own: Vec<&Arg> = own.collect();
    if !own.is_empty() {
        page.push('\n');
        options(page, &own);
    }
    if let Some(after) = command.get_after_help() {
        write!(page, "\n```text\n{after}\n```\n").unwrap_or_default();
    }
    for inner in command.get_subcommands() {
        section(page, &name, inner);
    }
}

fn options(page: &mut String, arguments: &[&Arg]) {
    page.push_str("| Argument | Default | Meaning |\n|---|---|---|\n");
    for argument in arguments {
        let values = argument.get_possible_values();
        let values: Vec<&str> =
            values.iter().filter(|value| !value.is_hide_set()).map(clap::builder::PossibleValue::get_name).collect();
        let is_flag = !argument.get_action().takes_values();
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let words = if is_flag || values.is_empty() {
            String::new()
        } else {
            let words: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            format!(" One of {}.", words.join(", "))
        };
        // Defaults that depend on something are told in brackets at the end of the help.
        let (help, told) = match help.split_once(" [default: ") {
            Some((help, told)) => (help.to_owned(), Some(told.trim_end_matches(']').to_owned())),
            None => (help, None),
        };
        let defaults = argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy()));
        let defaults = defaults.collect::<Vec<_>>().join(", ");
        let default = match (told, is_flag) {
            (Some(told), _) => told,
            (None, _) if argument.is_required_set() => "required".to_owned(),
            (None, true) => "off".to_owned(),
            (None, false) if defaults.is_empty() => "none".to_owned(),
            (None, false) => defaults,
        };
        let row = [format!("`{argument}`"), default, format!("{}.{words}", help.trim_end_matches('.'))];
        let row = row.map(|cell| cell.replace('|', "\\|"));
        writeln!(page, "| {} |", row.join(" | ")).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use crate::{cli, config, observer};

    /// `cargo xtask reference` sets `UPDATE_REFERENCE` and writes them anew.
    #[test]
    fn the_reference_pages_are_current() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
        let pages = [
            ("commands.md", cli::reference()),
            ("configuration.md", config::reference()),
            ("metrics.md", observer::reference()),
        ];
        for (name, page) in pages {
            let path = folder.join(name);
            if env::var_os("UPDATE_REFERENCE").is_some() {
                fs::create_dir_all(&folder).unwrap();
                fs::write(&path, &page).unwrap();
            }
            let written = fs::read_to_string(&path).unwrap_or_default();
            assert!(written == page, "docs/reference/{name} is stale: run `cargo xtask reference`");
        }
    }
}
