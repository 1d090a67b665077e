//! Reads the files that TLS is made from, and the key sets of issuers, again: when one has changed and stopped changing. What they
//! then hold comes into force as a whole, or not at all. Polled, so that it works however files are replaced.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use crate::{
    config::{Disk, Files as _},
    diagnostic::Diagnostic,
    guard::lifecycle::files::settling::Settling,
    message::Bundle,
    os::{clock::Now, file::NamedFile},
    policy::auth::jwt::Jwt,
    settings::proxy,
    tls::{self, Chain, Tickets, Tls},
};

/// What became of a look.
pub(crate) enum TlsNews {
    /// Files hold something else, which is good.
    Changed(Box<proxy::Settings>, Vec<(PathBuf, Vec<u8>)>),
    /// What is in force is what the files hold.
    Same,
    /// What the files hold cannot be used, and why.
    Unusable(String),
}

/// What is remembered of the files.
#[derive(Default)]
pub(crate) struct TlsWatcher(Settling);

impl TlsWatcher {
    /// Looks at every file of `settings`, which are in force. `None`: nothing has changed, or is still changing.
    pub(crate) fn poll(&mut self, settings: &proxy::Settings, now: Now) -> Option<TlsNews> {
        if !self.0.look(watched(settings).map(|file| file.path.clone())) {
            return None;
        }
        // All are compared with what is in force: what could not be used alone may be good with what changed now.
        Some(match read(settings, now) {
            Ok(None) => TlsNews::Same,
            Ok(Some((settings, files))) => TlsNews::Changed(Box::new(settings), files),
            Err(why) => TlsNews::Unusable(why),
        })
    }
}

/// `settings` with what the files hold now, and those that hold something else. `None`: none does.
#[expect(clippy::type_complexity, reason = "what changed, beside the whole that it makes")]
fn read(settings: &proxy::Settings, now: Now) -> Result<Option<(proxy::Settings, Vec<(PathBuf, Vec<u8>)>)>, String> {
    let mut new = settings.clone();
    let mut files: HashMap<PathBuf, Vec<u8>> = HashMap::new();
    let mut renew = |file: &mut NamedFile| -> Result<(), String> {
        let bytes = Disk.read(&file.path).map_err(|error| format!("{}: {error}", file.path.display()))?;
        if bytes != file.bytes {
            files.insert(file.path.clone(), bytes.to_vec());
            file.bytes = bytes;
        }
        Ok(())
    };
    new.tls_files_mut().try_for_each(&mut renew)?;
    new.key_files_mut().try_for_each(&mut renew)?;
    if files.is_empty() {
        return Ok(None);
    }
    compile(&new, now)?;
    let over: Vec<Diagnostic> = tls::over(&new, now);
    let was_over = tls::over(settings, now);
    let fresh: Vec<Diagnostic> = over.into_iter().filter(|diagnostic| !was_over.contains(diagnostic)).collect();
    if !fresh.is_empty() {
        return Err(told(&fresh));
    }
    Ok(Some((new, files.into_iter().collect())))
}

/// Puts files that were renewed after a configuration was read into its `settings` and its `bundle`.
///
/// # Errors
/// They cannot be used with it: what was read stays.
pub(crate) fn renew(
    settings: &mut proxy::Settings,
    bundle: &mut Bundle,
    files: &[(PathBuf, Vec<u8>)],
    now: Now,
) -> Result<(), String> {
    let mut new = settings.clone();
    let mut known = Vec::new();
    let mut renew = |file: &mut NamedFile| {
        // Of two with one name the last is the newest.
        if let Some(renewed) = files.iter().rev().find(|(path, _)| *path == file.path) {
            file.bytes = renewed.1.as_slice().into();
            known.push(renewed.clone());
        }
    };
    new.tls_files_mut().for_each(&mut renew);
    new.key_files_mut().for_each(&mut renew);
    compile(&new, now)?;
    bundle.renew(&known);
    *settings = new;
    Ok(())
}

/// The files that are watched.
pub(in crate::guard::lifecycle) fn watched(settings: &proxy::Settings) -> impl Iterator<Item = &NamedFile> {
    settings.tls_files().chain(settings.key_files())
}

/// Whether TLS can be spoken, and tokens verified, by `settings`.
fn compile(settings: &proxy::Settings, now: Now) -> Result<(), String> {
    settings.auth.jwt.as_ref().map(Jwt::new).transpose().map_err(|diagnostics| told(&diagnostics))?;
    let tickets = Chain::new(now).and_then(Tickets::new).map(Arc::new).ok_or("the machine has no randomness")?;
    Tls::new(settings, &tickets, now).map(drop).map_err(|diagnostics| told(&diagnostics))
}

fn told(diagnostics: &[Diagnostic]) -> String {
    let mut all: Vec<String> = diagnostics.iter().take(10).map(ToString::to_string).collect();
    if diagnostics.len() > all.len() {
        all.push(format!("and {} more", diagnostics.len() - all.len()));
    }
    all.join("; ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn authority() -> Vec<u8> {
        let parameters = rcgen::CertificateParams::default();
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().into_bytes()
    }

    fn bundle(ca: &[u8]) -> Bundle {
        let text = "[guard]\ninterfaces = []\n[[listener]]\naddress = \"127.0.0.1:80\"\n\
            [client_certificates.partners]\nhosts = [\"p.example\"]\nca = \"ca.pem\"\n\
            [[route]]\npath = \"/\"\nrequire = [\"public\"]\nrespond = { status = 200 }\n\
            [cluster]\nnode = \"a\"\nkey_file = \"a.key\"\nsecret_file = \"z.secret\"\n\
            nodes.a = \"ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"\n\
            store = { servers = [\"10.0.0.5:6379\"], tls = { ca = \"ca.pem\" } }\n";
        let secret = ("z.secret".into(), vec![7; 32]);
        let files = vec![("ca.pem".into(), ca.to_vec()), ("other.pem".into(), Vec::new()), secret];
        Bundle { path: "gateway.toml".into(), text: text.to_owned(), files, ..Bundle::default() }
    }

    #[test]
    fn a_configuration_that_was_read_goes_on_with_files_that_were_renewed() {
        let (read, renewed, now) = (authority(), authority(), Now::read());
        let mut bundle = bundle(&read);
        let mut settings = Config::load(Path::new("gateway.toml"), &bundle).unwrap().proxy;
        let mut check = |files: &[(&str, &[u8])], is_usable: bool, expect: &[u8]| {
            let files: Vec<_> = files.iter().map(|(path, bytes)| (PathBuf::from(path), bytes.to_vec())).collect();
            assert_eq!(renew(&mut settings, &mut bundle, &files, now).is_ok(), is_usable, "{files:?}");
            assert_eq!(*settings.client_certificates[0].ca.bytes, *expect, "{files:?}");
            let store = settings.cluster.as_ref().and_then(|cluster| cluster.store.tls.as_ref()).unwrap();
            assert_eq!(*store.ca.bytes, *expect, "the store's, too: {files:?}");
            assert_eq!(bundle.files[0].1, expect, "{files:?}");
            assert_eq!(bundle.files[1].1, b"", "a file that is not of TLS stays: {files:?}");
        };
        check(&[("ca.pem", b"junk")], false, &read);
        check(&[("gone.pem", &renewed), ("other.pem", &renewed)], true, &read);
        check(&[("ca.pem", b"junk"), ("ca.pem", &renewed)], true, &renewed);
    }
}
