//! Puts what operators ask for into a message.

use serde::Serialize;

use crate::message::alert::{LONGEST_REPORT, Said};

/// A report, if it is not too long.
pub(super) fn said(report: &impl Serialize) -> Said {
    match serde_json::to_vec(report) {
        Ok(text) if text.len() <= LONGEST_REPORT => Said::Report(text),
        _ => Said::Refused("too_large".to_owned(), "there is too much to be told at once".to_owned()),
    }
}
