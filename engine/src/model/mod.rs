//! The decoder-only transformer: configuration, layers, key-value cache, weights on disk.
