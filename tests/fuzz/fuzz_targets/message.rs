//! Hands libFuzzer's bytes to every reader of what one process says to another, and to those of commands: the properties
//! that their own tests check. How to run it, `packet.rs` says.

#![no_main]

use gateway::{
    guard::control::{ControlAnswer, ControlRequest},
    message::{
        Bounded, Bundle, ToGuard, ToProxy,
        compiler::{CompileResult, CompileTask},
        observer::{
            ObserverConfig, ToObserver,
            delivery::{Delivered, Delivery},
            event::Event,
            relay::{Answered, Relayed},
        },
        telemetry::Telemetry,
    },
    os::launch::{FixedDatagram, LauncherCommand, Notice},
};
use libfuzzer_sys::fuzz_target;

#[path = "../../../gateway/src/os/launch/tests/reading.rs"]
mod launches;
#[path = "../../../gateway/src/guard/control/tests/reading.rs"]
mod lines;
#[path = "../../../gateway/src/message/tests/reading.rs"]
mod messages;

fuzz_target!(|bytes: &[u8]| {
    if let Some(what) = messages::fault(bytes).or_else(|| lines::fault(bytes)).or_else(|| launches::fault(bytes)) {
        panic!("{what}");
    }
});
