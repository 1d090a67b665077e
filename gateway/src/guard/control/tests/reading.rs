//! What it means to read a command or an answer safely, for all bytes there are: used by the tests here and by the fuzz
//! target in `tests/fuzz`, whose root names the same items as this file's parent does.

use serde::{Serialize, de::DeserializeOwned};

use super::{ControlAnswer, ControlRequest};

/// What is wrong with how `line` is read; `None`: nothing is.
pub(super) fn fault(line: &[u8]) -> Option<String> {
    again::<ControlRequest>(line).or_else(|| again::<ControlAnswer>(line))
}

/// What was read comes to the same once it is written and read again.
fn again<T: Serialize + DeserializeOwned + PartialEq>(line: &[u8]) -> Option<String> {
    let said: T = serde_json::from_slice(line).ok()?;
    let name = std::any::type_name::<T>();
    let Ok(written) = serde_json::to_vec(&said) else { return Some(format!("{name} cannot be written")) };
    let Ok(read) = serde_json::from_slice::<T>(&written) else { return Some(format!("{name} cannot be read again")) };
    (read != said).then(|| format!("{name} is another when it is read again"))
}
