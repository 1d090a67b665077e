//! The store between machines: one server, the primary that Sentinels name, or a Redis Cluster.

use std::{collections::HashMap, sync::Arc, time::Duration};

use zeroize::Zeroizing;

use super::{
    connection::{Connection, Failure, Login, RespCommand},
    resp::Value,
};
use crate::{
    diagnostic::Diagnostic,
    os::file::NamedFile,
    settings::cluster::{self, StoreMode},
    tls,
};

/// How many parts the keys of a Redis Cluster are divided into.
const SLOTS: u16 = 16_384;

/// How often one command may be sent elsewhere.
const REDIRECTS: usize = 3;

/// The most servers of a Redis Cluster that are connected to.
const MOST_SERVERS: usize = 64;

/// Where the store is, and how it is logged in to.
#[derive(Clone)]
pub(in crate::proxy) struct StoreAddress {
    servers: Vec<String>,
    mode: StoreMode,
    login: Login,
    sentinel: Login,
    /// How long one call may take.
    pub(super) timeout: Duration,
    pub(super) prefix: String,
    /// This machine.
    pub(super) node: String,
    /// The others whose letters are read; none: bans are not shared.
    pub(super) peers: Vec<String>,
}

impl StoreAddress {
    /// # Errors
    /// The files of TLS are not what they should be.
    pub(in crate::proxy) fn new(cluster: &cluster::Settings) -> Result<Self, Vec<Diagnostic>> {
        let settings = &cluster.store;
        let tls = match &settings.tls {
            Some(tls) => Some((tls::client_config(tls)?, tls.server_name.clone())),
            None => None,
        };
        let login = |user: Option<String>, password: Option<&NamedFile>| Login {
            user,
            password: password.map(|file| Arc::new(Zeroizing::new(file.bytes.trim_ascii_end().to_vec()))),
            tls: tls.clone(),
        };
        Ok(Self {
            servers: settings.servers.clone(),
            mode: settings.mode.clone(),
            login: login(settings.user.clone(), settings.password.as_ref()),
            sentinel: login(None, settings.sentinel_password.as_ref()),
            timeout: settings.timeout,
            prefix: settings.prefix.clone(),
            node: cluster.node.clone(),
            peers: cluster.peers().map(|node| node.name.clone()).collect(),
        })
    }

    /// The same for calls that may take longer.
    pub(super) fn with_timeout_of_at_least(&self, least: Duration) -> Self {
        Self { timeout: self.timeout.max(least), ..self.clone() }
    }
}

/// The store, connected to.
pub(super) enum Store {
    Cluster(Cluster),
    Single(Connection),
}

/// A Redis Cluster.
pub(super) struct Cluster {
    /// The ends of the parts of slots, each with the server that has it.
    slots: Vec<(u16, String)>,
    connections: HashMap<String, Connection>,
}

impl Store {
    pub(super) async fn open(place: &StoreAddress) -> Result<Self, Failure> {
        match &place.mode {
            StoreMode::Standalone => {
                let server = place.servers.first().ok_or_else(|| Failure::new("there is no server"))?;
                Ok(Self::Single(Connection::open(server, &place.login).await?))
            }
            StoreMode::Sentinel(primary) => {
                let server = primary_of(place, primary).await?;
                let mut connection = Connection::open(&server, &place.login).await?;
                // A Sentinel may not have heard of a failover.
                let role = connection.ask_one(&["ROLE"], place.timeout).await?;
                if role.array().and_then(<[_]>::first).and_then(Value::text) != Some("master") {
                    return Err(Failure::new(format!("{server}: it is not the primary any more")));
                }
                Ok(Self::Single(connection))
            }
            StoreMode::Cluster => Ok(Self::Cluster(Cluster::open(place).await?)),
        }
    }

    /// Asks for each of these, all at once: commands whose first key decides who answers, with that key.
    pub(super) async fn ask(
        &mut self,
        place: &StoreAddress,
        asks: &[(Vec<u8>, RespCommand)],
    ) -> Result<Vec<Value>, Failure> {
        match self {
            Self::Single(connection) => {
                let commands: Vec<RespCommand> = asks.iter().map(|(_, command)| command.clone()).collect();
                connection.ask(&commands, place.timeout).await
            }
            Self::Cluster(cluster) => cluster.ask(place, asks).await,
        }
    }
}

/// The primary of this name, as the first Sentinel says that knows it.
async fn primary_of(place: &StoreAddress, primary: &str) -> Result<String, Failure> {
    let mut failed = Failure::new("there is no Sentinel");
    for server in &place.servers {
        let asked = async {
            let mut sentinel = Connection::open(server, &place.sentinel).await?;
            sentinel.ask_one(&["SENTINEL", "get-master-addr-by-name", primary], place.timeout).await
        };
        match asked.await {
            Ok(reply) => match reply.array().unwrap_or_default() {
                [host, port] if host.text().is_some() && port.text().is_some() => {
                    return Ok(joined(host.text().unwrap_or_default(), port.text().unwrap_or_default()));
                }
                _ => failed = Failure::new(format!("{server}: it knows no primary {primary:?}")),
            },
            Err(failure) => failed = failure,
        }
    }
    Err(failed)
}

fn joined(host: &str, port: &str) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl Cluster {
    async fn open(place: &StoreAddress) -> Result<Self, Failure> {
        let mut failed = Failure::new("there is no server");
        for server in &place.servers {
            let opened = async {
                let mut connection = Connection::open(server, &place.login).await?;
                let slots = slots(&mut connection, server, place).await?;
                Ok((slots, connection))
            };
            match opened.await {
                Ok((slots, connection)) => {
                    return Ok(Self { slots, connections: HashMap::from([(server.clone(), connection)]) });
                }
                Err(failure) => failed = failure,
            }
        }
        Err(failed)
    }

    async fn ask(&mut self, place: &StoreAddress, asks: &[(Vec<u8>, RespCommand)]) -> Result<Vec<Value>, Failure> {
        let mut replies: Vec<Option<Value>> = vec![None; asks.len()];
        // By server: where in `asks` its commands are, and whether each is to be announced by `ASKING`.
        let mut rounds: HashMap<String, Vec<(usize, bool)>> = HashMap::new();
        for (at, (key, _)) in asks.iter().enumerate() {
            rounds.entry(self.server(key)?.to_owned()).or_default().push((at, false));
        }
        for _ in 0..=REDIRECTS {
            let mut next: HashMap<String, Vec<(usize, bool)>> = HashMap::new();
            let mut has_moved = None;
            for (server, places) in std::mem::take(&mut rounds) {
                let mut commands: Vec<RespCommand> = Vec::new();
                for (at, asking) in &places {
                    if *asking {
                        commands.push(vec![b"ASKING".to_vec()]);
                    }
                    commands.extend(asks.get(*at).map(|(_, command)| command.clone()));
                }
                let connection = self.connection(&server, place).await?;
                let mut answers = connection.ask(&commands, place.timeout).await?.into_iter();
                for (at, asking) in places {
                    if asking {
                        drop(answers.next());
                    }
                    let answer = answers.next().ok_or_else(|| Failure::new("no answer"))?;
                    match answer.error().and_then(redirect) {
                        Some((to, is_for_good)) => {
                            let to = if to.starts_with(':') { joined_host(&server, to) } else { to.to_owned() };
                            if is_for_good {
                                has_moved = Some(to.clone());
                            }
                            next.entry(to).or_default().push((at, !is_for_good));
                        }
                        None => {
                            if let Some(place) = replies.get_mut(at) {
                                *place = Some(answer);
                            }
                        }
                    }
                }
            }
            if let Some(server) = has_moved {
                let mut fresh = self.take(&server, place).await?;
                self.slots = slots(&mut fresh, &server, place).await?;
                self.connections.insert(server, fresh);
            }
            if next.is_empty() {
                break;
            }
            rounds = next;
        }
        let replies: Option<Vec<Value>> = replies.into_iter().collect();
        replies.ok_or_else(|| Failure::new("its servers send commands to each other and none answers"))
    }

    /// The server that has a key.
    fn server(&self, key: &[u8]) -> Result<&str, Failure> {
        let slot = slot(key);
        let found = self.slots.iter().find(|(end, _)| slot <= *end).map(|(_, server)| server.as_str());
        found.filter(|server| !server.is_empty()).ok_or_else(|| Failure::new("nobody has some of its slots"))
    }

    async fn connection(&mut self, server: &str, place: &StoreAddress) -> Result<&mut Connection, Failure> {
        let connection = self.take(server, place).await?;
        Ok(self.connections.entry(server.to_owned()).or_insert(connection))
    }

    async fn take(&mut self, server: &str, place: &StoreAddress) -> Result<Connection, Failure> {
        if let Some(connection) = self.connections.remove(server) {
            return Ok(connection);
        }
        if self.connections.len() >= MOST_SERVERS {
            return Err(Failure::new("it has too many servers"));
        }
        Connection::open(server, &place.login).await
    }
}

/// `MOVED` (for good) or `ASK`, and where to.
fn redirect(error: &str) -> Option<(&str, bool)> {
    let mut words = error.split(' ');
    let is_for_good = match words.next()? {
        "MOVED" => true,
        "ASK" => false,
        _ => return None,
    };
    words.nth(1).map(|server| (server, is_for_good))
}

/// Where a redirect goes that names the port alone: the host that sent it.
fn joined_host(server: &str, port: &str) -> String {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    format!("{host}{port}")
}

/// Who has which slots, sorted by their ends.
async fn slots(connection: &mut Connection, server: &str, place: &StoreAddress) -> Result<Vec<(u16, String)>, Failure> {
    let reply = connection.ask_one(&["CLUSTER", "SLOTS"], place.timeout).await?;
    parse_slots(&reply, server)
        .ok_or_else(|| Failure::malformed(format!("{server}: it does not say who has which slots")))
}

/// Gaps have no server.
fn parse_slots(reply: &Value, server: &str) -> Option<Vec<(u16, String)>> {
    let slot = |value: &Value| value.integer().and_then(|slot| u16::try_from(slot).ok()).filter(|slot| *slot < SLOTS);
    let mut ranges = Vec::new();
    for range in reply.array()? {
        let [first, last, primary, ..] = range.array()? else { return None };
        let [host, port, ..] = primary.array()? else { return None };
        let port = port.integer().and_then(|port| u16::try_from(port).ok())?.to_string();
        let host = host.text().filter(|host| !host.is_empty() && *host != "?");
        let at = host.map_or_else(|| joined_host(server, &format!(":{port}")), |host| joined(host, &port));
        ranges.push((slot(first)?, slot(last)?, at));
    }
    ranges.sort_unstable();
    let mut slots = Vec::new();
    let mut next = 0;
    for (first, last, server) in ranges {
        if first > next {
            slots.push((first - 1, String::new()));
        }
        next = last + 1;
        slots.push((last, server));
    }
    (!slots.is_empty()).then_some(slots)
}

/// The slot of a key: CRC16 (XMODEM) of it, or of what is in its first braces.
fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}').filter(|length| *length > 0)?;
        rest.get(..close)
    });
    let mut crc = 0_u16;
    for byte in tag.unwrap_or(key) {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
        }
    }
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_keys() {
        for (key, expect) in
            [("123456789", 0x31c3), ("foo", 12_182), ("{foo}:1", 12_182), ("a{foo}b{bar}", 12_182), ("", 0)]
        {
            assert_eq!(slot(key.as_bytes()), expect, "{key}");
        }
        assert_ne!(slot(b"{}foo"), slot(b"foo"));
    }

    #[test]
    fn who_has_which_slots() {
        let text = |text: &str| Value::Bytes(text.as_bytes().to_vec());
        let node = |host: Value, port| Value::Array(vec![host, Value::Integer(port), text("id")]);
        let range = |first, last, node| Value::Array(vec![Value::Integer(first), Value::Integer(last), node]);
        let reply = Value::Array(vec![
            range(10_000, 16_383, node(text("::1"), 3)),
            range(0, 99, node(text("10.0.0.1"), 1)),
            range(100, 4_999, node(Value::Nil, 2)),
        ]);
        let slots = parse_slots(&reply, "own:9").unwrap();
        let cluster = Cluster { slots, connections: HashMap::new() };
        let found = |slot: u16| {
            let found = cluster.slots.iter().find(|(end, _)| slot <= *end);
            found.map(|(_, server)| server.as_str()).filter(|server| !server.is_empty())
        };
        for (slot, expect) in [
            (0, Some("10.0.0.1:1")),
            (99, Some("10.0.0.1:1")),
            (100, Some("own:2")),
            (5_000, None),
            (16_383, Some("[::1]:3")),
        ] {
            assert_eq!(found(slot), expect, "{slot}");
        }
        for wrong in [Value::Nil, Value::Array(Vec::new()), Value::Array(vec![range(0, 20_000, node(Value::Nil, 1))])] {
            assert_eq!(parse_slots(&wrong, "own:9"), None, "{wrong:?}");
        }
    }

    #[test]
    fn redirects() {
        assert_eq!(redirect("MOVED 3999 127.0.0.1:6381"), Some(("127.0.0.1:6381", true)));
        assert_eq!(redirect("ASK 3999 127.0.0.1:6381"), Some(("127.0.0.1:6381", false)));
        assert_eq!(redirect("MOVED"), None);
        assert_eq!(redirect("ERR MOVED 1 a:1"), None);
        assert_eq!(joined_host("[::1]:7", ":8"), "[::1]:8");
    }
}
