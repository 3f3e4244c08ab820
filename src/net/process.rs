//! What Linux says of this process, in `/proc/self` (proc(5)). Other systems have no such files, and nothing is known.

use std::{fs, time::Duration};

use crate::{event::ProcessFigures, time::Wall};

/// The unit in which Linux tells times of a process: `USER_HZ`, which is 100 on every architecture that Rust's
/// standard library runs on (time(7)).
const TICK_MILLIS: u64 = 10;

/// What can be said now. Costs five small reads.
pub(super) fn figures() -> ProcessFigures {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let figures = parse(
        &read("/proc/self/status"),
        &read("/proc/self/stat"),
        &read("/proc/self/limits"),
        &read("/proc/stat"),
    );
    ProcessFigures { open_descriptors: open_descriptors(), ..figures }
}

/// Since Linux 6.2 the size of this folder is the number of its entries; before, they have to be counted.
fn open_descriptors() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    let size = fs::metadata(FOLDER).ok()?.len();
    // While they are read, the folder itself is one of them.
    let counted = || Some((fs::read_dir(FOLDER).ok()?.count() as u64).saturating_sub(1));
    if size > 0 { Some(size) } else { counted() }
}

/// Reads `status`, `stat` and `limits` of the process and `stat` of the system; what is not there or not understood is
/// left out.
fn parse(status: &str, times: &str, limits: &str, system: &str) -> ProcessFigures {
    // The second field is the name of the program in parentheses, and may hold anything.
    let fields: Vec<&str> =
        times.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
    // proc(5) counts from 1, and two fields are cut off.
    let span = |number: usize| {
        let ticks: u64 = fields.get(number - 3)?.parse().ok()?;
        Some(Duration::from_millis(ticks.saturating_mul(TICK_MILLIS)))
    };
    let (user, kernel, start) = (span(14), span(15), span(22));
    let booted = first_number(system, "btime ").and_then(|seconds| i64::try_from(seconds).ok());
    ProcessFigures {
        resident_bytes: first_number(status, "VmRSS:").map(|kibibytes| kibibytes.saturating_mul(1024)),
        virtual_bytes: first_number(status, "VmSize:").map(|kibibytes| kibibytes.saturating_mul(1024)),
        cpu: user.zip(kernel).map(|(user, kernel)| user.saturating_add(kernel)),
        open_descriptors: None,
        descriptors_max: first_number(limits, "Max open files"),
        started_at: booted
            .zip(start)
            .map(|(seconds, start)| Wall::from_unix_millis(seconds.saturating_mul(1_000)) + start),
    }
}

/// The number that comes first in the line that begins so.
fn first_number(text: &str, beginning: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(beginning))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_writes_is_understood() {
        let status =
            "Name:\tproxy\nVmPeak:\t  9000 kB\nVmSize:\t    8000 kB\nVmRSS:\t    5000 kB\nThreads:\t2\n";
        let times =
            "4711 (odd) name) S 1 4711 4711 0 -1 4194560 500 0 3 0 1234 66 0 0 20 0 2 0 8000 8192000 1250";
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 1048576              files     \n";
        let figures = parse(status, times, limits, "cpu  1 2 3\nbtime 1700000000\nprocesses 5\n");
        let expected = ProcessFigures {
            resident_bytes: Some(5_000 * 1024),
            virtual_bytes: Some(8_000 * 1024),
            cpu: Some(Duration::from_secs(13)),
            open_descriptors: None,
            descriptors_max: Some(1_024),
            started_at: Some(Wall::from_unix_millis(1_700_000_080_000)),
        };
        assert_eq!(figures, expected);
    }

    #[test]
    fn a_machine_that_runs_for_years_says_when_the_process_began() {
        // More ticks than 32 bits hold: after 497 days.
        let times = "1 (x) S 1 1 1 0 -1 0 0 0 0 0 5000000000 0 0 0 20 0 2 0 5000000000 8192000 1250";
        let figures = parse("", times, "", "btime 1700000000\n");
        assert_eq!(figures.cpu, Some(Duration::from_secs(50_000_000)));
        assert_eq!(figures.started_at, Some(Wall::from_unix_millis(1_750_000_000_000)));
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        let unlimited = "Max open files            unlimited            unlimited            files\n";
        assert_eq!(parse("VmRSS:\n", "1 (x) S -1", unlimited, "btime x"), ProcessFigures::default());
        assert_eq!(parse("", "", "", ""), ProcessFigures::default());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_all_of_it() {
        let before = figures();
        let file = fs::File::open("/proc/self/status").expect("Linux has it");
        let figures = figures();
        drop(file);
        assert!(figures.open_descriptors >= Some(1), "{figures:?}");
        assert!(
            figures.resident_bytes > Some(0) && figures.virtual_bytes >= figures.resident_bytes,
            "{figures:?}"
        );
        assert!(
            figures.cpu >= before.cpu && figures.cpu.is_some() && figures.started_at.is_some(),
            "{figures:?}"
        );
    }
}
