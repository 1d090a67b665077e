//! `cargo xtask bench validation`: what each stage of validation costs. CPU time per request with a body of 1 KB and of
//! 100 KB, JSON unless the stage reads another kind, by the whole gateway over loopback, beside nginx with ModSecurity 3 and the Core Rule Set, and beside a proxy of
//! Node.js with ajv, under the same load in one run. What a program takes more with a stage than without is its cost.
//!
//! Each program runs once a round and has a path for each stage: what a path does not ask for should cost it nothing. All
//! bodies are valid and no attacks.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use self::bodies::BodyKind;
use super::{
    measured::{gateway, peers},
    proxy::{Bench, Running, UPSTREAM, median},
};
use crate::step::{self, find};

mod bodies;

/// What `cargo xtask bench validation` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
    /// Seconds per run.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// How often every program has a turn; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measure this program, built already, instead of building one.
    #[arg(long)]
    gateway: Option<PathBuf>,
}

/// The stages: the path of each, its name, and what is sent to it. What others cost is told beside the first.
const STAGES: [(&str, &str, BodyKind); 11] = [
    ("none", "no stage asked for", BodyKind::Json),
    ("parameters", "parameters", BodyKind::Json),
    ("json", "JSON alone", BodyKind::Json),
    ("schema", "JSON Schema", BodyKind::Json),
    ("openapi", "OpenAPI", BodyKind::Json),
    ("form", "form", BodyKind::Form),
    ("multipart", "multipart", BodyKind::Multipart),
    ("graphql", "GraphQL", BodyKind::Graphql),
    ("gzip", "gzip, decoded", BodyKind::Gzip),
    ("own", "built-in rules", BodyKind::Json),
    ("crs", "CRS", BodyKind::Json),
];

/// The bodies: the name of each, its bytes, and how many connections send it. Few: what is under way at the end of a run is
/// paid for and not counted, and some stages take a quarter of a second for a large body.
const BODIES: [(&str, usize, u32); 2] = [("1 KB", 1_024, 8), ("100 KB", 102_400, 2)];

const GATEWAY: &str = "gateway";
const NGINX: &str = "nginx";
const NODE: &str = "node";

/// Where Debian has nginx's module and the Core Rule Set.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_http_modsecurity_module.so";
const RULES: [&str; 2] = ["/etc/modsecurity/crs/crs-setup.conf", "/usr/share/modsecurity-crs/rules"];

/// What answers behind the upstream's port, once a body was read whole.
const INNER: u16 = UPSTREAM + 50;

/// How long a program may take until it answers.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What each element of a body has to be.
const ITEMS: &str = r#"{"type":"array","items":{"type":"object","required":["id","name"],"additionalProperties":false,"properties":{"id":{"type":"integer","minimum":0},"name":{"type":"string","maxLength":40},"note":{"type":"string","maxLength":1000}}}}"#;

/// CPU microseconds per request, by program, stage and body.
type Figures = BTreeMap<(&'static str, &'static str, usize), Vec<f64>>;

/// A program that is measured, and the paths of its stages.
struct Contender {
    name: &'static str,
    stages: Vec<&'static str>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !step::is_root() {
        bail!("bench validation needs root, as the gateway starts as root");
    }
    for (program, package) in [("wrk", "wrk"), ("nginx", "nginx-light")] {
        step::need(program, package)?;
    }
    let (contenders, missing) = contenders();
    for missing in &missing {
        eprintln!("== {missing}");
    }
    let gateway = gateway(arguments.gateway.as_deref())?;
    let bench = Bench::new(arguments.seconds)?;
    write_files(&bench.folder, &contenders)?;
    let _upstream = bench.start("nginx", &["-c", "reading-upstream"], UPSTREAM)?;
    let mut figures = Figures::new();
    for round in 1..=arguments.rounds {
        for contender in &contenders {
            let (running, port) = start(&bench, contender.name, &gateway)?;
            wait(port)?;
            for (stage, _, kind) in STAGES.iter().filter(|(path, ..)| contender.stages.contains(path)) {
                for (name, bytes, connections) in BODIES {
                    eprintln!("== round {round} of {}: {}, {stage}, {name}", arguments.rounds, contender.name);
                    let url = format!("http://127.0.0.1:{port}/{stage}/7?limit=10");
                    // Slow stages answer little in one second.
                    let load = |seconds: u32| bench.wrk(&kind.script(bytes), connections, &url, seconds.max(3));
                    let each = bench.each_by(&running, load)?;
                    figures.entry((contender.name, *stage, bytes)).or_default().push(each);
                }
            }
        }
    }
    report(&contenders, &figures, &missing, arguments.json)
}

/// Who is measured, and what is missing for it.
fn contenders() -> (Vec<Contender>, Vec<String>) {
    let mut missing = Vec::new();
    let has_rules = RULES.iter().all(|path| Path::new(path).exists());
    if !has_rules {
        missing.push("the Core Rule Set is missing: measured without it (the package modsecurity-crs)".to_owned());
    }
    let of_gateway = STAGES.iter().map(|(path, ..)| *path).filter(|path| *path != "crs" || has_rules);
    let mut contenders = vec![Contender { name: GATEWAY, stages: of_gateway.collect() }];
    let has_module = Path::new(MODULE).exists();
    if !has_module {
        missing.push("ModSecurity is missing: measured without it (libnginx-mod-http-modsecurity)".to_owned());
    }
    let of_nginx = if has_rules && has_module { vec!["none", "crs"] } else { vec!["none"] };
    contenders.push(Contender { name: NGINX, stages: of_nginx });
    match (find("node"), ajv().is_file()) {
        (Some(_), true) => contenders.push(Contender { name: NODE, stages: vec!["none", "schema"] }),
        (None, _) => missing.push("Node.js is missing: measured without ajv (the package nodejs)".to_owned()),
        (_, false) => missing.push(format!(
            "ajv is missing: measured without it (npm install --prefix {} ajv, or name another folder by $PEERS)",
            peers().display()
        )),
    }
    (contenders, missing)
}

/// Where ajv is, for drafts from 2019-09.
fn ajv() -> PathBuf {
    peers().join("node_modules/ajv/dist/2020.js")
}

/// Starts a program. It listens on the port that is told.
fn start(bench: &Bench, name: &str, gateway: &Path) -> anyhow::Result<(Running, u16)> {
    let port = port(name);
    let (own, upstream, ajv) = (port.to_string(), UPSTREAM.to_string(), ajv().display().to_string());
    let running = match name {
        GATEWAY => bench.start(gateway, &["--config", GATEWAY, "run", "--detach-on-exit"], port)?,
        NGINX => bench.start("nginx", &["-c", NGINX], port)?,
        _ => bench.start("node", &["ajv_proxy.js", &own, &upstream, &ajv], port)?,
    };
    Ok((running, port))
}

/// Waits until a program answers: the gateway listens before it has read its rules.
fn wait(port: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    while !ask(port).is_ok_and(|status| status == "200") {
        ensure!(Instant::now() < deadline, "nobody answers on port {port}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The status of one request that nothing is asked of.
fn ask(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(
        b"POST /none/7 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
          Connection: close\r\n\r\n[]",
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
}

fn port(name: &str) -> u16 {
    let place = [GATEWAY, NGINX, NODE].iter().position(|known| *known == name).unwrap_or_default();
    UPSTREAM + 100 * (u16::try_from(place).unwrap_or_default() + 1) + 1
}

/// What the programs read.
fn write_files(folder: &Path, contenders: &[Contender]) -> anyhow::Result<()> {
    let has = |name, stage| contenders.iter().any(|it| it.name == name && it.stages.contains(&stage));
    let crs = format!("Include {}\nInclude {}/*.conf\n", RULES[0], RULES[1]);
    let files = vec![
        ("reading-upstream".to_owned(), upstream_configuration(folder)),
        (GATEWAY.to_owned(), gateway_configuration(folder, has(GATEWAY, "crs"))),
        (NGINX.to_owned(), nginx_configuration(folder, has(NGINX, "crs"))),
        ("crs.conf".to_owned(), crs.clone()),
        ("modsecurity.conf".to_owned(), format!("{MODSECURITY}{crs}")),
        ("ajv_proxy.js".to_owned(), include_str!("validation/ajv_proxy.js").to_owned()),
        ("any.schema.json".to_owned(), "{}".to_owned()),
        ("items.schema.json".to_owned(), ITEMS.to_owned()),
        ("items.openapi.json".to_owned(), document()?),
    ];
    for (name, text) in files {
        fs::write(folder.join(&name), text).context(name)?;
    }
    for (_, bytes, _) in BODIES {
        for kind in BodyKind::ALL {
            kind.write(folder, bytes)?;
        }
    }
    Ok(())
}

/// The same, as an OpenAPI document has it.
fn document() -> anyhow::Result<String> {
    let items: serde_json::Value = serde_json::from_str(ITEMS)?;
    let document = json!({
        "openapi": "3.1.0", "info": { "title": "Items", "version": "1" },
        "paths": { "/openapi/{id}": { "post": {
            "parameters": [
                { "name": "id", "in": "path", "required": true, "schema": { "type": "integer", "minimum": 1 } },
                { "name": "limit", "in": "query", "schema": { "type": "integer", "minimum": 1, "maximum": 100 } },
                { "name": "X-Trace", "in": "header", "schema": { "type": "integer" } },
            ],
            "requestBody": { "required": true, "content": { "application/json": { "schema": items } } },
            "responses": { "200": { "description": "done" } },
        } } },
    });
    Ok(document.to_string())
}

fn gateway_configuration(folder: &Path, has_rules: bool) -> String {
    let (folder, port) = (folder.display(), port(GATEWAY));
    let mut text = format!(
        "[guard]\ninterfaces = []\nstate_dir = \"{folder}/state\"\ncontrol_socket = \"{folder}/control.sock\"\n\
         [proxy]\nuser = \"nobody\"\naccess_log = \"{folder}/access.log\"\ndrain = \"1s\"\nworkers = 2\n\
         [[listener]]\naddress = \"127.0.0.1:{port}\"\naccess_log = false\n\
         [upstream.items]\nservers = [\"127.0.0.1:{UPSTREAM}\"]\nmax_idle = 256\n\
         [api.items]\nopenapi = \"items.openapi.json\"\n\
         [waf.own]\nmode = \"enforce\"\ninspect_body = \"1MiB\"\n"
    );
    if has_rules {
        text.push_str(
            "[waf.crs]\nmode = \"enforce\"\ninspect_body = \"1MiB\"\nrules = [\"crs.conf\"]\nbuiltin = false\nparanoia = 1\n",
        );
    }
    for (path, more) in [
        ("none", ""),
        (
            "parameters",
            "unknown_query = \"refuse\"\n[route.path_parameter.id]\ntype = \"integer\"\nminimum = 1\n\
             [route.query.limit]\ntype = \"integer\"\nminimum = 1\nmaximum = 100\n\
             [route.header.x-trace]\ntype = \"integer\"\n",
        ),
        ("json", "schema = \"any.schema.json\"\n"),
        ("schema", "schema = \"items.schema.json\"\n"),
        ("openapi", "api = \"items\"\n"),
        (
            "form",
            "max_fields = 1000\nform.id = { type = \"integer\", required = true }\n\
             form.note = { max_length = 1000, repeated = true, max_items = 999 }\n",
        ),
        (
            "multipart",
            "form.id = { type = \"integer\", required = true }\nform.note = { max_length = 1000 }\n\
             form.file = { type = \"file\", required = true, content_types = [\"text/plain\"], max_size = \"1MiB\" }\n",
        ),
        ("graphql", "graphql = { max_depth = 10, max_aliases = 100000, max_cost = 1000000 }\n"),
        ("gzip", "content_encoding = \"decode\"\n"),
        ("own", "waf = \"own\"\n"),
        ("crs", if has_rules { "waf = \"crs\"\n" } else { "" }),
    ] {
        write!(
            text,
            "[[route]]\npath = \"/{path}/{{id}}\"\nmethods = [\"POST\"]\nrequire = [\"public\"]\nupstream = \"items\"\n{more}"
        )
        .unwrap_or_default();
    }
    text
}

/// As ModSecurity recommends, but that it refuses, and writes no logs of its own.
const MODSECURITY: &str = "SecRuleEngine On\nSecRequestBodyAccess On\nSecRequestBodyLimit 1048576\n\
SecRequestBodyNoFilesLimit 1048576\nSecResponseBodyAccess Off\nSecPcreMatchLimit 100000\nSecPcreMatchLimitRecursion 100000\n\
SecAuditEngine Off\nSecDebugLogLevel 0\n\
SecRule REQUEST_HEADERS:Content-Type \"^application/json\" \
\"id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON\"\n";

fn nginx_configuration(folder: &Path, has_modsecurity: bool) -> String {
    let (folder, port) = (folder.display(), port(NGINX));
    let (module, rules) = if has_modsecurity {
        (
            format!("load_module {MODULE};\n"),
            format!("location /crs/ {{ modsecurity on; modsecurity_rules_file {folder}/modsecurity.conf; {PASS} }}\n"),
        )
    } else {
        Default::default()
    };
    format!(
        "{module}daemon off;\nworker_processes 2;\npid {folder}/nginx-validation.pid;\nerror_log {folder}/error.log crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ keepalive_requests 1000000000; access_log off; client_max_body_size 0; client_body_buffer_size 256k;\n\
         upstream items {{ server 127.0.0.1:{UPSTREAM}; keepalive 256; keepalive_requests 1000000000; }}\n\
         server {{ listen 127.0.0.1:{port} backlog=4096;\n{rules}location / {{ {PASS} }} }}\n}}\n"
    )
}

/// How nginx forwards.
const PASS: &str = "proxy_pass http://items; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                    proxy_set_header X-Request-Id $request_id; proxy_set_header X-Forwarded-For $remote_addr;";

/// Reads a body whole before it answers: what answers earlier would have proxies give connections up.
fn upstream_configuration(folder: &Path) -> String {
    let (folder, answer) = (folder.display(), "x".repeat(1_000));
    format!(
        "daemon off;\nworker_processes 1;\npid {folder}/reading-upstream.pid;\nerror_log {folder}/upstream.log crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; client_max_body_size 0; client_body_buffer_size 256k;\n\
         upstream inner {{ server 127.0.0.1:{INNER}; keepalive 256; keepalive_requests 1000000000; }}\n\
         server {{ listen 127.0.0.1:{UPSTREAM} backlog=4096;\n\
         location / {{ proxy_pass http://inner; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
         proxy_pass_request_body off; proxy_set_header Content-Length \"\"; }} }}\n\
         server {{ listen 127.0.0.1:{INNER} backlog=4096;\n\
         location / {{ default_type application/json; return 200 '{{\"items\":\"{answer}\"}}'; }} }} }}\n"
    )
}

/// One line of the table: microseconds a request, and how many more than without, by body.
struct Row {
    program: &'static str,
    stage: &'static str,
    of_bodies: Vec<(f64, Option<f64>)>,
}

fn report(contenders: &[Contender], figures: &Figures, missing: &[String], as_json: bool) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for Contender { name, stages } in contenders {
        let program = *name;
        for (stage, shown, _) in STAGES.iter().filter(|(path, ..)| stages.contains(path)) {
            let of = |stage, bytes| median(figures.get(&(program, stage, bytes))).unwrap_or_default();
            let of_body = |(_, bytes, _): &(&str, usize, u32)| {
                let each = of(*stage, *bytes);
                (each, (*stage != "none").then(|| each - of("none", *bytes)))
            };
            rows.push(Row { program, stage: shown, of_bodies: BODIES.iter().map(of_body).collect() });
        }
    }
    let mut out = io::stdout().lock();
    if as_json {
        let row = |row: &Row| {
            let of_body = |((_, bytes, _), (each, cost)): (&(&str, usize, u32), &(f64, Option<f64>))| json!({ "bytes": bytes, "request_us": each, "cost_us": cost });
            let bodies: Vec<_> = BODIES.iter().zip(&row.of_bodies).map(of_body).collect();
            json!({ "program": row.program, "stage": row.stage, "bodies": bodies })
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        return Ok(writeln!(out, "{}", json!({ "rows": rows, "missing": missing }))?);
    }
    writeln!(out, "CPU microseconds a request; cost: how many more than without")?;
    write!(out, "{:<8} {:<18}", "program", "stage")?;
    for (name, _, _) in BODIES {
        write!(out, " {name:>10} {:>10}", "cost")?;
    }
    writeln!(out)?;
    for row in rows {
        write!(out, "{:<8} {:<18}", row.program, row.stage)?;
        for (each, cost) in row.of_bodies {
            let cost = cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.1}"));
            write!(out, " {each:>10.1} {cost:>10}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{ITEMS, document};

    #[test]
    fn the_document_has_the_schema() {
        let document: serde_json::Value = serde_json::from_str(&document().unwrap()).unwrap();
        let schema = document.pointer("/paths/~1openapi~1{id}/post/requestBody/content/application~1json/schema");
        assert_eq!(schema, serde_json::from_str::<serde_json::Value>(ITEMS).ok().as_ref());
    }
}
