//! Reads a list as CSV (RFC 4180, one record a line), CrowdSec's export and others: the heading names the columns.
//!
//! Columns that matter: `value`, `ip`, `range`, `dst_ip`, `ip_address`, `network` and the like; `scope`; `duration` or
//! `expiration`; `reason`, `scenario`; `type` or `action`; `simulated`, `mode`; `abuseConfidenceScore`. Others are passed
//! over.

use super::{
    line::{Each, Listed, SIMULATED, Unreadable, go_duration, low_score, reason, shortened, text},
    range::sources,
};

#[derive(Default)]
struct Columns {
    value: Option<usize>,
    scope: Option<usize>,
    duration: Option<usize>,
    reason: Option<usize>,
    action: Option<usize>,
    simulated: Option<usize>,
    score: Option<usize>,
    separator: char,
}

/// Whether a first line names columns.
pub(super) fn is_heading(line: &[u8]) -> bool {
    text(line).is_ok_and(|line| line.contains([',', ';', '\t']) && Columns::of(line).value.is_some())
}

impl Columns {
    fn of(heading: &str) -> Self {
        let separator = [',', ';', '\t'].into_iter().find(|letter| heading.contains(*letter)).unwrap_or(',');
        let mut columns = Self { separator, ..Self::default() };
        for (index, name) in fields(heading, separator).iter().enumerate() {
            let column = match name.trim().to_ascii_lowercase().as_str() {
                "value" | "ip" | "range" | "dst_ip" | "src_ip" | "ip_address" | "ipaddress" | "address" | "network"
                | "cidr" | "prefix" | "ip_range" => &mut columns.value,
                "scope" => &mut columns.scope,
                "duration" | "expiration" => &mut columns.duration,
                "reason" | "scenario" => &mut columns.reason,
                "type" | "action" => &mut columns.action,
                "simulated" | "mode" => &mut columns.simulated,
                "abuseconfidencescore" => &mut columns.score,
                _ => continue,
            };
            column.get_or_insert(index);
        }
        columns
    }
}

pub(super) fn read(bytes: &[u8], each: &mut Each<'_>) -> Result<(), Unreadable> {
    let mut columns: Option<Columns> = None;
    for (number, line) in (1_u32..).zip(bytes.split(|byte| *byte == b'\n')) {
        let line = match text(line) {
            Ok(line) if line.is_empty() || line.starts_with('#') => continue,
            Ok(line) => line,
            Err(message) => {
                each(number, Err(message));
                continue;
            }
        };
        let Some(columns) = &columns else {
            let heading = Columns::of(line);
            if heading.value.is_none() {
                let wanted = "the first line must name the columns, one of them \"value\"";
                return Err(Unreadable(format!("is no CSV of decisions: {wanted}")));
            }
            columns = Some(heading);
            continue;
        };
        if let Err(message) = record(columns, line, &mut |listed| each(number, Ok(listed))) {
            each(number, Err(message));
        }
    }
    Ok(())
}

fn record(columns: &Columns, line: &str, each: &mut dyn FnMut(Listed)) -> Result<(), String> {
    let fields = fields(line, columns.separator);
    let field = |column: Option<usize>| fields.get(column?).map(|field| field.trim()).filter(|field| !field.is_empty());
    let value = field(columns.value).ok_or("there is no value")?;
    if field(columns.simulated).is_some_and(|simulated| matches!(simulated, "true" | "shadow" | "1")) {
        return Err(SIMULATED.to_owned());
    }
    let score = field(columns.score).and_then(|score| score.parse().ok());
    if let Some(low) = score.and_then(low_score) {
        return Err(low);
    }
    let scope = field(columns.scope).unwrap_or("ip");
    // `cscli` writes "Ip:203.0.113.7" into the value of some versions.
    let (scope, value) = value.split_once(':').filter(|(scope, _)| is_scope(scope)).unwrap_or((scope, value));
    decision(scope, value, field(columns.duration), field(columns.reason), field(columns.action), each)
}

fn is_scope(text: &str) -> bool {
    text.eq_ignore_ascii_case("ip") || text.eq_ignore_ascii_case("range")
}

/// What a decision means, in CSV and in JSON alike.
pub(super) fn decision(
    scope: &str,
    value: &str,
    duration: Option<&str>,
    why: Option<&str>,
    action: Option<&str>,
    each: &mut dyn FnMut(Listed),
) -> Result<(), String> {
    if !is_scope(scope) {
        return Err(format!("a decision about {:?}, not about an address", shortened(scope)));
    }
    if let Some(action) = action.filter(|action| !action.eq_ignore_ascii_case("ban")) {
        return Err(format!("the decision {:?} is no ban", shortened(action)));
    }
    let seconds = duration.map(go_duration).transpose()?;
    if seconds == Some(0) {
        return Err("the decision is over".to_owned());
    }
    let reason = why.and_then(reason);
    sources(value, |source| each(Listed { source, seconds, reason: reason.clone() }))
}

/// The fields of a record; a quote within quotes is written twice.
fn fields(line: &str, separator: char) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            letter if letter == separator && !quoted => fields.push(std::mem::take(&mut field)),
            letter => field.push(letter),
        }
    }
    fields.push(field);
    fields
}
