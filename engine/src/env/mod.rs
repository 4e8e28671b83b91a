//! Environments: worlds with hidden state that answer tool calls.

pub mod bfcl;
