//! `[waf.NAME]`: which rules look for attacks in requests, and what becomes of what they find.

use std::path::PathBuf;

use crate::os::file::NamedFile;

/// The default threshold: one certain attack.
pub const THRESHOLD: u32 = 5;

/// The most that a route may inspect of a body.
pub const LARGEST_BODY: u64 = 16 * 1024 * 1024;

/// The names of the places where parameters are.
pub const PLACES: [&str; 7] = ["body", "cookie", "file", "header", "path", "query", "request"];

/// What becomes of a request at the threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WafMode {
    /// It is refused.
    Enforce,
    /// It is logged and counted, and passes.
    #[default]
    Report,
}

impl WafMode {
    /// The name in configuration and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Report => "report",
        }
    }
}

/// One `[waf.NAME]`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// What becomes of an attack. `mode`.
    pub mode: WafMode,
    /// Whether the built-in rules apply. `builtin`.
    pub has_builtin: bool,
    /// Files in SecLang, in the order in which they are read; the last part of each may have a `*`. `rules`.
    pub roots: Vec<PathBuf>,
    /// These files, those that they include, and their lists of words.
    pub files: Vec<NamedFile>,
    /// The score from which a request is an attack. `threshold`.
    pub threshold: u32,
    /// How suspicious the rules are, from 1 to 4. `paranoia`.
    pub paranoia: u8,
    /// How much of a body is inspected. `None`: nothing. `inspect_body`.
    pub inspect_body: Option<u64>,
    /// What rules do not look at. `exclude`.
    pub exclude: Vec<Exclusion>,
}

/// An exception: these rules do not look at these parameters on these routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// The rules.
    pub rules: Vec<RuleMatch>,
    /// The parameters. Empty: all.
    pub parameters: Vec<ExceptionParameter>,
    /// The names of routes. Empty: all.
    pub routes: Vec<String>,
}

/// Which rules an exception is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleMatch {
    /// All.
    All,
    /// The one of this name or number.
    Name(String),
    /// Those of these numbers.
    Range(u32, u32),
    /// Those with this tag.
    Tag(String),
}

/// Which parameter an exception is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionParameter {
    /// Where it is. `None`: anywhere.
    pub place: Option<String>,
    /// Its name, or the beginning of it with `*`.
    pub name: String,
}

/// What a route says of the firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfRoute {
    /// Its `[waf.NAME]`, by position.
    pub index: usize,
    /// Its own threshold.
    pub threshold: Option<u32>,
}
