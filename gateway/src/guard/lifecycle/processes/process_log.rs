//! Which processes of the gateway were looked at and logged already, and what their rights amount to.

use std::collections::BTreeMap;

use crate::os::{launch::ProcessRole, sandbox::Confinement};

/// A process confines itself at its start. It is looked at so often, once a second, before it is told as it is.
const LOOKS: u8 = 10;

/// How often each process was looked at, by its id. One that was told has the last number.
#[derive(Debug, Default)]
pub(in crate::guard::lifecycle) struct ProcessLog(BTreeMap<u32, u8>);

/// What is known of the rights of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::guard::lifecycle) enum Rights {
    /// It gave up what it should have.
    Confined,
    /// It has had the time to, and has more.
    Excessive,
    /// Its rights cannot be seen from here.
    Hidden,
    /// It may still give some up, or was told of.
    Unsettled,
}

impl ProcessLog {
    /// Only these processes are left.
    pub(in crate::guard::lifecycle) fn keep(&mut self, left: &[u32]) {
        self.0.retain(|pid, _| left.contains(pid));
    }

    /// Whether it is to be looked at.
    pub(in crate::guard::lifecycle) fn is_open(&self, pid: u32) -> bool {
        self.0.get(&pid).is_none_or(|looks| *looks < LOOKS)
    }

    /// A process was looked at. Proxy and observer begin with the `filters` of system calls that the launcher has, and have
    /// more once they have confined themselves. So does a guard, but for the first one, which began before the launcher had any.
    pub(in crate::guard::lifecycle) fn judge(
        &mut self,
        pid: u32,
        role: &str,
        seen: Option<&Confinement>,
        filters: u32,
    ) -> Rights {
        let looks = self.0.entry(pid).or_default();
        *looks = looks.saturating_add(1);
        let (is_last, is_launcher) = (*looks >= LOOKS, role == ProcessRole::LAUNCHER);
        let begins_so = !is_launcher && role != ProcessRole::Guard.name();
        let rights = match seen {
            // It has what it gives on to those that it starts.
            Some(seen)
                if seen.is_confined(is_launcher) && (!begins_so || is_last || seen.seccomp_filters > filters) =>
            {
                Rights::Confined
            }
            _ if !is_last => return Rights::Unsettled,
            Some(_) => Rights::Excessive,
            None => Rights::Hidden,
        };
        *looks = LOOKS;
        rights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(capabilities: &[&str], no_new_privs: bool, seccomp_filters: u32) -> Confinement {
        let capabilities = capabilities.iter().map(|&name| name.to_owned()).collect();
        Confinement { uid: 0, capabilities, no_new_privs, seccomp_filters }
    }

    #[test]
    fn each_is_told_once() {
        let confined = seen(&[], true, 6);
        // It runs as another user already, and has not begun to confine itself.
        let early = seen(&[], true, 3);
        let held = seen(&["CAP_BPF"], true, 3);
        let open = seen(&["CAP_BPF"], false, 3);
        for (role, looks, expect) in [
            ("proxy", vec![Some(&confined)], Rights::Confined),
            ("proxy", vec![Some(&held), Some(&held), Some(&confined)], Rights::Confined),
            ("proxy", vec![Some(&early), Some(&early), Some(&confined)], Rights::Confined),
            ("launcher", vec![Some(&held)], Rights::Confined),
            ("guard", vec![Some(&early)], Rights::Confined),
            // Another program's, that makes fewer filters.
            ("proxy", vec![Some(&early); usize::from(LOOKS)], Rights::Confined),
            ("observer", vec![Some(&held); usize::from(LOOKS)], Rights::Excessive),
            ("launcher", vec![Some(&open); usize::from(LOOKS)], Rights::Excessive),
            ("proxy", vec![None; usize::from(LOOKS)], Rights::Hidden),
        ] {
            let mut log = ProcessLog::default();
            let said: Vec<Rights> = looks.iter().map(|seen| log.judge(7, role, *seen, 3)).collect();
            let (last, before) = said.split_last().unwrap();
            assert_eq!(*last, expect, "{role}");
            assert!(before.iter().all(|rights| *rights == Rights::Unsettled), "{role}: {said:?}");
            assert!(!log.is_open(7), "{role}");
            log.keep(&[8]);
            assert!(log.is_open(7) && log.0.is_empty(), "another process of that number is told again");
        }
    }
}
