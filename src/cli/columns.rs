//! Text in columns, and colours where the terminal takes them.
//!
//! Widths count characters, so a script of wide characters stands out of its column; nothing is lost by
//! that. Control characters never get through: what is shown comes from clients.

use std::fmt::Write as _;

/// How the output may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether the terminal can be told to begin again at its top.
    pub redraws: bool,
    /// Whether it may be told colours.
    pub has_colours: bool,
}

/// What a text is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Heading,
    Good,
    Warning,
    Bad,
}

impl Style {
    /// Text and nothing else.
    pub const PLAIN: Self = Self { redraws: false, has_colours: false };

    /// By where the output goes and what the environment says: nobody but a terminal gets escape codes,
    /// `NO_COLOR` (no-color.org) spares colours, `TERM=dumb` everything. An old console of Windows would
    /// show the codes; a newer terminal leaves a trace in the environment.
    pub fn of(is_terminal: bool, is_windows: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        let is_dumb = variable("TERM").is_some_and(|term| term == "dumb");
        let is_new = !is_windows || ["WT_SESSION", "TERM", "TERM_PROGRAM"].into_iter().any(is_set);
        let redraws = is_terminal && !is_dumb && is_new;
        Self { redraws, has_colours: redraws && !is_set("NO_COLOR") }
    }

    /// A text that takes the place of the last one, where the terminal can do so. Lines are cleared one by
    /// one: to clear all at once flickers.
    ///
    /// What is larger than the terminal is cut off by it and nothing scrolls away: each line is put into its
    /// row, which beyond the last one is the last one (ECMA-48, CUP), and no line is wrapped meanwhile
    /// (DECAWM). At the end the row below the text is cleared, which then is the last one too.
    pub fn screen(self, text: &str) -> String {
        if !self.redraws {
            return format!("{text}\n");
        }
        let mut screen = "\x1b[?7l".to_owned();
        let mut row = 1;
        for line in text.lines() {
            write!(screen, "\x1b[{row}H{line}\x1b[K").expect("a String takes every write");
            row += 1;
        }
        write!(screen, "\x1b[{row}H\x1b[J\x1b[?7h").expect("a String takes every write");
        screen
    }

    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Heading => "1",
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
        };
        if self.has_colours && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A text as it may go to a terminal: control characters could move the cursor or set its title, and the marks
/// of bidirectional text (UAX #9) could turn the rest of the line round.
pub(super) fn plain(text: &str) -> String {
    let is_mark = |char| matches!(char, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.replace(|char: char| char.is_control() || is_mark(char), "?")
}

/// The beginning of a text, with a mark where its end is cut off.
pub(super) fn clipped(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['~']).collect()
}

/// The words of a text in lines of bounded length, indented.
pub(super) fn wrapped(text: &str, indent: &str, columns_max: usize) -> String {
    let columns = |line: &str| line.chars().count();
    let mut lines = vec![indent.to_owned()];
    for word in text.split_whitespace() {
        if lines.last().is_some_and(|line| columns(line) + 1 + columns(word) > columns_max) {
            lines.push(indent.to_owned());
        }
        if let Some(line) = lines.last_mut() {
            if line.len() > indent.len() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

/// One cell.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
    pub(super) is_right: bool,
}

impl Cell {
    pub(super) fn left(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Tone::Plain, is_right: false }
    }

    pub(super) fn right(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Tone::Plain, is_right: true }
    }

    pub(super) fn with(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }
}

/// Rows under a head, in columns as wide as they need to be.
pub(super) struct Table {
    rows: Vec<(Vec<Cell>, Option<String>)>,
}

/// Between two columns.
const GAP: &str = "  ";

/// Before a note.
const NOTE_INDENT: &str = "    ";

impl Table {
    /// A head, aligned as the cells below it.
    pub(super) fn new(head: Vec<Cell>) -> Self {
        let head = head.into_iter().map(|cell| cell.with(Tone::Heading)).collect();
        Self { rows: vec![(head, None)] }
    }

    /// A row, and a line below it that belongs to it.
    pub(super) fn push(&mut self, row: Vec<Cell>, note: Option<String>) {
        self.rows.push((row, note));
    }

    /// The lines, none of them longer.
    pub(super) fn lines(&self, columns_max: usize, style: Style) -> String {
        let count = self.rows.iter().map(|(row, _)| row.len()).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|(row, _)| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..count).map(width).collect();
        let mut text = String::new();
        for (row, note) in &self.rows {
            text += &line(row, &widths, columns_max, style);
            if let Some(note) = note {
                text += NOTE_INDENT;
                text += &clipped(note, columns_max.saturating_sub(NOTE_INDENT.len()));
                text.push('\n');
            }
        }
        text
    }
}

fn line(row: &[Cell], widths: &[usize], columns_max: usize, style: Style) -> String {
    let mut line = String::new();
    let mut columns_left = columns_max;
    // Cut first and painted then: a code takes no column.
    let mut push = |text: &str, tone: Tone| {
        let cut: String = text.chars().take(columns_left).collect();
        columns_left -= cut.chars().count();
        line += &style.paint(tone, &cut);
    };
    for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
        let padding = " ".repeat(width.saturating_sub(cell.text.chars().count()));
        let (before, after) = if cell.is_right { (padding.as_str(), "") } else { ("", padding.as_str()) };
        push(if index == 0 { "" } else { GAP }, Tone::Plain);
        push(before, Tone::Plain);
        push(&cell.text, cell.tone);
        push(after, Tone::Plain);
    }
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(is_terminal: bool, is_windows: bool, set: &[(&str, &str)]) -> Style {
        Style::of(is_terminal, is_windows, |name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn colours_go_to_terminals_that_want_them() {
        let all = Style { redraws: true, has_colours: true };
        assert_eq!(style(true, false, &[("TERM", "xterm")]), all);
        assert_eq!(style(true, false, &[("NO_COLOR", "")]), all, "empty is not set");
        assert_eq!(style(true, false, &[("NO_COLOR", "1")]), Style { redraws: true, has_colours: false });
        assert_eq!(style(true, false, &[("TERM", "dumb")]), Style::PLAIN);
        assert_eq!(style(false, false, &[("TERM", "xterm")]), Style::PLAIN);
        assert_eq!(style(true, true, &[]), Style::PLAIN);
        assert_eq!(style(true, true, &[("WT_SESSION", "x")]), all);
    }

    #[test]
    fn a_screen_begins_at_the_top_where_that_can_be_done() {
        assert_eq!(Style::PLAIN.screen("a\nb\n"), "a\nb\n\n");
        let redraws = Style { redraws: true, has_colours: false };
        assert_eq!(redraws.screen("a\nb\n"), "\x1b[?7l\x1b[1Ha\x1b[K\x1b[2Hb\x1b[K\x1b[3H\x1b[J\x1b[?7h");
    }

    #[test]
    fn columns_are_as_wide_as_their_longest_cell_and_lines_are_cut() {
        let mut table = Table::new(vec![Cell::left("name"), Cell::right("n")]);
        table.push(vec![Cell::left("a"), Cell::right("100").with(Tone::Bad)], Some("a note".to_owned()));
        table.push(vec![Cell::left("longer"), Cell::right("1")], None);
        let plain = table.lines(20, Style::PLAIN);
        assert_eq!(plain, "name      n\na       100\n    a note\nlonger    1\n");
        let coloured = table.lines(20, Style { redraws: true, has_colours: true });
        assert!(coloured.contains("a       \x1b[31m100\x1b[0m\n"), "{coloured:?}");
        assert!(table.lines(8, Style::PLAIN).lines().all(|line| line.chars().count() <= 8));
        assert_eq!((clipped("abcdef", 4), clipped("abcd", 4)), ("abc~".to_owned(), "abcd".to_owned()));
    }
}
