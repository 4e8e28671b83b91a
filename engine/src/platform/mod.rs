//! What differs between targets: clock, yielding, memory. The only module with `cfg(target_arch)`.
