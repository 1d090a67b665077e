//! What detection finds, what it costs good clients, and what it costs a request.
//!
//! - [`rules`]: generated attacks, crowds and failed deployments beside weeks of good traffic, through the default rules;
//! - [`series`] and [`packaged`]: baselines beside generated and labelled series, rules beside the lists of scanners;
//! - [`cost`]: nanoseconds of a request.
//!
//! `cargo xtask bench detect` runs this. Everything but the last is the same on each machine, except that hashes are seeded at
//! random.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a tool of the tests: whatever fails names its line"
)]
#![allow(clippy::print_stdout, reason = "the tables are what it is for")]

use std::{
    env, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use gateway::config::{Config, Files};
use serde_json::{Map, Value};

mod attacks;
mod cost;
mod dice;
mod good;
mod incidents;
mod packaged;
mod request;
mod rules;
mod series;
mod table;
mod traffic;

/// Default rules in force, the one that has to be named too, and baselines as they are by default.
const DEFAULTS: &str = "[detect]\ndefaults = \"enforce\"\nprofiles = 0\n[[rule]]\nname = \"scraping\"\n[anomalies]\n\
                        [admin]\naddress = \"127.0.0.1:9901\"\n";

const BASE: &str = "[proxy]\nuser = \"gateway\"\n[[listener]]\naddress = \"127.0.0.1:80\"\n[upstream.a]\nservers = \
                    [\"127.0.0.1:81\"]\n[[route]]\npath = \"/{*rest}\"\nrequire = [\"public\"]\nupstream = \"a\"\n";

struct Text(String);

impl Files for Text {
    fn read(&self, _path: &Path) -> io::Result<Arc<[u8]>> {
        Ok(self.0.as_bytes().into())
    }

    fn mode(&self, _path: &Path) -> Option<u32> {
        None
    }
}

/// A configuration with these tables.
fn config(tables: &str) -> Config {
    Config::load(Path::new("/gateway.toml"), &Text(format!("{BASE}{tables}"))).unwrap()
}

/// What is asked for.
#[derive(Default)]
struct Arguments {
    json: bool,
    is_quick: bool,
    /// One part; `None`: all.
    only: Option<String>,
    /// Where what packages have is; `None`: nowhere.
    corpora: Option<PathBuf>,
}

impl Arguments {
    fn read() -> Self {
        let (mut arguments, mut words) = (Self::default(), env::args().skip(1));
        while let Some(word) = words.next() {
            match word.as_str() {
                "--json" => arguments.json = true,
                "--quick" => arguments.is_quick = true,
                "--only" => arguments.only = words.next(),
                "--corpora" => arguments.corpora = words.next().map(PathBuf::from),
                other => panic!("{other} is no argument: --json, --quick, --only PART, --corpora FOLDER"),
            }
        }
        arguments
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}

fn main() {
    let arguments = Arguments::read();
    let enforced = config(DEFAULTS);
    let anomalies = enforced.anomalies.clone().unwrap();
    let mut values = Map::new();
    let mut tell = |part: &str, value: Value, print: &dyn Fn()| {
        if arguments.json {
            values.insert(part.to_owned(), value);
        } else {
            print();
        }
    };
    if arguments.wants("rules") {
        let figures = rules::measure(&enforced, &rules::Amount::new(arguments.is_quick));
        tell("rules", figures.value(), &|| figures.print());
    }
    if arguments.wants("series") {
        let figures = series::measure(&anomalies, arguments.is_quick);
        tell("series", figures.value(), &|| figures.print());
    }
    if let Some(corpora) = arguments.corpora.as_deref().filter(|_| arguments.wants("packages")) {
        let figures = packaged::measure(&enforced, &anomalies, corpora);
        tell("packages", figures.value(), &|| figures.print());
    }
    if arguments.wants("cost") {
        let figures = cost::measure(&config);
        tell("cost", cost::value(&figures), &|| cost::print(&figures));
    }
    if arguments.json {
        println!("{}", Value::Object(values));
    }
}
