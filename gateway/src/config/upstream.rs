//! Decides who answers: `[upstream.NAME]`.

use std::time::Duration;

use http::HeaderName;
use toml::de::DeValue;

use super::{
    service::{NamedUpstream, simple_name},
    table::{Reader, Table},
    tls,
    value::{self, Wrong, closest},
};
use crate::{
    fault::Fault,
    proxy::settings::upstream::{Balance, HashBy, MAX_SERVERS, MAX_WEIGHT, ProxyProtocol, Server, Upstream},
};

pub(super) fn upstreams(tables: Vec<(String, Table<'_>)>, reader: &Reader<'_>) -> Vec<NamedUpstream> {
    let mut upstreams = Vec::new();
    for (name, mut table) in tables {
        let key = table.own_key().to_owned();
        if let Err(wrong) = simple_name(&name) {
            reader.report(wrong.at(&key));
        }
        let servers = servers(&mut table, reader);
        let balance = balance(&mut table);
        let max_idle = table.or("max_idle", 64, value::count(0..=10_000));
        let (shortest, longest) = (Duration::from_millis(10), Duration::from_secs(3_600));
        let idle = table.or("idle", Duration::from_secs(30), value::duration_in(shortest..=longest));
        let versions = [("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)];
        let proxy_protocol = table.optional("proxy_protocol", value::choice(&versions));
        let tls = tls::upstream(&mut table, reader);
        table.finish();
        let settings = Upstream { name, servers, balance, proxy_protocol, max_idle, idle, tls };
        upstreams.push(NamedUpstream { key, settings });
    }
    upstreams
}

fn servers(table: &mut Table<'_>, reader: &Reader<'_>) -> Vec<Server> {
    let servers = table.required_list("servers", "[\"127.0.0.1:9000\"]", server);
    for (index, (key, server)) in servers.iter().enumerate() {
        let address = &server.address;
        if servers.iter().take(index).any(|(_, earlier)| earlier.address == *address) {
            reader.report(Fault::new(key, format!("{address:?} is there already")).hint("name each server once"));
        }
        if index == MAX_SERVERS {
            let fault = Fault::new(key, format!("there are more than {MAX_SERVERS} servers"));
            reader.report(fault.hint("give their name in DNS several addresses, or use another upstream"));
        }
    }
    servers.into_iter().map(|(_, server)| server).collect()
}

/// `"host:port"`, or `{ address = "host:port", weight = 3 }`.
fn server(value: &DeValue<'_>) -> Result<Server, Wrong> {
    const KEYS: [&str; 2] = ["address", "weight"];
    let DeValue::Table(table) = value else {
        return Ok(Server { address: value::server(value::text(value)?)?, weight: 1 });
    };
    if let Some(unknown) = table.keys().map(|key| &**key.get_ref()).find(|key| !KEYS.contains(key)) {
        let wrong = Wrong::new(format!("`{unknown}` is unknown"));
        return Err(match closest(unknown, KEYS) {
            Some(near) => wrong.hint(format!("did you mean `{near}`?")),
            None => wrong.hint("known here: address, weight"),
        });
    }
    let Some(address) = table.get("address") else {
        return Err(Wrong::new("has no `address`").hint("write { address = \"127.0.0.1:9000\", weight = 3 }"));
    };
    let weight = table.get("weight").map(|weight| value::integer(1..=MAX_WEIGHT)(weight.get_ref())).transpose();
    let weight = weight.map_err(|wrong| Wrong { message: format!("weight: {}", wrong.message), ..wrong })?;
    Ok(Server { address: value::server(value::text(address.get_ref())?)?, weight: weight.unwrap_or(1) })
}

fn balance(table: &mut Table<'_>) -> Balance {
    let known = [("round_robin", 0), ("least_requests", 1), ("hash", 2)];
    let chosen = table.or("balance", 0, value::choice(&known));
    if chosen != 2 && table.has("hash_by") {
        let hint = "write `balance = \"hash\"` beside it, or leave it out";
        table.report("hash_by", Wrong::new("says nothing without balance = \"hash\"").hint(hint));
    }
    let by = table.or("hash_by", HashBy::Source, hash_by);
    match chosen {
        0 => Balance::RoundRobin,
        1 => Balance::LeastRequests,
        _ => Balance::Hash(by),
    }
}

fn hash_by(value: &DeValue<'_>) -> Result<HashBy, Wrong> {
    let text = value::text(value)?;
    let wrong = || Wrong::new(format!("{text:?} is unknown")).hint("write \"source\", \"path\" or \"header:x-tenant\"");
    match text {
        "source" => Ok(HashBy::Source),
        "path" => Ok(HashBy::Path),
        _ => {
            let name = text.strip_prefix("header:").ok_or_else(wrong)?;
            HeaderName::try_from(name).map(HashBy::Header).map_err(|_no_name| wrong())
        }
    }
}
