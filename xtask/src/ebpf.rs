//! Decides how the kernel program is built; the only place that knows the eBPF toolchain.

use anyhow::bail;

/// What `cargo xtask ebpf` is told.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail unless the committed object is what its source gives, byte for byte.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Builds `gateway/ebpf/guard.bpf.o`, or checks it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { check: _ } = arguments;
    bail!("ebpf: not built yet")
}
