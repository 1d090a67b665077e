//! Whom of this host the configuration names for the gateway itself, by number: found out once, at the first start.

use anyhow::{Result, bail};
use nix::unistd::{Uid, User, geteuid};
use serde::{Deserialize, Serialize};

use crate::{config::Config, guard::operators, os::launch::RunAs, text::digits::decimal};

/// Whom the configuration names. A guard after this one goes on with the numbers, whoever has gone from this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::guard::lifecycle) struct ResolvedNames {
    /// Whom the proxy runs as; `None`: as the guard itself, which has no right to become anybody else.
    pub(in crate::guard::lifecycle) run_as: Option<RunAs>,
    /// Whom the observer runs as; `None`: as the proxy.
    pub(in crate::guard::lifecycle) observer_as: Option<RunAs>,
    /// `guard.control_group`.
    pub(in crate::guard::lifecycle) control_group: Option<u32>,
    /// What an operator should know of that.
    pub(in crate::guard::lifecycle) standing: Vec<String>,
}

impl ResolvedNames {
    /// Asks this host.
    ///
    /// # Errors
    /// It does not have one of them, or the proxy would be root.
    pub(in crate::guard::lifecycle) fn find(config: &Config) -> Result<Self> {
        let mut standing = Vec::new();
        let observer_as = observer_as(config)?;
        let run_as = run_as(&config.proxy.user, &mut standing)?;
        Ok(Self { run_as, observer_as, control_group: operators::control_group(&config.guard)?, standing })
    }
}

/// A user, by name or number; `None`: there is none of this name.
fn user(name: &str) -> Result<Option<RunAs>> {
    Ok(match decimal::<u32>(name) {
        Some(uid) => {
            let gid = User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or(uid, |user| user.gid.as_raw());
            Some(RunAs { uid, gid })
        }
        None => User::from_name(name)?.map(|user| RunAs { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
    })
}

/// Whom the observer runs as; `None`: as the proxy.
fn observer_as(config: &Config) -> Result<Option<RunAs>> {
    let Some(name) = config.admin.as_ref().and_then(|admin| admin.user.as_deref()).filter(|_| geteuid().is_root())
    else {
        return Ok(None);
    };
    match user(name)? {
        None => bail!("admin.user: there is no user {name}: `useradd --system {name}`, or name another one"),
        Some(RunAs { uid: 0, .. }) => {
            bail!("admin.user: the observer must not be root: `useradd --system gateway-observer`, and name that user")
        }
        found => Ok(found),
    }
}

/// Whom the proxy runs as; `None`: as the guard itself, which has no right to become anybody else.
fn run_as(name: &str, standing: &mut Vec<String>) -> Result<Option<RunAs>> {
    let found = user(name)?;
    if !geteuid().is_root() {
        if found.is_none_or(|found| found.uid != geteuid().as_raw()) {
            standing.push(format!("the proxy does not run as {name} but as the guard does, which is not root"));
        }
        standing.push(
            "guard and proxy run as one user, who may do everything: a proxy in wrong hands could command the guard. \
             Start the gateway as root"
                .to_owned(),
        );
        return Ok(None);
    }
    let Some(found) = found else {
        bail!("proxy.user: there is no user {name}: `useradd --system {name}`, or name another one");
    };
    if found.uid == 0 {
        bail!("proxy.user: the proxy must not be root: `useradd --system gateway`, and name that user");
    }
    Ok(Some(found))
}
