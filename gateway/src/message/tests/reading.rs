//! What it means to read a message safely, for all bytes there are: used by the tests here and by the fuzz target in
//! `tests/fuzz`, whose root names the same items as this file's parent does.

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Answered, Bounded, Bundle, CompileResult, CompileTask, Delivered, Delivery, Event, ObserverConfig, Relayed,
    Telemetry, ToGuard, ToObserver, ToProxy,
};

/// What is wrong with how `bytes` are read, as any of the messages; `None`: nothing is.
pub(super) fn fault(bytes: &[u8]) -> Option<String> {
    if let Ok(message) = postcard::from_bytes::<ToGuard>(bytes) {
        // Whatever it holds, it is judged.
        message.check().unwrap_or_default();
    }
    let faults = [
        again::<ToGuard>(bytes),
        again::<ToProxy>(bytes),
        again::<ToObserver>(bytes),
        again::<Telemetry>(bytes),
        again::<Bundle>(bytes),
        again::<ObserverConfig>(bytes),
        again::<Relayed>(bytes),
        again::<Answered>(bytes),
        again::<CompileResult>(bytes),
        again::<CompileTask>(bytes),
        again::<Delivered>(bytes),
        again::<Delivery>(bytes),
        again::<Event>(bytes),
    ];
    faults.into_iter().flatten().next()
}

/// A message that was read comes to the same once it is written and read again.
fn again<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<String> {
    let message: T = postcard::from_bytes(bytes).ok()?;
    let name = std::any::type_name::<T>();
    let Ok(written) = postcard::to_stdvec(&message) else { return Some(format!("{name} cannot be written")) };
    let Ok(read) = postcard::from_bytes::<T>(&written) else { return Some(format!("{name} cannot be read again")) };
    let same = postcard::to_stdvec(&read).is_ok_and(|rewritten| rewritten == written);
    (!same).then(|| format!("{name} is another when it is read again"))
}
