//! The processes of the gateway beside the launcher.

/// Which process of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProcessRole {
    /// Compiles one configuration, and ends.
    Compiler,
    /// Decides every ban; the launcher starts it by itself.
    Guard,
    /// Tells how things are.
    Observer,
    /// Serves clients.
    Proxy,
}

impl ProcessRole {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Compiler, Self::Guard, Self::Observer, Self::Proxy];

    /// What the process is called that starts all others.
    pub const LAUNCHER: &'static str = "launcher";

    /// The hidden command that the process is started by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compiler => "compiler",
            Self::Guard => "guard",
            Self::Observer => "observer",
            Self::Proxy => "proxy",
        }
    }

    /// By this number launcher and guard know it.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Guard => 1,
            Self::Observer => 2,
            Self::Proxy => 3,
            Self::Compiler => 4,
        }
    }
}
