//! Tells the store what this machine has used up of quotas, and hears what the others have.

use std::sync::LazyLock;

use super::{
    budgets::{BudgetAnswers, CallError, is_of_key},
    connection::{Failure, RespCommand},
    resp::Value,
    script::{Script, Words},
    store::{Store, StoreAddress},
};
use crate::{
    os::clock,
    policy::limit::quota::{QuotaAsk, QuotaCall, QuotaTotal},
    text::digits,
};

/// Sums of all machines.
static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("total.lua")));

/// Asks about each of these, and hands the answers on.
///
/// # Errors
/// The store does not answer, or not as it should: nobody has an answer then who has none yet.
pub(super) async fn ask(
    store: &mut Store,
    place: &StoreAddress,
    asks: Vec<QuotaAsk>,
) -> Result<BudgetAnswers, Failure> {
    let now = clock::monotonic();
    let (asks, calls): (Vec<QuotaAsk>, Vec<QuotaCall>) =
        asks.into_iter().filter_map(|ask| ask.call(now).map(|call| (ask, call))).unzip();
    let mut answered = BudgetAnswers::default();
    if calls.is_empty() {
        return Ok(answered);
    }
    let replies = SCRIPT.run(store, place, &calls, |call, words| command(call, place, words)).await?;
    let now = clock::monotonic();
    for ((ask, call), reply) in asks.into_iter().zip(&calls).zip(replies) {
        match total(&reply) {
            Ok(total) => ask.answered(call, total, now),
            Err(CallError::Store(failure)) => return Err(failure),
            Err(CallError::Key(failure)) => {
                ask.failed(now);
                answered.note(|| key(call, place), failure);
            }
        }
    }
    Ok(answered)
}

/// Under which name the store keeps a count.
fn key(call: &QuotaCall, place: &StoreAddress) -> String {
    format!("{}:quota:{}", place.prefix, call.name)
}

fn command(call: &QuotaCall, place: &StoreAddress, words: Words) -> (Vec<u8>, RespCommand) {
    let key = key(call, place).into_bytes();
    let mut command = SCRIPT.command(words, &key);
    let numbers = [call.units, call.generation, u64::from(call.is_set), call.keep];
    command.push(place.node.as_bytes().to_vec());
    command.extend(numbers.iter().map(|number| number.to_string().into_bytes()));
    command.push(if call.tag == 0 { Vec::new() } else { format!("{:016x}", call.tag).into_bytes() });
    (key, command)
}

fn total(reply: &Value) -> Result<QuotaTotal, CallError> {
    if let Some(error) = reply.error() {
        let failure = Failure::said("the script", error);
        return Err(if is_of_key(error, false) { CallError::Key(failure) } else { CallError::Store(failure) });
    }
    let number = |value: &Value| value.integer().and_then(|number| u64::try_from(number).ok());
    let total = match reply.array().unwrap_or_default() {
        [own, others, generation, tag] => {
            let all = (number(own), number(others), number(generation));
            // Whatever is no tag shows nothing.
            let tag = tag.text().and_then(digits::hexadecimal).unwrap_or(0);
            if let (Some(own), Some(others), Some(generation)) = all {
                Some(QuotaTotal { own, others, generation, tag })
            } else {
                None
            }
        }
        _ => None,
    };
    total.ok_or_else(|| CallError::Key(Failure::malformed("its script answers something else")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_may_answer() {
        let array = |numbers: &[i64], tag: &str| {
            let tag = Value::Bytes(tag.as_bytes().to_vec());
            Value::Array(numbers.iter().map(|number| Value::Integer(*number)).chain([tag]).collect())
        };
        for (tag, expect) in [("00ff", 255), ("", 0), ("no tag", 0), ("ffffffffffffffffff", 0)] {
            let good = total(&array(&[1, 2, 3], tag)).ok();
            assert_eq!(good, Some(QuotaTotal { own: 1, others: 2, generation: 3, tag: expect }), "{tag}");
        }
        let none = Value::Array(vec![Value::Integer(1), Value::Integer(2), Value::Integer(3)]);
        for wrong in
            [none, array(&[1, 2], ""), array(&[-1, 2, 3], ""), array(&[1, 2, 3, 4], ""), Value::Nil, Value::Integer(1)]
        {
            assert!(matches!(total(&wrong), Err(CallError::Key(_))), "{wrong:?}");
        }
        for (error, of_key) in [("WRONGTYPE Operation", true), ("OOM command not allowed", false)] {
            let fault = total(&Value::Error(error.to_owned())).err();
            assert_eq!(matches!(fault, Some(CallError::Key(_))), of_key, "{error}");
        }
    }
}
