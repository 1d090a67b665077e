//! Prints what a soak finds: figures as they come, faults at the end. `cargo xtask bench soak` runs this.
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::{env, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use support::{
    report,
    soak::{self, Plan},
};

fn main() -> anyhow::Result<ExitCode> {
    let (plan, json) = arguments()?;
    if !report::may_run("soak") {
        bail!("namespaces need root");
    }
    let soak::Outcome { figures, faults } = soak::run(plan);
    if json {
        println!("{figures}");
    } else {
        println!("{figures:#}");
    }
    for fault in &faults {
        eprintln!("fault: {fault}");
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `cargo xtask bench soak` says what they mean.
fn arguments() -> anyhow::Result<(Plan, bool)> {
    let (mut plan, mut json) = (Plan { changing: Duration::from_secs(600), steady: Duration::from_secs(200) }, false);
    let mut given = env::args().skip(1);
    while let Some(name) = given.next() {
        let mut seconds =
            || anyhow::Ok(Duration::from_secs(given.next().with_context(|| format!("{name} needs a value"))?.parse()?));
        match name.as_str() {
            "--json" => json = true,
            "--seconds" => plan.changing = seconds()?,
            "--steady" => plan.steady = seconds()?,
            name => bail!("{name} is unknown"),
        }
    }
    Ok((plan, json))
}
