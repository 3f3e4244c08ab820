//! The tables.

use crate::figures::{Figures, SHARE_MAX, median};

/// Prints what was measured, and whether it is little enough.
pub(crate) fn show(figures: &Figures) {
    println!(
        "\nprocessor time of the proxy, ms in a second: the median, the least and the most of {} spans",
        figures.alone.len()
    );
    for (what, rates) in [("nobody looks", &figures.alone), ("a dashboard and Prometheus", &figures.watched)]
    {
        let (least, most) =
            rates.iter().fold((f64::MAX, 0.0_f64), |(least, most), rate| (least.min(*rate), most.max(*rate)));
        println!("  {what:<28} {:>7.2}  ({:.2} to {:.2})", median(rates) * 1e3, least * 1e3, most * 1e3);
    }
    let (difference, error) = figures.difference();
    println!(
        "  {:<28} {:>+7.2} %, with a standard error of {:.2} %",
        "difference",
        difference * 100.0,
        error * 100.0
    );
    println!("\n  page                          bytes  us each  by             every   us/s   of the load");
    for page in &figures.pages {
        let every =
            page.look.every.map_or_else(|| "visit".to_owned(), |every| format!("{} s", every.as_secs()));
        let share = page.look.every.map_or_else(String::new, |_| {
            format!("{:>7.1}   {:.2} %", page.rate() * 1e6, page.rate() / figures.load() * 100.0)
        });
        println!(
            "  {:<28} {:>6}  {:>7.1}  {:<13}  {every:<5} {share}",
            page.look.path,
            page.bytes,
            page.each.as_secs_f64() * 1e6,
            page.look.by
        );
    }
    let verdict = if figures.share() <= SHARE_MAX { "PASS" } else { "FAIL" };
    println!(
        "{verdict}  looking takes {:.2} % of what {} agents take (at most {} %)",
        figures.share() * 100.0,
        figures.agents,
        SHARE_MAX * 100.0
    );
}
