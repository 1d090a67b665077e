//! Asks the store for budgets that machines share: one atomic script a budget, many budgets at a time.

use std::{fmt::Write as _, sync::LazyLock};

use super::{
    connection::{Failure, RespCommand},
    resp::Value,
    script::{Script, Words},
    store::{Store, StoreAddress},
};
use crate::{
    os::clock,
    policy::limit::{BudgetRequest, Granted, StoreCall},
};

/// How many budgets are asked for at once.
pub(super) const AT_ONCE: usize = 256;

/// The least time that a refusal lasts, in microseconds, whatever the store says: a flood asks it seldom.
const LEAST_WAIT: u64 = 1_000;

/// GCRA by the server's clock.
static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("spend.lua")));

/// What became of asks.
#[derive(Debug, Default)]
pub(super) struct BudgetAnswers {
    /// So many keys the store cannot count.
    pub(super) failed: u64,
    /// Of these: it answered something else.
    pub(super) malformed: u64,
    /// The first of them, and why.
    pub(super) why: Option<(String, Failure)>,
}

impl BudgetAnswers {
    /// Both.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            failed: self.failed + other.failed,
            malformed: self.malformed + other.malformed,
            why: self.why.or(other.why),
        }
    }

    /// The store cannot count a key.
    pub(super) fn note(&mut self, key: impl FnOnce() -> String, failure: Failure) {
        self.failed += 1;
        self.malformed += u64::from(failure.is_malformed);
        self.why.get_or_insert_with(|| (key(), failure));
    }
}

/// Why a call was not answered as it should be.
#[derive(Debug)]
pub(super) enum CallError {
    /// Something is wrong with this key alone: others are counted.
    Key(Failure),
    Store(Failure),
}

/// Asks for each of these, and hands the answers on.
///
/// # Errors
/// The store does not answer, or not as it should: nobody has an answer then who has none yet.
pub(super) async fn ask(
    store: &mut Store,
    place: &StoreAddress,
    asks: Vec<BudgetRequest>,
) -> Result<BudgetAnswers, Failure> {
    let calls: Vec<StoreCall> = asks.iter().map(BudgetRequest::call).collect();
    let replies = replies(store, place, &calls).await?;
    let now = clock::monotonic();
    let mut answered = BudgetAnswers::default();
    for ((ask, call), reply) in asks.into_iter().zip(&calls).zip(replies) {
        match granted(&reply, call) {
            Ok(granted) => ask.answered(call, granted, now),
            Err(CallError::Store(failure)) => return Err(failure),
            Err(CallError::Key(failure)) => {
                ask.failed(now);
                answered.note(|| key(call, place), failure);
            }
        }
    }
    Ok(answered)
}

/// Whether the store counts, by a budget of nobody.
///
/// # Errors
/// As [`ask`].
pub(super) async fn probe(store: &mut Store, place: &StoreAddress) -> Result<(), Failure> {
    let call = StoreCall {
        name: "probe".to_owned(),
        units: 1,
        period: 1_000_000,
        burst: 1,
        charge: 1,
        want: 1,
        least: 1,
        debt: 0,
        is_reset: false,
    };
    let replies = replies(store, place, std::slice::from_ref(&call)).await?;
    let failure = |(CallError::Key(failure) | CallError::Store(failure))| failure;
    replies.iter().try_for_each(|reply| granted(reply, &call).map(drop).map_err(failure))
}

async fn replies(store: &mut Store, place: &StoreAddress, calls: &[StoreCall]) -> Result<Vec<Value>, Failure> {
    SCRIPT.run(store, place, calls, |call, words| command(call, place, words)).await
}

/// Under which name the store keeps a budget.
fn key(call: &StoreCall, place: &StoreAddress) -> String {
    format!("{}:limit:{}", place.prefix, call.name)
}

fn command(call: &StoreCall, place: &StoreAddress, words: Words) -> (Vec<u8>, RespCommand) {
    let key = key(call, place).into_bytes();
    if call.is_reset {
        return (key.clone(), vec![b"DEL".to_vec(), key]);
    }
    let mut command = SCRIPT.command(words, &key);
    let mut cost = String::new();
    // In picoseconds it is a whole number of microseconds with six digits, whatever a double would make of it.
    let picoseconds = u128::from(call.period) * 1_000 / u128::from(call.units.max(1));
    write!(cost, "{}.{:06}", picoseconds / 1_000_000, picoseconds % 1_000_000).unwrap_or_default();
    let numbers = [call.burst, call.charge, call.want, call.least, call.debt];
    command.push(cost.into_bytes());
    command.extend(numbers.iter().map(|number| number.to_string().into_bytes()));
    (key, command)
}

/// What a reply grants. A store that lies can refuse, or grant what was asked for, and no more.
fn granted(reply: &Value, call: &StoreCall) -> Result<Granted, CallError> {
    if let Some(error) = reply.error() {
        let failure = Failure::said(if call.is_reset { "a reset" } else { "the script" }, error);
        return Err(if is_of_key(error, call.is_reset) { CallError::Key(failure) } else { CallError::Store(failure) });
    }
    if call.is_reset {
        return Ok(Granted { left: call.burst, ..Granted::default() });
    }
    let number = |value: &Value| value.integer().and_then(|number| u64::try_from(number).ok());
    let numbers = match reply.array().unwrap_or_default() {
        [units, wait, left] => number(units).zip(number(wait)).zip(number(left)),
        _ => None,
    };
    let wrong = || CallError::Key(Failure::malformed("its script answers something else"));
    // Who grants nothing says for how long.
    let ((units, wait), left) = numbers.filter(|((units, wait), _)| *units > 0 || *wait > 0).ok_or_else(wrong)?;
    let wait = if units == 0 { wait.max(LEAST_WAIT) } else { wait };
    Ok(Granted {
        units: units.min(call.want),
        wait: wait.saturating_mul(1_000).min(longest(call)),
        left: left.min(call.burst),
    })
}

/// Whether an error is about this key alone: something else is under its name, which makes the script fail. A reset that
/// the user may not make is given up: it would be refused again for ever.
pub(super) fn is_of_key(error: &str, is_reset: bool) -> bool {
    match error.split(' ').next().unwrap_or_default() {
        "WRONGTYPE" => true,
        // As servers before 7 say it, and what goes wrong within a script.
        "ERR" => error.contains("script"),
        "NOPERM" => is_reset,
        _ => false,
    }
}

/// The longest that it takes until a budget has anything, in nanoseconds.
fn longest(call: &StoreCall) -> u64 {
    let units = u128::from(call.burst) + u128::from(call.debt) + u128::from(call.charge);
    let time = units * u128::from(call.period) / u128::from(call.units.max(1));
    u64::try_from(time).unwrap_or(u64::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: StoreCall = StoreCall {
        name: String::new(),
        units: 3,
        period: 1_000_000_000,
        burst: 10,
        charge: 0,
        want: 4,
        least: 1,
        debt: 8,
        is_reset: false,
    };

    #[track_caller]
    fn check(reply: &[i64], expect: Option<(u64, u64, u64)>) {
        let reply = Value::Array(reply.iter().map(|number| Value::Integer(*number)).collect());
        let granted = granted(&reply, &CALL).ok().map(|granted| (granted.units, granted.wait, granted.left));
        assert_eq!(granted, expect, "{reply:?}");
    }

    #[test]
    fn a_store_that_lies_grants_no_more_than_was_asked_for() {
        check(&[4, 0, 3], Some((4, 0, 3)));
        check(&[0, 2_500, 0], Some((0, 2_500_000, 0)));
        check(&[0, 1, 0], Some((0, 1_000_000, 0)));
        check(&[0, 0, 0], None);
        check(&[i64::MAX, 0, i64::MAX], Some((4, 0, 10)));
        check(&[0, i64::MAX, 0], Some((0, 6_000_000_000, 0)));
        check(&[-1, 0, 0], None);
        check(&[1, 0], None);
        assert!(granted(&Value::Nil, &CALL).is_err());
        assert!(granted(&Value::Error("OOM".to_owned()), &CALL).is_err());
    }

    #[test]
    fn an_error_about_one_key_is_no_failure_of_the_store() {
        let reset = StoreCall { is_reset: true, ..CALL };
        for (error, of_key, of_reset) in [
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value script: 1f, on @user_script:12.",
                true,
                true,
            ),
            ("ERR Error running script (call to f_1f): @user_script:12: WRONGTYPE Operation", true, true),
            ("NOPERM this user has no permissions to run the 'del' command", false, true),
            ("ERR unknown command 'EVALSHA'", false, false),
            ("OOM command not allowed when used memory > 'maxmemory'.", false, false),
            ("READONLY You can't write against a read only replica.", false, false),
            ("NOAUTH Authentication required.", false, false),
            ("", false, false),
        ] {
            for (call, expect) in [(&CALL, of_key), (&reset, of_reset)] {
                let fault = granted(&Value::Error(error.to_owned()), call).unwrap_err();
                assert_eq!(matches!(fault, CallError::Key(_)), expect, "{error}");
            }
        }
        assert!(matches!(granted(&Value::Nil, &CALL), Err(CallError::Key(_))));
        assert_eq!(granted(&Value::Integer(1), &reset).unwrap().left, CALL.burst, "all is left after a reset");
    }
}
