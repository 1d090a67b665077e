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

    /// The whole table without a line's end, as wide as the terminal is. Programs read `--json`.
    pub(super) fn render(&self) -> String {
        self.render_within(width())
    }

    /// The table in lines of at most `most` characters. Where it is wider, its longest texts go on below. Where even
    /// their longest words are too wide, or texts would get high and narrow, columns in which every row has a dash are
    /// left out, then columns are set closer together, and then the last columns stand in lines of their own below each
    /// row. Nothing is cut: a word that is longer than the line has a line for itself.
    pub(super) fn render_within(&self, most: usize) -> String {
        let has_value = |at: usize| self.rows.iter().any(|row| row.get(at).is_some_and(|cell| cell != "-"));
        let valued: [bool; COLUMNS] = std::array::from_fn(|at| self.rows.is_empty() || has_value(at));
        let first = |count: usize| std::array::from_fn(|at| at < count && valued.get(at) == Some(&true));
        let fewer = (2..COLUMNS).rev().map(|count| (first(count), 2));
        let mut layouts = [([true; COLUMNS], 2), (valued, 2), (valued, 1)].into_iter().chain(fewer);
        let found = layouts.find_map(|(shown, gap)| Some((self.widths(shown, gap, most)?, gap)));
        let (widths, gap) = found.unwrap_or_else(|| {
            let texts = self.headings.first().copied().into_iter();
            let texts = texts.chain(self.rows.iter().filter_map(|row| row.first().map(String::as_str)));
            let width = texts.map(letters).max().unwrap_or_default().min(most);
            (std::array::from_fn(|at| if at == 0 { width } else { 0 }), 2)
        });
        let mut lines = vec![self.line(&self.headings.map(str::to_owned), &widths, gap)];
        for row in &self.rows {
            lines.extend(Some(self.line(row, &widths, gap)).filter(|line| !line.is_empty()));
            lines.extend(self.below(row, &widths, most));
        }
        lines.join("\n")
    }

    /// How wide each column is if these are shown, 0 for the others; `None`: they do not fit.
    fn widths(&self, shown: [bool; COLUMNS], gap: usize, most: usize) -> Option<[usize; COLUMNS]> {
        let (mut widths, mut least) = (self.headings.map(letters), self.headings.map(letters));
        for row in &self.rows {
            for (((width, least), cell), heading) in widths.iter_mut().zip(&mut least).zip(row).zip(self.headings) {
                *width = letters(cell).max(*width);
                // Amounts stay in one line with their units.
                let longest = if NUMBERS.contains(&heading) {
                    letters(cell)
                } else {
                    words(cell).map(letters).max().unwrap_or_default()
                };
                *least = longest.max(*least);
            }
        }
        for ((width, least), shown) in widths.iter_mut().zip(&mut least).zip(shown) {
            if !shown {
                (*width, *least) = (0, 0);
            }
        }
        let columns = shown.into_iter().filter(|shown| *shown).count();
        let room = most.saturating_sub(gap * columns.saturating_sub(1));
        narrow(&mut widths, &least, room);
        let fits = widths.iter().sum::<usize>() <= room;
        let is_high =
            |(cell, width): (&String, usize)| width > 0 && letters(cell) > width && wrap(cell, width).len() > HIGHEST;
        let is_low = !self.rows.iter().any(|row| row.iter().zip(widths).any(is_high));
        (fits && is_low).then_some(widths)
    }

    /// The columns of a row that stand beside each other.
    fn line(&self, row: &[String; COLUMNS], widths: &[usize; COLUMNS], gap: usize) -> String {
        let shown = row.iter().zip(widths).zip(self.headings).filter(|((_, width), _)| **width > 0);
        let mut cells: Vec<_> = shown
            .map(|((cell, width), heading)| (wrap(cell, *width).into_iter(), *width, NUMBERS.contains(&heading)))
            .collect();
        let height = cells.iter().map(|(lines, ..)| lines.len()).max().unwrap_or_default();
        let lines = (0..height).map(|_| {
            let cells = cells.iter_mut().map(|(lines, width, is_number)| {
                let (text, width) = (lines.next().unwrap_or_default(), *width);
                if *is_number { format!("{text:>width$}") } else { format!("{text:<width$}") }
            });
            cells.collect::<Vec<_>>().join(" ".repeat(gap).as_str()).trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The other columns of a row, each behind its heading.
    fn below(&self, row: &[String; COLUMNS], widths: &[usize; COLUMNS], most: usize) -> Vec<String> {
        let others = || row.iter().zip(self.headings).zip(widths).filter(|(_, width)| **width == 0);
        let indent = 4 + others().map(|((_, heading), _)| letters(heading)).max().unwrap_or_default() + 2;
        let told = others().filter(|((cell, _), _)| !cell.is_empty() && *cell != "-");
        told.map(|((cell, heading), _)| hang(&format!("    {heading}"), indent, cell, most)).collect()
    }
}

/// How many lines a text in a column may take.
const HIGHEST: usize = 10;

fn letters(text: &str) -> usize {
    text.chars().count()
}

/// Columns of the terminal; 80 where there is none, it is narrower, or it does not say.
fn width() -> usize {
    // Tests say the same on every terminal.
    let is_terminal = !cfg!(test) && io::stdout().is_terminal();
    let columns = is_terminal.then(|| crossterm::terminal::size().map_or(WIDTH, |(columns, _)| columns.into()));
    columns.unwrap_or(WIDTH).max(WIDTH)
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

/// The words of a text, between blanks. What stands in backquotes is one word: a command that goes on below would not be
/// copied as a whole.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (word, behind) = match end_of_word(text) {
            Some(end) => (text.get(..end)?, text.get(end + 1..)),
            None => (text, None),
        };
        rest = behind;
        Some(word)
    })
}

/// Where the first blank is that no backquotes are around. `None`: the text is one word.
fn end_of_word(text: &str) -> Option<usize> {
    // Up to here, the text is in backquotes.
    let mut quoted = 0;
    for (at, letter) in text.char_indices().filter(|(_, letter)| matches!(letter, ' ' | '`')) {
        if at < quoted {
            continue;
        }
        if letter == ' ' {
            return Some(at);
        }
        let closing = text.get(at + 1..).and_then(|behind| behind.find('`'));
        quoted = closing.map_or(quoted, |length| at + 1 + length + 1);
    }
    None
}

/// The text in lines of at most `width` characters, cut at blanks. A word that is longer stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let (mut line, mut length) = (String::new(), 0);
    for (at, word) in words(text).enumerate() {
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

/// A text behind `begin`, which takes `indent` columns. What is too long goes on below, as far in.
fn hang(begin: &str, indent: usize, text: &str, most: usize) -> String {
    flow(format!("{begin:<indent$}"), indent, text, most)
}

/// A text behind `told`; what is too long goes on below, `indent` columns in. A word that is too long for that begins
/// further left, on a line for itself, and stays whole.
fn flow(mut told: String, indent: usize, text: &str, most: usize) -> String {
    let mut used = letters(&told);
    for (at, word) in words(text).enumerate() {
        let (gap, length) = (usize::from(at > 0), letters(word));
        if used + gap + length <= most {
            told.push_str(if at > 0 { " " } else { "" });
            told.push_str(word);
            used += gap + length;
            continue;
        }
        let kept = told.trim_end().len();
        told.truncate(kept);
        if kept > 0 {
            told.push('\n');
        }
        let indent = indent.min(most.saturating_sub(length));
        told.push_str(&" ".repeat(indent));
        told.push_str(word);
        used = indent + length;
    }
    told
}

/// A value behind its name, which takes `indent` columns. What is too long for the terminal goes on below.
pub(super) fn field(name: &str, indent: usize, value: &str) -> String {
    hang(name, indent, value, width())
}

/// A line that is longer than the terminal goes on below, further in than lines begin that follow it.
pub(super) fn item(line: &str) -> String {
    flow(String::new(), 4, line, width())
}

/// Sentences, line by line. What is too long for the terminal goes on below, as far in as its line begins.
pub(super) fn prose(text: &str) -> String {
    prose_within(text, width())
}

pub(super) fn prose_within(text: &str, most: usize) -> String {
    let line = |line: &str| {
        let sentence = line.trim_start_matches(' ');
        hang("", line.len() - sentence.len(), sentence, most)
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// Faults of a configuration as they are drawn: what is said of them goes on below, and lines of the file stay as they
/// are.
pub(super) fn drawn(text: &str) -> String {
    let line = |line: &str| {
        let plain = without_colours(line);
        let said = plain.trim_start_matches(' ');
        let is_of_file =
            said.starts_with(|first: char| first.is_ascii_digit()) || DRAWING.iter().any(|it| said.starts_with(it));
        if is_of_file || letters(&plain) <= width() {
            return line.to_owned();
        }
        let indent = letters(&plain) - letters(said) + 4;
        flow(String::new(), indent, line, width())
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// How lines begin that show a place in a file.
const DRAWING: [&str; 4] = ["|", "-->", "...", "^"];

fn without_colours(line: &str) -> String {
    let mut is_colour = false;
    let is_text = |letter: &char| {
        let was_colour = is_colour;
        is_colour = *letter == '\u{1b}' || is_colour && *letter != 'm';
        !is_colour && !was_colour
    };
    line.chars().filter(is_text).collect()
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
