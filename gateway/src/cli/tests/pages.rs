//! The commands that pages name in the middle of a sentence. Those that stand in blocks are run by `tests/e2e/docs.rs`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::error::ErrorKind;

use crate::cli::command;

/// The pages of docs/, and those beside it that name commands.
fn pages(root: &Path) -> Vec<PathBuf> {
    let mut folders = vec![root.join("docs")];
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("SECURITY.md")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// The code in the sentences of a page that begins with `gateway `.
fn named(page: &str) -> Vec<String> {
    let mut is_block = false;
    let lines = page.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_block ^= is_fence;
        !is_block && !is_fence
    });
    let text: Vec<&str> = lines.collect();
    // A paragraph by itself: a lone backtick in one is no fault of the next.
    let paragraphs = text.split(|line| line.trim().is_empty()).map(|paragraph| paragraph.join(" "));
    let code = paragraphs.flat_map(|text| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
    code.filter(|code| code.starts_with("gateway ")).collect()
}

/// What is wrong with a command of a sentence. It may lack arguments, and may have words in capitals in their place.
fn fault(code: &str) -> Option<String> {
    // No command, but the text that a checkpoint signs.
    if code == "gateway audit checkpoint 1" {
        return None;
    }
    let is_placeholder = |word: &str| !word.is_empty() && word.chars().all(|letter| letter.is_ascii_uppercase());
    let words = code.split_whitespace().take_while(|word| *word != "...").map(|word| word.trim_matches('\''));
    let words: Vec<&str> = words.collect();
    if words.get(1).is_some_and(|word| is_placeholder(word)) {
        return None;
    }
    let error = command().try_get_matches_from(words.iter().copied()).err()?;
    let is_fine = match error.kind() {
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelp
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => true,
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => words.iter().any(|word| is_placeholder(word)),
        _ => false,
    };
    (!is_fine).then(|| error.to_string().lines().next().unwrap_or_default().to_owned())
}

#[test]
fn every_command_in_a_sentence_is_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut seen, mut faults) = (0, Vec::new());
    for path in pages(&root) {
        for code in named(&fs::read_to_string(&path).unwrap()) {
            seen += 1;
            faults.extend(fault(&code).map(|fault| format!("{}: `{code}`: {fault}", path.display())));
        }
    }
    assert!(faults.is_empty(), "{} of {seen} commands:\n{}", faults.len(), faults.join("\n"));
    assert!(seen > 100, "the pages name {seen} commands");
}

#[test]
fn commands_in_sentences_are_found() {
    let page = "a `gateway\nstatus` and `x`\n\n```sh\ngateway a `b`\n```\n\na lone ` here\n\n| `gateway why A` | c |\n";
    assert_eq!(named(page), ["gateway status", "gateway why A"]);
    for (code, expect) in [
        ("gateway status", ""),
        ("gateway block", ""),
        ("gateway why ADDRESS", ""),
        ("gateway COMMAND --help", ""),
        ("gateway block del --feed ''", ""),
        ("gateway quota set --used N KEY", ""),
        ("gateway statu", "unrecognized subcommand"),
        ("gateway status --jso", "unexpected argument"),
        ("gateway block dele ADDRESS", "unrecognized subcommand"),
        ("gateway why nobody", "invalid value"),
    ] {
        let found = fault(code).unwrap_or_default();
        assert_eq!(found.is_empty(), expect.is_empty(), "{code}: {found}");
        assert!(found.contains(expect), "{code}: {found}");
    }
}
