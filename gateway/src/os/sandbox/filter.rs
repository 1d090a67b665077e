//! Makes a seccomp filter from a list of calls, and puts it in force.

use std::{collections::BTreeMap, fmt};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use super::error::SandboxError;
use crate::os;

/// The last call that this list knows of: `file_setattr`, of Linux 6.17. Later ones, and those of the x32 ABI, do not
/// exist as far as a process can tell, so that a newer C library uses what it used before there were any.
const LAST: u32 = 469;

/// What one argument of a call has to be. Of arguments, the lower 32 bits are all that the kernel looks at in those
/// calls that have a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArgumentCondition {
    /// This argument has this value.
    Is(u8, u64),
    /// These bits of this argument have this value.
    Masked(u8, u64, u64),
    /// This argument has any other value.
    Not(u8, u64),
}

pub(super) const fn is(argument: u8, value: u64) -> ArgumentCondition {
    ArgumentCondition::Is(argument, value)
}

pub(super) const fn masked(argument: u8, mask: u64, value: u64) -> ArgumentCondition {
    ArgumentCondition::Masked(argument, mask, value)
}

/// Calls, each with what its arguments have to be: any one of so many lists of conditions, or nothing at all.
#[derive(Clone, Debug, Default)]
pub(super) struct AllowedCalls(BTreeMap<i64, Vec<Vec<ArgumentCondition>>>);

impl AllowedCalls {
    /// Whatever their arguments are.
    pub(super) fn always(&mut self, calls: &[i64]) {
        for call in calls {
            self.0.insert(*call, Vec::new());
        }
    }

    /// Whatever was said of these calls before, they are not among them.
    pub(super) fn never(&mut self, calls: &[i64]) {
        for call in calls {
            self.0.remove(call);
        }
    }

    /// Where all of these conditions hold, besides what was said of the call before.
    pub(super) fn when(&mut self, call: i64, conditions: &[ArgumentCondition]) {
        self.0.entry(call).or_default().push(conditions.to_vec());
    }

    /// Where this argument has one of these values.
    pub(super) fn any_of(&mut self, call: i64, argument: u8, values: &[u64]) {
        for value in values {
            self.when(call, &[is(argument, *value)]);
        }
    }

    /// Lets through what another filter has an answer to.
    pub(super) fn leave_to(&mut self, answered: &Self) {
        for (call, lists) in &answered.0 {
            match lists.as_slice() {
                [] => self.always(&[*call]),
                lists => self.0.entry(*call).or_default().extend_from_slice(lists),
            }
        }
    }

    /// How many calls there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the call is among them, whatever its arguments.
    #[cfg(test)]
    pub(super) fn has(&self, call: i64) -> bool {
        self.0.contains_key(&call)
    }

    /// The calls.
    #[cfg(test)]
    pub(super) fn calls(&self) -> impl Iterator<Item = i64> {
        self.0.keys().copied()
    }

    fn compile(self, others: SeccompAction, these: SeccompAction) -> Result<BpfProgram, SandboxError> {
        let mut rules = BTreeMap::new();
        for (call, lists) in self.0 {
            let lists = lists.iter().map(|list| rule(list)).collect::<Result<Vec<_>, _>>()?;
            rules.insert(call, lists);
        }
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| failed(&error))?;
        let filter = SeccompFilter::new(rules, others, these, arch).map_err(|error| failed(&error))?;
        filter.try_into().map_err(|error: seccompiler::BackendError| failed(&error))
    }

    /// Lets these calls through and no others: they fail with `EPERM`, for whoever makes one by mistake is told, not
    /// killed; those that are newer than this program with `ENOSYS`. The kernel logs them.
    pub(super) fn enforce(self) -> Result<(), SandboxError> {
        let mut program = newer();
        program.extend(self.compile(errno(libc::EPERM), SeccompAction::Allow)?);
        os::filter(&program, true).map_err(|error| failed(&error))
    }

    /// Has these calls fail with `error`, and logs nothing: libraries try them all the time.
    pub(super) fn answer(self, error: i32) -> Result<(), SandboxError> {
        let program = self.compile(SeccompAction::Allow, errno(error))?;
        os::filter(&program, false).map_err(|error| failed(&error))
    }
}

const fn errno(error: i32) -> SeccompAction {
    SeccompAction::Errno(error.unsigned_abs())
}

fn failed(error: &dyn fmt::Display) -> SandboxError {
    SandboxError::Seccomp(error.to_string())
}

fn rule(conditions: &[ArgumentCondition]) -> Result<SeccompRule, SandboxError> {
    let conditions = conditions.iter().map(|condition| {
        let (argument, operator, value) = match *condition {
            ArgumentCondition::Is(argument, value) => (argument, SeccompCmpOp::Eq, value),
            ArgumentCondition::Masked(argument, mask, value) => (argument, SeccompCmpOp::MaskedEq(mask), value),
            ArgumentCondition::Not(argument, value) => (argument, SeccompCmpOp::Ne, value),
        };
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
    });
    let conditions = conditions.collect::<Result<Vec<_>, _>>().map_err(|error| failed(&error))?;
    SeccompRule::new(conditions).map_err(|error| failed(&error))
}

/// The start of a program that has calls after [`LAST`] fail with `ENOSYS`; what follows sees the others.
fn newer() -> BpfProgram {
    // Load the number of the call; if it is greater, go on with the next statement, else with the one after it.
    let load = sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
    let greater = sock_filter { code: 0x25, jt: 0, jf: 1, k: LAST };
    let answer = sock_filter { code: 0x06, jt: 0, jf: 0, k: errno(libc::ENOSYS).into() };
    vec![load, greater, answer]
}
