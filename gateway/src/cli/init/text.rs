//! The text of a first configuration.

use std::fmt::Write as _;

use super::options::Init;

/// A commented configuration by the answers. Everything that is not in it has a default.
pub(super) fn write(init: &Init) -> String {
    let mut out = String::from(
        "# The gateway's configuration. `gateway check` validates it and shows every default.\n\
         # A change takes effect with `gateway reload`; a file with a fault changes nothing.\n",
    );
    let mut line = |text: String| writeln!(out, "{text}").unwrap_or_default();
    line("\n[guard]".to_owned());
    if init.interface.is_empty() {
        line("# Without an interface, bans are enforced when connections are accepted, not in the kernel.".to_owned());
        line("# interfaces = [\"eth0\"]".to_owned());
    } else {
        line(format!("interfaces = {}              # bans drop packets here", array(&init.interface)));
    }
    line("# Addresses that are never limited or banned: your office, your monitoring.".to_owned());
    line("# allow = [\"192.0.2.0/24\"]".to_owned());

    line("\n[proxy]".to_owned());
    line(format!(
        "user = {}                    # an unprivileged account; `useradd --system NAME` makes one",
        quoted(&init.user)
    ));

    line("\n[admin]                                # the observer: metrics, health, alerts".to_owned());
    line("address = \"127.0.0.1:9901\"".to_owned());
    match &init.observer_user {
        Some(user) => line(format!("user = {}           # another than that of the proxy", quoted(user))),
        None => line("# user = \"gateway-observer\"          # without one it runs as the proxy does".to_owned()),
    }

    line("\n[[listener]]".to_owned());
    line(format!("address = {}", quoted(&init.listen().to_string())));
    if let (Some(certificate), Some(key)) = (&init.certificate, &init.private_key) {
        line(format!("certificate = {}", quoted(&certificate.display().to_string())));
        line(format!("private_key = {}", quoted(&key.display().to_string())));
    } else {
        line("# certificate = \"server.crt\"            # without both, clients speak plain HTTP/1.1".to_owned());
        line("# private_key = \"server.key\"".to_owned());
    }

    line("\n[upstream.api]".to_owned());
    line(format!("servers = [{}]", quoted(init.upstream.as_deref().unwrap_or_default())));

    let require = if let (Some(issuer), Some(audience), Some(jwks)) = (&init.issuer, &init.audience, &init.jwks) {
        line("\n[jwt]".to_owned());
        line(format!("issuer = {}", quoted(issuer)));
        line(format!("audience = {}", quoted(audience)));
        line(format!("jwks = {}", quoted(&jwks.display().to_string())));
        "authenticated"
    } else {
        "public"
    };

    line("\n[limit.address]                        # more than this is answered 429".to_owned());
    line("requests = 100".to_owned());
    line("per = \"1s\"".to_owned());
    line("burst = 200".to_owned());

    line("\n[[route]]                              # what no route names is answered 404".to_owned());
    line("path = \"/{*rest}\"".to_owned());
    line(format!("require = [\"{require}\"]"));
    line("upstream = \"api\"".to_owned());

    line(
        "\n[detect]                               # common attacks are counted and reported, and ban nobody yet:"
            .to_owned(),
    );
    line("defaults = \"shadow\"                    # see `gateway shadow report`; \"enforce\" bans".to_owned());

    line("\n[[rule]]                               # a client that goes on like this is banned".to_owned());
    line("name = \"malformed-requests\"".to_owned());
    line("shadow = false".to_owned());
    out
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn array(names: &[String]) -> String {
    toml::Value::Array(names.iter().cloned().map(toml::Value::String).collect()).to_string()
}
