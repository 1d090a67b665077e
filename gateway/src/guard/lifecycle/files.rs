//! Files that the guard watches, opens and rotates while it runs.

pub(in crate::guard::lifecycle) mod access_log;
pub(in crate::guard::lifecycle) mod changed_files;
pub(in crate::guard::lifecycle) mod looks;
pub(in crate::guard::lifecycle) mod named_files;
pub(in crate::guard::lifecycle) mod resolver_files;
pub(in crate::guard::lifecycle) mod rotation;
pub(super) mod settling;
