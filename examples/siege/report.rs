//! What is printed: an introduction, two lines of a table for each phase as it ends, and the verdict.
//!
//! Plain ASCII, at most 140 columns but for what is quoted.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::attacks::ALL;
use crate::common::process::Sample;
use crate::honest::{Ranks, USERS};
use crate::options::Options;
use crate::run::{Results, Siege};

/// The table's head, above columns of the widths that [`show_siege`] uses.
const HEAD: &str = concat!(
    "                    |   stream begins, ms  |    stream ends, ms   |     /health, ms      ",
    "|      resident, KiB       | descriptors |    CPU, s   | honest\n",
    "attack      connec- |                      |                      |                      ",
    "|   from    most   at rest |        at   |       all   |\n",
    "              tions |    p50    p99    max |    p50    p99    max |    p50    p99    max ",
    "|                          |   most rest | proxy  else |   sent bad",
);

/// What will happen, before it does.
pub(crate) fn show_introduction(program: &Path, options: &Options) {
    print(&format!(
        "{USERS} honest users and a probe, each ten times a second, behind {}.\n\
         Each attack is held for {} s with all its connections open. The proxy may buffer {} MiB in all.",
        program.display(),
        options.duration.as_secs(),
        options.buffered_mib,
    ));
    if Sample::take(std::process::id(), Duration::ZERO).is_none() {
        print("Memory, descriptors and processor time: not measured on this system.");
    }
    print("");
    for attack in ALL.iter().filter(|attack| options.wants(attack.name)) {
        print(&format!("  {:<10} {}", attack.name, attack.what));
    }
    print(&format!("\nBelow the times: how often those without an attack they are.\n\n{HEAD}"));
}

/// A phase: its figures, and below them how the times compare with those without an attack.
pub(crate) fn show_siege(siege: &Siege, quiet: Option<&Siege>) {
    let (phase, times) = (&siege.phase, siege.phase.seen.ranks());
    let figures = times.map(|Ranks(ranks)| ranks.map(|time| format!("{:>7.1}", milliseconds(time))).concat());
    let most = phase.samples.iter().max_by_key(|sample| sample.memory);
    let memory = [siege.quiet.as_ref(), most, phase.at_rest.as_ref()]
        .map(|sample| measured(sample.map(|sample| sample.memory / 1024), 8))
        .concat();
    let cpu = phase.cpu().map(|times| times.map(|time| format!("{:>6.1}", time.as_secs_f64())).concat());
    print(&format!(
        "{:<10} {:>8} |{} |{} |{} |{memory}   |{}{} |{} |{:>7}{:>4}",
        phase.name(),
        phase.connections,
        figures[0],
        figures[1],
        figures[2],
        measured(phase.descriptors_most(), 7),
        measured(phase.at_rest.map(|sample| sample.descriptors), 5),
        measured(cpu, 12),
        phase.honest_requests(),
        phase.honest_failures().len(),
    ));
    let Some(quiet) = quiet else { return };
    let quiet = quiet.phase.seen.ranks();
    let ratios: Vec<String> = times.iter().zip(quiet).map(|(now, then)| ratios(*now, then)).collect();
    print(&format!("{:<19} |{} |", "", ratios.join(" |")));
}

/// What the attacks cost, and the verdict.
pub(crate) fn show(results: &Results, violations: &[String]) {
    print(
        "\nMemory: by how much it grew, and what is allowed; what was kept, and more after the same once more",
    );
    for siege in &results.sieges {
        let Some(attack) = siege.phase.attack else { continue };
        let connections = siege.phase.connections;
        print(&format!(
            "  {:<10} {:>8} of {:>8} KiB, {:>9} bytes for each connection; kept {:>6} KiB, and {:>5} KiB",
            attack.name,
            siege.growth() / 1024,
            attack.allowance.bytes(connections, &results.options) / 1024,
            siege.growth() / connections.max(1) as u64,
            siege.kept() / 1024,
            siege.kept_again() / 1024,
        ));
    }
    let count = if violations.is_empty() { "none".to_owned() } else { violations.len().to_string() };
    print(&format!("\nVIOLATIONS: {count}"));
    for violation in violations {
        print(&format!("  {violation}"));
    }
    print(if violations.is_empty() { "\nThe proxy kept every rule." } else { "\nThe proxy broke rules." });
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn ratios(Ranks(now): Ranks, Ranks(then): Ranks) -> String {
    let ratio = |(now, then): (Duration, Duration)| {
        let ratio = now.as_secs_f64() / then.as_secs_f64().max(f64::MIN_POSITIVE);
        format!("{:>7}", format!("x{ratio:.1}"))
    };
    now.into_iter().zip(then).map(ratio).collect()
}

/// A figure, or a dash where it is not measured.
fn measured(figure: Option<impl Display>, width: usize) -> String {
    let text = figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
    format!("{text:>width$}")
}

/// A line on standard output. If nobody reads it any more, the exit code still tells.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
