//! Hands libFuzzer's bytes to what reads frames of HTTP/2: the properties that their own tests check. How to
//! run it, `packet.rs` says.

#![no_main]

use gateway::proxy::reading;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(what) = reading::http2(bytes) {
        panic!("{what}");
    }
});
