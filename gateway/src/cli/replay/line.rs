//! One line of an access log, whatever wrote it: JSON of the gateway, of the Elastic Common Schema, of nginx's variables,
//! of Caddy and of Envoy, the combined format of Apache and nginx, or the HTTP format of HAProxy.

use super::record::Record;

mod combined;
mod haproxy;
mod json;

#[cfg(test)]
mod tests;

/// Reads a line; `None`: it is none of an access log.
pub(super) fn read(line: &str) -> Option<Record> {
    if line.trim_start().starts_with('{') {
        return json::read(&serde_json::from_str(line).ok()?);
    }
    combined::read(line).or_else(|| haproxy::read(line))
}
