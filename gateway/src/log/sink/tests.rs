//! Lines on their way to files and sockets.

use std::{
    io::{Read as _, Seek as _},
    net::UdpSocket,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::PathBuf,
};

use super::*;
use crate::settings::access_log::{self as settings, LogFile, Rotate, Syslog, SyslogTransport};

fn memory() -> File {
    rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into()
}

fn outputs(outputs: &[settings::Output]) -> Vec<CompiledOutput> {
    outputs.iter().map(|output| CompiledOutput::new(output).unwrap()).collect()
}

fn file(name: &str) -> settings::Output {
    settings::Output::File(LogFile { path: name.into(), rotate: None })
}

fn syslog(transport: SyslogTransport) -> settings::Output {
    let (app_name, hostname) = ("gateway".to_owned(), Some("host".to_owned()));
    settings::Output::Syslog(Box::new(Syslog { transport, facility: 1, app_name, hostname }))
}

#[track_caller]
fn check(mut file: File, expect: &str) {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, expect);
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn lines_reach_the_file_that_is_open() {
    let (first, second) = (memory(), memory());
    let sink = Sink::start(&outputs(&[file("a")]), [first.try_clone().unwrap()]).unwrap();
    let lines = LogBuffer::new(sink.clone());
    lines.add(|out| out.extend_from_slice(b"one\n"));
    lines.flush();
    sink.reopen(0, second.try_clone().unwrap());
    lines.add(|out| out.extend_from_slice(b"two\n"));
    drop(lines);
    sink.finish(LONG);
    check(first, "one\n");
    check(second, "two\n");
}

#[test]
fn every_output_gets_every_line_and_changes_by_itself() {
    let (first, second, third) = (memory(), memory(), memory());
    let clone = |file: &File| file.try_clone().unwrap();
    let sink = Sink::start(&outputs(&[file("a"), file("b")]), [clone(&first), clone(&second)]).unwrap();
    let lines = LogBuffer::new(sink.clone());
    let add = |line: &str| {
        lines.add(|out| out.extend_from_slice(line.as_bytes()));
        lines.flush();
    };
    add("one\n");
    // One goes, one stays as it is, one comes.
    sink.change(sink.open_all(&outputs(&[file("b"), file("c")]), [clone(&second), clone(&third)]).unwrap());
    add("two\n");
    assert!(sink.open_all(&outputs(&[file("d")]), []).is_err(), "no file was sent");
    add("three\n");
    // Opened for a reload that was given up.
    drop(sink.open_all(&outputs(&[file("a")]), [memory()]).unwrap());
    // Rotated in another way: the same file, so nobody sends it again.
    let rotate = Rotate { size: 1, every: None, keep_files: 1, keep_for: None, compress: false };
    let rotated = settings::Output::File(LogFile { path: "b".into(), rotate: Some(rotate) });
    sink.change(sink.open_all(&outputs(&[rotated]), []).unwrap());
    add("four\n");
    sink.finish(LONG);
    add("after the end\n");
    check(first, "one\n");
    check(second, "one\ntwo\nthree\nfour\n");
    check(third, "two\nthree\n");
}

#[test]
fn a_slow_disk_keeps_nobody_from_reopening() {
    // A pipe that nobody reads is full soon.
    let (mut reader, writer) = io::pipe().unwrap();
    let sink = Sink::start(&outputs(&[file("a")]), [File::from(OwnedFd::from(writer))]).unwrap();
    let block = vec![b'x'; 128 * 1_024];
    while sink.dropped() == DropCounts::default() {
        sink.hand_over([&block[..], b"\n"].concat());
    }
    // The first block is being written by now.
    reader.read_exact(&mut [0]).unwrap();
    let other = memory();
    sink.reopen(0, other.try_clone().unwrap());
    let read = thread::spawn(move || {
        let mut first = vec![0; 128 * 1_024];
        reader.read_exact(&mut first).unwrap();
    });
    read.join().unwrap();
    sink.finish(LONG);
    assert!(other.metadata().unwrap().len() > 128 * 1_024, "what waited went there");
}

#[test]
fn a_queue_is_bounded_by_bytes() {
    // Nobody reads the pipe.
    let (_reader, writer) = io::pipe().unwrap();
    let sink = Sink::start(&outputs(&[file("a")]), [File::from(OwnedFd::from(writer))]).unwrap();
    sink.hand_over(vec![b'x'; 1 << 20]);
    // Ten seconds of 20 workers at low load.
    for _ in 0..4_000 {
        sink.hand_over(b"a line\n".to_vec());
    }
    assert_eq!(sink.dropped(), DropCounts::default());
    let large = [vec![b'x'; (1 << 20) - 1], vec![b'\n']].concat();
    for _ in 0..7 {
        sink.hand_over(large.clone());
    }
    let mut counts = DropCounts::default();
    counts[DropReason::TooSlow as usize] = 1;
    assert_eq!(sink.dropped(), counts, "the last one is more than 8 MiB");
    // What is smaller still has room.
    sink.hand_over(b"a line\n".to_vec());
    assert_eq!(sink.dropped(), counts);
}

#[test]
fn an_end_waits_for_no_pipe_that_nobody_reads() {
    let (_reader, writer) = io::pipe().unwrap();
    let sink = Sink::start(&outputs(&[file("a")]), [File::from(OwnedFd::from(writer))]).unwrap();
    sink.hand_over(vec![b'x'; 1 << 20]);
    sink.finish(Duration::from_millis(50));
}

#[test]
fn dropped_lines_are_counted_by_reason() {
    let gone = syslog(SyslogTransport::Udp("127.0.0.1:1".to_owned()));
    for (output, opened, expect) in [
        (file("a"), Some(File::open("/dev/null").unwrap()), Some(DropReason::Unwritable)),
        (file("a"), Some(File::options().write(true).open("/dev/full").unwrap()), Some(DropReason::DiskFull)),
        (gone, None, None),
    ] {
        let sink = Sink::start(&outputs(&[output]), opened).unwrap();
        let lines = LogBuffer::new(sink.clone());
        lines.add(|out| out.extend_from_slice(b"one\ntwo\n"));
        drop(lines);
        sink.finish(Duration::from_secs(1));
        if let Some(reason) = expect {
            let mut counts = DropCounts::default();
            counts[reason as usize] = 2;
            assert_eq!(sink.dropped(), counts);
        }
    }
    assert!(DropReason::ALL.iter().enumerate().all(|(place, reason)| *reason as usize == place));
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("gateway-log-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn datagrams_bear_a_line_each() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let folder = folder("datagrams");
    let (syslog_at, journal_at) = (folder.join("log"), folder.join("journal"));
    let (unix, journal) = (UnixDatagram::bind(&syslog_at).unwrap(), UnixDatagram::bind(&journal_at).unwrap());
    udp.set_read_timeout(Some(LONG)).unwrap();
    unix.set_read_timeout(Some(LONG)).unwrap();
    journal.set_read_timeout(Some(LONG)).unwrap();
    let sink = Sink::start(
        &outputs(&[
            syslog(SyslogTransport::Udp(udp.local_addr().unwrap().to_string())),
            syslog(SyslogTransport::Unix(syslog_at)),
            settings::Output::Journald(journal_at),
        ]),
        [],
    )
    .unwrap();
    sink.hand_over(b"one\ntwo\n".to_vec());
    let mut space = [0; 4_096];
    for line in ["one", "two"] {
        for receiver in 0..3 {
            let length = match receiver {
                0 => udp.recv(&mut space),
                1 => unix.recv(&mut space),
                _ => journal.recv(&mut space),
            };
            let message = std::str::from_utf8(&space[..length.unwrap()]).unwrap();
            let expect = if receiver == 2 { format!("MESSAGE={line}\n") } else { format!(" access - {line}") };
            assert!(message.ends_with(&expect), "{message:?} {expect:?}");
            assert!(receiver == 2 || message.starts_with("<14>1 2"), "{message:?}");
        }
    }
    // One that no datagram holds is cut between two letters, and what follows is whole.
    sink.hand_over(["long ", &"\u{20ac}".repeat(300_000), "\nlast\n"].concat().into_bytes());
    for (receiver, socket) in [("udp", None), ("syslog", Some(&unix)), ("journal", Some(&journal))] {
        let mut next = || {
            let length = match socket {
                Some(socket) => socket.recv(&mut space),
                None => udp.recv(&mut space),
            };
            String::from_utf8(space[..length.unwrap()].to_vec()).unwrap()
        };
        let (cut, last) = (next(), next());
        assert!((2_040..=2_049).contains(&cut.len()) && cut.contains("long \u{20ac}"), "{receiver}: {cut}");
        assert_eq!(cut.ends_with('\n'), receiver == "journal", "{cut:?}");
        assert!(last.trim_end().ends_with("last"), "{receiver}: {last}");
    }
    sink.finish(LONG);
    assert_eq!(sink.dropped()[DropReason::TooLong as usize], 3);
    std::fs::remove_dir_all(folder).unwrap();
}

/// Messages with their lengths in front of them, up to the end of the connection.
fn counted(mut stream: impl io::Read, until: usize) -> Vec<String> {
    let mut messages = Vec::new();
    while messages.len() < until {
        let mut digits = String::new();
        loop {
            let mut byte = [0];
            if stream.read(&mut byte).unwrap_or(0) == 0 {
                return messages;
            }
            if byte[0] == b' ' {
                break;
            }
            digits.push(byte[0].into());
        }
        let mut message = vec![0; digits.parse().unwrap()];
        stream.read_exact(&mut message).unwrap();
        messages.push(String::from_utf8(message).unwrap());
    }
    messages
}

#[test]
fn a_connection_that_has_ended_is_opened_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let sink = Sink::start(&outputs(&[syslog(SyslogTransport::Tcp(address))]), []).unwrap();
    for line in ["one", "two \u{20ac}", "three"] {
        sink.hand_over(format!("{line}\n").into_bytes());
        let (stream, _) = listener.accept().unwrap();
        let messages = counted(&stream, 1);
        assert!(messages.len() == 1 && messages[0].ends_with(&format!(" access - {line}")), "{messages:?}");
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    }
    sink.finish(LONG);
    assert_eq!(sink.dropped(), DropCounts::default());
}

#[test]
fn a_server_that_comes_late_gets_what_waits() {
    let folder = folder("late");
    let path = folder.join("log");
    let sink = Sink::start(&outputs(&[syslog(SyslogTransport::Unix(path.clone()))]), []).unwrap();
    sink.hand_over(b"early\n".to_vec());
    thread::sleep(Duration::from_millis(150));
    let unix = UnixDatagram::bind(&path).unwrap();
    unix.set_read_timeout(Some(LONG)).unwrap();
    let mut space = [0; 4_096];
    let length = unix.recv(&mut space).unwrap();
    assert!(space[..length].ends_with(b" access - early"));
    sink.finish(LONG);
    std::fs::remove_dir_all(folder).unwrap();
}
