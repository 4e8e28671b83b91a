//! How much memory the process takes, and how many cores it may use.

/// The most memory that the process has held so far (peak resident set), in bytes. Linux only.
pub fn peak_memory_bytes() -> Option<u64> {
    status("VmHWM:")
}

/// The memory that the process holds now (resident set), in bytes. Linux only.
pub fn resident_memory_bytes() -> Option<u64> {
    status("VmRSS:")
}

/// How many threads can run at once: 1 where the system does not say, as in a browser's worker.
pub fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(target_os = "linux")]
fn status(field: &str) -> Option<u64> {
    value_in_status(&std::fs::read_to_string("/proc/self/status").ok()?, field)
}

#[cfg(not(target_os = "linux"))]
fn status(_field: &str) -> Option<u64> {
    None
}

/// A field of /proc/self/status, such as `VmRSS:     1234 kB` (the unit is 1024 bytes, whatever it says), in bytes.
#[cfg(any(target_os = "linux", test))]
fn value_in_status(status: &str, field: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_the_status_file_is_read_in_bytes() {
        let status = "Name:\tparl\nVmPeak:\t  999 kB\nVmHWM:\t  2048 kB\nVmRSS:\t   512 kB\n";
        assert_eq!(value_in_status(status, "VmHWM:"), Some(2048 * 1024));
        assert_eq!(value_in_status(status, "VmRSS:"), Some(512 * 1024));
        assert_eq!(value_in_status(status, "VmSwap:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_grows_with_what_is_held() {
        let before = peak_memory_bytes().unwrap();
        assert!(before >= resident_memory_bytes().unwrap() / 2);
        let block = std::hint::black_box(vec![1_u8; 256 << 20]);
        assert!(peak_memory_bytes().unwrap() >= before.max(256 << 20));
        drop(block);
        assert!(available_cores() >= 1);
    }
}
