//! Wrong `[[feed]]` tables of lists that are fetched, each with what must be said about it.

use std::time::Duration;

use super::{BASE, load, spoiled, wrong};

const ADMIN: &str = "[admin]\naddress = \"127.0.0.1:9901\"\n";

/// A configuration with this feed, whose faulty line is `line` lines below its head.
#[track_caller]
fn feed(lines: &str, line: usize, key: &str, message: &str, hint: &str) {
    let first = BASE.lines().position(|line| line == "[guard]").unwrap() + 3;
    let lines = format!("{ADMIN}[[feed]]\nname = \"a\"\n{lines}\n[guard]\n");
    wrong("[guard]\n", &lines, first + 1 + line, &format!("feed[0].{key}"), message, hint);
}

#[test]
fn a_list_is_a_file_or_is_fetched() {
    let url = "url = \"https://lists.example/a\"";
    feed("path = \"a\"\nurl = \"https://lists.example/a\"", 1, "path", "beside `url`", "leave one");
    feed("path = \"a\"\nevery = \"1h\"", 2, "every", "no effect without `url`", "leave it out");
    feed("path = \"a\"\nallow_private = true", 2, "allow_private", "no effect without `url`", "leave it out");
    feed("url = \"lists.example\"", 1, "url", "does not begin with https://", "https://lists.example/drop.txt");
    feed("url = \"http://lists.example/a\"", 1, "url", "is http", "https://");
    feed("url = \"http://127.0.0.1/a\"", 1, "url", "is http", "allow_http");
    feed("url = \"https://10.0.0.1/a\"", 1, "url", "private", "allow_private");
    feed("url = \"https://169.254.169.254/a\"", 1, "url", "metadata service", "another server");
    feed(&format!("{url}\nsha256_url = \"https://10.0.0.1/a\""), 2, "sha256_url", "private", "allow_private");
    feed(&format!("{url}\nmax_shrink = 2"), 2, "max_shrink", "is not a share", "from 0 to 1");
    feed(&format!("{url}\nmax_size = \"1GiB\""), 2, "max_size", "out of range", "");
    feed(
        &format!("{url}\nevery = \"1h\"\nstale_after = \"10m\""),
        3,
        "stale_after",
        "shorter than `every`",
        "three times",
    );
    let without = "[[feed]]\nname = \"a\"\nurl = \"https://lists.example/a\"\n[guard]\n";
    let first = BASE.lines().position(|line| line == "[guard]").unwrap() + 1;
    wrong("[guard]\n", without, first + 2, "feed[0].url", "fetched by the observer", "[admin]");
}

#[test]
fn signatures_and_crawlers() {
    const KEY: &str = "minisign = \"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"";
    let url = "url = \"https://lists.example/a\"";
    let signature = "signature_url = \"https://lists.example/a.sig\"";
    feed("path = \"a\"\nminisign = \"RW\"", 2, "minisign", "no effect without `url`", "leave it out");
    feed(&format!("{url}\nminisign = \"RWQf\""), 2, "minisign", "no public key", "minisign.pub");
    feed(&format!("{url}\n{signature}"), 2, "signature_url", "no effect without `minisign`", "public key");
    let private = "signature_url = \"https://10.0.0.1/a\"";
    feed(&format!("{url}\n{KEY}\n{private}"), 3, "signature_url", "private", "allow_private");
    feed(&format!("{url}\nuse = \"crawler\""), 2, "use", "is unknown", "crawlers");
    feed(&format!("{url}\nuse = \"crawlers\"\nban = \"1h\""), 3, "ban", "nobody is banned", "leave it out");
    feed(&format!("{url}\nuse = \"never_ban\"\nshadow = true"), 3, "shadow", "nobody is banned", "leave it out");
    feed("path = \"a\"\nformat = \"plain\"\nservices = [\"EC2\"]", 3, "services", "only JSON lists", "json");
    let text = format!("{ADMIN}[[feed]]\nname = \"a\"\n{url}\n{KEY}\n{signature}\n[guard]\n");
    let config = load(&BASE.replacen("[guard]\n", &text, 1)).unwrap();
    let shown = &config.effective()["feed"][0];
    assert_eq!((&shown["signature_url"], &shown["use"]), (&"https://lists.example/a.sig".into(), &"ban".into()));
    // What was taken without a signature, or by another key, is not what the server may call unchanged.
    let source = &config.guard.feeds[0].fetched().unwrap().source;
    let unsigned = crate::settings::feed::FeedSource { signed: None, ..source.clone() };
    assert_ne!(source.identity(), unsigned.identity());
}

#[test]
fn lists_without_an_interface_cause_a_warning() {
    let by_url = format!("{ADMIN}[[feed]]\nname = \"a\"\nurl = \"https://lists.example/a\"\n");
    // The file's content is its name.
    let by_path = "[[feed]]\nname = \"a\"\npath = \"192.0.2.1\"\n".to_owned();
    let crowdsec = format!("{ADMIN}[crowdsec]\nurl = \"https://crowdsec.example\"\nkey_file = \"server.key\"\n");
    let route = "require = [\"items:read\"]\n";
    for (tables, of_route, with_interface, expect) in [
        (&by_url, "", true, None),
        (&by_url, "", false, Some("feed[0]")),
        (&by_path, "", false, Some("feed[0]")),
        // A route asks for it.
        (&by_path, "sources = [\"a\"]\n", false, None),
        (&crowdsec, "", true, None),
        (&crowdsec, "", false, Some("crowdsec")),
    ] {
        let text =
            spoiled(route, &format!("{route}{of_route}")).replacen("[guard]\n", &format!("{tables}[guard]\n"), 1);
        let text = if with_interface { text } else { text.replacen("interfaces = [\"eth0\"]\n", "", 1) };
        let config = load(&text).unwrap_or_else(|errors| panic!("{errors}"));
        let told = config.warnings.iter().filter(|it| it.message.contains("blocks nobody"));
        let keys: Vec<&str> = told.map(|it| &*it.key).collect();
        assert_eq!(keys, expect.into_iter().collect::<Vec<_>>(), "{text}");
    }
}

#[test]
fn what_is_usual() {
    let text = BASE.replacen(
        "[guard]\n",
        &format!("{ADMIN}[[feed]]\nname = \"a\"\nurl = \"https://lists.example/a\"\nevery = \"2h\"\n[guard]\n"),
        1,
    );
    let config = load(&text).unwrap();
    let fetched = config.guard.feeds[0].fetched().unwrap();
    assert_eq!((fetched.stale_after, fetched.max_shrink), (Duration::from_secs(6 * 3_600), 500_000));
    assert_eq!(fetched.source.url.shown(), "https://lists.example/");
    let shown = &config.effective()["feed"][0];
    assert_eq!(
        (&shown["url"], &shown["max_shrink"], &shown["path"]),
        (&"https://lists.example/a".into(), &0.5.into(), &serde_json::Value::Null)
    );
}
