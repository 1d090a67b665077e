//! What the kernel says of a running process: the rights that it really has, whatever it was meant to have.

use std::{collections::BTreeMap, fmt, fs};

use serde::{Deserialize, Serialize};

use crate::text::counted::counted;

/// The rights of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Whom it runs as.
    pub uid: u32,
    /// The capabilities that it has or may take, by their names.
    pub capabilities: Vec<String>,
    /// Whether a program that it starts can gain any right.
    pub no_new_privs: bool,
    /// How many filters judge its system calls.
    pub seccomp_filters: u32,
}

impl Confinement {
    /// Asks the kernel. `None`: there is no such process, or it is hidden.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        Self::read(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    /// Whether it can gain nothing, and has nothing left but what it gives on, if it `starts_others`.
    #[must_use]
    pub fn is_confined(&self, starts_others: bool) -> bool {
        (starts_others || self.capabilities.is_empty()) && self.no_new_privs && self.seccomp_filters > 0
    }

    fn read(status: &str) -> Option<Self> {
        let fields: BTreeMap<&str, &str> =
            status.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim())).collect();
        let permitted = u64::from_str_radix(fields.get("CapPrm")?, 16).ok()?;
        let mut capabilities: Vec<String> =
            caps::all().into_iter().filter(|one| permitted & one.bitmask() != 0).map(|one| one.to_string()).collect();
        capabilities.sort();
        Some(Self {
            uid: fields.get("Uid")?.split_whitespace().nth(1)?.parse().ok()?,
            capabilities,
            no_new_privs: *fields.get("NoNewPrivs")? == "1",
            // Kernels before 5.9 say only whether there is one.
            seccomp_filters: fields.get("Seccomp_filters").or(fields.get("Seccomp"))?.parse().ok()?,
        })
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, capabilities, no_new_privs, seccomp_filters } = self;
        let capabilities = if capabilities.is_empty() { "no capability".to_owned() } else { capabilities.join(", ") };
        let privileges = if *no_new_privs { "no_new_privs" } else { "new privileges are possible" };
        let filters = counted(*seccomp_filters, "filter", "filters");
        write!(out, "user {uid}; {capabilities}; {privileges}; {filters} of system calls")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let status = "Name:\tgateway\nUid:\t1\t65534\t1\t1\nCapPrm:\t00000000000000e0\nNoNewPrivs:\t1\nSeccomp:\t2\n\
            Seccomp_filters:\t6\n";
        let capabilities = ["CAP_KILL", "CAP_SETGID", "CAP_SETUID"].map(str::to_owned).to_vec();
        let expect = Confinement { uid: 65_534, capabilities, no_new_privs: true, seccomp_filters: 6 };
        assert_eq!(Confinement::read(status), Some(expect));
        assert_eq!(Confinement::read("Name:\tgateway\n"), None);
        assert!(Confinement::of(std::process::id()).is_some());
    }
}
