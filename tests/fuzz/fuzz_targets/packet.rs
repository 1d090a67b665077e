//! Hands libFuzzer's frames to the property that the parser's own tests check.
//!
//! With a nightly toolchain and cargo-fuzz, at the top of the tree: `cargo +nightly fuzz run --fuzz-dir tests/fuzz
//! packet`. Without either (no address sanitizer then), in `tests/fuzz`:
//!
//! ```sh
//! export RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
//!   -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
//!   -Cllvm-args=-sanitizer-coverage-trace-compares"
//! cargo build --release --target x86_64-unknown-linux-gnu
//! target/x86_64-unknown-linux-gnu/release/packet -max_total_time=60 -max_len=300 corpus/packet
//! ```
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
