//! How many sockets a process may have.

/// What is left for the honest users, the fake and the standard streams: a connection of the fake takes three.
const KEPT_FOR_OTHERS: usize = 1_000;

/// Where the system's limit is neither known nor raised here: macOS gives 256 by itself.
#[cfg(not(target_os = "linux"))]
const UNKNOWN: usize = if cfg!(windows) { usize::MAX } else { 1_200 };

/// Raises the limit of this process, and of those that it starts, as far as the system lets it. Gives how many
/// connections an attack can have.
pub(crate) fn raise() -> usize {
    limit().saturating_sub(KEPT_FOR_OTHERS)
}

#[cfg(target_os = "linux")]
fn limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If it may not be raised, it is as it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX))
}

#[cfg(not(target_os = "linux"))]
fn limit() -> usize {
    UNKNOWN
}
