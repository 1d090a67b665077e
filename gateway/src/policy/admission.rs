//! Who is served first when something runs short: classes of requests, how many requests at once an upstream gets, and
//! what is refused while the gateway itself has too much to do.
//!
//! *Invariant:* everything here is told the time, and knows no socket. The lowest class is refused first, and the highest
//! only by what cannot be served at all.

mod class;
mod gate;
mod gradient;
mod pressure;
mod queue;

pub use class::{Class, ClassMatcher, ClassSum, Classes, Shed};
pub use gate::{AdmissionDecision, Departure, Gate, GateReport};
pub use gradient::Sample;
pub use pressure::Pressure;
