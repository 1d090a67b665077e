//! Hands libFuzzer's bytes to whatever judges bodies: decoders of `Content-Encoding`, JSON, forms, multipart, XML, GraphQL,
//! an OpenAPI document, and the firewall with its decoders, its readers of SQL and HTML, and rules in SecLang. The property
//! is that of their own tests. How to run it, `packet.rs` says.

#![no_main]

use std::sync::LazyLock;

use gateway::policy::validate::reading::Judges;
use libfuzzer_sys::fuzz_target;

static JUDGES: LazyLock<Judges> = LazyLock::new(|| Judges::new().unwrap_or_else(|wrong| panic!("{wrong}")));

fuzz_target!(|bytes: &[u8]| {
    if let Some(what) = JUDGES.fault(bytes) {
        panic!("{what}");
    }
});
