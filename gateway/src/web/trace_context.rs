//! Reads where a request stands in a trace that somebody else began: the `traceparent` header of W3C Trace Context.

use std::ops::Range;

/// What a `traceparent` header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    /// The trace.
    pub(crate) id: u128,
    /// The span that sent the request.
    pub(crate) span: u64,
    /// Whether it is to be told.
    pub(crate) is_sampled: bool,
}

impl TraceContext {
    /// Reads the value of the header. `None`: it is none.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let (version, id) = (hexadecimal(value, 0..2)?, hexadecimal(value, 3..35)?);
        let (span, flags) = (u64::try_from(hexadecimal(value, 36..52)?).ok()?, hexadecimal(value, 53..55)?);
        let is_shaped = [2, 35, 52].iter().all(|at| value.get(*at) == Some(&b'-'));
        // A later version may go on after the flags.
        let is_whole = value.len() == 55 || (version > 0 && value.get(55) == Some(&b'-'));
        let is_valid = version != 0xff && is_shaped && is_whole && id != 0 && span != 0;
        is_valid.then_some(Self { id, span, is_sampled: flags & 1 == 1 })
    }
}

/// The number that these digits are. Capital letters are not allowed.
fn hexadecimal(value: &[u8], place: Range<usize>) -> Option<u128> {
    value.get(place)?.iter().try_fold(0, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}
