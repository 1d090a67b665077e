//! Packets judged by the real program in the real kernel, through `BPF_PROG_TEST_RUN`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "for tests: whatever fails here panics and names its line"
)]

// The program, its maps, and what became of a packet.
mod program;

// The guard's hold on it, in networks of the test's own.
mod live;
// What is left of it where the kernel refuses a part of the program, or all of it.
mod refused;

// What the parser makes of a packet.
mod form;
// Every verdict in every form.
mod product;
// What lists, scope and limits make of it.
mod verdicts;

// Budgets of a source, and of all of them; answers; samples.
mod budgets;
// Budgets that one source has of its own, the budget of all packets, and connections that may go beyond it.
mod lane;

// All of these again while somebody traces packets, and the lines about them.
mod traced;
