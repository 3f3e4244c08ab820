//! Memory, descriptors and processor time of another process, where the system tells them: on Linux.

use std::path::PathBuf;
use std::time::Duration;

/// Ticks of the processor times in `/proc` per second: `USER_HZ`, which is 100 wherever Rust runs on Linux.
const TICKS_PER_SECOND: u64 = 100;

/// A process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Since the run began.
    pub(crate) at: Duration,
    /// Resident memory in bytes.
    pub(crate) memory: u64,
    pub(crate) descriptors: usize,
    /// User and system time together.
    pub(crate) cpu: Duration,
}

impl Sample {
    /// Looks at a process; None where the system does not tell, or there is no such process.
    pub(crate) fn take(pid: u32, at: Duration) -> Option<Self> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let status = std::fs::read_to_string(folder.join("status")).ok()?;
        let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
        let descriptors = std::fs::read_dir(folder.join("fd")).ok()?.count();
        Some(Self { at, memory: memory_in(&status)?, descriptors, cpu: cpu_in(&stat)? })
    }
}

/// The processor time that a process has taken so far, of all its threads, to the nanosecond; ended ones left out.
///
/// # Errors
/// The system does not tell.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration, String> {
    let folder = PathBuf::from(format!("/proc/{pid}/task"));
    let untold = |error| format!("{}: processor times cannot be read: {error}", folder.display());
    let mut sum = Duration::ZERO;
    for task in std::fs::read_dir(&folder).map_err(untold)? {
        let schedstat =
            std::fs::read_to_string(task.map_err(untold)?.path().join("schedstat")).map_err(untold)?;
        let on_cpu = schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok());
        sum += Duration::from_nanos(on_cpu.unwrap_or_default());
    }
    Ok(sum)
}

/// `VmRSS:     12345 kB`, in bytes.
fn memory_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(1024 * line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?)
}

/// The 14th and 15th field. The second one is a name in parentheses, which may hold anything.
fn cpu_in(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: Vec<u64> = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    let [user, system] = ticks[..] else { return None };
    Some(Duration::from_millis((user + system) * 1_000 / TICKS_PER_SECOND))
}
