//! Decides whether a configuration can be put in force: read, valid, compiled, and its surroundings known.

use std::path::Path;

use crate::{
    clock::Now,
    config::{Config, Disk, Errors, Recorder},
    guard::bans::Surroundings,
    message::Bundle,
    proxy::{self, snapshot::Snapshot},
};

/// A configuration that can be put in force.
pub(crate) struct Prepared {
    pub(crate) config: Config,
    pub(crate) bundle: Bundle,
    pub(crate) surroundings: Surroundings,
    /// What works and is unwise, or could not be found out.
    pub(crate) warnings: Vec<String>,
}

/// Reads and compiles the configuration at `path`. Takes as long as resolving the upstreams' names takes.
///
/// # Errors
/// Every fault that was found.
pub(crate) fn prepare(path: &Path) -> Result<Prepared, Errors> {
    let disk = Disk;
    let recorder = Recorder::new(&disk);
    let config = Config::load(path, &recorder)?;
    let compiled = Snapshot::new(config.proxy.clone());
    let snapshot = compiled.map_err(|faults| Errors::from_faults(&config.document, faults))?;
    let bundle = recorder.bundle(&config);
    let (surroundings, unknown) = Surroundings::look(&servers(&config.proxy), true);
    let outdated = snapshot.warnings(Now::read());
    let unwise = config.warnings.iter().chain(&outdated).map(ToString::to_string);
    let warnings = unwise.chain(unknown).collect();
    Ok(Prepared { config, bundle, surroundings, warnings })
}

fn servers(settings: &proxy::settings::Settings) -> Vec<String> {
    settings
        .upstreams
        .iter()
        .flat_map(|upstream| upstream.servers.iter().map(|server| server.address.clone()))
        .collect()
}

/// The ports that packets are judged for.
pub(crate) fn ports(settings: &proxy::settings::Settings) -> Vec<u16> {
    settings.listeners.iter().map(|listener| listener.address.port()).collect()
}
