//! `gateway anomalies`: what is not usual, and what was not.

use clap::Args;

use super::{
    context::Context,
    exit::Exit,
    table::{Table, prose},
};
use crate::{
    guard::control::{ControlAnswer, ControlRequest},
    message::observer::anomalies,
    text::counted::counted,
};

#[derive(Debug, Args)]
#[command(after_help = "\
What is usual is learned hour by hour: after six hours of a series, better
after three days, and by the hour of the week after two weeks.

Examples:
  gateway anomalies
  gateway anomalies --json")]
pub(super) struct AnomaliesCommand {}

impl AnomaliesCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        context.ask(&ControlRequest::Anomalies, |answer| match answer {
            ControlAnswer::Anomalies(report) => Some(render(report)),
            _ => None,
        })
    }
}

pub(super) fn render(report: &anomalies::Anomalies) -> String {
    if !report.is_on {
        return "nothing is learned: add `[anomalies]`".to_owned();
    }
    let known = prose(&format!(
        "{} watched; {} of them being learned",
        counted(report.series, "series is", "series are"),
        report.learning
    ));
    if report.list.is_empty() {
        return format!("nothing is unusual\n{known}");
    }
    let mut table = Table::new(["SINCE", "UNTIL", "WHAT"]);
    for one in &report.list {
        let moment = |text: &str| text.replace(".000Z", "Z");
        let until = one.ended.as_deref().map_or_else(|| "now".to_owned(), moment);
        table.row([moment(&one.began), until, one.sentence.clone()]);
        if one.sources > 0 {
            let sources = counted(one.sources, "source", "sources");
            let principals = match one.principals {
                0 => String::new(),
                many => format!(", {}", counted(many, "principal", "principals")),
            };
            table.row([String::new(), String::new(), format!("  from {sources}{principals}")]);
        }
        for contributor in &one.contributors {
            let done = contributor.done.as_ref().map(|done| format!(": {done}")).unwrap_or_default();
            let count = if contributor.count > 0 { format!(" {}", contributor.count) } else { String::new() };
            let line = format!("  {}{count}{done}", contributor.who);
            table.row([String::new(), String::new(), line]);
        }
    }
    format!("{}\n\n{known}", table.render())
}
