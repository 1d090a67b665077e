//! When the store of API keys and revocations is opened: at the start, and before a configuration is in force that asks
//! for it first. A proxy that has nothing of it refuses tokens and keys.

use tokio::sync::mpsc;

use crate::{
    config::Config,
    guard::{
        credentials::{
            work::{ConfiguredCredentials, CredentialJob, CredentialWork},
            writer::CredentialWriterHandle,
        },
        lifecycle::service::{Done, Service},
    },
    os::clock::Now,
};

/// What a configuration asks for.
fn wanted(config: &Config) -> ConfiguredCredentials {
    let auth = &config.proxy.auth;
    match &auth.api_keys {
        Some(keys) => ConfiguredCredentials::Keys(keys.pepper.as_ref().map(|file| file.bytes.to_vec())),
        // A file that revokes nobody is kept up with as well: who comes with tokens may be configured next.
        None if auth.has_revocable() || config.guard.revocation.file.is_some() => ConfiguredCredentials::Revocations,
        None => ConfiguredCredentials::Nothing,
    }
}

impl Service<'_> {
    /// What the configuration in force asks for.
    pub(super) fn wanted_credentials(&self) -> ConfiguredCredentials {
        wanted(&self.config)
    }

    /// Starts the writer of the store.
    pub(in crate::guard::lifecycle) fn start_credentials(&mut self, beside: &mpsc::Sender<Done>) {
        let beside = beside.clone();
        let done = move |worked: CredentialWork| beside.blocking_send(Done::Credentials(Box::new(worked))).is_ok();
        match CredentialWriterHandle::start(self.config.guard.state_dir.clone(), done) {
            Ok(writer) => self.credentials.writer = Some(writer),
            Err(error) => {
                let why = "no API key is good, and what is revoked is not known to proxies that start";
                self.credentials.warnings = vec![format!("{why}: {error}")];
            }
        }
        if !self.follow_revocations() {
            // What a file said that is no longer configured.
            self.give(CredentialJob::File { revoked: Vec::new(), is_whole: true, now: Now::read() });
        }
    }

    /// A configuration is in force: what it asks for of keys and revocations.
    pub(in crate::guard::lifecycle) fn configure_credentials(&mut self) {
        self.follow_revocations();
        self.want_credentials(self.wanted_credentials());
    }

    /// Follows the file of revocations that is configured. `false`: it is none, or the one before.
    fn follow_revocations(&mut self) -> bool {
        let is_other = self.credentials.file.follow(self.config.guard.revocation.file.as_ref());
        if is_other {
            self.credentials.file_warning = None;
            self.give(if self.credentials.file.has_file() {
                CredentialJob::AwaitFile(Now::read())
            } else {
                CredentialJob::File { revoked: Vec::new(), is_whole: true, now: Now::read() }
            });
        }
        is_other
    }

    /// Tells the writer what is asked for. `true`: that is something else than before, and the writer says when it is
    /// done.
    fn want_credentials(&mut self, wanted: ConfiguredCredentials) -> bool {
        if self.credentials.wanted.as_ref() == Some(&wanted) {
            return false;
        }
        self.credentials.wanted = Some(wanted.clone());
        self.give(CredentialJob::Configure { wanted, now: Now::read() })
    }

    /// A configuration is compiled by the proxy `generation` for the reload `number`. `true`: it is the first that asks
    /// for the store, and goes on once that was opened, so that no client is refused meanwhile.
    pub(in crate::guard::lifecycle) fn waits_for_credentials(
        &mut self,
        config: &Config,
        generation: u64,
        number: u64,
    ) -> bool {
        let wanted = wanted(config);
        if self.credentials.wanted != Some(ConfiguredCredentials::Nothing) || wanted == ConfiguredCredentials::Nothing {
            return false;
        }
        if config.guard.revocation.file.is_some() {
            // Before the store is opened: what it hands out is not all that is revoked.
            self.give(CredentialJob::AwaitFile(Now::read()));
        }
        let waits = self.want_credentials(wanted);
        if waits {
            self.credentials.awaited = Some((generation, number));
        }
        waits
    }

    /// The store was opened, or cannot be: proxies have been handed what is known.
    pub(super) fn go_on_with_reload(&mut self) {
        if let Some((generation, number)) = self.credentials.awaited.take() {
            self.follow_compiled(generation, number, Ok(()));
        }
    }

    /// A configuration does not come into force.
    pub(in crate::guard::lifecycle) fn give_up_credentials(&mut self) {
        self.credentials.awaited = None;
        if !self.credentials.file.has_file() {
            // The file that it named is waited for no more.
            self.give(CredentialJob::File { revoked: Vec::new(), is_whole: true, now: Now::read() });
        }
        self.want_credentials(self.wanted_credentials());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::message::Bundle;

    #[test]
    fn whoever_can_be_revoked_is_looked_for_in_the_store() {
        use ConfiguredCredentials as C;
        let server = "[introspection.s]\nendpoint = \"http://127.0.0.1:9/introspect\"\nfetch.allow_http = true\nclient_id = \"g\"\nroles = []\n\
            any_audience = true\nclient_secret = \"secret\"\n";
        for (tables, expect) in [
            ("", C::Nothing),
            ("[basic]\nusers = \"users\"\n", C::Nothing),
            (server, C::Revocations),
            ("[revocation]\nfile = \"revoked.txt\"\n", C::Revocations),
            ("[api_keys]\n[revocation]\nfile = \"revoked.txt\"\n", C::Keys(None)),
        ] {
            let text = format!("[guard]\ninterfaces = []\n[[listener]]\naddress = \"127.0.0.1:80\"\n{tables}");
            let files = vec![("secret".into(), vec![b'7'; 64]), ("users".into(), Vec::new())];
            let bundle = Bundle { path: "gateway.toml".into(), text, files, ..Bundle::default() };
            let config = Config::load(Path::new("gateway.toml"), &bundle).unwrap_or_else(|told| panic!("{told}"));
            assert!(wanted(&config) == expect, "{tables}");
        }
    }
}
