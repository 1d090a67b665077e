//! `gateway init`: a first configuration for one upstream, short enough to be read whole.
//!
//! *Invariant:* what it writes is accepted by `gateway check` at that moment, with the same files. Nothing that exists
//! is replaced unless that was asked for, and a file appears whole or not at all.

use std::{
    fs, io,
    io::{BufRead, IsTerminal as _, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, absolute},
    sync::Arc,
};

use nix::unistd::User;
use serde_json::json;

use self::text::write as text;
use super::{context::Context, exit::Exit, table::drawn};
use crate::{
    config::{Config, Diagnostics, Disk, Files},
    snapshot::Snapshot,
};

mod options;
mod text;

pub(super) use options::Init;

#[cfg(test)]
mod tests;

/// The user that the package makes for the observer.
const OBSERVER: &str = "gateway-observer";

impl Init {
    pub(super) fn execute(mut self, context: &Context) -> Exit {
        let out = context.out;
        let to_stdout = self.file.as_os_str() == "-";
        if io::stdin().is_terminal() && io::stderr().is_terminal() && !out.json {
            let asked = self.ask(&mut io::stdin().lock(), &mut io::stderr().lock());
            if let Err(error) = asked {
                return out.fail(&format!("nothing was written: {error}"), Exit::Usage);
            }
        }
        if let Some(missing) = self.missing() {
            return out.fail(&format!("{missing} (`gateway init --help` shows examples)"), Exit::Usage);
        }
        // Relative paths in a configuration count from its folder; those of the command line from where it is given.
        for path in [&mut self.certificate, &mut self.private_key, &mut self.jwks].into_iter().flatten() {
            match absolute(&*path) {
                Ok(whole) => *path = whole,
                Err(error) => return out.fail(&format!("{}: {error}", path.display()), Exit::Usage),
            }
        }
        if self.observer_user.is_none() && User::from_name(OBSERVER).is_ok_and(|user| user.is_some()) {
            self.observer_user = Some(OBSERVER.to_owned());
        }
        let text = text(&self);
        let place = if to_stdout { Path::new("gateway.toml") } else { &self.file };
        if let Err(errors) = check(place, &text) {
            if out.json {
                return out.value(&json!({ "valid": false, "errors": errors }), Exit::Refused);
            }
            out.complain_as_is(&drawn(&errors.render(out.colour)), Exit::Refused);
            return out.complain("\nnothing was written: `gateway check` would refuse it", Exit::Refused);
        }
        if to_stdout {
            let value = json!({ "text": text });
            return if out.json { out.value(&value, Exit::Done) } else { out.text(text.trim_end(), Exit::Done) };
        }
        if let Err(error) = save(&self.file, &text, self.force) {
            let path = self.file.display();
            let message = match error.kind() {
                io::ErrorKind::AlreadyExists => format!("{path} exists: name another file, or replace it by --force"),
                io::ErrorKind::NotFound => {
                    format!("{path} cannot be written: its folder is not there: make that first")
                }
                io::ErrorKind::PermissionDenied => format!("{path} cannot be written: {error}: run as root"),
                _ => format!("{path} cannot be written: {error}"),
            };
            return out.fail(&message, Exit::of_file(&error, Exit::Refused));
        }
        if out.json {
            return out.value(&json!({ "written": self.file }), Exit::Done);
        }
        out.text(&next(&self.file.display().to_string()), Exit::Done)
    }

    /// What cannot be left out and was.
    fn missing(&self) -> Option<&'static str> {
        if self.upstream.is_none() {
            return Some("--upstream is missing: which server is behind the gateway, as 127.0.0.1:9000");
        }
        if !self.public && self.issuer.is_none() {
            return Some(
                "nothing says who may use it: give --issuer, --audience and --jwks for tokens, or --public for everybody",
            );
        }
        None
    }

    /// Asks for what was not given. An empty line takes what stands in brackets.
    fn ask(&mut self, input: &mut dyn BufRead, output: &mut dyn Write) -> io::Result<()> {
        let mut question = |text: &str, usual: &str| -> io::Result<String> {
            let shown = if usual.is_empty() { String::new() } else { format!(" [{usual}]") };
            write!(output, "{text}{shown}: ")?;
            output.flush()?;
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the input ended before the last answer"));
            }
            let line = line.trim();
            Ok(if line.is_empty() { usual.to_owned() } else { line.to_owned() })
        };
        if self.upstream.is_none() {
            let server = question("The server behind the gateway, HOST:PORT", "127.0.0.1:9000")?;
            self.upstream = Some(server);
        }
        if self.certificate.is_none() {
            let path = question("The TLS certificate for clients, PEM (empty: plain HTTP)", "")?;
            if !path.is_empty() {
                self.certificate = Some(path.into());
                self.private_key = Some(question("Its private key, PEM", "")?.into());
            }
        }
        if self.listen.is_none() {
            let address = question("The address to listen on", &self.listen().to_string())?;
            let wrong = |error| io::Error::other(format!("{address:?}: {error}, as 0.0.0.0:443"));
            self.listen = Some(address.parse().map_err(wrong)?);
        }
        if self.interface.is_empty() {
            let name = question("The interface that packets come in on (empty: no drops in the kernel)", "")?;
            self.interface.extend(Some(name).filter(|name| !name.is_empty()));
        }
        if !self.public && self.issuer.is_none() {
            let issuer = question("The issuer of the clients' tokens, a URL (empty: everybody is served)", "")?;
            if issuer.is_empty() {
                self.public = true;
            } else {
                self.issuer = Some(issuer);
                self.audience = Some(question("The audience of the tokens", "api")?);
                self.jwks = Some(question("The issuer's key set, a file", "jwks.json")?.into());
            }
        }
        Ok(())
    }
}

/// What to do with the file at `path`. A command that is too long for a line can be copied all the same.
pub(super) fn next(path: &str) -> String {
    const LONGEST: usize = 80 - "  gateway check --config ".len();
    let gap = if path.chars().count() > LONGEST { " \\\n    " } else { " " };
    let next = ["check", "run"].map(|command| format!("  gateway {command} --config{gap}{path}"));
    format!("{path}{}is written. Next:\n{}", if gap == " " { " " } else { "\n" }, next.join("\n"))
}

/// Reads `text` as the file at `path`, everything else from the disk.
struct Draft<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Files for Draft<'_> {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        if path == self.path { Ok(self.text.as_bytes().into()) } else { Disk.read(path) }
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        if path == self.path { None } else { Disk.mode(path) }
    }
}

/// As `gateway check`, before there is a file.
fn check(path: &Path, text: &str) -> Result<(), Diagnostics> {
    let config = Config::load(path, &Draft { path, text })?;
    Snapshot::new(config.proxy)
        .map(drop)
        .map_err(|diagnostics| Diagnostics::from_diagnostics(&config.document, diagnostics))
}

/// Writes beside it first: whoever reads it finds all of it, or what was there before.
fn save(path: &Path, text: &str, replace: bool) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
    let draft = folder.join(format!(".{}.{}", name.display(), std::process::id()));
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(&draft).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // A link fails where a file exists; a rename would replace it.
        if replace { fs::rename(&draft, path) } else { fs::hard_link(&draft, path) }
    });
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => written.and(Err(error)),
        _ => written,
    }
}
