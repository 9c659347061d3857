//! What the system says of this process, by Prometheus' customary names; nothing where there is no `/proc`.

use super::exposition::Exposition;
use crate::status::rss_bytes;

/// Clock ticks per second in `/proc`: the kernel's `USER_HZ`, 100 on every architecture that Rust runs on under Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds memory, processor time and open files.
pub(super) fn add(exposition: &mut Exposition) {
    if let Some(bytes) = rss_bytes() {
        exposition.count("process_resident_memory_bytes", &[], bytes);
    }
    if let Some((cpu_ticks, start_ticks)) = std::fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(times) {
        exposition.add("process_cpu_seconds_total", &[], cpu_ticks / TICKS_PER_SECOND);
        if let Some(booted) = boot_time() {
            exposition.add("process_start_time_seconds", &[], booted + start_ticks / TICKS_PER_SECOND);
        }
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // The directory itself is one of them while it is read.
        exposition.count("process_open_fds", &[], (open.count() as u64).saturating_sub(1));
    }
    if let Some(limit) = std::fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(max_open_files) {
        exposition.add("process_max_fds", &[], limit);
    }
}

/// Ticks of processor time, and ticks from boot to the start, out of `/proc/self/stat`.
fn times(stat: &str) -> Option<(f64, f64)> {
    // The second field is the command in parentheses, which may hold anything; the third is the next one behind it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some((field(14)? + field(15)?, field(22)?))
}

fn boot_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn max_open_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        soft => soft.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_command_whatever_it_is_called() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 12345 1000 200";
        assert_eq!(times(stat), Some((300.0, 12345.0)));
    }

    #[test]
    fn the_soft_limit_of_open_files_counts() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(max_open_files(limits), Some(1024.0));
        assert_eq!(max_open_files("Max open files  unlimited unlimited files"), Some(f64::INFINITY));
    }
}
