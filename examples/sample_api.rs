//! What the demonstration needs besides the gateway: a small JSON API to protect, and certificate, keys and tokens.
//!
//! `sample-api serve 127.0.0.1:9000` serves the API. `sample-api fixtures FOLDER ADDRESS...` writes a certificate for
//! the addresses, its key and authority, a key set, a schema, and one file per token. `--tokens COUNT` before the folder
//! adds `many.tokens` with so many tokens, each of another client. Never for production: the keys are made on the spot
//! and thrown away.
#![allow(clippy::print_stdout, clippy::expect_used, reason = "an example talks to people and may stop at once")]

use std::{env, fs, net::TcpListener, path::Path, process::ExitCode};

use support::{
    pki::Pki,
    tokens,
    upstream::{self, Record},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve", address] => serve(address),
        ["fixtures", "--tokens", count, folder, addresses @ ..] => {
            fixtures(Path::new(folder), addresses);
            many_tokens(Path::new(folder), count.parse().expect("a number of tokens"));
        }
        ["fixtures", folder, addresses @ ..] => fixtures(Path::new(folder), addresses),
        _ => {
            eprintln!(
                "usage: sample-api serve ADDRESS:PORT\n       sample-api fixtures [--tokens COUNT] FOLDER ADDRESS..."
            );
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn serve(address: &str) {
    let listener = TcpListener::bind(address).expect("the address is free");
    println!("sample API on {address}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(upstream::serve(listener, Record::default())).expect("accepting connections");
}

fn fixtures(folder: &Path, addresses: &[&str]) {
    fs::create_dir_all(folder).expect("the folder can be made");
    let addresses: Vec<_> = addresses.iter().map(|text| text.parse().expect("an IP address")).collect();
    Pki::generate(&addresses).write(folder);
    for (name, token) in [
        ("good.token", tokens::good("ada", &["editor"])),
        ("reader.token", tokens::good("bob", &["reader"])),
        ("expired.token", tokens::expired("ada", &["editor"])),
        ("forged.token", tokens::forged("mallory", &["editor"])),
    ] {
        fs::write(folder.join(name), token).expect("a token can be written");
    }
}

fn many_tokens(folder: &Path, count: usize) {
    let tokens: String =
        (0..count).map(|client| tokens::good(&format!("client-{client}"), &["editor"]) + "\n").collect();
    fs::write(folder.join("many.tokens"), tokens).expect("tokens can be written");
}
