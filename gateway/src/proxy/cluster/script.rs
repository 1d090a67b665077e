//! A script in the store, which does one thing to one key, atomically.

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

use super::{
    connection::{Failure, RespCommand},
    resp::Value,
    store::{Store, StoreAddress},
};

/// A script, and its name.
pub(super) struct Script {
    text: &'static str,
    /// SHA-1, which only has to be the server's.
    name: String,
}

/// How a script is sent.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Words {
    Named,
    Whole,
}

impl Script {
    pub(super) fn new(text: &'static str) -> Self {
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        Self { text, name: HEXLOWER.encode(digest.as_ref()) }
    }

    /// The beginning of a command that runs it on a key: arguments follow.
    pub(super) fn command(&self, words: Words, key: &[u8]) -> RespCommand {
        let (verb, script) = match words {
            Words::Named => ("EVALSHA", self.name.as_str()),
            Words::Whole => ("EVAL", self.text),
        };
        vec![verb.into(), script.into(), b"1".to_vec(), key.to_vec()]
    }

    /// Runs it for each of these calls; the replies in their order.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn run<Call>(
        &self,
        store: &mut Store,
        place: &StoreAddress,
        calls: &[Call],
        command: impl Fn(&Call, Words) -> (Vec<u8>, RespCommand),
    ) -> Result<Vec<Value>, Failure> {
        let commands: Vec<_> = calls.iter().map(|call| command(call, Words::Named)).collect();
        let mut replies = store.ask(place, &commands).await?;
        let unknown: Vec<usize> = (0..replies.len())
            .filter(|at| replies.get(*at).and_then(Value::error).is_some_and(|error| error.starts_with("NOSCRIPT")))
            .collect();
        if !unknown.is_empty() {
            // Scripts are lost when the server starts anew: this brings it back.
            let again: Vec<_> =
                unknown.iter().filter_map(|at| calls.get(*at)).map(|call| command(call, Words::Whole)).collect();
            for (at, reply) in unknown.into_iter().zip(store.ask(place, &again).await?) {
                if let Some(place) = replies.get_mut(at) {
                    *place = reply;
                }
            }
        }
        Ok(replies)
    }
}
