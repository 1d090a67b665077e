//! What it means to read a command or a notice safely, for all bytes there are: used by the tests here and by the fuzz
//! target in `tests/fuzz`, whose root names the same items as this file's parent does.

use super::{FixedDatagram, LauncherCommand, Notice};

/// What is wrong with how `bytes` are read; `None`: nothing is.
pub(super) fn fault(bytes: &[u8]) -> Option<String> {
    let is_again = again::<LauncherCommand>(bytes) && again::<Notice>(bytes);
    (!is_again).then(|| "what was understood has two forms".to_owned())
}

/// One meaning, one form: what is understood is written as the same bytes again.
fn again<T: FixedDatagram>(bytes: &[u8]) -> bool {
    T::decode(bytes).is_none_or(|message| message.encode() == *bytes)
}
