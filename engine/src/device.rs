//! Which device computes: chosen at run time, by name or by what is there.
