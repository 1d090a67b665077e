//! `gateway top`: what is dropped and who is blocked, as it changes.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use crossterm::event::{self, Event};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use self::{
    input::Act,
    samples::TopSamples,
    screen::Screen,
    view::{TopSnapshot, View},
};
use super::{
    context::{Context, exit_of_no_answer, exit_of_refusal, exit_of_unreachable},
    exit::Exit,
    table::clean,
};
use crate::guard::control::{ControlAnswer, ControlRequest, client};

mod draw;
mod input;
pub(super) mod l7;
mod samples;
mod screen;
mod view;

#[derive(Debug, Args)]
#[command(after_help = "\
Shows packets and bytes per second by verdict, who they come from, the blocks in
force by what they dropped, budgets, lists, processes and warnings. `?` in it
names the keys; `d` unblocks the selected source after asking.

Works without a running gateway too, as root: what the store and the pinned maps
say. It ends with 3 then, as `status` does. Of blocks it shows the 200 that
dropped most, of the youngest 4096. Sources over a budget are known by samples.

With --l7 it answers who is attacking, before anybody is banned: the sources and
principals whose requests fail most, then those that ask most. detect.profiles
says of how many that is kept.

Examples:
  gateway top
  gateway top --l7 --once
  gateway top --once
  gateway top --json | jq '.rates[] | select(.packets_per_second > 0)'")]
pub(super) struct TopCommand {
    /// Print one frame as text and end; needs no terminal. --json implies it
    #[arg(long)]
    once: bool,
    /// The time between two updates
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
    interval: u32,
    /// Show which sources and principals fail and ask most, and why, instead of packets
    #[arg(long)]
    l7: bool,
    /// With --l7: show at most so many
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=50))]
    lines: u16,
}

/// How wide a frame is that nobody's terminal gives a width, and how high a frame may get.
const WIDTH: u16 = 80;
const HIGHEST: u16 = 100;

/// What happens to a screen.
enum Happens {
    Looked(Box<Result<TopSnapshot, Failure>>),
    Did(String),
    Terminal(Event),
    End,
}

impl TopCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        if self.l7 {
            let again = (!self.once).then(|| Duration::from_secs(self.interval.into()));
            return l7::execute(self.lines, again, context);
        }
        if self.once || context.out.json {
            return self.once(context);
        }
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return context.out.fail("this is no terminal: `gateway top --once` prints one frame", Exit::Usage);
        }
        let source = match Source::new(context) {
            Ok(source) => source,
            Err(exit) => return exit,
        };
        // What cannot work at all is said before the screen is taken.
        let first = match source.look() {
            Ok(first) => first,
            Err(failure) => return context.out.fail(&failure.reason, failure.exit),
        };
        let mut terminal = match ratatui::try_init() {
            Ok(terminal) => terminal,
            Err(error) => return context.out.fail(&format!("the terminal cannot be used: {error}"), Exit::Refused),
        };
        let shown = self.show(&source, &mut terminal, first);
        ratatui::restore();
        match shown {
            Ok(is_down) if is_down => Exit::Unreachable,
            Ok(_) => Exit::Done,
            Err(error) => context.out.fail(&format!("the terminal cannot be used: {error}"), Exit::Refused),
        }
    }

    /// One frame over one interval.
    fn once(&self, context: &Context) -> Exit {
        let found = Source::new(context).map(|source| {
            source.samples.gather(source.socket.clone());
            let before = source.look()?;
            thread::sleep(Duration::from_secs(self.interval.into()));
            Ok::<_, Failure>((before, source.look()?))
        });
        let (before, now) = match found {
            Ok(Ok(found)) => found,
            Ok(Err(failure)) => return context.out.fail(&failure.reason, failure.exit),
            Err(exit) => return exit,
        };
        let exit = if now.is_down { Exit::Unreachable } else { Exit::Done };
        let view = View::new(&now, Some(&before), &Screen::default());
        if context.out.json {
            let mut value = json!({
                "seconds": now.at.saturating_sub(before.at).as_secs_f64(),
                "rates": view.verdicts,
                "sources": view.sources,
                "entries": now.top.entries,
                "status": now.top.status,
            });
            if let Some(members) = value.as_object_mut().filter(|_| now.is_down) {
                members.insert("daemon".to_owned(), "down".into());
            }
            return context.out.value(&value, exit);
        }
        let terminal = crossterm::terminal::size().ok().filter(|_| io::stdout().is_terminal());
        let width = terminal.map_or(WIDTH, |(width, _)| width.max(80));
        match draw::text(&view, width, HIGHEST) {
            Ok(text) => context.out.text(&text, exit),
            Err(error) => context.out.fail(&error.to_string(), Exit::Refused),
        }
    }

    /// Shows frames until the user, a signal or a fault ends it; whether no gateway runs.
    fn show(&self, source: &Source, terminal: &mut ratatui::DefaultTerminal, first: TopSnapshot) -> io::Result<bool> {
        source.samples.gather(source.socket.clone());
        let (tell, happens) = mpsc::channel();
        read_terminal(tell.clone());
        end_by_signal(tell.clone());
        let (mut screen, mut now, mut before) = (Screen::default(), first, None);
        let mut looks = false;
        let mut due = Instant::now() + Duration::from_secs(self.interval.into());
        loop {
            let view = View::new(&now, before.as_ref(), &screen);
            terminal.draw(|frame| draw::frame(frame, &view, &screen))?;
            if Instant::now() >= due && !looks {
                due = Instant::now() + Duration::from_secs(self.interval.into());
                if !screen.is_paused {
                    looks = true;
                    source.beside(&tell, |source| Happens::Looked(Box::new(source.look())));
                }
            }
            let wait = due.saturating_duration_since(Instant::now()).max(Duration::from_millis(20));
            match happens.recv_timeout(wait) {
                Ok(Happens::Looked(found)) => {
                    looks = false;
                    match *found {
                        Ok(found) => before = Some(std::mem::replace(&mut now, found)),
                        Err(failure) => screen.says = Some(failure.reason),
                    }
                }
                Ok(Happens::Did(said)) => {
                    screen.says = Some(said);
                    due = Instant::now();
                }
                Ok(Happens::Terminal(Event::Key(key))) => match screen.press(key, &view) {
                    Act::Nothing => {}
                    Act::Quit => return Ok(now.is_down),
                    Act::Unblock(whom) => source.beside(&tell, move |source| Happens::Did(source.unblock(whom))),
                },
                // Resized: drawn anew.
                Ok(Happens::Terminal(_)) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Happens::End) | Err(RecvTimeoutError::Disconnected) => return Ok(now.is_down),
            }
        }
    }
}

/// Why nothing can be shown, and how the command ends because of that.
struct Failure {
    reason: String,
    exit: Exit,
}

/// Whom to ask, and what is gathered meanwhile.
#[derive(Clone)]
struct Source {
    context: Context,
    socket: PathBuf,
    samples: TopSamples,
    begun: Instant,
}

impl Source {
    fn new(context: &Context) -> Result<Self, Exit> {
        let socket = context.socket()?;
        Ok(Self { context: context.clone(), socket, samples: TopSamples::default(), begun: Instant::now() })
    }

    /// Asks the running gateway, or else the store and the pinned maps; whether it was these.
    fn ask(&self, request: &ControlRequest) -> Result<(ControlAnswer, bool), Failure> {
        let error = match client::ask(&self.socket, request) {
            Ok(answer) => return Ok((answer, false)),
            Err(error) => error,
        };
        match self.context.ask_offline(request, &error) {
            Some(Ok(answer)) => Ok((answer, true)),
            Some(Err(no_answer)) => {
                let reason = format!("{}\n{}", self.context.told(&error), no_answer.message);
                Err(Failure { reason, exit: exit_of_no_answer(request, &no_answer) })
            }
            None => Err(Failure { reason: self.context.told(&error), exit: exit_of_unreachable(&error) }),
        }
    }

    /// How things are.
    fn look(&self) -> Result<TopSnapshot, Failure> {
        match self.ask(&ControlRequest::Top)? {
            (ControlAnswer::Top(top), is_down) => {
                Ok(TopSnapshot { top: *top, samples: self.samples.take(), at: self.begun.elapsed(), is_down })
            }
            (ControlAnswer::Refused { code, message }, _) => {
                Err(Failure { reason: clean(&message), exit: exit_of_refusal(&code) })
            }
            _ => Err(Failure { reason: "the gateway answered something else".to_owned(), exit: Exit::Unreachable }),
        }
    }

    fn unblock(&self, source: gateway_common::source::Source) -> String {
        match self.ask(&ControlRequest::BlockDel { source }) {
            Ok((ControlAnswer::Done { message, .. } | ControlAnswer::Refused { message, .. }, _)) => message,
            Ok(_) => "the gateway answered something else".to_owned(),
            Err(failure) => failure.reason,
        }
    }

    /// Does it on a thread of its own: a gateway that is slow to answer does not freeze the screen.
    fn beside(&self, tell: &Sender<Happens>, act: impl FnOnce(&Self) -> Happens + Send + 'static) {
        let (source, tell) = (self.clone(), tell.clone());
        thread::spawn(move || {
            // Nobody may be left to be told.
            drop(tell.send(act(&source)));
        });
    }
}

fn read_terminal(tell: Sender<Happens>) {
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if tell.send(Happens::Terminal(event)).is_err() {
                return;
            }
        }
        drop(tell.send(Happens::End));
    });
}

/// A signal ends it as `q` does: the terminal is as it was afterwards.
fn end_by_signal(tell: Sender<Happens>) {
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
            let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = signals else { return };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            drop(tell.send(Happens::End));
        });
    });
}

#[cfg(test)]
mod tests;
