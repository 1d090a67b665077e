//! Proof of the audit chain outside of this machine: its signed head as it is sent, when it is due (`schedule`), and
//! time stamps of an authority (`timestamp`). Who keeps these can prove later what the chain held, without trusting the
//! machine that wrote it.

use serde::{Deserialize, Serialize};

use crate::os::syslog;

pub mod schedule;
pub mod timestamp;

/// A checkpoint: what a key of the chain has signed. As JSON it is one line, the same for every kind of anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHead {
    /// The version of this form: 1.
    pub anchor: u8,
    /// The hash of the first record: which chain this is.
    pub chain: String,
    /// The number of the record that is signed, and with it all before.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
    /// When it was signed: RFC 3339, UTC.
    pub time: String,
    /// The public key, Ed25519, hexadecimal.
    pub key: String,
    /// The signature of [`signed_text`], hexadecimal.
    pub signature: String,
}

impl SignedHead {
    /// The version of the form.
    pub const VERSION: u8 = 1;

    /// As it is sent and written: one line of JSON, without its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// As a message of syslog (RFC 5424): facility 13 (log audit), severity 5 (notice).
    #[must_use]
    pub fn to_syslog(&self, host: &str, pid: u32) -> String {
        let host = syslog::host(host);
        format!("<109>1 {} {host} gateway {pid} anchor - {}", self.time, self.to_line())
    }

    /// Finds one in a line that may have something else before it, as a line of syslog has.
    #[must_use]
    pub fn find(line: &str) -> Option<Self> {
        let start = line.find("{\"anchor\":")?;
        let mut values = serde_json::Deserializer::from_str(line.get(start..)?).into_iter::<Self>();
        values.next()?.ok().filter(|head| head.anchor == Self::VERSION)
    }
}

/// What a checkpoint of record `seq` signs, and what a time stamp is made of.
#[must_use]
pub fn signed_text(seq: u64, hash: &str) -> Vec<u8> {
    format!("gateway audit checkpoint 1\n{seq}\n{hash}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_found_wherever_it_stands_in_a_line() {
        let text = |word: &str| word.repeat(3);
        let head = SignedHead {
            anchor: 1,
            chain: text("a"),
            seq: 7,
            hash: text("b"),
            time: text("c"),
            key: text("d"),
            signature: text("e"),
        };
        let line = head.to_line();
        for (line, expect) in [
            (line.clone(), true),
            (head.to_syslog("host", 7), true),
            (format!("{line} and more"), true),
            (line.replacen("\"anchor\":1", "\"anchor\":2", 1), false),
            (line.replacen("\"seq\":7", "\"seq\":-7", 1), false),
            (line.trim_end_matches('}').to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(SignedHead::find(&line), expect.then(|| head.clone()), "{line}");
        }
    }
}
