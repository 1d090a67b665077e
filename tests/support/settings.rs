//! A test's `gateway.toml`: it serves the sample upstream, and a test replaces the parts that it cares about.

use std::path::Path;

use crate::world::GATE;

/// The parts of a configuration. Whatever is not set has the value that most tests want.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `guard.interfaces`.
    pub interfaces: Vec<String>,
    /// More lines of `[guard]`.
    pub guard: String,
    /// More lines of `[proxy]`.
    pub proxy: String,
    /// Lines of `[timeouts]`.
    pub timeouts: String,
    /// The `[[listener]]` tables.
    pub listeners: String,
    /// Lines of `[upstream.items]`.
    pub upstream: String,
    /// More lines of `[jwt]`.
    pub jwt: String,
    /// The `[[route]]` tables.
    pub routes: String,
    /// The `[[rule]]` tables.
    pub rules: String,
    /// Whatever else: whole tables.
    pub more: String,
}

/// The rule of most tests: `count` bad tokens within a minute are a ban of `ban`.
#[must_use]
pub fn bad_tokens(count: u32, ban: &str) -> String {
    format!(
        "[[rule]]\nname = \"bad-tokens\"\nsignals = [\"forged_token\"]\ncount = {count}\nwithin = \"60s\"\nban = \"{ban}\"\n"
    )
}

/// A route to the sample upstream.
#[must_use]
pub fn route(path: &str, methods: &str, require: &str, more: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\nmethods = {methods}\nrequire = {require}\nupstream = \"items\"\n{more}\n")
}

impl Default for Settings {
    fn default() -> Self {
        let tls = "certificate = \"server.crt\"\nprivate_key = \"server.key\"\n";
        Self {
            interfaces: vec![GATE.to_owned()],
            guard: String::new(),
            proxy: String::new(),
            timeouts: String::new(),
            listeners: format!(
                "[[listener]]\naddress = \"10.0.0.1:443\"\n{tls}[[listener]]\naddress = \"[fd00::1]:443\"\n{tls}"
            ),
            upstream: "servers = [\"127.0.0.1:9000\"]\n".to_owned(),
            jwt: String::new(),
            routes: [
                route("/health", "[\"GET\"]", "[\"public\"]", ""),
                route("/items/{id}", "[\"GET\", \"HEAD\"]", "[\"items:read\"]", ""),
                route(
                    "/items",
                    "[\"POST\"]",
                    "[\"items:write\"]",
                    "schema = \"item.schema.json\"\nmax_body = \"1KiB\"",
                ),
                route("/me", "[\"GET\"]", "[\"authenticated\"]", ""),
                route("/echo", "[]", "[\"authenticated\"]", ""),
                route("/slow", "[\"GET\"]", "[\"public\"]", ""),
                route("/stream", "[\"GET\"]", "[\"public\"]", ""),
                route("/files/{*rest}", "[\"GET\"]", "[\"public\"]", ""),
                "[[route]]\npath = \"/nobody\"\nmethods = [\"GET\"]\nupstream = \"items\"\n".to_owned(),
            ]
            .concat(),
            rules: bad_tokens(10, "10m"),
            more: String::new(),
        }
    }
}

impl Settings {
    /// The text of `gateway.toml`, with state in `folder` and pins in `pins`.
    #[must_use]
    pub fn text(&self, folder: &Path, pins: &Path) -> String {
        let folder = folder.display();
        let Self { interfaces, guard, proxy, timeouts, listeners, upstream, jwt, routes, rules, more } = self;
        format!(
            r#"[guard]
interfaces = {interfaces:?}
state_dir = "{folder}/state"
control_socket = "{folder}/control.sock"
pin_dir = "{pins}"
{guard}

[proxy]
user = "nobody"
access_log = "{folder}/access.log"
{proxy}

[timeouts]
{timeouts}

{listeners}
[upstream.items]
{upstream}

[jwt]
issuer = "{issuer}"
audience = "{audience}"
jwks = "jwks.json"
type = "at+jwt"
{jwt}

[roles]
reader = ["items:read"]
editor = ["items:read", "items:write"]

{routes}
{rules}
{more}
"#,
            pins = pins.display(),
            issuer = crate::tokens::ISSUER,
            audience = crate::tokens::AUDIENCE,
        )
    }
}
