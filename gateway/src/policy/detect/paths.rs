//! How rules tell paths apart, and which paths only scanners ask for.
//!
//! *Invariant:* at most [`LOOKED_AT`] bytes of a path are looked at: what a client sends does not make it dear.

/// So much of a path is looked at.
const LOOKED_AT: usize = 512;

/// A segment that is at least so long and has a digit is an id.
const LONG: usize = 20;

/// Hexadecimal digits and hyphens of at least this length are an id, if there is a digit.
const HEXADECIMAL: usize = 8;

/// What vulnerability scanners look for: parts of paths, in lower case. An API that has one of them serves it, and then
/// it does not count.
const SOUGHT: [&str; 58] = [
    "/.aws/",
    "/.bash_history",
    "/.ds_store",
    "/.env",
    "/.git/",
    "/.git-credentials",
    "/.hg/",
    "/.htaccess",
    "/.htpasswd",
    "/.npmrc",
    "/.ssh/",
    "/.svn/",
    "/.vscode/",
    "/_ignition/",
    "/_profiler",
    "/actuator/env",
    "/actuator/gateway",
    "/actuator/heapdump",
    "/adminer",
    "/autodiscover/",
    "/backup.",
    "/boaform",
    "/cgi-bin/",
    "/config.php",
    "/console/login",
    "/containers/json",
    "/debug/pprof",
    "/druid/",
    "/dump.sql",
    "/ecp/",
    "/elfinder",
    "/etc/passwd",
    "/geoserver/",
    "/hnap1",
    "/hudson",
    "/id_rsa",
    "/invoker/",
    "/jenkins/",
    "/jmx-console",
    "/login.action",
    "/manager/html",
    "/owa/",
    "/phpinfo",
    "/phpmyadmin",
    "/phpunit",
    "/pma/",
    "/remote/login",
    "/server-status",
    "/sftp-config",
    "/solr/",
    "/telescope/",
    "/vendor/composer",
    "/web-inf/",
    "/wp-admin",
    "/wp-content",
    "/wp-includes",
    "/wp-login",
    "/xmlrpc.php",
];

/// Endings of files that no API has.
const ENDINGS: [&str; 9] = [".php", ".asp", ".aspx", ".jsp", ".cgi", ".bak", ".sql", ".old", ".swp"];

fn looked_at(path: &str) -> &str {
    let end = (0..=LOOKED_AT.min(path.len())).rev().find(|end| path.is_char_boundary(*end)).unwrap_or(0);
    path.get(..end).unwrap_or_default()
}

/// Whether only scanners ask for a path that does not exist.
#[must_use]
pub fn is_sought_by_scanners(path: &str) -> bool {
    let path = looked_at(path).to_ascii_lowercase();
    SOUGHT.iter().any(|sought| path.contains(sought)) || ENDINGS.iter().any(|ending| path.ends_with(ending))
}

/// The parts of a path, where all ids are alike: `/orders/17` and `/orders/18` are one.
pub(super) fn shape(path: &str) -> impl Iterator<Item = &str> {
    looked_at(path).split('/').map(|segment| if is_id(segment) { "*" } else { segment })
}

fn is_id(segment: &str) -> bool {
    let has_digit = segment.bytes().any(|byte| byte.is_ascii_digit());
    let is_hexadecimal = || segment.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let is_number = || segment.bytes().all(|byte| byte.is_ascii_digit());
    has_digit && (is_number() || segment.len() >= LONG || segment.len() >= HEXADECIMAL && is_hexadecimal())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_alike() {
        for (path, expect) in [
            ("/orders/17", "/orders/*"),
            ("/orders/1/items/22", "/orders/*/items/*"),
            ("/a/3f2504e0-4f89-41d3-9a0c-0305e82c3301", "/a/*"),
            ("/a/deadbeef", "/a/deadbeef"),
            ("/a/01HV8Z6K9Q3W5E7R9T1Y", "/a/*"),
            ("/v1/status", "/v1/status"),
            ("/admin1.php", "/admin1.php"),
            ("/", "/"),
            ("", ""),
        ] {
            assert_eq!(shape(path).collect::<Vec<_>>().join("/"), expect, "{path}");
        }
    }

    #[test]
    fn what_scanners_look_for() {
        for path in
            ["/.env", "/app/.ENV.local", "/.git/config", "/WP-Login.php", "/x.php", "/shop/dump.sql", "/owa/auth"]
        {
            assert!(is_sought_by_scanners(path), "{path}");
        }
        for path in
            ["/", "/orders/17", "/environment", "/actuator/health", "/backups", "/phpbooks", "/login", "/a.json"]
        {
            assert!(!is_sought_by_scanners(path), "{path}");
        }
        // A path of any length costs the same.
        assert!(!is_sought_by_scanners(&format!("/{}/.env", "a".repeat(100_000))));
        assert!(!is_sought_by_scanners(&"\u{e9}".repeat(1_000)));
    }
}
