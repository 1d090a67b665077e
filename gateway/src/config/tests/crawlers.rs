//! Wrong `[crawler.NAME]` tables, each with what must be said about it.

use super::{BASE, load, wrong};

const FEED: &str =
    "[[feed]]\nname = \"google\"\npath = \"a\"\nuse = \"crawlers\"\n[[feed]]\nname = \"drop\"\npath = \"b\"\n";

/// A configuration with this table, whose faulty line is `line` lines below its head.
#[track_caller]
fn table(lines: &str, line: usize, key: &str, message: &str, hint: &str) {
    let first = BASE.lines().position(|line| line == "[guard]").unwrap() + 8;
    let lines = format!("{FEED}[crawler.google]\n{lines}\n[guard]\n");
    wrong("[guard]\n", &lines, first + line, &format!("crawler.google.{key}"), message, hint);
}

#[test]
fn what_is_wrong() {
    let agents = "agents = [\"Googlebot\"]";
    let hosts = "hosts = [\".googlebot.com\"]";
    table(hosts, 0, "agents", "missing", "Googlebot");
    table(agents, 0, "hosts", "nobody could be verified", "feeds");
    table(&format!("{agents}\nhosts = []"), 2, "hosts", "nobody could be verified", "feeds");
    table(&format!("agents = []\n{hosts}"), 1, "agents", "is empty", "Googlebot");
    table(&format!("agents = [\"bot\"]\n{hosts}"), 1, "agents[0]", "not part of a crawler's", "4 to 128");
    for browser in ["Mozilla", "http", "chrome/", "compatible;"] {
        let agents = format!("agents = [\"{browser}\"]\n{hosts}");
        table(&agents, 1, "agents[0]", "is part of the `User-Agent` of browsers", "Googlebot");
    }
    table(&format!("agents = [\"Göögle\"]\n{hosts}"), 1, "agents[0]", "not part of a crawler's", "ASCII");
    for (host, message) in [
        ("googlebot.com", "does not begin with a dot"),
        (".com", "too many could have names in it"),
        (".2.0.192", "is no domain of a crawler"),
        (".google bot.com", "is not a host name"),
        (".*.googlebot.com", "has a wildcard"),
        ("..googlebot.com", "is not a host name"),
    ] {
        let hosts = format!("{agents}\nhosts = [\"{host}\"]");
        table(&hosts, 2, "hosts[0]", message, "\".googlebot.com\"");
    }
    table(&format!("{agents}\nfeeds = [\"gogle\"]"), 2, "feeds[0]", "there is no feed", "did you mean \"google\"?");
    table(&format!("{agents}\nfeeds = [\"nobody\"]"), 2, "feeds[0]", "there is no feed", "use = \"crawlers\"");
    table(&format!("{agents}\nfeeds = [\"drop\"]"), 2, "feeds[0]", "bans whom it names", "use = \"crawlers\"");
    table(&format!("{agents}\n{hosts}\nban = false"), 3, "ban", "unknown", "");
}

#[test]
fn resolvers() {
    let first = BASE.lines().position(|line| line == "[guard]").unwrap() + 1;
    let crawlers = |resolvers: &str| format!("[crawlers]\nresolvers = {resolvers}\n");
    let crawler = "[crawler.a]\nagents = [\"abot\"]\nhosts = [\".a.example\"]\n";
    for (resolver, message) in
        [("ns.example", "no address of a name server"), ("192.0.2.1:0", "no address"), ("[2001:db8::1]", "no address")]
    {
        let text = format!("{}{crawler}[guard]\n", crawlers(&format!("[\"{resolver}\"]")));
        wrong("[guard]\n", &text, first + 1, "crawlers.resolvers[0]", message, "192.0.2.53");
    }
    let text = format!("{}[guard]\n", crawlers("[\"192.0.2.1\"]"));
    wrong("[guard]\n", &text, first + 1, "crawlers.resolvers", "there is no crawler", "[crawler.NAME]");
    let text = format!("{}{crawler}[guard]\n", crawlers("[\"192.0.2.1\", \"127.0.0.1:5353\", \"2001:db8::1\"]"));
    let config = load(&BASE.replacen("[guard]\n", &text, 1)).unwrap();
    let found: Vec<String> = config.proxy.crawlers.resolvers.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["192.0.2.1:53", "127.0.0.1:5353", "[2001:db8::1]:53"]);
    let shown = config.effective();
    assert_eq!(shown["crawler"]["a"]["hosts"][0], ".a.example", "{shown}");
    assert_eq!(shown["crawlers"]["resolvers"][1], "127.0.0.1:5353", "{shown}");
    assert!(load(BASE).unwrap().effective().get("crawler").is_none());
}
