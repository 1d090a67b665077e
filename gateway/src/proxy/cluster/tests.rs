//! The thread, and a store that the test plays.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use super::{Cluster, resp};
use crate::{
    os::file::NamedFile,
    policy::limit::BudgetQueue,
    settings::cluster::{self, ClusterNode, ClusterStore, Stale, StoreMode},
};

/// What the store has heard: the number of the connection, and the words.
type Heard = Vec<(usize, Vec<String>)>;

/// A store that remembers what it is asked.
#[derive(Default)]
struct Played {
    heard: Mutex<Heard>,
    more: Condvar,
}

impl Played {
    /// Plays the store. `None` of `answer`: it never answers that.
    fn start(answer: fn(&[String]) -> Option<String>) -> (Arc<Self>, String) {
        let (played, listener) = (Arc::new(Self::default()), TcpListener::bind("127.0.0.1:0").unwrap());
        let (address, store) = (listener.local_addr().unwrap().to_string(), Arc::clone(&played));
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let store = Arc::clone(&store);
                thread::spawn(move || store.talk(number, stream.unwrap(), answer));
            }
        });
        (played, address)
    }

    fn talk(&self, number: usize, mut stream: TcpStream, answer: fn(&[String]) -> Option<String>) {
        let (mut input, mut part) = (Vec::new(), [0; 4_096]);
        loop {
            while let Some((command, length)) = resp::read(&input).unwrap() {
                input.drain(..length);
                let words: Vec<String> =
                    command.array().unwrap().iter().map(|word| word.text().unwrap_or_default().to_owned()).collect();
                let answer = answer(&words);
                self.heard.lock().unwrap().push((number, words));
                self.more.notify_all();
                let Some(answer) = answer else { return thread::park() };
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            match stream.read(&mut part) {
                Ok(0) | Err(_) => return,
                Ok(count) => input.extend_from_slice(&part[..count]),
            }
        }
    }

    /// Waits until it has heard what is looked for.
    #[track_caller]
    fn until(&self, what: &str, is_there: impl Fn(&Heard) -> bool) -> Heard {
        let heard = self.heard.lock().unwrap();
        let wait = Duration::from_secs(30);
        let (heard, late) = self.more.wait_timeout_while(heard, wait, |heard| !is_there(heard)).unwrap();
        assert!(!late.timed_out(), "{what}: {:?}", heard.iter().rev().take(20).collect::<Vec<_>>());
        heard.clone()
    }
}

fn count(heard: &Heard, verb: &str) -> usize {
    heard.iter().filter(|(_, words)| words[0] == verb).count()
}

/// A store that grants everything, and has nothing of others but wholes of three bytes.
fn answer(words: &[String]) -> Option<String> {
    Some(match words[0].as_str() {
        "EVALSHA" => "*3\r\n:1\r\n:0\r\n:1\r\n".to_owned(),
        "TIME" => "*2\r\n$7\r\n5000000\r\n$6\r\n250000\r\n".to_owned(),
        "XREAD" => "*-1\r\n".to_owned(),
        _ => "$3\r\nabc\r\n".to_owned(),
    })
}

fn settings(server: &str, peers: &[&str]) -> cluster::Settings {
    let node = |(name, number): (&&str, u8)| ClusterNode { name: (*name).to_owned(), key: [number; 32] };
    cluster::Settings {
        node: "own".to_owned(),
        key_file: "cluster.key".into(),
        secret: NamedFile { path: "cluster.secret".into(), bytes: [7; 32].into() },
        nodes: ["own"].iter().chain(peers).zip(1..).map(node).collect(),
        bans: true,
        revocations: true,
        api_keys: true,
        ticket_keys: true,
        revocation_stale: Stale::Serve,
        revocation_stale_after: Duration::from_secs(60),
        store: ClusterStore {
            servers: vec![server.to_owned()],
            mode: StoreMode::Standalone,
            user: None,
            password: None,
            sentinel_password: None,
            tls: None,
            prefix: "gateway".to_owned(),
            // As long as it may be: nothing here is to be late.
            timeout: Duration::from_secs(5),
        },
    }
}

/// A whole takes its time, or never comes: limits go on as if nothing were the matter.
#[test]
fn letters_delay_no_limit() {
    let (store, server) = Played::start(|words| if words[0] == "GET" { None } else { answer(words) });
    let cluster = Cluster::default();
    cluster.serve(Some(&settings(&server, &["other"])), None);
    let heard = store.until("a whole is asked for", |heard| count(heard, "GET") > 0);
    let before = count(&heard, "EVALSHA");
    let heard = store.until("the probe goes on", |heard| count(heard, "EVALSHA") >= before + 3);
    let mut connections: Vec<usize> =
        heard.iter().filter(|(_, words)| words[0] == "EVALSHA").map(|(number, _)| *number).collect();
    connections.dedup();
    assert_eq!(connections.len(), 1, "one connection for limits: {connections:?}");
    assert!(heard.iter().all(|(number, words)| words[0] == "EVALSHA" || *number != connections[0]));
    assert_eq!(cluster.state().counts().1, 0, "nothing has failed");
    assert!(cluster.state().told().is_reachable);
}

/// Wholes are read once each, and the first changes are asked for by the server's clock.
#[test]
fn a_whole_that_has_not_changed_is_not_read_again() {
    let (store, server) = Played::start(answer);
    let cluster = Cluster::default();
    cluster.serve(Some(&settings(&server, &["a", "b"])), None);
    let heard = store.until("wholes are looked at", |heard| count(heard, "GETRANGE") >= 6);
    let wholes: Vec<&str> =
        heard.iter().filter(|(_, words)| words[0] == "GET").map(|(_, words)| words[1].as_str()).collect();
    assert_eq!(wholes, ["gateway:whole:a", "gateway:whole:b"]);
    let first = heard.iter().find(|(_, words)| words[0] == "XREAD").unwrap();
    assert_eq!(first.1[4..], ["gateway:changes:a".to_owned(), "4999940250-0".to_owned()]);
}

/// A reload that changes nothing for the store keeps its connections; one that does makes others.
#[test]
fn a_reload_keeps_connections() {
    let (store, server) = Played::start(answer);
    let (cluster, asks) = (Cluster::default(), Arc::new(BudgetQueue::default()));
    let mut settings = settings(&server, &[]);
    let connections = |heard: &Heard| heard.last().unwrap().0 + 1;
    cluster.serve(Some(&settings), Some(&asks));
    store.until("it begins", |heard| count(heard, "EVALSHA") > 0);
    for time in 1..4 {
        cluster.serve(Some(&settings.clone()), Some(&asks));
        let before = store.until("it goes on", |heard| heard.len() > time);
        let heard = store.until("it goes on", |heard| heard.len() > before.len());
        assert_eq!(connections(&heard), 1, "reload {time}");
    }
    settings.store.prefix = "other".to_owned();
    cluster.serve(Some(&settings), Some(&asks));
    store.until("another prefix", |heard| connections(heard) == 2);
    cluster.serve(Some(&settings), Some(&Arc::new(BudgetQueue::default())));
    store.until("other limits", |heard| connections(heard) == 3);
}
