//! Packets judged by the real program in the real kernel, through `BPF_PROG_TEST_RUN`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "for tests: whatever fails here panics and names its line; skips and measurements are printed"
)]

// The program, its maps, and what became of a packet.
mod program;

// What the parser makes of a packet.
mod form;
// What lists, scope and limits make of it.
mod verdicts;
