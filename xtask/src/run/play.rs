//! The scenario that `--play` shows: what a bad client gets, and what a good one keeps getting meanwhile.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::stage::{ATTACKER, GOOD, Stage, URL};
use crate::step;

/// The processes of a gateway with `[admin]`.
const ROLES: [&str; 4] = ["launcher", "guard", "proxy", "observer"];

/// As `count` of the rule in examples/demo.toml.
const STRIKES: usize = 5;
/// As `ban` of that rule.
const BAN: Duration = Duration::from_secs(20);

/// What stands for no answer at all, as opposed to a connection that is refused or closed.
const SILENCE: &str = "timeout";
/// curl's exit code for it.
const TIMED_OUT: i32 = 28;

/// Plays all steps; fails at the first that does not go as it must.
pub(super) fn play(stage: &mut Stage, interrupted: &AtomicBool) -> anyhow::Result<()> {
    println!("\nThe gateway serves {URL}; the outside world is the namespace `{}`.", super::stage::OUTSIDE);

    title("Four processes serve, each with no more rights than it needs");
    processes(stage)?;

    title("A good client is served");
    request(stage, GOOD, "good", "200")?;

    title(&format!("An attacker sends forged tokens: {STRIKES} are answered 401"));
    for _ in 0..STRIKES {
        request(stage, ATTACKER, "forged", "401")?;
    }
    let banned = Instant::now();

    title("Then its packets are dropped in the kernel: nothing comes back, not even a refusal");
    request(stage, ATTACKER, "forged", SILENCE)?;
    request(stage, ATTACKER, "good", SILENCE)?;

    title("Why?");
    show(&mut stage.cli(&["why", ATTACKER]))?;
    show(&mut stage.cli(&["status"]))?;

    title("The good client never noticed");
    request(stage, GOOD, "good", "200")?;

    title(&format!("The ban ends by itself after {} s", BAN.as_secs()));
    loop {
        stage.check()?;
        if interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        let (code, _) = curl(stage, ATTACKER, "good")?;
        if code == "200" {
            break;
        }
        if banned.elapsed() > BAN + Duration::from_secs(10) {
            bail!("the ban did not end");
        }
        thread::sleep(Duration::from_millis(200));
    }
    println!("served again after {:.1} s", banned.elapsed().as_secs_f64());
    request(stage, ATTACKER, "good", "200")?;
    show(&mut stage.cli(&["why", ATTACKER]))?;
    println!("\nAll steps went as they must. Everything that was made for them is removed.");
    Ok(())
}

fn title(text: &str) {
    println!("\n--- {text}");
}

/// One request, shown as a command with its answer, which must have `status`.
fn request(stage: &Stage, source: &str, token: &str, status: &str) -> anyhow::Result<()> {
    println!("$ curl --interface {source} -H \"Authorization: Bearer $(cat {token}.token)\" {URL}/items/7");
    let (code, said) = curl(stage, source, token)?;
    println!("{said}");
    if code != status {
        bail!("{source} with the {token} token was to get {status}, got {code}");
    }
    Ok(())
}

/// The status code and what there is to show.
fn curl(stage: &Stage, source: &str, token: &str) -> anyhow::Result<(String, String)> {
    let folder = &stage.folder;
    let token = fs::read_to_string(folder.join(format!("{token}.token"))).context("a token")?;
    let mut command = stage.outside("curl");
    command.args(["-sS", "-m", "2", "--interface", source, "-w", "\n%{http_code}"]);
    command.arg("--cacert").arg(folder.join("ca.crt"));
    command.args(["-H", &format!("Authorization: Bearer {}", token.trim()), &format!("{URL}/items/7")]);
    let output = command.output().context("curl does not start")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').unwrap_or(("", text.as_str()));
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = if code == "000" { errors.trim().to_owned() } else { format!("{code} {body}") };
    let code = if output.status.code() == Some(TIMED_OUT) { SILENCE } else { code };
    Ok((code.to_owned(), said))
}

/// Shows what `status` says of the processes, once each of them is there.
fn processes(stage: &mut Stage) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(15);
    let text = loop {
        stage.check()?;
        let output = stage.cli(&["status"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let has =
            |role: &&str| text.lines().any(|line| line.trim_start().starts_with(*role) && line.contains("filters"));
        match ROLES.iter().find(|role| !has(role)) {
            None => break text,
            Some(missing) if Instant::now() > deadline => bail!("status shows no {missing}:\n{text}"),
            Some(_) => thread::sleep(Duration::from_millis(50)),
        }
    };
    println!("$ {}", step::text(&stage.cli(&["status"])));
    let table = text.lines().skip_while(|line| !line.contains("PROCESS")).take_while(|line| !line.trim().is_empty());
    table.for_each(|line| println!("{line}"));
    Ok(())
}

/// A command with its whole output.
fn show(command: &mut Command) -> anyhow::Result<()> {
    println!("$ {}", step::text(command));
    let output = command.output()?;
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{} failed ({})", step::text(command), output.status);
    }
    Ok(())
}
