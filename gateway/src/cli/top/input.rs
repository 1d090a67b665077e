//! What a key does in `gateway top`.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use gateway_common::source::Source;

use super::{screen::Screen, view::View};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    Quit,
    Unblock(Source),
}

/// The longest filter, in characters.
const LONGEST: usize = 64;

impl Screen {
    pub(super) fn press(&mut self, key: KeyEvent, view: &View) -> Act {
        if key.kind == KeyEventKind::Release {
            return Act::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Act::Quit;
        }
        self.says = None;
        if let Some(source) = self.asks.take() {
            return if matches!(key.code, KeyCode::Char('y' | 'Y')) { Act::Unblock(source) } else { Act::Nothing };
        }
        if std::mem::take(&mut self.shows_help) {
            return Act::Nothing;
        }
        if self.is_typing {
            self.type_filter(key.code);
            return Act::Nothing;
        }
        let last = view.blocks.len().saturating_sub(1);
        match key.code {
            KeyCode::Char('q') => return Act::Quit,
            KeyCode::Esc if self.filter.is_empty() => return Act::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('?' | 'h') => self.shows_help = true,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('/' | 'f') => self.is_typing = true,
            KeyCode::Char('d') | KeyCode::Delete => {
                self.asks = view.blocks.get(self.selected.min(last)).map(|block| block.source);
            }
            KeyCode::Down | KeyCode::Char('j') => self.selected = self.selected.saturating_add(1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.min(last).saturating_sub(1),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = last,
            KeyCode::PageDown => self.selected = self.selected.saturating_add(10).min(last),
            KeyCode::PageUp => self.selected = self.selected.min(last).saturating_sub(10),
            _ => {}
        }
        Act::Nothing
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) if !letter.is_control() && self.filter.chars().count() < LONGEST => {
                self.filter.push(letter);
                self.selected = 0;
            }
            _ => {}
        }
    }
}
