//! Group relative policy optimisation: advantages and losses, under the names of TRL's documentation.
