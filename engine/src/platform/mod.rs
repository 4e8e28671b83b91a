//! What differs between targets: clock, yielding, memory, files. The only module with `cfg(target_arch)`.

pub mod storage;

#[cfg(feature = "tensor")]
mod clock;
mod memory;
mod task;

#[cfg(feature = "tensor")]
pub use clock::{now, unix_time};
pub use memory::{available_cores, peak_memory_bytes, resident_memory_bytes};
pub use task::yield_now;
