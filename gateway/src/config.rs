//! Reads `gateway.toml` into valid settings: the only place that knows TOML. Each table has its file in `tables/`.
//!
//! *Invariant:* reading a configuration finds every fault at once, changes nothing, and looks at the world through
//! [`Files`] alone: guard, proxy and `gateway check` come to the same result from the same bytes.

use std::path::Path;

use toml::de::DeTable;

pub(crate) use self::effective::sensitive;
use self::{
    diagnostics::Located, effective::Sensitive, follow_ups::PartialReading, reader::Reader, table::Table,
    tables::Contents,
};
use crate::{
    diagnostic::Diagnostic,
    os::file::NamedFile,
    settings::{self, otlp::OtlpCollector},
};

pub mod diagnostics;
pub mod document;
pub mod files;
pub mod value;

mod tables;

mod effective;
mod follow_ups;
mod hidden;
mod locations;
mod reader;
mod reference;
mod syntax;
mod table;

pub use diagnostics::Diagnostics;
pub use document::Document;
pub use files::{Disk, Files, Permitted, RecordingFiles};
pub use locations::Locations;

/// Where the configuration is unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/gateway/gateway.toml";

/// Whether a name is one that reads the same in logs, metrics and on the command line.
pub(crate) fn is_name(name: &str) -> bool {
    value::word::simple_name(name).is_ok()
}

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The guard's part.
    pub guard: settings::guard::Settings,
    /// The admin listener's part; `None`: there is none.
    pub admin: Option<settings::admin::Settings>,
    /// Which requests are traced; `None`: none is.
    pub traces: Option<settings::traces::Settings>,
    /// Where metrics and log records are sent.
    pub otlp: settings::otlp::Settings,
    /// What somebody is told of, and how.
    pub alerts: settings::alert::Settings,
    /// When something is not usual; `None`: nothing is learned.
    pub anomalies: Option<settings::anomalies::Settings>,
    /// The proxy's part.
    pub proxy: settings::proxy::Settings,
    /// Its text, with the place of every key, for faults that are found later ([`Diagnostics::from_diagnostics`]).
    pub document: Document,
    /// What works and is unwise, or will not work as somebody may expect.
    pub warnings: Vec<Diagnostic>,
}

impl Config {
    /// Reads the configuration at `path`, and every file that it names, through `files`. Relative paths in it count
    /// from its own folder.
    ///
    /// # Errors
    /// Every fault that was found.
    pub fn load(path: &Path, files: &dyn Files) -> Result<Self, Diagnostics> {
        ConfigDraft::read(path, files)?.finish(Vec::new())
    }

    /// The files that only the observer may know.
    pub(crate) fn observer_secrets(&self) -> impl Iterator<Item = &NamedFile> {
        let feeds = self.guard.feeds.iter().filter_map(|feed| feed.fetched());
        let feeds = feeds.flat_map(|fetched| fetched.source.secrets());
        let crowdsec = self.guard.crowdsec.iter().flat_map(|crowdsec| crowdsec.api.secrets());
        let admin = self.admin.iter().flat_map(settings::admin::Settings::secrets);
        let collectors = self.collectors().filter_map(|(_table, collector)| collector.headers.as_ref());
        let receivers = self.alerts.receivers.iter();
        let receivers = receivers.flat_map(|receiver| receiver.kind.secrets().chain(&receiver.dial.private_key));
        admin.chain(collectors).chain(receivers).chain(feeds).chain(crowdsec)
    }

    /// Every collector, with the name of its table.
    pub(crate) fn collectors(&self) -> impl Iterator<Item = (&'static str, &OtlpCollector)> {
        let traces = self.traces.iter().map(|traces| ("traces", &traces.collector));
        let metrics = self.otlp.metrics.iter().map(|metrics| ("otlp_metrics", &metrics.collector));
        traces.chain(metrics).chain(self.otlp.logs.iter().map(|logs| ("otlp_logs", logs)))
    }

    /// Everything that is in force, defaults included, as JSON. Files are named, never shown: nothing in it is secret.
    #[must_use]
    pub fn effective(&self) -> serde_json::Value {
        self.describe(Sensitive::Shown)
    }

    /// The same, to be compared with another: whatever may be secret is there, and is marked ([`sensitive`]).
    pub(crate) fn comparable(&self) -> serde_json::Value {
        self.describe(Sensitive::Marked)
    }

    fn describe(&self, sensitive: Sensitive) -> serde_json::Value {
        let admin = self.admin.as_ref();
        let told = (self.traces.as_ref(), &self.otlp, (&self.alerts, self.anomalies.as_ref()));
        effective::describe(&self.guard, admin, told, &self.proxy, sensitive)
    }
}

/// What could be read of a configuration, and what is wrong with the rest.
pub struct ConfigDraft {
    config: Config,
    faults: Vec<Located>,
}

impl ConfigDraft {
    /// As [`Config::load`].
    ///
    /// # Errors
    /// Nothing could be read.
    pub fn read(path: &Path, files: &dyn Files) -> Result<Self, Diagnostics> {
        let document = syntax::read(path, files)?;
        let parsed = DeTable::parse(document.text()).map_err(|error| {
            Diagnostics::from_diagnostics(
                &document,
                vec![Diagnostic::new("", format!("not TOML: {}", error.message()))],
            )
        })?;
        let reader = Reader::new(&document, files);
        let Contents { admin, traces, otlp, alerts, anomalies, guard, proxy } =
            tables::read(Table::root(&reader, parsed.get_ref(), tables::KEYS), &reader);
        let (faults, warnings) = reader.finish();
        let config = Config { guard, admin, traces, otlp, alerts, anomalies, proxy, document, warnings };
        Ok(Self { config, faults })
    }

    /// What could be read, with defaults in the place of the rest. Good for being compiled, and for nothing else.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The configuration, if nothing is wrong with it. `found`: what compiling it has found. Of that, nothing is told that
    /// may only follow from what could not be read.
    ///
    /// # Errors
    /// Every fault.
    pub fn finish(self, mut found: Vec<Diagnostic>) -> Result<Config, Diagnostics> {
        let Self { config, mut faults } = self;
        let reading = PartialReading { document: &config.document, faults: &faults, proxy: &config.proxy };
        found.retain(|diagnostic| reading.is_independent(&diagnostic.key));
        faults.extend(found.into_iter().map(|diagnostic| {
            let span = config.document.span(&diagnostic.key);
            Located::new(diagnostic, span)
        }));
        if faults.is_empty() { Ok(config) } else { Err(Diagnostics::new(config.document, faults)) }
    }
}

/// The reference of all tables and keys, as Markdown.
#[must_use]
pub fn reference() -> String {
    reference::page()
}

#[cfg(test)]
mod tests;
