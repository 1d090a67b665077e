//! Loads the libraries that the C library finds names by, before no library can be loaded any more.
//!
//! The C library loads them when a name is looked up for the first time, as `/etc/nsswitch.conf` says (nsswitch.conf(5)). Once
//! a process is confined, that fails, and the C library goes on without what it could not load.

use std::{ffi::CString, fs};

use crate::os;

const CONFIGURATION: &str = "/etc/nsswitch.conf";

/// What the C library uses where nothing else is said.
const USUAL: [&str; 2] = ["files", "dns"];

/// Loads what names of these kinds are found by, such as `hosts`.
pub(super) fn load(databases: &[&str]) {
    let configuration = fs::read_to_string(CONFIGURATION).unwrap_or_default();
    for service in USUAL.into_iter().chain(services(&configuration, databases)) {
        // Many are named and not installed, or a part of the C library.
        if let Ok(library) = CString::new(format!("libnss_{service}.so.2"))
            && !os::load_library(&library)
        {
            tracing::debug!(service, "no library for this service of names");
        }
    }
}

/// The services that these databases name.
fn services<'a>(configuration: &'a str, databases: &[&str]) -> Vec<&'a str> {
    let mut found = Vec::new();
    for line in configuration.lines() {
        let line = line.split_once('#').map_or(line, |(line, _)| line);
        let Some((_, services)) = line.split_once(':').filter(|(name, _)| databases.contains(&name.trim())) else {
            continue;
        };
        // What becomes of a result is in brackets: `[!UNAVAIL=return]`.
        let outside = services
            .split('[')
            .enumerate()
            .map(|(at, text)| if at == 0 { text } else { text.split_once(']').map_or("", |(_, text)| text) });
        for service in outside.flat_map(str::split_whitespace) {
            let is_name = service.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            if is_name && !found.contains(&service) {
                found.push(service);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_of_a_database() {
        let configuration = "# passwd: none\npasswd:  files systemd # sss\ngroup: files [SUCCESS=merge] systemd\n\
            hosts: files resolve [!UNAVAIL=return] dns [NOTFOUND = return TRYAGAIN=continue] mdns4_minimal ../x\n\
            networks: db\nhosts\n";
        for (databases, expect) in [
            (&["hosts"][..], &["files", "resolve", "dns", "mdns4_minimal"][..]),
            (&["passwd", "group"], &["files", "systemd"]),
            (&["shadow"], &[]),
            (&[], &[]),
        ] {
            assert_eq!(services(configuration, databases), expect, "{databases:?}");
        }
    }
}
