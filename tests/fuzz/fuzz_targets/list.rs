//! Hands libFuzzer's bytes to the readers of lists of sources: the property that their own tests check. How to run it,
//! `packet.rs` says.

#![no_main]

use gateway::lists::reading;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(what) = reading::fault(bytes) {
        panic!("{what}");
    }
});
