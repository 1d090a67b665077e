//! Hands libFuzzer's frames to the property that the parser's own tests check.
//!
//! `cargo xtask fuzz packet` runs it. With a nightly toolchain and cargo-fuzz there is an address sanitizer as well, at the
//! top of the tree: `cargo +nightly fuzz run --fuzz-dir tests/fuzz packet`.
//!
//! What it finds worth keeping it adds to `corpus/packet`, which `cargo test -p gateway-common` replays.

#![no_main]

use gateway_common::packet::*;
use libfuzzer_sys::fuzz_target;

#[path = "../../../gateway-common/src/packet/tests/agreement.rs"]
mod agreement;

fuzz_target!(|frame: &[u8]| {
    if let Err(what) = agreement::disagreement(frame) {
        panic!("{what}");
    }
});
