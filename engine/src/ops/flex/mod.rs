//! Fused operators for Flex, burn's CPU backend: one pass over memory, vector registers, and an own backward pass.
//!
//! Flex runs every elementwise operator of a composed expression as a loop of its own and evaluates `exp` one number at a
//! time. These operators do the same arithmetic in one loop, in the widest registers of the processor ([`math`]).

pub mod math;
