//! An observer in wrong hands: it gives commands that nobody gave, calls everything unusual, and brings lists, answers and
//! descriptors that nobody asked for. Or it says nothing at all.

use std::{
    fs::{self, File},
    io::IoSlice,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
    path::Path,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gateway::{
    message::{
        channel::Channel,
        observer::{
            ToObserver,
            alert::ObserverAnswer,
            anomalies::Deviations,
            delivery::Delivered,
            fetch::{FetchAnswer, Fetched},
            relay::Relayed,
        },
    },
    policy::detect::{ALL_ROUTES, Deviating, MAX_DEVIATING, NO_ROUTE},
    settings::anomalies::ClientMeasure,
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
};
use support::{random::Random, wait::pause};

use super::{
    descriptors,
    messages::{below, encoded},
    wire::{LONG, send, version},
};

/// What one of its sockets says. The file in memory is the one that a list is to be brought in.
type Lie = fn(u8, &mut Random, Option<&File>) -> Vec<u8>;

/// Plays what `observer-scenario` says. Without that file: the flood on its own channel.
pub(crate) fn play(program: &str) {
    let told = fs::read_to_string(Path::new(program).with_file_name("observer-scenario"));
    let told = told.unwrap_or_else(|_none| "descriptors 1".to_owned());
    let (scenario, seed) = told.trim().split_once(' ').unwrap();
    let random = Random::seeded(seed.parse().unwrap());
    let channel = gateway::os::launch::wait_for_introduction(std::io::stdin()).unwrap();
    eprintln!("hostile: observer: {scenario}");
    match scenario {
        "breaks" => converse(channel, random, true),
        "descriptors" => flood(channel),
        "dies" => {}
        "silent" => {
            pause(LONG);
            drop(channel);
        }
        "talks" => converse(channel, random, false),
        other => panic!("no scenario {other:?}"),
    }
}

/// Nobody listens to it, and it says all that fits all the same, with descriptors that are slow to close. Then it dies, and
/// leaves them to whoever closes the channel.
fn flood(channel: OwnedFd) {
    let socket = channel.try_clone().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let listener = runtime.block_on(async {
        let channel = Channel::new(channel).unwrap();
        let Some((ToObserver::Start, sent)) = channel.receive().await.unwrap() else { panic!("no start") };
        let [_config, listener] = <[OwnedFd; 2]>::try_from(sent).unwrap();
        listener
    });
    let held = descriptors::slow_to_close(&[listener]);
    let raw: Vec<i32> = held.iter().map(|one| one.as_raw_fd()).collect();
    let iov = [IoSlice::new(&[0xff; 4_096])];
    let send =
        || sendmsg::<()>(socket.as_raw_fd(), &iov, &[ControlMessage::ScmRights(&raw)], MsgFlags::MSG_NOSIGNAL, None);
    let mut sent = 0;
    while send().is_ok() {
        sent += 1;
    }
    eprintln!("hostile: observer: {sent} messages");
    pause(Duration::from_millis(200));
}

/// Says on each socket that it is given whatever belongs there, as fast as the guard takes it, until the guard closes it.
/// `breaks`: it says that wrong.
fn converse(channel: OwnedFd, mut random: Random, breaks: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let channel = Channel::new(channel).unwrap();
        while let Some((message, sent)) = channel.receive::<ToObserver>().await.unwrap() {
            let lie: Lie = match message {
                ToObserver::Ask => answer,
                ToObserver::Deliver => delivered,
                ToObserver::Fetch => fetched,
                ToObserver::Findings => deviations,
                ToObserver::Proxy { .. } => noise,
                ToObserver::Relay => command,
                _ => continue,
            };
            let random = random.fork();
            thread::spawn(move || say(sent, lie, random, breaks));
        }
    });
}

/// `sent`: the socket; or a question, the socket, and maybe the file in memory.
fn say(sent: Vec<OwnedFd>, lie: Lie, mut random: Random, breaks: bool) {
    let mut sent = sent.into_iter();
    let (first, second) = (sent.next().unwrap(), sent.next());
    let (socket, memory) = (second.unwrap_or(first), sent.next().map(File::from));
    let answers = socket.try_clone().unwrap();
    thread::spawn(move || ignore(&answers));
    let version = version();
    loop {
        let mut bytes = lie(version, &mut random, memory.as_ref());
        let comes_along = [socket.as_fd()];
        let descriptors = if breaks && spoil(&mut bytes, &mut random) { &comes_along[..] } else { &[] };
        if !send(socket.as_fd(), &bytes, descriptors) {
            return;
        }
    }
}

/// Reads what comes, so that the guard can go on answering.
fn ignore(socket: &OwnedFd) {
    let mut bytes = [0; 1 << 16];
    loop {
        let mut wait = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut wait, PollTimeout::MAX).unwrap();
        if matches!(nix::unistd::read(socket, &mut bytes), Ok(0)) {
            return;
        }
    }
}

/// Makes a message one that is none. `true`: a descriptor is to come along instead.
fn spoil(bytes: &mut Vec<u8>, random: &mut Random) -> bool {
    match random.below(5) {
        0 => bytes.truncate(bytes.len() / 2),
        1 => bytes[0] = bytes[0].wrapping_add(1),
        2 => bytes.iter_mut().skip(1).for_each(|byte| *byte = random.below(256).to_le_bytes()[0]),
        3 => bytes.resize(1 << 16, 0xff),
        _ => return true,
    }
    false
}

/// Commands of operators, each of which would be felt, and what it says that their tokens are.
fn command(version: u8, random: &mut Random, _: Option<&File>) -> Vec<u8> {
    const COMMANDS: [(&str, &str); 12] = [
        ("block_add", r#"{"source":"10.0.0.2","seconds":3600,"reason":"x","shadow":false}"#),
        ("block_flush", ""),
        ("allow_add", r#"{"source":"10.0.0.66","reason":"x","yes":true}"#),
        ("allow_del", r#"{"source":"10.0.0.109"}"#),
        ("admin_token_new", r#"{"name":"eve","roles":["configure"],"seconds":60}"#),
        ("detach", ""),
        ("reload", ""),
        ("status", ""),
        ("watch", ""),
        ("whoami", ""),
        ("\u{1b}[2J", "[[[[[["),
        ("status", r#"{"ask":"detach"}"#),
    ];
    let (name, arguments) = COMMANDS[below(random, COMMANDS.len())];
    let token = match random.below(5) {
        0 => String::new(),
        1 => "operator:0".to_owned(),
        2 => "token:root\r\nuid: 0".to_owned(),
        3 => format!("gwat_{:032x}", random.below(u64::MAX)),
        _ => "x".repeat(256),
    };
    let address = if random.below(2) == 0 { None } else { Some("127.0.0.1".parse().unwrap()) };
    let (name, arguments) = (name.to_owned(), arguments.as_bytes().to_vec());
    encoded(version, &Relayed { number: random.below(4), address, token, name, arguments })
}

/// All is unusual, everybody is new, and one request is too many.
fn deviations(version: u8, random: &mut Random, _: Option<&File>) -> Vec<u8> {
    let minute = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 60;
    let mut all = Vec::new();
    for (of, measure) in [
        (NO_ROUTE, ClientMeasure::Failures),
        (ALL_ROUTES, ClientMeasure::Failures),
        ("/items/{id}", ClientMeasure::Requests),
        (ALL_ROUTES, ClientMeasure::Errors),
        ("\u{1b}[2J\n", ClientMeasure::Requests),
    ] {
        for minute in [minute, minute.wrapping_sub(1), u64::MAX] {
            let since = [0, minute, u64::MAX][below(random, 3)];
            let (of, sentence) = (of.to_owned(), "41 failures\r\nall is well".to_owned());
            all.push(Deviating { of, measure, minute, since, alone: 0, sentence });
        }
    }
    all.truncate(MAX_DEVIATING);
    encoded(version, &Deviations(all))
}

/// A list of everybody, and of those whom a list must not block; what it brings is something else by the time that it is read.
fn fetched(version: u8, random: &mut Random, memory: Option<&File>) -> Vec<u8> {
    const LIST: &str = "0.0.0.0/0\n::/0\n10.0.0.1\n127.0.0.0/8\n10.0.0.109\n203.0.113.77\n";
    let Some(memory) = memory else { return Vec::new() };
    // Those questions to which there is no list have no room for one.
    memory.write_all_at(LIST.as_bytes(), 0).unwrap_or_default();
    let length = LIST.len().try_into().unwrap();
    let text = "\u{1b}[2J\r\n".repeat(50);
    let signature = Some("untrusted comment: x\nRWQf6LRCGA9i5w==\n".to_owned());
    let whole = FetchAnswer {
        status: 200,
        length,
        etag: text.clone(),
        last_modified: text,
        checksum: Some("0".repeat(64)),
        signature,
        // Whoever asks a server to be left alone is left alone, for a day at most: no more would be heard of it here.
        retry_after: 0,
    };
    let answer = match random.below(8) {
        0 => Ok(FetchAnswer { length: u64::MAX, ..whole }),
        1 => Ok(FetchAnswer { status: 304, ..whole }),
        2 => Ok(FetchAnswer { length: 0, ..whole }),
        3 => Err("\u{1b}[31m\n".repeat(60)),
        4 => Err("x".repeat(5_000)),
        _ => Ok(whole),
    };
    encoded(version, &Fetched(answer))
}

/// What operators ask of alerts and anomalies.
fn answer(version: u8, random: &mut Random, _: Option<&File>) -> Vec<u8> {
    let text = || "\u{1b}[2J\u{7}all is well\r\n".repeat(20);
    let answer = match random.below(6) {
        0 => ObserverAnswer::Done(text(), u64::MAX),
        1 => ObserverAnswer::Done("x".repeat(60_000), 0),
        2 => ObserverAnswer::Refused(text(), text()),
        3 => ObserverAnswer::Refused("denied".to_owned(), text()),
        4 => ObserverAnswer::Report(vec![b'['; 48 << 10]),
        _ => ObserverAnswer::Report(br#"{"alerts":7}"#.to_vec()),
    };
    encoded(version, &answer)
}

/// What became of a checkpoint on its way to an anchor.
fn delivered(version: u8, random: &mut Random, _: Option<&File>) -> Vec<u8> {
    let delivered = match random.below(4) {
        0 => Ok(Vec::new()),
        1 => Ok(vec![0; 40_000]),
        2 => Err("\u{1b}[31mgone\nfor good".repeat(20)),
        _ => Err("x".repeat(60_000)),
    };
    encoded(version, &Delivered(delivered))
}

/// To a proxy, which hears nothing of it.
fn noise(version: u8, random: &mut Random, _: Option<&File>) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..random.below(2_000)).map(|_| random.below(256).to_le_bytes()[0]).collect();
    bytes.insert(0, version);
    bytes
}
