//! Puts what operators ask for into a message.

use serde::Serialize;

use crate::message::observer::alert::{LONGEST_REPORT, ObserverAnswer};

/// A report, if it is not too long.
pub(super) fn said(report: &impl Serialize) -> ObserverAnswer {
    match serde_json::to_vec(report) {
        Ok(text) if text.len() <= LONGEST_REPORT => ObserverAnswer::Report(text),
        _ => ObserverAnswer::Refused("too_large".to_owned(), "there is too much to be told at once".to_owned()),
    }
}
