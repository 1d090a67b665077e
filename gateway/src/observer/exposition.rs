//! The forms in which metrics are told, and which one a client wants.

use super::store::Sums;

mod protobuf;
mod text;

/// A form of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The protobuf form of Prometheus: with native histograms besides the classic ones.
    Protobuf,
    /// The text form of Prometheus, version 0.0.4.
    Text,
}

impl Format {
    /// The form that a client wants by its `Accept`; the text form where it wants none that there is.
    pub(super) fn wanted(accept: &str) -> Self {
        let mut best = (Self::Text, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<(&str, &str)> = parts
                .filter_map(|part| part.split_once('='))
                .map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
                .collect();
            let has = |name: &str, value: &str| parameters.iter().any(|(own, is)| *own == name && *is == value);
            let format = match kind.as_str() {
                "application/vnd.google.protobuf"
                    if has("proto", "io.prometheus.client.MetricFamily") && has("encoding", "delimited") =>
                {
                    Self::Protobuf
                }
                "application/openmetrics-text" => Self::OpenMetrics,
                "text/plain" | "text/*" | "*/*" => Self::Text,
                _ => continue,
            };
            let quality = parameters.iter().find(|(name, _)| *name == "q").map_or(1.0, |(_, text)| quality(text));
            if quality > best.1 {
                best = (format, quality);
            }
        }
        best.0
    }

    /// Its `Content-Type`.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// All metrics.
    pub(super) fn write(self, sums: &Sums) -> Vec<u8> {
        match self {
            Self::OpenMetrics => text::write(sums, true).into_bytes(),
            Self::Protobuf => protobuf::write(sums),
            Self::Text => text::write(sums, false).into_bytes(),
        }
    }
}

/// How much a format is wanted (RFC 9110 12.4.2). What is written in another way is not wanted at all.
fn quality(text: &str) -> f64 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_written_so =
        matches!(whole, "0" | "1") && fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let quality: f64 = if is_written_so { text.parse().unwrap_or(0.0) } else { 0.0 };
    if quality <= 1.0 { quality } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_says_what_it_wants() {
        for (accept, expect) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html,application/xhtml+xml;q=0.9", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.5", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=1.000, text/plain;q=0.999", Format::OpenMetrics),
            ("application/openmetrics-text;q=inf, text/plain;q=0.5", Format::Text),
            ("application/openmetrics-text;q=+1, text/plain;q=0.5", Format::Text),
            ("application/openmetrics-text;q=1e3, text/plain;q=0.5", Format::Text),
            ("application/openmetrics-text;q=1.5, text/plain;q=0.5", Format::Text),
            ("application/vnd.google.protobuf", Format::Text),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                 application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5",
                Format::Protobuf,
            ),
        ] {
            assert_eq!(Format::wanted(accept), expect, "{accept}");
        }
    }
}
