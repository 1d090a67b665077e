//! What an operator is told of limits: of those on requests, on upstreams, and of what each class got.

use crate::{
    policy::limit::{
        Limits,
        report::{self, LimitQuestion, LimitRow, LimitSum},
    },
    proxy::generation::Compiled,
};

/// Answers an operator, with as many rows as there is room for, and how many there are besides. `now` is `CLOCK_MONOTONIC`
/// in nanoseconds.
pub(super) fn answer(compiled: &Compiled, question: &LimitQuestion, now: u64) -> (Vec<LimitRow>, u64) {
    report::first(all(compiled, question, now))
}

fn all(compiled: &Compiled, question: &LimitQuestion, now: u64) -> Vec<LimitRow> {
    let mut rows = report::answer(compiled.snapshot.limits.as_ref(), question, now);
    rows.extend(compiled.snapshot.connection_limits.answer(question, now));
    rows.extend(compiled.snapshot.bandwidth.answer(question, now));
    if *question != LimitQuestion::List {
        return rows;
    }
    let row = |limit: String| LimitRow { limit, mode: "enforce".to_owned(), ..LimitRow::default() };
    rows.extend(compiled.upstreams.iter().filter_map(|upstream| {
        let report = upstream.state.concurrency()?;
        Some(LimitRow {
            admitted: Some(report.admitted),
            refused: Some(report.refused),
            in_flight: Some(report.in_flight.into()),
            capacity: Some(report.limit.into()),
            ..row(format!("upstream.{}.concurrency", upstream.name()))
        })
    }));
    rows.extend(compiled.snapshot.classes.iter().flat_map(|classes| classes.sums()).map(|class| LimitRow {
        admitted: Some(class.served),
        refused: Some(class.shed.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))),
        ..row(format!("priority.{}", class.name))
    }));
    rows
}

/// What limits on requests and connections have counted so far.
pub(super) fn sums(compiled: &Compiled) -> Vec<LimitSum> {
    let mut sums = compiled.snapshot.limits.as_ref().map(Limits::sums).unwrap_or_default();
    sums.extend(compiled.snapshot.connection_limits.sums());
    sums
}
