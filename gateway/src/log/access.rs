//! Which requests get a line of the access log, and how it is written: the settings, compiled.

use http::HeaderName;

use super::{
    format::{Layout, PlaceholderReader},
    line::LogLine,
    output::CompiledOutput,
    redact::{Hash, Redactor},
};
use crate::{
    collections::mix::mix,
    diagnostic::Diagnostic,
    net::geo::Geo,
    settings::access_log::{self, LineFilter, Principal},
    web::request_id::RequestId,
};

/// The access log of one configuration.
pub struct AccessLog {
    layout: Layout,
    redact: Redactor,
    hash: Option<Hash>,
    geo: Geo,
    /// `None`: every request gets a line.
    keep: Option<LineFilter>,
    /// Where lines go.
    pub outputs: Box<[CompiledOutput]>,
    /// Headers of requests that lines say.
    pub request_headers: Box<[HeaderName]>,
    /// Headers of responses that lines say.
    pub response_headers: Box<[HeaderName]>,
    /// Whether lines say trace ids.
    pub has_trace_id: bool,
    /// Whether lines say how long steps took.
    pub is_timed: bool,
}

/// What decides whether a request that was served gets a line.
#[derive(Clone, Copy, Debug)]
pub struct ServedRequest<'a> {
    /// Its id.
    pub id: RequestId,
    /// The status of the response.
    pub status: u16,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// The template of the route.
    pub route: Option<&'a str>,
    /// Whether something that only reports would have refused it.
    pub is_reported: bool,
}

impl AccessLog {
    /// Compiles the settings.
    ///
    /// # Errors
    /// A pattern cannot be compiled, or the machine has no randomness.
    pub fn new(settings: &access_log::Settings) -> Result<Self, Vec<Diagnostic>> {
        let layout = Layout::new(settings);
        let redact = Redactor::new(&settings.redact).map_err(|fault| vec![fault])?;
        let hash = match &settings.principal {
            Principal::Plain => None,
            Principal::Hashed(Some(key)) => Some(Hash::new(&key.bytes)),
            Principal::Hashed(None) => Some(Hash::random().map_err(|fault| vec![fault])?),
        };
        let mut outputs = Vec::new();
        for (index, output) in settings.outputs.iter().enumerate() {
            let under = |fault: Diagnostic| fault.under(&format!("access_log.output[{index}]"));
            outputs
                .push(CompiledOutput::new(output).map_err(|faults| faults.into_iter().map(under).collect::<Vec<_>>())?);
        }
        Ok(Self {
            outputs: outputs.into(),
            redact,
            hash,
            geo: settings.geo.clone(),
            keep: (settings.keep != LineFilter::default()).then(|| settings.keep.clone()),
            request_headers: layout.request_headers.clone(),
            response_headers: layout.response_headers.clone(),
            has_trace_id: layout.has_trace_id,
            is_timed: layout.is_timed,
            layout,
        })
    }

    /// Hashes principals by this key from here on, if no file has one: every proxy writes the same hashes.
    pub fn adopt(&mut self, key: &[u8]) {
        if let Some(hash) = self.hash.as_mut().filter(|hash| hash.is_random) {
            *hash = Hash::new(key);
        }
    }

    /// Whether anything has to be noted of a request before it is over.
    #[must_use]
    pub fn notes(&self) -> bool {
        self.is_timed || self.has_trace_id || !self.request_headers.is_empty() || !self.response_headers.is_empty()
    }

    /// A principal as lines say it: hashed, where that is wanted.
    #[must_use]
    pub fn principal(&self, name: String) -> String {
        match &self.hash {
            Some(hash) => hash.of(&name),
            None => name,
        }
    }

    /// Whether a request that was served gets a line. One that was refused always does, and one that would have been.
    #[must_use]
    pub fn keeps(&self, served: &ServedRequest<'_>) -> bool {
        self.keep.as_ref().is_none_or(|keep| keeps(keep, served))
    }

    /// Appends a line.
    pub fn write(&self, line: &LogLine<'_>, out: &mut Vec<u8>) {
        self.layout
            .write(&PlaceholderReader { redact: &self.redact, hash: self.hash.as_ref(), geo: &self.geo, line }, out);
    }
}

fn keeps(keep: &LineFilter, served: &ServedRequest<'_>) -> bool {
    // What would have been refused is evidence, as a refusal is: whoever is to enforce it later goes by these lines.
    if served.is_reported {
        return true;
    }
    if keep.only_refused {
        return false;
    }
    if !keep.routes.is_empty() && !served.route.is_some_and(|route| keep.routes.iter().any(|kept| kept == route)) {
        return false;
    }
    let is_slow = keep.slower_than.is_some_and(|than| u128::from(served.duration_us) > than.as_micros());
    let has_status = keep.statuses.iter().any(|statuses| statuses.has(served.status));
    let asks = !keep.statuses.is_empty() || keep.slower_than.is_some();
    if asks && !is_slow && !has_status {
        return false;
    }
    // Errors and what is slow are never left out by chance.
    served.status >= 400 || is_slow || keep.sample.is_none_or(|share| is_sampled(served.id, share))
}

/// Whether this request is among so many of a million. The same for the same id, whoever asks.
fn is_sampled(RequestId(id): RequestId, share: u32) -> bool {
    // Mixed: the ids of one worker are numbers behind each other.
    let [high, low] = [id >> 64, id & u128::from(u64::MAX)].map(|half| u64::try_from(half).unwrap_or_default());
    mix(high ^ low) % 1_000_000 < u64::from(share)
}

#[cfg(test)]
mod tests;
