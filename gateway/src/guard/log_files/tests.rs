//! Rotation and what follows it, with a crash at each step.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    path::PathBuf,
};

use flate2::read::MultiGzDecoder;

use super::*;

const START: u64 = 1_764_000_000_000;

/// A file by its name, and what is in it.
type NamedBytes = (String, Vec<u8>);

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("gateway-logs-{}-{name}", std::process::id()));
        fs::remove_dir_all(&folder).unwrap_or_default();
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn log(&self) -> PathBuf {
        self.0.join("access.log")
    }

    /// What each file says, by what follows the log's name.
    fn contents(&self) -> BTreeMap<String, String> {
        let mut contents = BTreeMap::new();
        for entry in fs::read_dir(&self.0).unwrap() {
            let path = entry.unwrap().path();
            let mut text = String::new();
            let file = File::open(&path).unwrap();
            if path.extension().is_some_and(|ending| ending == "gz") {
                MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
            } else {
                BufReader::new(file).read_to_string(&mut text).unwrap();
            }
            let name = path.file_name().unwrap().to_str().unwrap();
            contents.insert(name.strip_prefix("access.log").unwrap().to_owned(), text);
        }
        contents
    }

    #[track_caller]
    fn check(&self, expect: &[(&str, &str)]) {
        let expect = expect.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        assert_eq!(self.contents(), expect);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

fn settings(folder: &Folder, keep_files: usize, keep_for: Option<Duration>) -> LogFile {
    let rotate = Rotate { size: 10, every: None, keep_files, keep_for, compress: true };
    LogFile { path: folder.log(), rotate: Some(rotate) }
}

#[test]
fn files_are_rotated_compressed_and_removed() {
    let folder = Folder::new("all");
    let file = settings(&folder, 2, None);
    let mut opened = open(&file.path).unwrap();
    let rules = file.rotate.clone().unwrap();
    for number in 0..4_u64 {
        assert!(!is_due(&rules, &opened, START), "there is nothing in it");
        write!(opened, "line {number}").unwrap();
        assert!(!is_due(&rules, &opened, START), "it is small");
        writeln!(opened, " and more").unwrap();
        assert!(is_due(&rules, &opened, START));
        let next = rotate(&file.path, &opened, START + number * 1_000).unwrap();
        // Whoever still writes to it keeps it from being compressed.
        assert!(tidy(&file, START).is_empty());
        assert!(folder.log().with_file_name(format!("access.log.20251124T16000{number}.000Z")).exists());
        opened = next;
        assert!(tidy(&file, START).is_empty());
    }
    folder.check(&[
        ("", ""),
        (".20251124T160002.000Z.gz", "line 2 and more\n"),
        (".20251124T160003.000Z.gz", "line 3 and more\n"),
    ]);
    let old = LogFile { rotate: Some(Rotate { keep_for: Some(Duration::from_secs(10)), ..rules }), ..file };
    assert!(tidy(&old, START + 12_500).is_empty());
    folder.check(&[("", ""), (".20251124T160003.000Z.gz", "line 3 and more\n")]);
}

#[test]
fn a_file_is_rotated_once_it_is_old() {
    let folder = Folder::new("old");
    let every = Duration::from_secs(3_600);
    let file = settings(&folder, 5, None);
    let rotate_at = Rotate { size: u64::MAX, every: Some(every), ..file.rotate.unwrap() };
    let mut opened = open(&folder.log()).unwrap();
    let born = |file: &File| -> u64 {
        let born = file.metadata().unwrap().created().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        // Rounded up, as a clock of milliseconds is behind.
        u64::try_from(born.as_millis()).unwrap() + 1
    };
    for round in 0..2 {
        let born = born(&opened);
        assert!(!is_due(&rotate_at, &opened, born + 7_200_000), "{round}: there is nothing in it");
        writeln!(opened, "{round}").unwrap();
        let is_due_at = |millis| is_due(&rotate_at, &opened, millis);
        // A clock that was set back makes no file old.
        assert_eq!([born - 9_000, born, born + 3_598_000].map(is_due_at), [false; 3], "{round}");
        assert_eq!([born + 3_600_000, born + 7_200_000].map(is_due_at), [true; 2], "{round}");
        assert!(!is_due(&Rotate { every: None, ..rotate_at.clone() }, &opened, born + 7_200_000), "{round}");
        // The file after it is young.
        opened = rotate(&folder.log(), &opened, START + round).unwrap();
    }
    folder.check(&[("", ""), (".20251124T160000.000Z", "0\n"), (".20251124T160000.001Z", "1\n")]);
}

#[test]
fn two_rotations_of_one_moment_have_two_names() {
    let folder = Folder::new("moment");
    let mut opened = open(&folder.log()).unwrap();
    for number in 0..3 {
        writeln!(opened, "{number}").unwrap();
        opened = rotate(&folder.log(), &opened, START).unwrap();
    }
    let names = [".20251124T160000.000Z", ".20251124T160000.001Z", ".20251124T160000.002Z"];
    folder.check(&[("", ""), (names[0], "0\n"), (names[1], "1\n"), (names[2], "2\n")]);
}

#[test]
fn what_others_have_rotated_is_left_to_them() {
    let folder = Folder::new("others");
    let mut opened = open(&folder.log()).unwrap();
    writeln!(opened, "one").unwrap();
    fs::rename(folder.log(), with(&folder.log(), ".1")).unwrap();
    drop(rotate(&folder.log(), &opened, START).unwrap());
    drop(opened);
    assert!(tidy(&settings(&folder, 5, None), START).is_empty());
    folder.check(&[("", ""), (".1", "one\n")]);
}

#[test]
fn a_crash_at_any_step_loses_no_line() {
    const NAME: &str = ".20251124T160000.000Z";
    let gz = |text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let whole = gz("one\ntwo\n");
    let states: [(&str, Vec<NamedBytes>); 5] = [
        ("renamed, no other opened", vec![(NAME.to_owned(), b"one\ntwo\n".to_vec())]),
        (
            "compressing had begun",
            vec![(NAME.to_owned(), b"one\ntwo\n".to_vec()), (format!("{NAME}{PARTIAL}"), whole[..9].to_vec())],
        ),
        (
            "compressed, not renamed",
            vec![(NAME.to_owned(), b"one\ntwo\n".to_vec()), (format!("{NAME}{PARTIAL}"), whole.clone())],
        ),
        (
            "renamed, the other not removed",
            vec![(NAME.to_owned(), b"one\ntwo\n".to_vec()), (format!("{NAME}{COMPRESSED}"), whole.clone())],
        ),
        ("done", vec![(format!("{NAME}{COMPRESSED}"), whole.clone())]),
    ];
    for (what, files) in states {
        let folder = Folder::new("crash");
        for (name, content) in files {
            fs::write(with(&folder.log(), &name), content).unwrap();
        }
        // The next guard.
        let opened = open(&folder.log()).unwrap();
        assert!(tidy(&settings(&folder, 5, None), START).is_empty(), "{what}");
        drop(opened);
        folder.check(&[("", ""), (&format!("{NAME}{COMPRESSED}"), "one\ntwo\n")]);
    }
}

#[test]
fn a_file_that_cannot_be_opened_keeps_its_name() {
    let folder = Folder::new("denied");
    let mut opened = open(&folder.log()).unwrap();
    writeln!(opened, "one").unwrap();
    // A folder that takes no new file: a name that is too long stands for it.
    let long = folder.0.join("x".repeat(250));
    fs::rename(folder.log(), &long).unwrap();
    assert!(rotate(&long, &opened, START).is_err());
    assert!(long.exists());
    fs::rename(&long, folder.log()).unwrap();
}

#[test]
fn a_link_is_neither_rotated_nor_written_to() {
    let folder = Folder::new("links");
    let target = folder.0.join("access.log-target");
    for exists in [false, true] {
        if exists {
            fs::write(&target, "secret").unwrap();
        }
        std::os::unix::fs::symlink(&target, folder.log()).unwrap();
        let error = open_rotated(&folder.log()).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert_eq!(target.exists(), exists);
        fs::remove_file(folder.log()).unwrap();
    }
    std::os::unix::fs::symlink("/dev/null", folder.log()).unwrap();
    assert!(open_rotated(&folder.log()).is_ok(), "a device is not rotated");
    fs::remove_file(folder.log()).unwrap();
    // Neither is one compressed, nor is a file written to through one.
    let rotated = with(&folder.log(), ".20251124T160000.000Z");
    std::os::unix::fs::symlink(&target, &rotated).unwrap();
    assert!(compress(&rotated).is_err());
    fs::remove_file(&rotated).unwrap();
    fs::write(&rotated, "one\n").unwrap();
    std::os::unix::fs::symlink(&target, with(&rotated, PARTIAL)).unwrap();
    assert!(tidy(&settings(&folder, 5, None), START).is_empty());
    folder.check(&[("-target", "secret"), (".20251124T160000.000Z.gz", "one\n")]);
}

#[test]
fn a_pipe_is_not_waited_for() {
    let folder = Folder::new("pipe");
    nix::unistd::mkfifo(&folder.log(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for opened in [open(&folder.log()), open_rotated(&folder.log())] {
        let error = opened.unwrap_err();
        assert!(error.to_string().contains("a pipe that nobody reads"), "{error}");
    }
    let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(folder.log()).unwrap();
    let writer = open(&folder.log()).unwrap();
    assert!(!fcntl_getfl(&writer).unwrap().contains(OFlags::NONBLOCK));
    assert!(fcntl_getfl(&writer).unwrap().contains(OFlags::APPEND));
    drop(reader);
}
