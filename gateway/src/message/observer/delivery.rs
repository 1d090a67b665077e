//! What the observer delivers for the guard, which connects to nobody: one message or request, and what became of it.

use serde::{Deserialize, Serialize};

use crate::settings::audit::{AnchorUrl, SyslogServer};

/// What is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// To whom, and what.
    pub what: Parcel,
    /// Who vouches for the server's certificate, in PEM.
    pub ca: Option<Vec<u8>>,
}

/// To whom, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parcel {
    /// A POST request.
    Post {
        /// Where.
        url: AnchorUrl,
        /// The type of the body.
        content_type: String,
        /// The body.
        body: Vec<u8>,
    },
    /// A message of syslog (RFC 5424).
    Syslog {
        /// Where.
        server: SyslogServer,
        /// The message, without what frames it.
        message: String,
    },
}

/// What became of it: the body of the response, or why it could not be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered(pub Result<Vec<u8>, String>);

/// A response is no longer.
pub const LONGEST_RESPONSE: usize = 32 * 1024;
