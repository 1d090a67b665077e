//! The built-in rules: a small set that needs no files. Every value is decoded until nothing is left to decode, and each
//! form on the way is held against all patterns at once, and against the grammars of SQL and HTML.
//!
//! *Invariant:* the work is linear in the size of the request: patterns run in an automaton, forms are limited in number
//! and in length.

use std::sync::OnceLock;

use regex::bytes::{RegexSet, RegexSetBuilder};

use super::{
    body, breakout,
    canonical::{self, LONGEST},
    finding::Findings,
    grammar::{self, Statement},
    parts::Parts,
    patterns::{self, BuiltinPattern, PatternScope},
    prose,
    request::{Collection, Values},
};

/// The most bytes of one request that are inspected, in all forms together.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// What reading values of one request as SQL may cost, in steps.
const MOST_STEPS: usize = 256 * 1024 * 1024;

/// What all compiled patterns may take together, in bytes.
const SIZE: usize = 32 * 1024 * 1024;

/// The score of a certain hit, and of one that legitimate text causes, too.
pub(super) const CRITICAL: u32 = 5;
pub(super) const WARNING: u32 = 3;

/// The rules that are not patterns.
pub(super) const GRAMMARS: [&str; 5] =
    ["sql_injection", "xss", "nested_encoding", "too_many_values", "unreadable_body"];

/// All rules, by name.
pub fn rule_names() -> impl Iterator<Item = &'static str> {
    let mut names: Vec<&'static str> = patterns::all().map(|pattern| pattern.rule).chain(GRAMMARS).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter()
}

fn set() -> &'static Result<RegexSet, String> {
    static SET: OnceLock<Result<RegexSet, String>> = OnceLock::new();
    SET.get_or_init(|| {
        let mut builder = RegexSetBuilder::new(patterns::all().map(|pattern| pattern.regex));
        let builder = builder.unicode(false).case_insensitive(true).dot_matches_new_line(true);
        builder.size_limit(SIZE).dfa_size_limit(SIZE).build().map_err(|error| error.to_string())
    })
}

/// Compiles the patterns, which is done once per process.
///
/// # Errors
/// A pattern is wrong.
pub(super) fn prepare() -> Result<(), String> {
    set().as_ref().map(drop).map_err(Clone::clone)?;
    breakout::prepare()
}

/// Inspects every value.
pub(super) fn inspect(values: &Values<'_>, level: u8, findings: &mut Findings<'_>) {
    let Ok(set) = set() else { return };
    let mut scan = Scan { set, level, left: MOST_BYTES, steps: MOST_STEPS, findings };
    scan.value(Collection::Path, b"", &values.path, PatternScope::PATH);
    values.path.split(|&byte| byte == b'/').for_each(|segment| scan.statement(Collection::Path, b"", segment));
    for (name, value) in &values.query {
        scan.pair(Collection::Query, name, value);
    }
    for (name, value) in &values.cookies {
        scan.pair(Collection::Cookie, name, value);
    }
    for (name, value) in values.request.headers {
        if is_stored(name) {
            scan.stored(name.as_bytes(), value);
        }
        match header_scope(name) {
            Some(scope) => scan.value(Collection::Header, name.as_bytes(), value, scope),
            None => scan.quick(Collection::Header, name.as_bytes(), value),
        }
    }
    scan.parts(&values.parts);
    scan.parts(&values.other);
    if values.format == Some(body::Format::Xml) && values.parts.error.is_none() {
        scan.document(values.request.body);
    } else if (values.format.is_none() || values.parts.error.is_some()) && !values.request.body.is_empty() {
        // What is not what it says it is may be read in another way by the upstream.
        scan.value(Collection::Body, b"", &values.parts.text_of(values.request.body), PatternScope::VALUE);
    }
}

/// What is looked for in a header; `None`: only what is nowhere good.
fn header_scope(name: &str) -> Option<PatternScope> {
    let known = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
    if known(&["cookie", "authorization", "proxy-authorization"]) {
        return None;
    }
    let starts = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if starts("accept") || starts("if-") || starts("sec-") || starts("content-") || known(&["host", "origin", "date"]) {
        return None;
    }
    Some(PatternScope::HEADER)
}

/// Whether servers commonly log or store this header.
fn is_stored(name: &str) -> bool {
    const STORED: [&str; 8] =
        ["client-ip", "forwarded", "from", "referer", "true-client-ip", "user-agent", "x-client-ip", "x-real-ip"];
    const PREFIX: &str = "x-forwarded-";
    STORED.iter().any(|known| name.eq_ignore_ascii_case(known))
        || name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

struct Scan<'a, 'b> {
    set: &'static RegexSet,
    level: u8,
    left: usize,
    steps: usize,
    findings: &'a mut Findings<'b>,
}

impl Scan<'_, '_> {
    fn pair(&mut self, place: Collection, name: &[u8], value: &[u8]) {
        self.value(place, name, name, PatternScope::NAME);
        self.value(place, name, value, PatternScope::VALUE);
    }

    /// What a body consists of.
    fn parts(&mut self, parts: &Parts) {
        for (name, value) in &parts.fields {
            self.pair(Collection::Body, name, value);
        }
        for name in &parts.unread {
            self.value(Collection::Body, name, name, PatternScope::NAME);
        }
        for (name, value) in &parts.files {
            self.value(Collection::File, name, name, PatternScope::NAME);
            self.value(Collection::File, name, value, PatternScope::FILE);
        }
        for (name, header) in &parts.part_headers {
            self.quick(Collection::Body, name, header);
        }
        for value in parts.attributes.iter().chain(&parts.asides) {
            self.value(Collection::Body, b"", value, PatternScope::VALUE);
        }
        parts.texts().for_each(|text| self.value(Collection::Body, b"", text, PatternScope::VALUE));
        // Some read the text of an element with that of all in it.
        if parts.text_ends.len() > 1 {
            self.value(Collection::Body, b"", &parts.text, PatternScope::VALUE);
        }
    }

    /// A document of XML whose parts are inspected besides.
    fn document(&mut self, document: &[u8]) {
        if document.len() > LONGEST {
            self.findings.add("too_many_values", "protocol", Collection::Body, b"", CRITICAL);
        }
        let document = document.get(..document.len().min(LONGEST)).unwrap_or_default();
        self.patterns(Collection::Body, b"", document, PatternScope::DOCUMENT);
    }

    /// One value in all its forms.
    fn value(&mut self, place: Collection, name: &[u8], value: &[u8], scope: PatternScope) {
        if value.len() > LONGEST {
            self.findings.add("too_many_values", "protocol", place, name, CRITICAL);
        }
        if is_plain(value) && !canonical::may_be_base64(value) {
            return;
        }
        let forms = canonical::forms(value);
        for form in &forms.all {
            let Some(left) = self.left.checked_sub(form.len()) else {
                self.findings.add("too_many_values", "protocol", Collection::Other, b"", CRITICAL);
                return;
            };
            self.left = left;
            self.form(place, name, form, scope);
        }
        if forms.is_too_deep && self.level > 1 {
            self.findings.add("nested_encoding", "protocol", place, name, WARNING);
        }
    }

    /// A value that has a grammar of its own, such as `Accept`: patterns that are good nowhere.
    fn quick(&mut self, place: Collection, name: &[u8], value: &[u8]) {
        let value = value.get(..value.len().min(LONGEST)).unwrap_or_default();
        self.patterns(place, name, value, PatternScope::ANYWHERE);
    }

    /// A header that is stored; of an address, every part of its path and of its query.
    fn stored(&mut self, name: &[u8], value: &[u8]) {
        if !name.eq_ignore_ascii_case(b"referer") {
            return self.statement(Collection::Header, name, value);
        }
        let end = memchr::memchr(b'?', value).unwrap_or(value.len());
        let (path, query) = (value.get(..end).unwrap_or_default(), value.get(end + 1..).unwrap_or_default());
        path.split(|&byte| byte == b'/').for_each(|segment| self.statement(Collection::Header, name, segment));
        let (fields, is_cut) = body::form(query);
        for (field, value) in &fields {
            self.statement(Collection::Header, name, field);
            self.statement(Collection::Header, name, value);
        }
        if is_cut {
            self.findings.add("too_many_values", "protocol", Collection::Header, name, CRITICAL);
        }
    }

    /// A value that is read as SQL alone. It is no free text, and a weak sign does not count.
    fn statement(&mut self, place: Collection, name: &[u8], value: &[u8]) {
        if !has_sql_characters(value) {
            return;
        }
        for form in &canonical::forms(value).all {
            let Some(left) = self.left.checked_sub(form.len()) else {
                self.findings.add("too_many_values", "protocol", Collection::Other, b"", CRITICAL);
                return;
            };
            self.left = left;
            self.sql(place, name, form, CRITICAL);
        }
    }

    /// Reads a form as SQL; a sign that counts less than `least` does not count.
    fn sql(&mut self, place: Collection, name: &[u8], form: &[u8], least: u32) {
        if !has_sql_characters(form) {
            return;
        }
        let statement = Statement::of(form);
        let Some(steps) = self.steps.checked_sub(statement.cost()) else {
            self.findings.add("too_many_values", "protocol", Collection::Other, b"", CRITICAL);
            return;
        };
        self.steps = steps;
        let attack = statement.attack().filter(|fingerprint| !prose::is_prose(fingerprint, form));
        let mut score = attack.map_or(0, |fingerprint| sql_score(&fingerprint, form));
        if score < CRITICAL && statement.has_condition() {
            score = CRITICAL;
        }
        if score >= least.max(1) {
            self.findings.add("sql_injection", "sqli", place, name, score);
        }
    }

    fn form(&mut self, place: Collection, name: &[u8], form: &[u8], scope: PatternScope) {
        self.patterns(place, name, form, scope);
        if scope.reads_sql() {
            self.sql(place, name, form, 0);
        }
        if let Some(command) = canonical::unquoted(form).filter(|_| scope.reads_html())
            && let Some(left) = self.left.checked_sub(command.len())
        {
            self.left = left;
            self.commands(place, name, &command, scope);
        }
        let is_html = scope.reads_html() && form.iter().any(|byte| matches!(byte, b'<' | b'=' | b':' | b'>'));
        if is_html && grammar::is_xss(form) {
            self.findings.add("xss", "xss", place, name, xss_score(form));
        }
    }

    /// What a shell reads: only commands are looked for.
    fn commands(&mut self, place: Collection, name: &[u8], command: &[u8], scope: PatternScope) {
        for found in self.set.matches(command) {
            let Some(BuiltinPattern { rule, tag, score, scopes, .. }) = patterns::get(found) else { continue };
            if *rule == "command_injection" && scopes.has(scope) {
                self.findings.add(rule, tag, place, name, *score);
            }
        }
    }

    fn patterns(&mut self, place: Collection, name: &[u8], form: &[u8], scope: PatternScope) {
        for found in self.set.matches(form) {
            let Some(BuiltinPattern { rule, tag, level, score, scopes, .. }) = patterns::get(found) else { continue };
            if *level <= self.level && scopes.has(scope) {
                self.findings.add(rule, tag, place, name, *score);
            }
        }
    }
}

/// Plain words, numbers and identifiers are in no rule's way, but for names of classes, hidden files, files that were left
/// behind, and objects and dots as digits.
fn is_plain(value: &[u8]) -> bool {
    let (mut before, mut dots) = (0, 0_usize);
    if value.starts_with(b".") || value.get(..8).is_some_and(|begin| begin.eq_ignore_ascii_case(b"aced0005")) {
        return false;
    }
    value.iter().all(|&byte| {
        let is_pair = byte == before && matches!(byte, b'.' | b'-' | b'_');
        before = byte;
        dots += usize::from(byte == b'.');
        !is_pair && (byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    }) && !has_within(value, b"onstructor")
        && !has_within(value, b"x2e")
        && !has_within(value, b"x2E")
        && (dots == 0 || !has_class(value) && !is_left_behind(value))
}

/// Whether a name with dots may be one of a file of settings, or of what is left of a program.
fn is_left_behind(value: &[u8]) -> bool {
    const ENDS: [&[u8]; 9] = [b"bak", b"ini", b"old", b"orig", b"save", b"source", b"swo", b"swp", b"xml"];
    let end = value.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
    ENDS.iter().any(|known| end.eq_ignore_ascii_case(known))
}

/// Whether a name with dots may be one of a class, or lead to one.
fn has_class(value: &[u8]) -> bool {
    [&b"lass"[..], b"com.", b"org.", b"java"].iter().any(|part| has_within(value, part))
}

fn has_within(value: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(value, part).is_some_and(|at| at < LONGEST)
}

/// Without one of these nothing leaves the place of a value in a statement.
fn has_sql_characters(value: &[u8]) -> bool {
    value.iter().any(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'.' | b',' | b':' | b'@'))
}

/// Text has the shape of a statement now and then (`100% cotton -- new`, `call me; I am at home`, `count(items)`, `between 10
/// and 20`): a weak sign. With a quote, a call or a comparison, or with a `UNION` or `AND` of SQL, it is a strong one.
fn sql_score(fingerprint: &str, value: &[u8]) -> u32 {
    let has = |marks: &[u8]| value.iter().any(|byte| marks.contains(byte));
    // A call of something plain with nothing behind it, and a condition that begins with a word: prose and formulas have such.
    let is_plain = matches!(fingerprint, "f(n)" | "f(1)" | "f(n&n" | "n&1") && !has(b"'\"`=;#") && !waits(value);
    let is_strong = has(b"'\"`=(") || fingerprint.contains(['U', '&']);
    if fingerprint.len() >= 3 && is_strong && !is_plain { CRITICAL } else { WARNING }
}

/// Whether a call in a value may keep the database busy, or read from it.
fn waits(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    [&b"sleep"[..], b"benchmark", b"delay", b"select"].iter().any(|word| memchr::memmem::find(&value, word).is_some())
}

/// `style=modern` is an attribute only where the value stands among others, and no script: a weak sign. What handles an
/// event is a script.
fn xss_score(value: &[u8]) -> u32 {
    let leaves = |byte: &u8| matches!(byte, b'<' | b'>' | b'"' | b'\'' | b'`' | b'(' | b':');
    let names = value.split(|byte| *byte == b'=').map(<[u8]>::trim_ascii_end);
    let name = |before: &[u8]| {
        let length = before.iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let start = before.get(before.len() - length..).and_then(|name| name.get(..2));
        length > 4 && start.is_some_and(|start| start.eq_ignore_ascii_case(b"on"))
    };
    let handles = value.contains(&b'=') && names.into_iter().any(name);
    if handles || value.iter().any(leaves) { CRITICAL } else { WARNING }
}

#[cfg(test)]
mod tests;
