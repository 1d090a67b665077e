//! Draws `top` on the screen.

use std::convert::Infallible;

use ratatui::{
    Frame, Terminal,
    backend::TestBackend,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState},
};

use super::{
    screen::Screen,
    view::{Dropped, PacketRate, View},
};
use crate::cli::table::bytes;

const WARNINGS: usize = 4;

/// How wide verdicts are at least: their names are cut, their rates are not.
const LEAST_VERDICTS: u16 = 22;
const HELP: [&str; 11] = [
    "q, Esc     quit",
    "s          sort blocks by packets/s, packets, time left, age",
    "p, space   pause, go on",
    "/, f       filter blocks: address, reason, who did it, mode",
    "d          unblock the selected source, after asking",
    "up, down   select (also j, k, PgUp, PgDn, Home, End)",
    "?          this",
    "",
    "Packets of blocked sources are counted exactly; sources with a ~ are",
    "known by samples: at most 100 packets a second on each CPU.",
    "                                                  any key closes this",
];

/// One frame.
pub(super) fn frame(frame: &mut Frame<'_>, view: &View, screen: &Screen) {
    let warnings = warnings(view);
    let rows = u16::try_from(view.verdicts.iter().filter(|rate| rate.packets > 0).count()).unwrap_or(16).clamp(5, 16);
    // Where there is little room the blocks need some of it.
    let rows = rows.min((frame.area().height / 3).max(4));
    let high = |count: usize| Constraint::Length(u16::try_from(count).unwrap_or(u16::MAX));
    let parts =
        [high(view.head.len()), high(warnings.len()), Constraint::Length(rows + 2), Constraint::Min(3), high(1)];
    let [head, warned, middle, blocks, foot] = Layout::vertical(parts).areas(frame.area());
    let width = usize::from(frame.area().width);
    let lines = |texts: &[String]| texts.iter().map(|text| Line::from(cut(text.clone(), width))).collect::<Vec<_>>();
    frame.render_widget(Paragraph::new(lines(&view.head)), head);
    let warn = Style::new().fg(Color::Yellow);
    frame.render_widget(Paragraph::new(lines(&warnings)).style(warn), warned);
    let verdict_columns = if is_narrow(middle) { 44 } else { 62 };
    // Addresses have the room that they need, as far as the verdicts can be shorter.
    let for_verdicts = middle.width.saturating_sub(sources_width(&view.sources));
    let verdict_columns = verdict_columns.min(for_verdicts.max(LEAST_VERDICTS));
    let [left, right] = Layout::horizontal([Constraint::Length(verdict_columns), Constraint::Min(20)]).areas(middle);
    verdicts(frame, left, &view.verdicts);
    sources(frame, right, &view.sources);
    self::blocks(frame, blocks, view, screen);
    frame.render_widget(Paragraph::new(footer(screen)).style(Style::new().add_modifier(Modifier::REVERSED)), foot);
    if screen.shows_help {
        help(frame);
    }
}

/// One frame as lines of text, as high as what is in it up to `highest`.
pub(super) fn text(view: &View, width: u16, highest: u16) -> Result<String, Infallible> {
    let happened = view.verdicts.iter().filter(|rate| rate.packets > 0).count().clamp(5, 16);
    let lines = view.head.len() + warnings(view).len() + happened + 2 + view.blocks.len().max(1) + 3 + 1;
    let height = u16::try_from(lines).unwrap_or(highest).max(3 * 16).min(highest);
    let mut terminal = Terminal::new(TestBackend::new(width, height))?;
    let screen = Screen::default();
    terminal.draw(|frame| self::frame(frame, view, &screen))?;
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(width.max(1)));
    let rows = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned());
    let mut rows: Vec<String> = rows.collect();
    // The line with the keys, and what is empty above it.
    rows.pop();
    rows.retain(|row| !row.trim_matches(['│', ' ']).is_empty());
    Ok(rows.join("\n"))
}

fn warnings(view: &View) -> Vec<String> {
    let mut lines: Vec<String> = view.warnings.iter().take(WARNINGS).map(|text| format!("! {text}")).collect();
    if view.warnings.len() > WARNINGS {
        lines.push(format!("! and {} more: `gateway status`", view.warnings.len() - WARNINGS));
    }
    lines
}

/// Whether there is no room for every column.
const fn is_narrow(area: Rect) -> bool {
    area.width < 110
}

/// What a column holds, and so what becomes of a text that is too long.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ColumnKind {
    /// Leans right. Its column is as wide as it takes.
    Number,
    /// An address: without its end it would be another one. Its column is as wide as it takes. For that, other columns
    /// are left out. If even then there is no room, it is not shown.
    Whole,
    /// Its column is as wide as it is said to be, or less, and what is cut ends with `…`.
    Text,
}

/// A column: its heading, how wide it is at least (0: what is left), what it holds.
type Column = (&'static str, u16, ColumnKind);

/// A table of these columns in so much room.
fn table(columns: &[Column], rows: Vec<StyledRow>, area: Rect) -> Table<'static> {
    let (columns, rows, widths) = fitting(columns.to_vec(), rows, area.width.saturating_sub(2));
    let cell = |(text, ((_, _, kind), width)): (String, (&Column, &u16))| {
        let width = usize::from(*width);
        let text = if *kind == ColumnKind::Whole { whole_or_none(text, width) } else { cut(text, width) };
        let line = Line::from(text);
        Cell::from(if *kind == ColumnKind::Number { line.right_aligned() } else { line })
    };
    let row =
        |(texts, style): StyledRow| Row::new(texts.into_iter().zip(columns.iter().zip(&widths)).map(cell)).style(style);
    let names = columns.iter().map(|(name, ..)| (*name).to_owned()).collect();
    Table::new(rows.into_iter().map(row).collect::<Vec<_>>(), widths.iter().copied().map(Constraint::Length))
        .header(row((names, Style::new().add_modifier(Modifier::BOLD))))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
}

/// The cells of a row, and how it looks.
type StyledRow = (Vec<String>, Style);

/// The columns that there is room for, with their cells and how wide they are. The last columns are left out first.
fn fitting(mut columns: Vec<Column>, mut rows: Vec<StyledRow>, room: u16) -> (Vec<Column>, Vec<StyledRow>, Vec<u16>) {
    loop {
        let widths = widths(&columns, &rows, room);
        let mut placed = columns.iter().zip(&widths).enumerate();
        let is_short = placed.any(|(at, (column, width))| column.2 == ColumnKind::Whole && *width < longest(&rows, at));
        let other = columns.iter().rposition(|column| column.2 != ColumnKind::Whole);
        let Some(other) = other.filter(|_| is_short) else { return (columns, rows, widths) };
        columns.remove(other);
        for (texts, _) in rows.iter_mut().filter(|(texts, _)| other < texts.len()) {
            texts.remove(other);
        }
    }
}

/// How wide each column is. Where there is too little room, texts lose some first, the widest first.
fn widths(columns: &[Column], rows: &[StyledRow], room: u16) -> Vec<u16> {
    let gaps = u16::try_from(columns.len().saturating_sub(1)).unwrap_or(u16::MAX);
    let room = room.saturating_sub(gaps);
    let wanted = columns.iter().enumerate().map(|(index, (_, least, kind))| match kind {
        ColumnKind::Text => *least,
        ColumnKind::Number | ColumnKind::Whole => longest(rows, index).max(*least),
    });
    let mut widths: Vec<u16> = wanted.collect();
    let sum = |widths: &[u16]| widths.iter().fold(0, |sum: u16, width| sum.saturating_add(*width));
    for kind in [ColumnKind::Text, ColumnKind::Whole] {
        while sum(&widths) > room {
            let some = widths.iter_mut().zip(columns).filter(|(width, column)| column.2 == kind && **width > 1);
            let Some((width, _)) = some.max_by_key(|(width, _)| **width) else { break };
            *width -= 1;
        }
    }
    let left = room.saturating_sub(sum(&widths));
    if let Some((width, _)) = widths.iter_mut().zip(columns).find(|(_, column)| column.1 == 0) {
        *width = width.saturating_add(left);
    }
    widths
}

/// How wide the longest cell of a column is.
fn longest(rows: &[StyledRow], column: usize) -> u16 {
    rows.iter().filter_map(|(texts, _)| texts.get(column)).map(|text| letters(text)).max().unwrap_or(0)
}

fn letters(text: &str) -> u16 {
    u16::try_from(text.chars().count()).unwrap_or(u16::MAX)
}

/// The text where there is room for all of it.
fn whole_or_none(text: String, width: usize) -> String {
    if text.chars().count() <= width { text } else { "…".to_owned() }
}

/// The text, or as much of it as there is room for and the sign that it goes on. No address or number in it is cut.
fn cut(text: String, width: usize) -> String {
    if text.chars().count() <= width {
        return text;
    }
    let is_part = |letter: char| letter.is_ascii_hexdigit() || matches!(letter, ':' | '.' | '/');
    let mut kept: String = text.chars().take(width.saturating_sub(1)).collect();
    let begin = kept.char_indices().rfind(|(_, letter)| !is_part(*letter));
    let begin = begin.map_or(0, |(at, letter)| at + letter.len_utf8());
    let goes_on = text.get(kept.len()..).is_some_and(|rest| rest.starts_with(is_part));
    let value = text.get(begin..).unwrap_or_default().split(|letter: char| !is_part(letter)).next().unwrap_or_default();
    if goes_on && value.contains(|letter: char| letter.is_ascii_digit() || letter == ':') {
        kept.truncate(begin);
    }
    kept.push('…');
    kept
}

fn verdicts(frame: &mut Frame<'_>, area: Rect, rates: &[PacketRate]) {
    let columns = [
        ("VERDICT", 19, ColumnKind::Text),
        ("PACKETS/S", 9, ColumnKind::Number),
        ("BYTES/S", 10, ColumnKind::Number),
        ("PACKETS", 9, ColumnKind::Number),
        ("BYTES", 9, ColumnKind::Number),
    ];
    let shown = match area.width {
        62.. => 5,
        42.. => 3,
        _ => 2,
    };
    let rows = rates.iter().map(|rate| {
        let texts = vec![
            rate.verdict.clone(),
            rate.packets_per_second.to_string(),
            format!("{}/s", bytes(rate.bytes_per_second)),
            rate.packets.to_string(),
            bytes(rate.bytes),
        ];
        let quiet = Style::new().add_modifier(Modifier::DIM);
        (texts, if rate.packets_per_second > 0 { Style::new() } else { quiet })
    });
    let table = table(columns.get(..shown).unwrap_or(&columns), rows.collect(), area);
    frame.render_widget(table.block(Block::bordered()), area);
}

/// How wide the table of sources is with their addresses and rates.
fn sources_width(dropped: &[Dropped]) -> u16 {
    let longest = |of: fn(&Dropped) -> u16, least: u16| dropped.iter().map(of).max().unwrap_or(0).max(least);
    let (addresses, rates) = (longest(|it| letters(&it.source), 10), longest(|it| letters(&rate_of(it)), 9));
    // With its frame, and a gap between the columns.
    addresses.saturating_add(rates).saturating_add(3)
}

fn rate_of(dropped: &Dropped) -> String {
    let about = if dropped.estimated { "~" } else { "" };
    format!("{about}{}", dropped.packets_per_second)
}

fn sources(frame: &mut Frame<'_>, area: Rect, dropped: &[Dropped]) {
    let cells = |dropped: &Dropped| vec![dropped.source.clone(), rate_of(dropped), dropped.verdict.clone()];
    let rows = dropped.iter().map(|dropped| (cells(dropped), Style::new())).collect();
    let columns =
        [("DROPPED OF", 0, ColumnKind::Whole), ("PACKETS/S", 9, ColumnKind::Number), ("AS", 12, ColumnKind::Text)];
    // Of a verdict that is cut to a few letters nobody knows which it is.
    let shown = if area.width < sources_width(dropped).saturating_add(8) { 2 } else { 3 };
    let table = table(columns.get(..shown).unwrap_or(&columns), rows, area);
    frame.render_widget(table.block(Block::bordered()), area);
}

fn blocks(frame: &mut Frame<'_>, area: Rect, view: &View, screen: &Screen) {
    let narrow = is_narrow(area);
    let rows = view.blocks.iter().map(|block| {
        let mut texts = vec![block.id.to_string(), block.source.to_string(), block.left.clone()];
        texts.push(block.packets_per_second.to_string());
        texts.push(block.packets.to_string());
        if !narrow {
            texts.extend([block.bytes.clone(), block.mode.clone(), block.actor.clone()]);
        }
        texts.push(block.reason.clone());
        (texts, Style::new())
    });
    let first = [
        ("ID", if narrow { 4 } else { 6 }, ColumnKind::Number),
        ("SOURCE", if narrow { 18 } else { 24 }, ColumnKind::Whole),
        ("LEFT", 8, ColumnKind::Text),
        ("PACKETS/S", 9, ColumnKind::Number),
        ("PACKETS", 9, ColumnKind::Number),
    ];
    let more: &[Column] = if narrow {
        &[]
    } else {
        &[("BYTES", 10, ColumnKind::Number), ("MODE", 7, ColumnKind::Text), ("BY", 15, ColumnKind::Text)]
    };
    let columns = [&first[..], more, &[("REASON", 0, ColumnKind::Text)]].concat();
    let table = table(&columns, rows.collect(), area).block(Block::bordered().title(view.title.clone()));
    let last = view.blocks.len().saturating_sub(1);
    let mut state = TableState::default().with_selected(Some(screen.selected.min(last)));
    frame.render_stateful_widget(table, area, &mut state);
}

fn footer(screen: &Screen) -> String {
    if let Some(source) = screen.asks {
        return format!(" unblock {source}? y: yes, any other key: no");
    }
    if screen.is_typing {
        return format!(" filter: {}_   Enter: keep, Esc: forget", screen.filter);
    }
    if let Some(says) = &screen.says {
        return format!(" {}", crate::cli::table::clean(says));
    }
    let paused = if screen.is_paused { "PAUSED  " } else { "" };
    let filter = if screen.filter.is_empty() { String::new() } else { format!("filter \"{}\"  ", screen.filter) };
    format!(" {paused}{filter}q quit  s sort  p pause  / filter  d unblock  ? help")
}

fn help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let (width, height) = (74.min(area.width), 13.min(area.height));
    let [_, across, _] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(width), Constraint::Fill(1)]).areas(area);
    let [_, at, _] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(height), Constraint::Fill(1)]).areas(across);
    frame.render_widget(Clear, at);
    let lines: Vec<Line<'_>> = HELP.into_iter().map(Line::raw).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("keys")), at);
}
