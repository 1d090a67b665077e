//! Has the gateway read one file, in a process that does nothing else, and tells what that took. A process is told of the
//! most memory that any of its children had. So each file has a process of its own.

use std::{
    env,
    io::{self, Write as _},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

/// How long the gateway may take for one file, in seconds, and how much memory, in KiB.
const SECONDS: &str = "60";
const MEMORY: u32 = 4 * 1024 * 1024;

/// What the gateway reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A configuration, by `gateway check`.
    Configuration,
    /// An OpenAPI document, by `gateway api lint`.
    OpenApi,
}

impl Kind {
    fn flag(self) -> Option<&'static str> {
        (self == Self::Configuration).then_some("--configuration")
    }
}

/// What came of one file.
#[derive(Debug)]
pub(crate) struct Spent {
    /// How the gateway ended; `None`: by a signal.
    pub(crate) code: Option<i64>,
    /// Why the file is refused.
    pub(crate) message: Option<String>,
    pub(super) operations: u64,
    pub(super) examples: u64,
    pub(super) broken: u64,
    /// The time of CPUs, which neighbours on the machine change little.
    pub(crate) cpu: Duration,
    /// The most memory that it had, in KiB.
    pub(crate) peak: u64,
    pub(super) errors: String,
}

/// Has another process measure one file.
pub(crate) fn spent(gateway: &Path, kind: Kind, file: &Path) -> anyhow::Result<Spent> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["documents", "--one", "--gateway"]).arg(gateway).args(kind.flag()).arg(file);
    let output = command.output().context("this program does not start again")?;
    let told: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{}: {}", file.display(), String::from_utf8_lossy(&output.stderr)))?;
    let count = |key: &str| told.get(key).and_then(Value::as_u64).unwrap_or_default();
    let text = |key: &str| told.get(key).and_then(Value::as_str).map(str::to_owned);
    Ok(Spent {
        code: told.get("code").and_then(Value::as_i64),
        message: text("message"),
        operations: count("operations"),
        examples: count("examples"),
        broken: count("broken"),
        cpu: Duration::from_micros(count("cpu_us")),
        peak: count("peak_kib"),
        errors: text("errors").unwrap_or_default(),
    })
}

/// Measures one file, as that process, and prints what [`spent`] reads.
pub(super) fn measure(gateway: &Path, kind: Kind, file: &Path) -> anyhow::Result<()> {
    let words = match kind {
        Kind::OpenApi => "api lint \"$1\" --json",
        Kind::Configuration => "--config \"$1\" check --json",
    };
    let bounded = format!("ulimit -v {MEMORY}; exec timeout {SECONDS} \"$0\" {words}");
    let mut command = Command::new("sh");
    command.args(["-c", &bounded]).arg(gateway).arg(file);
    let output = command.output().with_context(|| format!("cannot run {}", gateway.display()))?;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let message = told.get("message").or_else(|| told.pointer("/errors/0/message"));
    let broken = told.get("broken_examples").and_then(Value::as_array).map_or(0, Vec::len);
    let value = json!({
        "code": output.status.code(),
        "message": message,
        "operations": told.get("operations"),
        "examples": told.get("examples"),
        "broken": broken,
        "cpu_us": time(usage.user_time()) + time(usage.system_time()),
        "peak_kib": usage.max_rss(),
        "errors": String::from_utf8_lossy(&output.stderr),
    });
    Ok(writeln!(io::stdout().lock(), "{value}")?)
}
