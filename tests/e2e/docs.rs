//! What README.md and the pages under docs/ show: each configuration is one that `gateway check` accepts, and each
//! command does what it is shown for. The pages under docs/reference/ are generated and have tests of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use support::{
    admin,
    daemon::{Daemon, binary, gateway},
    http1::{Client, Request},
    pki::{PKI, SCHEMA},
    report,
    settings::Settings,
    tokens,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};
use toml::Table;

mod blocks;

use blocks::{Block, blocks, commands};

/// What completes a fragment, table by table, where it has none of its own.
const BASE: &str = r#"
roles = { reader = ["items:read"], editor = ["items:read", "items:write"] }
jwt = { issuer = "https://issuer.example", audience = "api", jwks = "/etc/gateway/jwks.json" }
upstream.items.servers = ["127.0.0.1:9000"]
admin.address = "127.0.0.1:9901"
route = [{ path = "/base/{*rest}", require = ["public"], upstream = "items" }]

[[listener]]
address = "0.0.0.0:443"
certificate = "/etc/gateway/server.crt"
private_key = "/etc/gateway/server.key"
"#;

/// An API that the pages name.
const DOCUMENT: &str = "openapi: 3.1.0\ninfo: {title: Shop, version: '1'}\nservers: [{url: /v1}]\n\
    paths: {/items: {get: {security: [], responses: {}}}}\n";

/// Folders that the pages name, and that are a test's own folder here.
const FOLDERS: [&str; 5] =
    ["/etc/gateway/", "/var/lib/gateway-lists/", "/var/lib/gateway/", "/var/lib/geo/", "/var/log/gateway/"];

#[test]
fn every_configuration_is_valid() {
    let folder = std::env::temp_dir().join(format!("gwt-{}-docs", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let shown: Vec<Block> = blocks().into_iter().filter(|block| block.language == "toml").collect();
    assert!(shown.len() > 5, "the pages show {} configurations", shown.len());
    let faults: Vec<String> = shown.iter().flat_map(|block| faults(block, &folder)).collect();
    fs::remove_dir_all(folder).unwrap();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// What `gateway check` says against a block, by page and line.
fn faults(block: &Block, folder: &Path) -> Vec<String> {
    let parsed = match block.text.parse::<Table>() {
        Ok(parsed) => parsed,
        Err(error) => return vec![format!("{}: {error}", block.place(1))],
    };
    let text = if block.is_fragment { completed(&parsed) } else { block.text.clone() };
    let text = FOLDERS.iter().fold(text, |text, named| text.replace(named, &format!("{}/", folder.display())));
    make_files(&text.parse::<Table>().unwrap().into(), block, folder);
    let text = with_node_key(text, folder);
    let file = folder.join("gateway.toml");
    fs::write(&file, &text).unwrap();
    let told = gateway(&["--config", file.to_str().unwrap(), "check"]);
    if told.code == 0 {
        return Vec::new();
    }
    let errors = told.json["errors"].as_array().cloned().unwrap_or_else(|| vec![told.json.clone()]);
    let line = |error: &Value| {
        // A fragment is written anew: its lines are others.
        let line = error["line"].as_u64().filter(|_| !block.is_fragment);
        block.place(line.and_then(|line| usize::try_from(line).ok()).unwrap_or(1))
    };
    errors.iter().map(|error| format!("{}: {}: {}", line(error), error["key"], error["message"])).collect()
}

/// What the pages show as the public key of the machine that they set up.
const NODE_KEY: &str = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

/// The configuration, with the public key of a machine whose private key is there.
fn with_node_key(text: String, folder: &Path) -> String {
    let key = folder.join("cluster.key");
    if !text.contains(NODE_KEY) {
        return text;
    }
    fs::remove_file(&key).unwrap_or_default();
    let made = gateway(&["cluster", "key", "new", key.to_str().unwrap()]);
    text.replace(NODE_KEY, made.json["public_key"].as_str().unwrap())
}

/// A fragment with the tables of [`BASE`] that it does not have itself.
fn completed(fragment: &Table) -> String {
    let mut whole: Table = BASE.parse().unwrap();
    for (name, value) in fragment {
        match (whole.get_mut(name), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(own)) if name == "upstream" => base.extend(own.clone()),
            _ => drop(whole.insert(name.clone(), value.clone())),
        }
    }
    toml::to_string(&whole).unwrap()
}

/// Makes every file in `folder` that a configuration names.
fn make_files(value: &toml::Value, block: &Block, folder: &Path) {
    match value {
        toml::Value::Array(values) => values.iter().for_each(|value| make_files(value, block, folder)),
        toml::Value::Table(table) => table.values().for_each(|value| make_files(value, block, folder)),
        toml::Value::String(text) if Path::new(text).parent() == Some(folder) => {
            make_file(Path::new(text), block);
        }
        _ => {}
    }
}

fn make_file(path: &Path, block: &Block) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let ends = |ending: &str| name.ends_with(ending);
    if ends(".crt") || ends(".key") {
        // A pair, whichever of the two is named first.
        if !path.exists() {
            let (certificate, key) = PKI.another();
            fs::write(path.with_extension("crt"), certificate).unwrap();
            fs::write(path.with_extension("key"), key).unwrap();
        }
    } else if ends("token.pem") {
        fs::write(path, &PKI.key_pem).unwrap();
    } else if ends("ca.pem") {
        fs::write(path, &PKI.authority_pem).unwrap();
    } else if ends(".schema.json") {
        fs::write(path, SCHEMA).unwrap();
    } else if ends(".yaml") {
        fs::write(path, DOCUMENT).unwrap();
    } else if ends(".mmdb") {
        fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/geo/geo.mmdb"), path).unwrap();
    } else if ends("crs.conf") {
        fs::write(path, "SecRule ARGS \"@contains ${jndi:\" \"id:1,phase:2,deny\"\n").unwrap();
    } else if ends("jwks.json") {
        fs::write(path, tokens::ISSUERS.jwks().to_string()).unwrap();
    } else if ends(".headers") {
        fs::write(path, "Authorization: Bearer abc\n").unwrap();
    } else if ends(".secret") {
        fs::write(path, [b'7'; 64]).unwrap();
    } else if ends(".url") {
        fs::write(path, "https://hooks.example.com/services/T0/B0/abc\n").unwrap();
    } else if ends(".htpasswd") {
        fs::write(path, "ada:$2y$12$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u\n").unwrap();
    } else if ends(".conf") {
        fs::write(path, "SecAction \"id:1,phase:1,nolog,pass\"\n").unwrap();
    } else if ends(".txt") {
        fs::write(path, "198.51.100.0/24\n").unwrap();
    } else if !ends(".log") && path.extension().is_some() {
        panic!("{}: this test makes no file like {name}", block.place(1));
    }
}

/// What the commands of the pages find: bans to lift, a rule in shadow, a list.
fn settings() -> Settings {
    let rule =
        "[[rule]]\nname = \"scanners\"\nsignals = [\"unknown_route\"]\ncount = 30\nwithin = \"1m\"\nban = \"10m\"\n";
    Settings {
        rules: format!("{rule}shadow = true\n"),
        more: format!(
            "[detect]\ndefaults = \"shadow\"\n[audit]\ncheckpoint = \"1s\"\n[api_keys]\n[limit.per-client]\nby = [\"principal\"]\nrequests = 10\n\
             [plan.gold.limits.per-client]\nrequests = 100\n[[feed]]\nname = \"drop\"\npath = \"drop.txt\"\n{}\
             [[alert]]\nname = \"blocked\"\nmetric = \"gateway_blocks\"\ncondition = \"> 0\"\n",
            admin::TABLE
        ),
        ..Settings::default()
    }
}

#[test]
fn every_command_runs() {
    if !report::may_run("docs: commands") {
        return;
    }
    let world = World::new();
    for list in ["drop.txt", "suspects.txt", "firehol_level1.netset"] {
        fs::write(world.folder.join(list), "198.51.100.0/24\n203.0.113.9\n").unwrap();
    }
    let fresh = world.folder.join("fresh");
    let daemon = Daemon::start(&world, &settings());
    // What a page writes to a file with `>`, or has from elsewhere.
    fs::copy(world.folder.join("state/audit.pub"), world.folder.join("audit.pub")).unwrap();
    let head = until("the first checkpoint", SOON, || {
        let told = daemon.cli(&["audit", "head"]);
        (told.code == 0).then(|| told.json.to_string())
    });
    fs::write(world.folder.join("anchors.jsonl"), head).unwrap();
    fs::copy(&daemon.config, world.folder.join("new.toml")).unwrap();
    // For `replay`: there is no upstream, which the log says, too.
    drop(Client::new(&world, GOOD_V4).send(&Request::new("GET", "/health")).unwrap());
    until("a request in the access log", SOON, || (!daemon.access_log().is_empty()).then_some(()));
    let export = ["audit", "export"].map(str::to_owned);
    fs::write(world.folder.join("week.jsonl"), run(&localized(&export, &daemon, &fresh), &world.folder).stdout)
        .unwrap();
    // Not Ada's: a page before has revoked hers.
    fs::write(world.folder.join("token.jwt"), tokens::good("grace", &["reader"])).unwrap();
    let (mut ran, mut wrong) = (0, Vec::new());
    for block in blocks().iter().filter(|block| block.language == "sh") {
        // No block finds what another has left behind.
        daemon.done(&["block", "flush", "--yes"]);
        fs::remove_dir_all(&fresh).unwrap_or_default();
        fs::create_dir_all(&fresh).unwrap();
        // `gateway init` begins something new; what follows it in the block is about that.
        let mut place = world.folder.clone();
        for (line, words) in commands(&block.text) {
            let Some(arguments) = words.strip_prefix(&["gateway".to_owned()]) else { continue };
            let verb = arguments.iter().find(|word| !word.starts_with('-')).map_or("", String::as_str);
            if verb == "init" {
                place.clone_from(&fresh);
            }
            let arguments = localized(arguments, &daemon, &place);
            let output = if needs_somebody(verb, &arguments) {
                run(&[&arguments[..], &["--help".to_owned()]].concat(), &place)
            } else {
                run(&arguments, &place)
            };
            ran += 1;
            // `doctor` finds what is off on the machine of the test.
            let fits = output.status.success() || verb == "doctor" && output.status.code() == Some(1);
            if !fits {
                let said = String::from_utf8_lossy(&output.stderr);
                wrong.push(format!("{}: {}: {}\n{said}", block.place(line), words.join(" "), output.status));
            }
            if verb == "detach" {
                daemon.done(&["attach"]);
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {ran} commands:\n{}", wrong.len(), wrong.join("\n"));
    assert!(ran > 10, "the pages show {ran} commands");
}

/// The arguments with the paths of this test in place of a machine's.
fn localized(arguments: &[String], daemon: &Daemon<'_>, place: &Path) -> Vec<String> {
    let config = daemon.config.to_str().unwrap();
    let mut local: Vec<String> = arguments
        .iter()
        .map(|word| {
            FOLDERS.iter().fold(word.clone(), |word, named| word.replace(named, &format!("{}/", place.display())))
        })
        .collect();
    if !local.iter().any(|word| word == "--config" || word == "init") {
        local.splice(..0, ["--config".to_owned(), config.to_owned()]);
    }
    local
}

/// What goes on until it is ended, asks at a terminal, or needs somebody's server: its arguments alone are tried.
fn needs_somebody(verb: &str, arguments: &[String]) -> bool {
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    match verb {
        "run" | "watch" => true,
        "top" => !has("--once"),
        "init" => !has("--upstream"),
        "feed" => has("refresh"),
        "alert" => has("test"),
        // The response of a time-stamping authority.
        "audit" => has("--tsr"),
        _ => false,
    }
}

#[test]
fn what_needs_nobody_is_run() {
    for (line, expect) in [
        ("run", true),
        ("watch --kernel", true),
        ("top --l7", true),
        ("top --l7 --once", false),
        ("init", true),
        ("init --upstream 127.0.0.1:9000", false),
        ("feed refresh drop", true),
        ("feed list", false),
        ("alert test", true),
        ("alert list", false),
        ("audit verify --tsr head.tsr", true),
        ("audit verify", false),
    ] {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        assert_eq!(needs_somebody(&words[0], &words), expect, "{line}");
    }
}

fn run(arguments: &[String], place: &PathBuf) -> Output {
    Command::new(binary()).args(arguments).current_dir(place).output().unwrap()
}

/// What systemd still holds against the unit is what docs/sandbox.md explains, point by point.
#[test]
fn each_point_of_the_unit_is_explained() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        command.args(arguments).current_dir(root).env("LC_ALL", "C").output()
    };
    let Ok(version) = analyze(&["--version"]) else {
        return report::skipped("docs::unit", "there is no systemd-analyze: `cargo xtask setup --all`");
    };
    let output = analyze(&["security", "--offline=true", "--no-pager", "packaging/gateway.service"]).unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    let page = fs::read_to_string(root.join("docs/sandbox.md")).unwrap().replace("\\|", "|");
    // Behind the longest name there is one space.
    let points = found.lines().filter_map(|line| line.strip_prefix("- ")?.split("  ").next());
    let points: Vec<&str> = points.map(|point| point.split(" Service ").next().unwrap_or(point)).collect();
    assert!(points.len() > 5, "{found}");
    let missing: Vec<&&str> = points.iter().filter(|point| !page.contains(&format!("| `{point}` | 0."))).collect();
    assert!(missing.is_empty(), "docs/sandbox.md does not explain {missing:?}");
    // Another version counts other points.
    if String::from_utf8_lossy(&version.stdout).starts_with("systemd 252 ") {
        let rows = page.lines().filter(|line| line.starts_with("| `") && line.contains("` | 0.")).count();
        assert_eq!(rows, points.len(), "docs/sandbox.md explains what is no point any more");
        let figure = found.lines().find_map(|line| line.split("gateway.service: ").nth(1)?.split(' ').next()).unwrap();
        assert!(page.contains(&format!("says {figure} (")), "the figure is {figure} by now");
    }
}
