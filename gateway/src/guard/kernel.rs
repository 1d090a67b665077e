//! The drop path in the kernel: the program is loaded and attached, its maps are kept, and nothing else names aya.

mod attach;
mod error;
mod events;
mod handle;
mod held;
mod host;
mod load;
mod maps;
mod pins;
mod sys;
mod trace;

pub use attach::Attached;
pub use error::KernelError;
pub use handle::Kernel;
pub use held::{Hold, hold};
pub use host::{clock_is_kept, earlier_layouts, joins_packets, program_named};
pub use load::trial;
pub use maps::batch::{BanScan, RuleScan};
pub use maps::budgets::BudgetOverride;
pub use pins::{PinnedAt, Removed, attached_program, is_pinned, pinned_links, remove};
pub use trace::TracedPacket;
