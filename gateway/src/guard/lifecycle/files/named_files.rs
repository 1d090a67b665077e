//! The files that the configuration names, besides those of TLS and keys, which are taken over by themselves
//! ([`certificate_files`]): schemas, passwords, secrets, tokens. Polled, so that it works however files are replaced.
//!
//! *Invariant:* a file that has changed comes into force by the configuration in force, as its text was read: what somebody
//! is still writing to `gateway.toml` comes into force by a reload alone.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, Disk, Document, Files},
    guard::lifecycle::certificates::certificate_files::{Stat, stat, watched},
    settings::proxy::Settings,
};

/// SHA-256.
type Digest = [u8; 32];

/// The files that a configuration names, and what they held when it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamedFiles(Vec<(PathBuf, Digest)>);

impl NamedFiles {
    /// Those of `config`, which was read from `read`.
    pub(in crate::guard::lifecycle) fn new(config: &Config, read: &BTreeMap<PathBuf, Arc<[u8]>>) -> Self {
        let taken_over: HashSet<&Path> = watched(&config.proxy).map(|file| file.path.as_path()).collect();
        let own = config.document.path();
        let named = read.iter().filter(|(path, _)| path.as_path() != own && !taken_over.contains(path.as_path()));
        Self(named.map(|(path, bytes)| (path.clone(), digest(bytes))).collect())
    }

    /// Those that hold something else now, or cannot be read.
    fn changed(&self) -> ChangedFiles {
        let mut found = ChangedFiles::default();
        for (path, before) in &self.0 {
            match Disk.read(path) {
                Ok(bytes) if digest(&bytes) == *before => {}
                Ok(_other) => found.changed.push(path.clone()),
                Err(_unreadable) => found.gone.push(path.clone()),
            }
        }
        found
    }
}

/// Files that are not what is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::guard::lifecycle) struct ChangedFiles {
    /// They hold something else.
    pub(in crate::guard::lifecycle) changed: Vec<PathBuf>,
    /// They cannot be read any more.
    pub(in crate::guard::lifecycle) gone: Vec<PathBuf>,
}

impl ChangedFiles {
    /// Whether all files are as they are in force.
    pub(in crate::guard::lifecycle) const fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty()
    }
}

fn digest(bytes: &[u8]) -> Digest {
    let mut sum = Digest::default();
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

/// What is remembered of the files.
#[derive(Default)]
pub(in crate::guard::lifecycle) struct FileWatcher {
    last: HashMap<PathBuf, Stat>,
    handled: Option<HashMap<PathBuf, Stat>>,
}

impl FileWatcher {
    /// Looks at every file. `None`: nothing has changed since the last look that told of something, or something is still
    /// changing. Otherwise those that hold something else than what is in force.
    pub(in crate::guard::lifecycle) fn poll(&mut self, named: &NamedFiles) -> Option<ChangedFiles> {
        let stats: HashMap<PathBuf, Stat> = named.0.iter().map(|(path, _)| (path.clone(), stat(path))).collect();
        let settled = self.last == stats;
        self.last.clone_from(&stats);
        if !settled || self.handled.as_ref() == Some(&stats) {
            return None;
        }
        self.handled = Some(stats);
        Some(named.changed())
    }
}

/// What is known of the files that the configuration names, besides those of TLS and keys.
#[derive(Default)]
pub(in crate::guard::lifecycle) struct WatchedFiles {
    /// What they held when they came into force.
    pub(in crate::guard::lifecycle) named: Arc<NamedFiles>,
    /// Looks at them; absent while it does.
    pub(in crate::guard::lifecycle) watcher: Option<FileWatcher>,
    /// So often another configuration came into force.
    pub(in crate::guard::lifecycle) epoch: u64,
    /// Changed files are on their way into force.
    pub(in crate::guard::lifecycle) is_coming: bool,
    /// Why what they hold is not in force.
    pub(in crate::guard::lifecycle) unusable: Option<String>,
}

impl WatchedFiles {
    /// A configuration is in force that was read with these.
    pub(in crate::guard::lifecycle) fn renewed(&mut self, named: NamedFiles) {
        self.named = Arc::new(named);
        self.epoch += 1;
        self.watcher = Some(FileWatcher::default());
        self.unusable = None;
    }

    /// What an operator should know of them.
    pub(in crate::guard::lifecycle) fn warning(&self) -> Option<String> {
        self.unusable.clone()
    }
}

/// The configuration in force, with what its files hold now. Files that are taken over by themselves are as they are in
/// force: one that cannot be used keeps none of the others out.
pub(in crate::guard::lifecycle) struct AsInForce {
    document: Document,
    taken_over: HashMap<PathBuf, Arc<[u8]>>,
    /// Files that stay as they are: they are there, whatever their folders say.
    held: Vec<PathBuf>,
}

impl AsInForce {
    /// `held`: other files that stay as they are, and what they hold in force.
    pub(in crate::guard::lifecycle) fn new(
        document: &Document,
        settings: &Settings,
        held: Vec<(PathBuf, Vec<u8>)>,
    ) -> Self {
        let names = held.iter().map(|(path, _)| path.clone()).collect();
        let taken_over = watched(settings).map(|file| (file.path.clone(), Arc::clone(&file.bytes)));
        let taken_over = taken_over.chain(held.into_iter().map(|(path, bytes)| (path, bytes.into()))).collect();
        Self { document: document.clone(), taken_over, held: names }
    }
}

impl Files for AsInForce {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        if path == self.document.path() {
            return Ok(self.document.text().as_bytes().into());
        }
        self.taken_over.get(path).map_or_else(|| Disk.read(path), |bytes| Ok(Arc::clone(bytes)))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let held = self.held.iter().filter(|path| path.parent() == Some(folder));
        let mut found = match Disk.list(folder) {
            Err(_gone) if held.clone().next().is_some() => Vec::new(),
            found => found?,
        };
        for path in held {
            if !found.contains(path) {
                found.push(path.clone());
            }
        }
        Ok(found)
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        Disk.mode(path)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Recorder;

    const TEXT: &str = "[guard]\ninterfaces = []\n[[listener]]\naddress = \"127.0.0.1:80\"\n\
        [client_certificates.partners]\nhosts = [\"p.example\"]\nca = \"ca.pem\"\n\
        [upstream.items]\nservers = [\"127.0.0.1:9000\"]\n[[route]]\npath = \"/\"\nmethods = [\"POST\"]\n\
        require = [\"public\"]\nupstream = \"items\"\nschema = \"body.json\"\n";

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("gateway-named-files-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("gateway.toml"), TEXT).unwrap();
        fs::write(folder.join("ca.pem"), "one").unwrap();
        fs::write(folder.join("body.json"), "{}").unwrap();
        folder
    }

    fn load(path: &Path, files: &dyn Files) -> (Config, NamedFiles) {
        let recorder = Recorder::new(files);
        let config = Config::load(path, &recorder).unwrap();
        let named = NamedFiles::new(&config, &recorder.contents());
        (config, named)
    }

    #[test]
    fn a_file_is_told_of_once_it_stops_changing_and_until_it_is_as_before() {
        let folder = folder("poll");
        let (_, named) = load(&folder.join("gateway.toml"), &Disk);
        let body = folder.join("body.json");
        assert_eq!(named.0.iter().map(|(path, _)| path).collect::<Vec<_>>(), [&body], "TLS has a watcher of its own");
        let mut watcher = FileWatcher::default();
        let mut check = |expect: Option<ChangedFiles>, why: &str| {
            assert_eq!(watcher.poll(&named), expect, "{why}");
        };
        let changed = ChangedFiles { changed: vec![body.clone()], gone: Vec::new() };
        let gone = ChangedFiles { changed: Vec::new(), gone: vec![body.clone()] };
        check(None, "the first look");
        check(Some(ChangedFiles::default()), "all is as it is in force");
        check(None, "that was told");
        fs::write(&body, "{\"type\": \"object\"}").unwrap();
        check(None, "it may still be changing");
        check(Some(changed), "it has changed");
        check(None, "that was told");
        fs::remove_file(&body).unwrap();
        check(None, "it is gone");
        check(Some(gone), "what cannot be read is not what was read");
        fs::write(&body, "{}").unwrap();
        check(None, "it is back");
        check(Some(ChangedFiles::default()), "as it is in force");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_is_gone_is_there_as_it_was_read() {
        let folder = folder("gone");
        let (config, _) = load(&folder.join("gateway.toml"), &Disk);
        let (gone, there) = (folder.join("rules").join("a.conf"), folder.join("body.json"));
        let held = vec![(gone.clone(), b"one".to_vec()), (there.clone(), b"two".to_vec())];
        let files = AsInForce::new(&config.document, &config.proxy, held);
        let list = |folder: &Path| files.list(folder).ok();
        assert_eq!((list(&folder.join("rules")), list(&folder.join("others"))), (Some(vec![gone.clone()]), None));
        let listed = list(&folder).unwrap();
        assert_eq!(listed.iter().filter(|path| **path == there).count(), 1, "{listed:?}");
        assert_eq!((&*files.read(&gone).unwrap(), &*files.read(&there).unwrap()), (&b"one"[..], &b"two"[..]));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn files_come_into_force_without_the_text_and_without_those_of_tls() {
        let folder = folder("as-in-force");
        let path = folder.join("gateway.toml");
        let (config, before) = load(&path, &Disk);
        fs::write(&path, "half of a [").unwrap();
        fs::write(folder.join("ca.pem"), "two").unwrap();
        fs::write(folder.join("body.json"), "{\"type\": \"object\"}").unwrap();
        let (again, named) = load(&path, &AsInForce::new(&config.document, &config.proxy, Vec::new()));
        assert_eq!(again.document.text(), TEXT);
        assert_eq!(*again.proxy.client_certificates[0].ca.bytes, *b"one");
        assert_eq!(*again.proxy.routes[0].schema.as_ref().unwrap().bytes, *b"{\"type\": \"object\"}");
        assert_ne!(named, before);
        fs::remove_dir_all(folder).unwrap();
    }
}
