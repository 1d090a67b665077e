//! Tables for people: aligned columns within the terminal's width, readable amounts, no control characters.

use std::io::{self, IsTerminal as _};

use crate::text::terminal::is_obeyed;

/// Rows of as many cells as there are headings.
pub(super) struct Table<const COLUMNS: usize> {
    headings: [&'static str; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(super) const fn new(headings: [&'static str; COLUMNS]) -> Self {
        Self { headings, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.map(|cell| clean(&cell)));
    }

    /// The whole table without a line's end. Where it is wider than the terminal, its longest texts go on below. Where even
    /// their longest words are too wide, columns in which every row has a dash are left out, and then columns are set
    /// closer together. Where there is no terminal each row has one line: other programs read it.
    pub(super) fn render(&self) -> String {
        self.render_within(terminal().map_or(usize::MAX, |columns| columns.max(WIDTH)))
    }

    pub(super) fn render_within(&self, most: usize) -> String {
        let headings = self.headings.map(str::to_owned);
        let rows = || std::iter::once(&headings).chain(&self.rows);
        let (mut widths, mut least) = ([0; COLUMNS], [0; COLUMNS]);
        for row in rows() {
            for ((width, least), cell) in widths.iter_mut().zip(&mut least).zip(row) {
                *width = cell.chars().count().max(*width);
                let longest_word = cell.split(' ').map(|word| word.chars().count()).max().unwrap_or_default();
                *least = longest_word.max(*least);
            }
        }
        let mut shown = [true; COLUMNS];
        let taken = |shown: &[bool; COLUMNS], gap: usize| {
            let gaps = gap * shown.iter().filter(|shown| **shown).count().saturating_sub(1);
            least.iter().zip(shown).filter(|(_, shown)| **shown).map(|(least, _)| least).sum::<usize>() + gaps
        };
        if taken(&shown, 2) > most && !self.rows.is_empty() {
            shown = std::array::from_fn(|at| self.rows.iter().any(|row| row.get(at).is_some_and(|cell| cell != "-")));
        }
        let gap = if taken(&shown, 2) > most && taken(&shown, 1) <= most { 1 } else { 2 };
        for ((width, least), shown) in widths.iter_mut().zip(&mut least).zip(shown) {
            if !shown {
                (*width, *least) = (0, 0);
            }
        }
        let columns = shown.iter().filter(|shown| **shown).count();
        narrow(&mut widths, &least, most.saturating_sub(gap * columns.saturating_sub(1)));
        let line = |row: &[String; COLUMNS]| {
            let mut cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| wrap(cell, width).into_iter()).collect();
            let height = cells
                .iter()
                .zip(shown)
                .filter(|(_, shown)| *shown)
                .map(|(cell, _)| cell)
                .map(ExactSizeIterator::len)
                .max()
                .unwrap_or_default();
            let lines = (0..height).map(|_| {
                let all = cells.iter_mut().zip(widths).zip(self.headings).zip(shown).filter(|(_, shown)| *shown);
                let cells = all.map(|(((cell, width), heading), _)| {
                    let cell = cell.next().unwrap_or_default();
                    if NUMBERS.contains(&heading) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                });
                cells.collect::<Vec<_>>().join(" ".repeat(gap).as_str()).trim_end().to_owned()
            });
            lines.collect::<Vec<_>>().join("\n")
        };
        rows().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Columns of the terminal; 80 where there is none, or it is narrower.
fn width() -> usize {
    terminal().unwrap_or(WIDTH).max(WIDTH)
}

/// Columns of the terminal; `None`: there is none. One that does not say how wide it is has what every terminal has.
fn terminal() -> Option<usize> {
    let columns = || crossterm::terminal::size().map_or(WIDTH, |(columns, _)| columns.into());
    io::stdout().is_terminal().then(columns)
}

/// What every terminal has.
const WIDTH: usize = 80;

/// Takes from the widest columns until all have room, and from none what its longest word needs.
fn narrow(widths: &mut [usize], least: &[usize], room: usize) {
    while widths.iter().sum::<usize>() > room {
        let can = widths.iter_mut().zip(least).filter(|(width, least)| **width > **least);
        let Some((widest, _)) = can.max_by_key(|(width, _)| **width) else { return };
        *widest -= 1;
    }
}

/// The text in lines of at most `width` characters, cut at blanks. A word that is longer stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let (mut line, mut length) = (String::new(), 0);
    for (at, word) in text.split(' ').enumerate() {
        let letters = word.chars().count();
        if at > 0 && length + 1 + letters > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        } else if at > 0 {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += letters;
    }
    lines.push(line);
    lines
}

/// A value behind its name, which takes `indent` columns. What is too long for the terminal goes on below.
pub(super) fn field(name: &str, indent: usize, value: &str) -> String {
    let lines = wrap(value, width().saturating_sub(indent));
    format!("{name:<indent$}{}", lines.join(&format!("\n{:indent$}", "")))
}

/// Sentences, line by line. What is too long for the terminal goes on below, as far in as its line begins.
pub(super) fn prose(text: &str) -> String {
    prose_within(text, width())
}

pub(super) fn prose_within(text: &str, most: usize) -> String {
    let line = |line: &str| {
        let sentence = line.trim_start_matches(' ');
        let indent = line.len() - sentence.len();
        let begin = " ".repeat(indent);
        let lines = wrap(sentence, most.saturating_sub(indent));
        format!("{begin}{}", lines.join(&format!("\n{begin}")))
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// Headings of columns that lean right.
const NUMBERS: [&str; 5] = ["ID", "PACKETS", "BYTES", "ENTRIES", "REFUSED"];

/// The text with everything escaped that a terminal would obey or that would change how other text is read: control
/// characters, and those that turn the direction of writing.
pub(super) fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_obeyed(letter) {
            cleaned.extend(letter.escape_default());
        } else {
            cleaned.push(letter);
        }
    }
    cleaned
}

/// As [`clean`], line by line: for what is told in several, as faults of a configuration are.
pub(super) fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// Bytes as people read them.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, "B");
    for larger in UNITS {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1_024, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

/// Seconds as the two largest units that they have.
pub(super) fn seconds(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, ..) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}
