//! Traces one request: its place in a trace (W3C Trace Context), and when each step of it ended.
//!
//! Where nothing is traced there is no recorder, and nothing happens. Where something is, every request is recorded: only
//! at its end it is known whether it failed, and failures are always told.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    collections::mix::mix,
    log::text::hexadecimal,
    message::telemetry::{StepSpan, TraceStep},
    os::clock,
    proxy::upstream::Attempts,
    settings::traces::{self, Accept},
    web::{request_id::RequestId, trace_context::TraceContext},
};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What is recorded of a request.
pub(in crate::proxy) struct Recorder {
    pub(super) id: u128,
    pub(super) span: u64,
    pub(super) parent: Option<u64>,
    pub(super) is_sampled: bool,
    pub(super) steps: Vec<StepSpan>,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    began: u64,
    /// When the last step ended.
    last: u64,
    upstream_span: u64,
    /// What the upstream has answered.
    pub(super) upstream_status: Option<u16>,
}

impl Recorder {
    /// Begins to record a request. `is_trusted`: it comes from a trusted proxy.
    pub(super) fn begin(
        settings: &traces::Settings,
        headers: &HeaderMap,
        is_trusted: bool,
        id: RequestId,
        began: u64,
    ) -> Self {
        let is_accepted = match settings.accept {
            Accept::Everybody => true,
            Accept::Nobody => false,
            Accept::Trusted => is_trusted,
        };
        let context = if is_accepted { context(headers) } else { None };
        let bytes = id.0.to_be_bytes();
        let half = |from: usize| bytes.iter().skip(from).take(8).fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        let (random, count) = (half(0), half(8));
        let number = |salt: u64| spread(random ^ spread(count.wrapping_mul(4).wrapping_add(salt))).max(1);
        let own = u128::from(random.max(1)) << 64 | u128::from(number(0));
        Self {
            id: context.map_or(own, |context| context.id),
            span: number(1),
            parent: context.map(|context| context.span),
            is_sampled: context
                .map_or_else(|| number(0) % 1_000_000 < u64::from(settings.sample), |context| context.is_sampled),
            steps: Vec::with_capacity(8),
            began,
            last: began,
            upstream_span: number(2),
            upstream_status: None,
        }
    }

    /// A step has ended, the next one begins.
    pub(super) fn ended(&mut self, step: TraceStep) {
        let now = clock::monotonic();
        let span = match step {
            TraceStep::Upstream => self.upstream_span,
            _ => spread(self.span ^ (self.steps.len() as u64 + 1)).max(1),
        };
        let (after, took) = (self.last.saturating_sub(self.began), now.saturating_sub(self.last));
        self.steps.push(StepSpan { step, span, after, took });
        self.last = now;
    }

    /// A step beside the others: when it began (`CLOCK_MONOTONIC`), and how long it took. Nanoseconds.
    fn beside(&mut self, step: TraceStep, began: u64, took: u64) {
        let span = spread(self.span ^ (self.steps.len() as u64 + 1)).max(1);
        self.steps.push(StepSpan { step, span, after: began.saturating_sub(self.began), took });
    }

    /// The client's TLS handshake was over when the request began; `None`: there was none before this request.
    pub(super) fn shook_hands(&mut self, took: Option<u64>) {
        if let Some(took) = took {
            self.beside(TraceStep::Handshake, self.began, took);
        }
    }

    /// How long that handshake took.
    pub(super) fn handshake(&self) -> Option<u64> {
        self.steps.iter().find(|step| step.step == TraceStep::Handshake).map(|step| step.took)
    }

    /// How the request was forwarded.
    pub(super) fn forwarded(&mut self, attempts: &Attempts) {
        if let Some(took) = attempts.connect {
            self.beside(TraceStep::Connect, attempts.opened_at, took);
        }
    }

    /// The value of `traceparent`. Every request to a traced upstream has one: formatting it took a quarter of a microsecond.
    fn value(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&hexadecimal(RequestId(self.id)));
        text[36..52].copy_from_slice(&hexadecimal(RequestId(self.upstream_span.into()))[16..]);
        if self.is_sampled {
            text[54] = b'1';
        }
        text
    }

    /// Tells the upstream where its request stands.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_bytes(&self.value()) {
            headers.insert(&TRACEPARENT, value);
        }
        // It belongs to the trace that is not continued.
        if self.parent.is_none() {
            headers.remove(&TRACESTATE);
        }
    }
}

/// The method of a request, as traces name it.
pub(super) fn method(method: &http::Method) -> String {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    let text = method.as_str();
    if KNOWN.contains(&text) { text.to_owned() } else { "_OTHER".to_owned() }
}

/// Where a request stands by its `traceparent`; `None`: it has none, or several, or one that is none.
fn context(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(&TRACEPARENT).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    TraceContext::parse(value.to_str().ok()?.as_bytes())
}

/// A number that looks like no other (splitmix64).
const fn spread(number: u64) -> u64 {
    mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{audit::AnchorUrl, otlp::OtlpCollector};

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[track_caller]
    fn check(values: &[&str], expect: Option<(u64, bool)>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        let found = context(&headers);
        assert_eq!(found.map(|context| (context.span, context.is_sampled)), expect, "{values:?}");
    }

    #[test]
    fn the_context_is_read_as_the_standard_says() {
        let span = 0xb7ad_6b71_6920_3331;
        check(&[GOOD], Some((span, true)));
        check(&[&GOOD.replace("-01", "-00")], Some((span, false)));
        check(&[&GOOD.replace("-01", "-ff")], Some((span, true)));
        check(&[&format!("{}-more", GOOD.replacen("00", "cc", 1))], Some((span, true)));
        for bad in [
            "",
            "00",
            &GOOD.replacen("00", "ff", 1),
            &GOOD.to_uppercase(),
            &format!("{GOOD}-more"),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GOOD.replace('-', "_"),
            &GOOD.replace("0af", "0xf"),
        ] {
            check(&[bad], None);
        }
        check(&[GOOD, GOOD], None);
        check(&[], None);
    }

    fn begin(accept: Accept, sample: u32, count: u128, headers: &HeaderMap) -> Recorder {
        let text = String::new;
        let endpoint = AnchorUrl { is_tls: false, host: text(), port: 1, authority: text(), path: text() };
        let collector = OtlpCollector { endpoint, ca: None, headers: None, service: text() };
        let settings = traces::Settings { collector, sample, accept };
        Recorder::begin(&settings, headers, false, RequestId(7 << 64 | count), 0)
    }

    #[test]
    fn whoever_is_not_trusted_begins_a_trace() {
        let mut headers = HeaderMap::new();
        headers.insert(&TRACEPARENT, HeaderValue::from_static(GOOD));
        headers.insert(&TRACESTATE, HeaderValue::from_static("a=b"));
        let (theirs, ours) = (begin(Accept::Everybody, 0, 1, &headers), begin(Accept::Trusted, 0, 1, &headers));
        assert_eq!((theirs.id >> 96, theirs.parent.is_some(), theirs.is_sampled), (0x0af7_6519, true, true));
        assert_eq!((ours.parent, ours.is_sampled), (None, false));
        theirs.tell(&mut headers);
        assert!(headers[&TRACEPARENT].to_str().unwrap().starts_with(&GOOD[..36]) && headers.contains_key(&TRACESTATE));
        ours.tell(&mut headers);
        assert!(!headers[&TRACEPARENT].to_str().unwrap().contains("0af7") && !headers.contains_key(&TRACESTATE));
        check(&[headers[&TRACEPARENT].to_str().unwrap()], Some((ours.upstream_span, false)));
        for recorder in [&ours, &theirs] {
            let flags = u8::from(recorder.is_sampled);
            let expect = format!("00-{:032x}-{:016x}-{flags:02x}", recorder.id, recorder.upstream_span);
            assert_eq!(std::str::from_utf8(&recorder.value()).unwrap(), expect);
        }
    }

    #[test]
    fn about_as_many_are_traced_as_asked_for() {
        let headers = HeaderMap::new();
        for (sample, range) in [(0, 0..=0), (10_000, 50..=200), (500_000, 4_600..=5_400), (1_000_000, 10_000..=10_000)]
        {
            let traced = (0..10_000).filter(|count| begin(Accept::Nobody, sample, *count, &headers).is_sampled).count();
            assert!(range.contains(&traced), "{sample}: {traced}");
        }
    }
}
