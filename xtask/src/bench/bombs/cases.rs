//! The bombs, and the routes that they are sent to.

use std::{fmt::Write as _, fs, path::Path};

use serde_json::{Value, json};

use crate::documents::spent::Kind;

/// A hostile body.
pub(super) struct Bomb {
    pub(super) name: &'static str,
    /// Whose schema or rules judge it.
    pub(super) route: &'static str,
    pub(super) media_type: &'static str,
    pub(super) coding: Option<&'static str>,
    pub(super) body: Vec<u8>,
}

const JSON: &str = "application/json";
const XML: &str = "application/xml";
const FORM: &str = "application/x-www-form-urlencoded";

const MIB: usize = 1 << 20;
/// The size of most bodies.
const LARGE: usize = 8 * MIB;

/// Schemas of routes, by their names.
const SCHEMAS: [(&str, &str); 6] = [
    ("any", "{}"),
    ("nested", r#"{"items":{"pattern":"^(a+)+$"}}"#),
    ("alternatives", r#"{"items":{"pattern":"^(a|aa)+$"}}"#),
    ("backreference", r#"{"items":{"pattern":"^(a+)+\\1$"}}"#),
    (
        "branches",
        r##"{"oneOf":[
        {"type":"object","properties":{"op":{"const":"not"},"arg":{"$ref":"#"}},"required":["op","arg"]},
        {"type":"object","properties":{"op":{"const":"neg"},"arg":{"$ref":"#"}},"required":["op","arg"]},
        {"type":"array","items":{"$ref":"#"}},{"type":"array","items":{"$ref":"#"}},{"type":"string"}]}"##,
    ),
    ("unique", r#"{"uniqueItems":true}"#),
];

/// Writes the schemas; the gateway's configuration.
pub(super) fn configuration(folder: &Path, port: u16, upstream: u16) -> anyhow::Result<String> {
    let mut text = format!(
        "{}[[listener]]\naddress = \"127.0.0.1:{port}\"\naccess_log = false\n\
         [upstream.items]\nservers = [\"127.0.0.1:{upstream}\"]\n\
         [waf.own]\nmode = \"enforce\"\ninspect_body = \"8MiB\"\n",
        head(folder)
    );
    let mut route = |path: &str, more: &str| {
        write!(
            text,
            "[[route]]\npath = \"/{path}\"\nmethods = [\"POST\"]\nrequire = [\"public\"]\nupstream = \"items\"\n\
             max_body = \"16MiB\"\n{more}\n"
        )
    };
    let doubling = doubling(40);
    for (name, schema) in SCHEMAS.into_iter().chain([("doubling", &*doubling)]) {
        fs::write(folder.join(format!("{name}.json")), schema)?;
        route(name, &format!("schema = \"{name}.json\"\ncontent_encoding = \"decode\""))?;
    }
    route("graphql", "graphql = {}")?;
    route("waf", "waf = \"own\"\ncontent_encoding = \"decode\"")?;
    route("form", "[route.form]\na = { repeated = true }")?;
    Ok(text)
}

/// The configuration of one route with this schema.
pub(super) fn with_schema(folder: &Path, schema: &str) -> String {
    format!(
        "{}[[listener]]\naddress = \"127.0.0.1:8080\"\n[upstream.items]\nservers = [\"127.0.0.1:9000\"]\n\
         [[route]]\npath = \"/\"\nmethods = [\"POST\"]\nrequire = [\"public\"]\nupstream = \"items\"\nschema = \"{schema}\"\n",
        head(folder)
    )
}

fn head(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "[guard]\ninterfaces = []\nstate_dir = \"{folder}/state\"\ncontrol_socket = \"{folder}/control.sock\"\n\
         [proxy]\nuser = \"nobody\"\naccess_log = \"{folder}/access.log\"\ndrain = \"1s\"\nworkers = 2\n"
    )
}

/// A schema whose `allOf` leads to as many checks as two to the power of `times`.
fn doubling(times: u32) -> String {
    let mut parts = format!("\"d{times}\":{{\"type\":\"array\"}}");
    for number in 0..times {
        let next = format!("{{\"$ref\":\"#/$defs/d{}\"}}", number + 1);
        write!(parts, ",\"d{number}\":{{\"allOf\":[{next},{next}]}}").unwrap_or_default();
    }
    format!("{{\"$ref\":\"#/$defs/d0\",\"$defs\":{{{parts}}}}}")
}

/// Zeros in deflate, 2,064 of them in each 13 bytes: with the codes that every reader knows, a run of 258 takes 13 bits. The
/// stream has no end, which nobody should come to.
fn zeros() -> Vec<u8> {
    // Least significant bit first: the last block, of known codes; a zero; and runs whose period is 13 bytes.
    let run = "1100010100000";
    let bits = ["1", "10", "00110000", &run.repeat(32)].concat();
    let byte = |bits: &[u8]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | (bit - b'0'));
    let bytes: Vec<u8> = bits.as_bytes().chunks_exact(8).map(byte).collect();
    let (first, rest) = bytes.split_at(2);
    [first, &rest.get(..13).unwrap_or_default().repeat(LARGE / 13)].concat()
}

fn repeated(open: &str, times: usize, inner: &str, close: &str) -> Vec<u8> {
    format!("{}{inner}{}", open.repeat(times), close.repeat(times)).into_bytes()
}

/// `{open}{each 0}{between}{each 1}...{close}`
fn listed(open: &str, count: usize, between: &str, close: &str, each: impl Fn(usize) -> String) -> Vec<u8> {
    let all: Vec<String> = (0..count).map(each).collect();
    format!("{open}{}{close}", all.join(between)).into_bytes()
}

fn texts(length: usize, count: usize) -> Vec<u8> {
    listed("[", count, ",", "]", |_| format!("\"{}!\"", "a".repeat(length - 1)))
}

fn query(text: &[u8]) -> Vec<u8> {
    json!({ "query": String::from_utf8_lossy(text) }).to_string().into_bytes()
}

/// Every bomb.
pub(super) fn bombs() -> Vec<Bomb> {
    let bomb = |name, route, media_type, body| Bomb { name, route, media_type, coding: None, body };
    let json = |name, route, body| bomb(name, route, JSON, body);
    let not = r#"{"op":"not","arg":"#;
    [encoded(), of_firewall()]
        .into_iter()
        .flatten()
        .chain([
            json("JSON, 8 Mi arrays in one another", "any", repeated("[", LARGE, "", "")),
            json("JSON, 1.6 Mi objects in one another", "any", repeated("{\"a\":", LARGE / 5, "", "")),
            json("JSON, 4 Mi values", "any", listed("[", LARGE / 2 - 1, ",", "]", |_| "0".to_owned())),
            json("JSON, 190,000 members", "any", listed("{", 190_000, ",", "}", |number| format!("\"{number:06}\":0"))),
            json("JSON, a number of 8 Mi digits", "any", repeated("1", LARGE, "", "")),
            json(
                "JSON, a text of 1.4 Mi escapes",
                "any",
                listed("\"", LARGE / 6 - 1, "", "\"", |_| "\\u0041".to_owned()),
            ),
            json("pattern ^(a+)+$, a text of 8 MiB", "nested", texts(LARGE - 10, 1)),
            json("pattern ^(a|aa)+$, a text of 8 MiB", "alternatives", texts(LARGE - 10, 1)),
            json("pattern ^(a+)+\\1$, a text of 8 MiB", "backreference", texts(LARGE - 10, 1)),
            json("pattern ^(a+)+\\1$, 16,000 texts of 500 bytes", "backreference", texts(500, 16_000)),
            json("oneOf that is recursive, depth 60", "branches", repeated(not, 60, "1", "}")),
            json(
                "oneOf that is recursive, 60,000 arrays",
                "branches",
                listed("[", 60_000, ",", ",0]", |_| "[[1]]".to_owned()),
            ),
            json(
                "uniqueItems, 60,000 objects",
                "unique",
                listed("[", 60_000, ",", "]", |number| format!("{{\"a\":{number},\"b\":1}}")),
            ),
            json("allOf that doubles 40 times", "doubling", b"[1]".to_vec()),
            json("GraphQL, fragments that double 40 times", "graphql", query(&fragments(40))),
            json("GraphQL, 200,000 fields in one another", "graphql", query(&repeated("{a", 200_000, "", "}"))),
            json(
                "GraphQL, 100,000 aliases",
                "graphql",
                query(&listed("{", 100_000, " ", "}", |number| format!("a{number}:a"))),
            ),
            json(
                "GraphQL, 20,000 queries in a batch",
                "graphql",
                listed("[", 20_000, ",", "]", |_| "{\"query\":\"{a}\"}".to_owned()),
            ),
            bomb("a form of 500,000 fields", "form", FORM, listed("", 500_000, "&", "", |_| "a=1".to_owned())),
            bomb(
                "multipart of 50,000 parts",
                "form",
                "multipart/form-data; boundary=x",
                listed("", 50_000, "", "--x--\r\n", |number| {
                    format!("--x\r\nContent-Disposition: form-data; name=\"f{number}\"\r\n\r\na\r\n")
                }),
            ),
        ])
        .collect()
}

/// Those that grow when they are decoded.
fn encoded() -> Vec<Bomb> {
    let zeros = zeros();
    let gzip = [b"\x1f\x8b\x08\0\0\0\0\0\0\x03", &*zeros].concat();
    let zlib = [b"\x78\x9c", &*zeros].concat();
    // 10 MB of zeros.
    let brotli = b"\x9f\x7f\x96\x98\xf8\x27\x00\xe2\xb1\x40\x20\xc7\x11\x13".to_vec();
    // Blocks of 128 KiB that are one byte many times.
    let zstd = [b"\x28\xb5\x2f\xfd\x00\x40", &*b"\x02\x00\x10\x00".repeat(80_000)].concat();
    let bomb = |name, route, coding, body| Bomb { name, route, media_type: JSON, coding: Some(coding), body };
    vec![
        bomb("gzip, 8 MiB that are 1.3 GB", "any", "gzip", gzip.clone()),
        bomb("deflate, 8 MiB that are 1.3 GB", "any", "deflate", zlib),
        bomb("br, 14 bytes that are 10 MB", "any", "br", brotli),
        bomb("zstd, 320 KB that are 10 GB", "any", "zstd", zstd),
        bomb("gzip twice", "any", "gzip, gzip", gzip.clone()),
        bomb("gzip, 8 MiB that are 1.3 GB, for the firewall", "waf", "gzip", gzip),
    ]
}

fn of_firewall() -> Vec<Bomb> {
    let bomb = |name, media_type, body| Bomb { name, route: "waf", media_type, coding: None, body };
    let entity = |number: usize| format!("<!ENTITY l{} \"{}\">", number + 1, format!("&l{number};").repeat(10));
    vec![
        bomb(
            "XML, entities that are 10^29 texts",
            XML,
            listed("<!DOCTYPE a [<!ENTITY l0 \"lol\">", 29, "", "]><a>&l29;</a>", entity),
        ),
        bomb("XML, 100,000 elements in one another", XML, repeated("<a>", 100_000, "", "")),
        bomb("XML, 50,000 attributes", XML, listed("<a ", 50_000, " ", "/>", |number| format!("a{number}=\"1\""))),
        bomb("a value of 1 MiB that is escaped many times", FORM, listed("a=", MIB / 3, "", "", |_| "%25".to_owned())),
    ]
}

/// A query of fragments of which each uses the next twice.
fn fragments(count: usize) -> Vec<u8> {
    let each = |number: usize| format!("fragment f{number} on T {{...f{0} ...f{0}}}", number + 1);
    let last = format!(" fragment f{count} on T {{a}}");
    listed("query {...f0} ", count, " ", &last, each)
}

/// What is costly to read: its name, what it is, its file and its text.
pub(super) fn loads() -> Vec<(&'static str, Kind, &'static str, String)> {
    let patterns =
        listed("{\"patternProperties\":{", 20_000, ",", "}}", |number| format!("\"^\\\\w{{12}}x{number}$\":{{}}"));
    let deep = repeated("{\"not\":", 100_000, "{}", "}");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    vec![
        ("reading: a schema of 20,000 patterns", Kind::Configuration, "patterns.json", text(patterns)),
        (
            "reading: a pattern (x{1000}){1000}",
            Kind::Configuration,
            "large.json",
            r#"{"pattern":"(x{1000}){1000}"}"#.to_owned(),
        ),
        ("reading: a schema that doubles 40 times", Kind::Configuration, "doubles.json", doubling(40)),
        ("reading: a schema of 100,000 levels", Kind::Configuration, "deep.json", text(deep)),
        ("reading: a document of 10^9 aliases", Kind::OpenApi, "aliases.yaml", aliases()),
        ("reading: a document of 100,000 levels", Kind::OpenApi, "levels.yaml", text(repeated("[", 100_000, "", "]"))),
        ("reading: a document of 3,000 schemas of each other", Kind::OpenApi, "mutual.json", mutual(3_000).to_string()),
    ]
}

fn aliases() -> String {
    let mut text =
        "openapi: 3.1.0\ninfo: {title: a, version: '1'}\npaths: {}\nx-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
            .to_owned();
    for number in 1..10 {
        let all = vec![format!("*a{}", number - 1); 10].join(", ");
        writeln!(text, "x-{number}: &a{number} [{all}]").unwrap_or_default();
    }
    text
}

/// A document of schemas of which each may be any of the ten that follow.
fn mutual(count: usize) -> Value {
    let schema = |number: usize| {
        let next = (1..=10).map(|step| json!({ "$ref": format!("#/components/schemas/s{}", (number + step) % count) }));
        (format!("s{number}"), json!({ "type": "object", "properties": { "a": { "oneOf": Value::from_iter(next) } } }))
    };
    let schemas: serde_json::Map<String, Value> = (0..count).map(schema).collect();
    let body = json!({ "content": { JSON: { "schema": { "$ref": "#/components/schemas/s0" } } } });
    json!({
        "openapi": "3.1.0", "info": { "title": "a", "version": "1" }, "components": { "schemas": schemas },
        "paths": { "/a": { "post": { "requestBody": body, "responses": { "200": { "description": "done" } } } } },
    })
}

#[cfg(test)]
mod tests {
    use super::{LARGE, bombs, zeros};

    #[test]
    fn runs_of_zeros_have_a_period() {
        // As Python's zlib reads them: nothing but zeros.
        let piece = b"\x05\xa3\x60\x14\x8c\x82\x51\x30\x0a\x46\xc1\x28\x18";
        let zeros = zeros();
        assert_eq!(zeros.get(..2), Some(&b"\x63\x18"[..]), "the last block, of known codes");
        assert!(zeros.get(2..).unwrap().chunks_exact(13).all(|bytes| bytes == piece));
    }

    #[test]
    fn no_bomb_is_too_large_for_its_route() {
        let bombs = bombs();
        assert!(bombs.iter().all(|bomb| !bomb.body.is_empty() && bomb.body.len() <= 2 * LARGE));
    }
}
