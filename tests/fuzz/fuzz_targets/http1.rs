//! Hands libFuzzer's bytes to what reads requests and responses of HTTP/1: the properties that their own tests check. How to
//! run it, `packet.rs` says.

#![no_main]

use gateway::proxy::reading;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(what) = reading::http1(bytes) {
        panic!("{what}");
    }
});
