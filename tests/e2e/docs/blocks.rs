//! The fenced blocks of the project's pages, and the commands in them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A fenced block of a page.
pub(super) struct Block {
    page: PathBuf,
    /// Of the opening fence, from 1.
    line: usize,
    /// `toml`, `sh`, ...
    pub(super) language: String,
    /// `<!-- fragment: of what -->` stands above it: a part of a configuration.
    pub(super) is_fragment: bool,
    /// `<!-- not run: why -->` stands above it: what it shows is no command to paste.
    is_not_run: bool,
    pub(super) text: String,
}

impl Block {
    /// Page and line of the block's own line `line`, from 1.
    pub(super) fn place(&self, line: usize) -> String {
        format!("{}:{}", self.page.display(), self.line + line)
    }
}

/// All blocks of README.md and of docs/, but for what is generated.
pub(super) fn blocks() -> Vec<Block> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut pages = vec![root.join("README.md")];
    list(&root.join("docs"), &mut pages);
    pages.sort();
    let generated = root.join("docs/reference");
    pages.retain(|page| !page.starts_with(&generated));
    pages.iter().flat_map(|page| read(page.strip_prefix(root).unwrap(), &fs::read_to_string(page).unwrap())).collect()
}

fn list(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
}

/// The blocks of one page.
fn read(page: &Path, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut is_open, mut above) = (false, "");
    for (number, line) in (1..).zip(text.lines()) {
        match line.trim_start().strip_prefix("```") {
            Some(_) if is_open => is_open = false,
            Some(language) => {
                is_open = true;
                blocks.push(Block {
                    page: page.to_owned(),
                    line: number,
                    language: language.to_owned(),
                    is_fragment: above.starts_with("<!-- fragment:"),
                    is_not_run: above.starts_with("<!-- not run: "),
                    text: String::new(),
                });
            }
            None if is_open => {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
        if !line.trim().is_empty() {
            above = line;
        }
    }
    assert!(!is_open, "{}: a block has no end", page.display());
    blocks
}

/// The commands of a block with their lines, from 1, each in words: what a shell makes of it, without `sudo`, without
/// comments, without where the output goes.
pub(super) fn commands(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut all = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        assert!(!line.ends_with('\\'), "write {line:?} in one line");
        let mut command = Vec::new();
        let mut words = words(line).into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "#" => break,
                "&&" | "|" | ";" => all.push((number, std::mem::take(&mut command))),
                ">" | "<" => drop(words.next()),
                "sudo" if command.is_empty() => {}
                _ => command.push(word),
            }
        }
        all.push((number, command));
    }
    all.retain(|(_, words)| !words.is_empty());
    all
}

/// A line in words, quotes taken off.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        match quote {
            Some(end) if letter == end => quote = None,
            Some(_) => word.get_or_insert_default().push(letter),
            None if letter == '\'' || letter == '"' => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            None if letter.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// The lines of the blocks that look like a command of the gateway, and that no test runs: only `sh` blocks are run.
fn not_run(blocks: &[Block]) -> Vec<String> {
    let is_command = |line: &str| {
        let line = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")).unwrap_or(line);
        line.strip_prefix("sudo ").unwrap_or(line).starts_with("gateway ")
    };
    let shown = blocks.iter().filter(|block| block.language != "sh" && !block.is_not_run);
    let lines = shown.flat_map(|block| (1..).zip(block.text.lines()).map(move |(number, line)| (block, number, line)));
    let commands = lines.filter(|(_, _, line)| is_command(line));
    commands.map(|(block, number, line)| format!("{}: {line}", block.place(number))).collect()
}

#[test]
fn every_command_stands_where_a_test_runs_it() {
    let found = not_run(&blocks());
    assert!(
        found.is_empty(),
        "write them in `sh`, or say above why not (`<!-- not run: why -->`):\n{}",
        found.join("\n")
    );
}

#[test]
fn commands_that_no_test_runs_are_found() {
    for (fence, line, expect) in [
        ("```sh", "gateway status", false),
        ("```toml", "a = \"gateway status\"", false),
        ("```text", "gateway.toml is not valid", false),
        ("```text", "  gateway CLI", false),
        ("<!-- not run: an error is shown -->\n\n```text", "$ gateway check", false),
        ("```text", "gateway status", true),
        ("```console", "# gateway status", true),
        ("```", "$ sudo gateway status", true),
    ] {
        let found = not_run(&read(Path::new("docs/a.md"), &format!("{fence}\n{line}\n```\n")));
        assert_eq!(found.len(), usize::from(expect), "{fence} {line}: {found:?}");
    }
}

/// Nothing is called `gateway` before it is installed: a page for newcomers installs it before it runs it.
#[test]
fn pages_for_newcomers_install_the_program_before_they_run_it() {
    for page in ["README.md", "docs/install.md", "docs/quick-start.md"] {
        let shown: Vec<Block> = blocks().into_iter().filter(|block| block.page == Path::new(page)).collect();
        let shown = shown.iter().filter(|block| block.language == "sh");
        let all: Vec<Vec<String>> = shown.flat_map(|block| commands(&block.text)).map(|(_, words)| words).collect();
        let installs = |words: &Vec<String>| words.first().is_some_and(|word| word == "install");
        let installed =
            all.iter().position(|words| installs(words) && words.ends_with(&["/usr/local/bin/gateway".into()]));
        let run = all.iter().position(|words| words.first().is_some_and(|word| word == "gateway"));
        assert!(run.is_some() && installed.is_some() && installed < run, "{page}: {installed:?}, {run:?}");
    }
}

/// Whoever installs the gateway pastes what these pages show: each command has the rights that it takes.
#[test]
fn what_is_shown_to_whoever_installs_it_runs_as_root() {
    for page in ["README.md", "docs/install.md"] {
        let shown: Vec<Block> = blocks().into_iter().filter(|block| block.page == Path::new(page)).collect();
        let lines = shown.iter().filter(|block| block.language == "sh").flat_map(|block| block.text.lines());
        let steps: Vec<&str> = lines.flat_map(|line| line.split("&&")).map(str::trim).collect();
        assert!(steps.iter().any(|step| step.starts_with("sudo gateway status")), "{page}: {steps:?}");
        // It may write into a folder of one's own.
        let bare = steps.iter().find(|step| step.starts_with("gateway ") && !step.starts_with("gateway init "));
        assert_eq!(bare, None, "{page}");
    }
}

#[test]
fn the_first_page_of_the_book_names_every_guide() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs");
    let first = fs::read_to_string(docs.join("README.md")).unwrap();
    let pages = fs::read_dir(&docs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut missing: Vec<String> = pages.filter(|page| page.ends_with(".md") && !first.contains(&**page)).collect();
    missing.retain(|page| page != "SUMMARY.md");
    missing.sort();
    assert!(missing.is_empty() || missing == ["README.md"], "{missing:?}");
}

#[test]
fn blocks_and_commands_are_read() {
    let text = "# Page\n\n<!-- fragment: x -->\n\n```toml\na = 1\n```\n\n```sh\nsudo gateway a 'b c' # d\nx && gateway e > f\n```\n";
    let blocks = read(Path::new("docs/a.md"), text);
    let [toml, sh] = blocks.as_slice() else { panic!("{} blocks", blocks.len()) };
    assert!(toml.is_fragment && !sh.is_fragment);
    assert_eq!(
        (toml.language.as_str(), toml.text.as_str(), toml.place(1)),
        ("toml", "a = 1\n", "docs/a.md:6".to_owned())
    );
    let found = commands(&sh.text);
    let [first, second, third] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((first.0, first.1.as_slice()), (1, &["gateway", "a", "b c"].map(str::to_owned)[..]));
    assert_eq!((second.0, second.1.as_slice()), (2, &["x".to_owned()][..]));
    assert_eq!((third.0, third.1.as_slice()), (2, &["gateway", "e"].map(str::to_owned)[..]));
    assert_eq!(sh.place(second.0), "docs/a.md:11");
}
