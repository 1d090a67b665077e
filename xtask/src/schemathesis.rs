//! `cargo xtask schemathesis`: holds the gateway against OpenAPI documents by requests that schemathesis makes from them. What
//! a document allows has to reach the upstream, which answers 200 to everything. What it does not allow has to be answered 4xx.

use std::{
    env, fs,
    io::{self, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::{places::root, setup, step, stub};

/// What `cargo xtask schemathesis` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// OpenAPI documents [default: those of tests/fixtures/openapi]
    documents: Vec<PathBuf>,
    /// The gateway [default: target/release/gateway, or that of a debug build]
    #[arg(long, value_name = "PATH")]
    gateway: Option<PathBuf>,
    /// The most requests that are made up for an operation, besides those for each of its edges
    #[arg(long, default_value_t = 30)]
    max_examples: u32,
    /// What chance begins with
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Where the gateway and its upstream listen.
const PORT: u16 = 18_971;
const UPSTREAM: u16 = 18_972;

/// How long the gateway may take to serve.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What of a request is judged. A failure of the server is one of the gateway: its upstream has none.
const CHECKS: &str = "positive_data_acceptance,negative_data_rejection,not_a_server_error,missing_required_header";

/// What the gateway may answer.
const ANSWERS: &str = "[checks]\npositive_data_acceptance.expected-statuses = [\"2xx\"]\n\
                       negative_data_rejection.expected-statuses = [\"4xx\"]\n";

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(step::is_root(), "schemathesis needs root, as the gateway starts as root");
    let program = setup::schemathesis();
    ensure!(program.is_file(), "schemathesis is missing: `cargo xtask setup --all` installs it");
    let built = ["target/release/gateway", "target/debug/gateway"].map(|path| root().join(path));
    let gateway = arguments.gateway.clone().or_else(|| built.into_iter().find(|path| path.exists()));
    let gateway = gateway.context("there is no gateway: build it, or name one with --gateway")?;
    let gateway = fs::canonicalize(&gateway).with_context(|| gateway.display().to_string())?;
    let documents = documents(arguments)?;
    stub::start(UPSTREAM)?;
    let folder = env::temp_dir().join(format!("gateway-schemathesis-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("schemathesis.toml"), ANSWERS)?;
    let mut broken = Vec::new();
    for document in &documents {
        eprintln!("== {}", document.display());
        let running = Running::start(&gateway, &folder, document)?;
        if !judge(&program, &folder, document, arguments).with_context(|| document.display().to_string())? {
            broken.push(document.display().to_string());
        }
        drop(running);
    }
    fs::remove_dir_all(&folder)?;
    ensure!(broken.is_empty(), "the gateway does not keep {}", broken.join(", "));
    Ok(())
}

fn documents(arguments: &Arguments) -> anyhow::Result<Vec<PathBuf>> {
    if !arguments.documents.is_empty() {
        return arguments.documents.iter().map(|path| Ok(std::path::absolute(path)?)).collect();
    }
    let folder = root().join("tests/fixtures/openapi");
    let mut documents = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    documents.sort();
    Ok(documents)
}

/// A running gateway. Ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status());
        drop(self.0.wait());
    }
}

impl Running {
    fn start(gateway: &Path, folder: &Path, document: &Path) -> anyhow::Result<Self> {
        let config = folder.join("gateway.toml");
        fs::write(&config, configuration(folder, document))?;
        let mut command = Command::new(gateway);
        command.arg("--config").arg(&config).args(["run", "--detach-on-exit"]);
        let log = folder.join("gateway.err");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
        let mut running = Self(command.spawn()?);
        let deadline = Instant::now() + TIMEOUT;
        while TcpStream::connect(("127.0.0.1", PORT)).is_err() {
            if running.0.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("the gateway does not serve {}: {}", document.display(), fs::read_to_string(&log)?);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }
}

fn configuration(folder: &Path, document: &Path) -> String {
    let (folder, document) = (folder.display(), json!(document.display().to_string()));
    format!(
        "[guard]\ninterfaces = []\nstate_dir = \"{folder}/state\"\ncontrol_socket = \"{folder}/control.sock\"\n\
         [proxy]\nuser = \"nobody\"\naccess_log = \"{folder}/access.log\"\ndrain = \"1s\"\n\
         [[listener]]\naddress = \"127.0.0.1:{PORT}\"\n[upstream.items]\nservers = [\"127.0.0.1:{UPSTREAM}\"]\n\
         [api.document]\nopenapi = {document}\nbase_path = \"/\"\n\
         [[route]]\npath = \"/{{*rest}}\"\nrequire = [\"public\"]\nupstream = \"items\"\napi = \"document\"\n"
    )
}

/// Whether the gateway keeps the document. Prints how many requests it was asked by.
fn judge(program: &Path, folder: &Path, document: &Path, arguments: &Arguments) -> anyhow::Result<bool> {
    let mut command = Command::new(program);
    command.current_dir(folder).arg("run").arg(document).args(["--url", &format!("http://127.0.0.1:{PORT}")]);
    command.args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--no-shrink"]);
    command.args(["--max-examples", &arguments.max_examples.to_string(), "--seed", &arguments.seed.to_string()]);
    // Everybody is let in: identity is another matter.
    command.args(["--generation-with-security-parameters", "false"]);
    command.args(["--generation-database", "none", "--report", "json", "--report-json-path", "report.json"]);
    let output = command.output().context("schemathesis does not start")?;
    let report = fs::read(folder.join("report.json")).unwrap_or_default();
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_slice(&report)
        .with_context(|| format!("no report: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    fs::remove_file(folder.join("report.json"))?;
    let count = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let errors = report.get("errors").and_then(Value::as_array).map_or(0, Vec::len);
    let (operations, cases) = (count("/operations/tested"), count("/test_cases/generated"));
    let failures = count("/test_cases/unique_failures");
    let mut out = io::stdout().lock();
    if failures > 0 || errors > 0 {
        writeln!(out, "{text}")?;
    }
    writeln!(
        out,
        "{}: {operations} operations, {cases} requests, {failures} with another answer than the document's, {errors} errors",
        document.display()
    )?;
    Ok(failures == 0 && errors == 0 && operations > 0)
}
