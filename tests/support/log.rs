//! The log of the proxies that run in this process, for tests that look at single lines of it.
//!
//! There is one log for all tests of a binary, so a test looks for a name that is its own.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use super::binary::await_some;

/// Every line that was logged, with its level in front.
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn logged() -> MutexGuard<'static, Vec<String>> {
    LOGGED.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Collector;

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        logged().push(format!("{} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

/// Collects what is logged from now on.
pub fn collect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Collector).expect("no other logger was set");
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// The lines so far that hold this text.
pub fn lines_with(text: &str) -> Vec<String> {
    logged().iter().filter(|line| line.contains(text)).cloned().collect()
}

/// Waits for a line that holds all of these.
#[track_caller]
pub fn await_line(parts: &[&str]) -> String {
    let is_it = |line: &&String| parts.iter().all(|part| line.contains(part));
    await_some(&format!("a line with {parts:?}"), || logged().iter().find(is_it).cloned())
}
