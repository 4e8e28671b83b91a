//! Time, natively and in a browser.

use std::sync::OnceLock;

use web_time::{Instant, SystemTime, UNIX_EPOCH};

/// Seconds on a clock that never goes back. Only differences mean something: it starts at the first call.
pub fn now() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// Seconds since 1970-01-01 UTC; 0 on a machine whose clock stands before that.
pub fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_moves_on_and_the_calendar_is_of_this_century() {
        let first = now();
        while now() == first {}
        assert!(now() > first && first >= 0.0);
        assert!(unix_time() > 1_700_000_000.0);
    }
}
