//! The files that the configuration names, besides those of TLS and keys, which are taken over by themselves
//! ([`certificate_files`]): schemas, passwords, secrets, tokens. Polled, so that it works however files are replaced.
//!
//! *Invariant:* a file that has changed comes into force by the configuration in force, as its text was read: what somebody
//! is still writing to `gateway.toml` comes into force by a reload alone.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, Disk, Document, Files},
    guard::lifecycle::{certificates::certificate_files::watched, files::settling::Settling},
    settings::proxy,
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
    fn changed(&self) -> Vec<ChangedFile> {
        let now = self.0.iter().map(|(path, before)| (ChangedFile { path: path.clone(), digest: held(path) }, before));
        now.filter(|(file, before)| file.digest.as_ref() != Some(before)).map(|(file, _)| file).collect()
    }

    /// Whether it was read with a file that holds this.
    fn has(&self, path: &Path, digest: &Digest) -> bool {
        self.0.iter().any(|(known, held)| known == path && held == digest)
    }

    /// Whether these files were read as they were looked at.
    pub(in crate::guard::lifecycle) fn have(&self, files: &[ChangedFile]) -> bool {
        files.iter().all(|file| match self.0.iter().find(|(path, _)| *path == file.path) {
            Some((_, held)) => file.digest.as_ref() == Some(held),
            // Another file that has changed may name it no more. One that a `*` names may be gone for a moment.
            None => file.is_same(),
        })
    }
}

/// A file that holds something else than what is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::guard::lifecycle) struct ChangedFile {
    pub(in crate::guard::lifecycle) path: PathBuf,
    /// `None`: it cannot be read.
    digest: Option<Digest>,
}

impl ChangedFile {
    /// Whether it cannot be read any more.
    pub(in crate::guard::lifecycle) const fn is_gone(&self) -> bool {
        self.digest.is_none()
    }

    /// Whether it still is as it was looked at.
    pub(in crate::guard::lifecycle) fn is_same(&self) -> bool {
        held(&self.path) == self.digest
    }
}

/// What a file holds now.
fn held(path: &Path) -> Option<Digest> {
    Disk.read(path).ok().map(|bytes| digest(&bytes))
}

fn digest(bytes: &[u8]) -> Digest {
    let mut sum = Digest::default();
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

/// What is remembered of the files.
#[derive(Default)]
pub(in crate::guard::lifecycle) struct FileWatcher(Settling);

impl FileWatcher {
    /// Looks at every file. `None`: nothing has changed since the last look that told of something, or something is still
    /// changing. Otherwise those that hold something else than what is in force.
    pub(in crate::guard::lifecycle) fn poll(&mut self, named: &NamedFiles) -> Option<Vec<ChangedFile>> {
        self.0.look(named.0.iter().map(|(path, _)| path.clone())).then(|| named.changed())
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
    /// Those that the last look found changed.
    changed: Vec<ChangedFile>,
    /// Those that cannot be used, and why.
    unusable: Vec<(ChangedFile, String)>,
    /// Those that cannot be used together, and are tried one by one.
    apart: VecDeque<ChangedFile>,
    /// Those that cannot be read any more. What has changed beside them may name them no longer, so that they are told of once
    /// that is decided.
    gone: Vec<ChangedFile>,
}

impl WatchedFiles {
    /// A configuration is in force that was read with these.
    pub(in crate::guard::lifecycle) fn renewed(&mut self, named: NamedFiles) {
        self.unusable.retain(|(file, _)| {
            let is_named = named.0.iter().any(|(path, _)| *path == file.path);
            is_named && !file.digest.is_some_and(|digest| named.has(&file.path, &digest))
        });
        self.named = Arc::new(named);
        self.epoch += 1;
        self.look_again();
    }

    /// The next look tells of all that it finds.
    pub(in crate::guard::lifecycle) fn look_again(&mut self) {
        let FileWatcher(settling) = self.watcher.take().unwrap_or_default();
        self.watcher = Some(FileWatcher(settling.again()));
        self.apart.clear();
        self.gone.clear();
    }

    /// These files hold something else than what is in force. Those to bring into force, and those to leave as they are: the ones
    /// that cannot be read any more, and the ones that could not be used before, until they are all that is left.
    pub(in crate::guard::lifecycle) fn found(
        &mut self,
        changed: Vec<ChangedFile>,
    ) -> Option<(Vec<ChangedFile>, Vec<PathBuf>)> {
        self.apart.clear();
        self.unusable.retain(|(file, _)| changed.contains(file));
        self.changed = changed;
        let (gone, there): (Vec<_>, Vec<_>) = self.changed.iter().cloned().partition(ChangedFile::is_gone);
        self.gone.clone_from(&gone);
        if there.is_empty() {
            return None;
        }
        let gone = gone.into_iter().map(|file| file.path);
        let is_unusable = |file: &ChangedFile| self.unusable.iter().any(|(known, _)| known == file);
        let (unusable, fresh): (Vec<_>, Vec<_>) = there.iter().cloned().partition(is_unusable);
        if fresh.is_empty() {
            return Some((there, gone.collect()));
        }
        Some((fresh, unusable.into_iter().map(|file| file.path).chain(gone).collect()))
    }

    /// Those that cannot be read any more and are to be told of now: nothing else is to be decided.
    pub(in crate::guard::lifecycle) fn take_gone(&mut self) -> Vec<ChangedFile> {
        if self.apart.is_empty() { std::mem::take(&mut self.gone) } else { Vec::new() }
    }

    /// These files cannot be used together: each is to be tried.
    pub(in crate::guard::lifecycle) fn separate(&mut self, files: &[ChangedFile]) {
        self.apart.extend(files.iter().cloned());
    }

    /// The next file to be tried alone, and those to leave as they are meanwhile.
    pub(in crate::guard::lifecycle) fn next_apart(&mut self) -> Option<(ChangedFile, Vec<PathBuf>)> {
        let next = self.apart.pop_front()?;
        let held = self.changed.iter().filter(|file| **file != next).map(|file| file.path.clone()).collect();
        Some((next, held))
    }

    /// A file cannot be used. Whether that is news.
    pub(in crate::guard::lifecycle) fn refused(&mut self, file: &ChangedFile, why: &str) -> bool {
        let known = self.unusable.iter().position(|(known, _)| known.path == file.path);
        let before = known.map(|index| self.unusable.remove(index));
        let entry = (file.clone(), why.to_owned());
        let is_news = before.as_ref() != Some(&entry);
        self.unusable.push(entry);
        is_news
    }

    /// Whether files have changed and are not in force.
    pub(in crate::guard::lifecycle) fn has_unusable(&self) -> bool {
        !self.unusable.is_empty()
    }

    /// What an operator should know of them: one text for all that fail for the same reason.
    pub(in crate::guard::lifecycle) fn warnings(&self) -> Vec<String> {
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for (file, why) in &self.unusable {
            let path = file.path.display().to_string();
            match reasons.iter_mut().find(|(known, _)| known == why) {
                Some((_, files)) => files.push(path),
                None => reasons.push((why, vec![path])),
            }
        }
        let told =
            |(why, files): (&str, Vec<String>)| format!("changed files are not in force ({}): {why}", files.join(", "));
        reasons.into_iter().map(told).collect()
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
        settings: &proxy::Settings,
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
    use crate::config::RecordingFiles;

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
        let recorder = RecordingFiles::new(files);
        let config = Config::load(path, &recorder).unwrap();
        let named = NamedFiles::new(&config, &recorder.contents());
        (config, named)
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
    fn a_file_is_told_of_once_it_stops_changing_and_until_it_is_as_before() {
        let folder = folder("poll");
        let (_, named) = load(&folder.join("gateway.toml"), &Disk);
        let body = folder.join("body.json");
        assert_eq!(named.0.iter().map(|(path, _)| path).collect::<Vec<_>>(), [&body], "TLS has a watcher of its own");
        let mut watcher = FileWatcher::default();
        // What is written in place is told of once it has stayed as it is for some looks.
        let mut check = |expect: &[&Path], why: &str| {
            let told = (0..10).find_map(|_| watcher.poll(&named)).expect(why);
            assert_eq!(told.iter().map(|file| file.path.as_path()).collect::<Vec<_>>(), expect, "{why}");
            assert!(told.iter().all(ChangedFile::is_same), "{why}");
            assert_eq!(watcher.poll(&named), None, "{why}: that was told");
        };
        check(&[], "all is as it is in force");
        fs::write(&body, "{\"type\": \"object\"}").unwrap();
        check(&[&body], "it has changed");
        fs::remove_file(&body).unwrap();
        check(&[&body], "what cannot be read is not what was read");
        fs::write(&body, "{}").unwrap();
        check(&[], "as it is in force");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_cannot_be_used_keeps_nothing_else_out() {
        let file = |name: &str, digest: u8| ChangedFile { path: name.into(), digest: Some([digest; 32]) };
        let names = |files: &[ChangedFile]| files.iter().map(|it| it.path.display().to_string()).collect::<String>();
        let [a, b, c] = [file("a", 1), file("b", 2), file("c", 3)];
        let mut watched = WatchedFiles::default();
        let all = vec![a.clone(), b.clone(), c.clone()];
        let found = |watched: &mut WatchedFiles, changed: &[ChangedFile]| {
            watched.found(changed.to_vec()).map(|(files, held)| (names(&files), held.len()))
        };
        assert_eq!(found(&mut watched, &all), Some(("abc".to_owned(), 0)));
        watched.separate(&all);
        let (first, held) = watched.next_apart().unwrap();
        assert_eq!((first, held), (a.clone(), vec!["b".into(), "c".into()]));
        assert!(watched.refused(&a, "bad"), "that is news");
        assert_eq!(watched.next_apart().unwrap().0, b);
        // That one comes into force.
        watched.renewed(NamedFiles(vec![("a".into(), [9; 32]), ("b".into(), [2; 32]), ("c".into(), [9; 32])]));
        assert!(watched.next_apart().is_none());
        assert_eq!(watched.warnings(), ["changed files are not in force (a): bad"]);
        assert_eq!(found(&mut watched, &[a.clone(), c]), Some(("c".to_owned(), 1)));
        watched.renewed(NamedFiles(vec![("a".into(), [9; 32]), ("b".into(), [2; 32]), ("c".into(), [3; 32])]));
        // What is left may be good with what came into force.
        assert_eq!(found(&mut watched, std::slice::from_ref(&a)), Some(("a".to_owned(), 0)));
        assert!(!watched.refused(&a, "bad") && watched.refused(&a, "worse"), "what is known is no news");
        // Another content is another file.
        assert_eq!(found(&mut watched, &[file("a", 7)]), Some(("a".to_owned(), 0)));
        assert!(!watched.has_unusable());
        watched.refused(&a, "bad");
        watched.renewed(NamedFiles(vec![("a".into(), [1; 32])]));
        assert!(!watched.has_unusable(), "it is in force");
        watched.refused(&a, "bad");
        watched.renewed(NamedFiles(Vec::new()));
        assert!(!watched.has_unusable(), "nobody names it");
    }

    /// A file that goes together with what names it is not missed. One that is still named is told of once that is clear.
    #[test]
    fn what_is_gone_is_told_once_nothing_names_it_otherwise() {
        let there = |name: &str| ChangedFile { path: name.into(), digest: Some([1; 32]) };
        let gone = ChangedFile { path: "words".into(), digest: None };
        let named = |names: &[&str]| NamedFiles(names.iter().map(|name| (name.into(), [1; 32])).collect());
        let mut watched = WatchedFiles::default();
        assert_eq!(watched.found(vec![gone.clone()]), None);
        assert_eq!((watched.take_gone(), watched.take_gone()), (vec![gone.clone()], Vec::new()), "alone: at once");
        // With the rules that named it, and these come into force.
        let (files, held) = watched.found(vec![there("rules"), gone.clone()]).unwrap();
        assert_eq!((files, held), (vec![there("rules")], vec![PathBuf::from("words")]));
        watched.renewed(named(&["rules"]));
        assert!(watched.take_gone().is_empty(), "nobody names it");
        // Rules that cannot be used: those before name it.
        watched.found(vec![there("rules"), there("others"), gone.clone()]);
        watched.separate(&[there("rules"), there("others")]);
        for _ in 0..2 {
            assert!(watched.take_gone().is_empty(), "one of them may be the one");
            watched.next_apart().unwrap();
        }
        assert_eq!(watched.take_gone(), [gone]);
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
