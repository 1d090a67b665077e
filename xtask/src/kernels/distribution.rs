//! The kernels that users have, by the distributions that they come with.

/// A kernel of a distribution.
pub(super) struct Kernel {
    pub(super) name: &'static str,
    pub(super) users: &'static str,
    /// How its packages are called behind `linux-image-`.
    pub(super) pattern: &'static str,
}

/// The kernels that users have.
pub(super) const KERNELS: [Kernel; 2] = [
    Kernel { name: "6.1", users: "Debian 12", pattern: r"6\.1\.0-[0-9]+" },
    Kernel { name: "6.12", users: "Debian 13", pattern: r"6\.12\.[0-9]+\+deb13" },
];
