//! Everything at once for some seconds: M02, D03. `cargo xtask bench soak` does it for minutes.

use std::time::Duration;

use support::{
    report,
    soak::{self, Plan},
};

#[test]
fn m02_nothing_fails_while_everything_changes() {
    if !report::may_run("soak") {
        return;
    }
    let outcome = soak::run(Plan { changing: Duration::from_secs(6), steady: Duration::from_secs(2) });
    assert!(outcome.faults.is_empty(), "{:#}", outcome.figures);
}
