//! Who is a crawler, by what is known at which moment.

use super::*;

const GOOGLE: &[u8] = b"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

fn crawler(name: &str, agents: &[&str], hosts: &[&str], feeds: &[&str]) -> Crawler {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Crawler { name: name.to_owned(), agents: texts(agents), hosts: texts(hosts), feeds: texts(feeds) }
}

fn crawlers(crawlers: &[Crawler]) -> Crawlers {
    Crawlers::new(&crawlers::Settings { resolvers: Vec::new(), crawlers: crawlers.to_vec() }, None)
}

fn google() -> Crawler {
    crawler("google", &["Googlebot"], &[".googlebot.com", ".google.com"], &[])
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What is known of a request from 192.0.2.1, and what is asked.
#[track_caller]
fn ask(crawlers: &Crawlers, seconds: u64) -> (CrawlerStanding, Option<HostQuestion>) {
    let mut claim = crawlers.judge(GOOGLE, address("192.0.2.1"), seconds * SECOND).unwrap();
    let question = claim.questions.pop();
    assert!(claim.questions.is_empty());
    (claim.standing, question)
}

fn lookups(crawlers: &Crawlers) -> Vec<u64> {
    crawlers.lookups().map(|(_, count)| count).collect()
}

#[test]
fn who_says_so() {
    let known = crawlers(&[google(), crawler("bing", &["bingbot", "adidxbot"], &[".search.msn.com"], &[])]);
    let rows: [(&[u8], usize); 8] = [
        (GOOGLE, 1),
        (b"GOOGLEBOT", 1),
        (b"adidxbot/2.0 bingbot/2.0 bingbot", 1),
        (b"bingbot (like Googlebot)", 2),
        (b"Mozilla/5.0 (X11; Linux x86_64)", 0),
        (b"Google bot", 0),
        (b"", 0),
        (b"\xff\xfeGooglebo", 0),
    ];
    // From another address each: nothing is known of any.
    for (number, (agent, asks)) in (0_u32..).zip(rows) {
        let claim = known.judge(agent, IpAddr::V4((0x0a00_0000 + number).into()), 0);
        assert_eq!(claim.map_or(0, |claim| claim.questions.len()), asks, "{}", String::from_utf8_lossy(agent));
    }
    assert!(crawlers(&[]).judge(GOOGLE, address("192.0.2.9"), 0).is_none());
}

#[test]
fn one_question_and_its_answer_for_a_while() {
    use CrawlerStanding as S;
    for (answer, standing, lasts) in [
        (HostAnswer::Confirmed(1), S::Verified, 600),
        (HostAnswer::Confirmed(3_600), S::Verified, 3_600),
        (HostAnswer::Confirmed(u32::MAX), S::Verified, 86_400),
        (HostAnswer::Unconfirmed, S::False, 600),
        (HostAnswer::Failed, S::Unknown, 30),
    ] {
        let known = crawlers(&[google()]);
        let (first, question) = ask(&known, 100);
        assert_eq!(first, S::Unknown, "no request waits");
        let (second, none) = ask(&known, 110);
        assert!(second == S::Unknown && none.is_none(), "{answer:?}: it is asked once");
        question.unwrap().answered(answer, 115 * SECOND);
        for (seconds, expect) in [(115, standing), (114 + lasts, standing)] {
            let (now, none) = ask(&known, seconds);
            assert!(now == expect && none.is_none(), "{answer:?} {seconds}: {now:?}");
        }
        // Who was verified stays so while it is asked again.
        let (kept, again) = ask(&known, 115 + lasts);
        assert_eq!((kept, again.is_some()), (if standing == S::Verified { standing } else { S::Unknown }, true));
        again.unwrap().answered(HostAnswer::Unconfirmed, (116 + lasts) * SECOND);
        assert_eq!(ask(&known, 117 + lasts).0, S::False);
    }
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again() {
    let known = crawlers(&[google()]);
    let (_, question) = ask(&known, 0);
    drop(question);
    assert!(ask(&known, 19).1.is_none());
    let (standing, question) = ask(&known, 20);
    question.unwrap().answered(HostAnswer::Confirmed(0), 21 * SECOND);
    assert_eq!((standing, lookups(&known)), (CrawlerStanding::Unknown, vec![1, 0, 0, 1]));
    let under_way = lock(&known.state.under_way);
    assert_eq!((under_way.all, under_way.of_networks.len()), (0, 0));
    drop(under_way);
    // An hour after its time nothing is left of it, whoever answers.
    let (kept, question) = ask(&known, 621 + 3_599);
    assert_eq!(kept, CrawlerStanding::Verified);
    drop(question);
    assert_eq!(ask(&known, 621 + 3_600).0, CrawlerStanding::Unknown);
}

#[test]
fn a_flood_of_claims_asks_little_and_forgets_no_crawler() {
    let known = crawlers(&[google()]);
    let (_, question) = ask(&known, 0);
    question.unwrap().answered(HostAnswer::Confirmed(86_400), 0);
    let mut held = Vec::new();
    for number in 0..200_u32 {
        let claim = known.judge(GOOGLE, IpAddr::V4((0x0a00_0000 + (number << 8)).into()), SECOND).unwrap();
        held.extend(claim.questions);
    }
    assert_eq!((held.len(), lookups(&known)), (AT_ONCE, vec![1, 0, 0, 200 - AT_ONCE as u64]));
    drop(held);
    for number in 0..3 * u32::try_from(CAPACITY).unwrap() {
        let claim = known.judge(GOOGLE, IpAddr::V4((0x0b00_0000 + number).into()), SECOND).unwrap();
        claim.questions.into_iter().for_each(|question| question.answered(HostAnswer::Unconfirmed, SECOND));
    }
    assert!(known.state.names.len() <= CAPACITY);
    assert_eq!(ask(&known, 2).0, CrawlerStanding::Verified);
}

#[test]
fn names_in_the_domain_alone() {
    let known = crawlers(&[google()]);
    let (_, question) = ask(&known, 0);
    let question = question.unwrap();
    for (name, expect) in [
        ("crawl-66-249-66-1.googlebot.com", true),
        ("rate-limited-proxy.google.com", true),
        ("googlebot.com", false),
        (".googlebot.com", false),
        ("crawl.googlebot.com.attacker.example", false),
        ("evilgooglebot.com", false),
        ("a.notgoogle.com", false),
        ("", false),
    ] {
        assert_eq!(question.may_be(name), expect, "{name}");
    }
}

#[test]
fn ranges() {
    use CrawlerStanding as S;
    let networks: Vec<Source> = ["192.0.2.0/28", "2001:db8::/64"].map(|text| text.parse().unwrap()).to_vec();
    let none: &[&str] = &[];
    for (hosts, feeds, loaded, who, expect) in [
        (none, &["a"][..], &["a"][..], "192.0.2.1", S::Verified),
        (&[], &["a"], &["a"], "::ffff:192.0.2.1", S::Verified),
        (&[], &["a"], &["a"], "2001:db8::7", S::Verified),
        (&[], &["a"], &["a"], "192.0.2.16", S::False),
        // A list that has not come says nothing of anybody.
        (&[], &["a"], &[], "192.0.2.1", S::Unknown),
        (&[], &["b", "a"], &["a"], "192.0.2.1", S::Verified),
        (&[], &["b", "a"], &["a"], "192.0.2.16", S::Unknown),
        // Either is enough.
        (&[".googlebot.com"], &["a"], &["a"], "192.0.2.1", S::Verified),
        (&[".googlebot.com"], &["a"], &["a"], "192.0.2.16", S::Unknown),
    ] {
        let known = crawlers(&[crawler("google", &["Googlebot"], hosts, feeds)]);
        loaded.iter().for_each(|list| known.take_ranges(list, Some(&networks)));
        let claim = known.judge(GOOGLE, address(who), 0).unwrap();
        assert_eq!(claim.standing, expect, "{feeds:?} {loaded:?} {who}");
        let asks = !hosts.is_empty() && expect != S::Verified;
        assert_eq!(claim.questions.len(), usize::from(asks), "who is in a range is not looked up");
    }
    // It is in no range, and its name is nobody's, but the other list is still missing.
    let known = crawlers(&[crawler("google", &["Googlebot"], &[".googlebot.com"], &["a", "b"])]);
    known.take_ranges("a", Some(&networks));
    let claim = known.judge(GOOGLE, address("192.0.2.99"), 0).unwrap();
    claim.questions.into_iter().for_each(|question| question.answered(HostAnswer::Unconfirmed, 0));
    assert_eq!(known.judge(GOOGLE, address("192.0.2.99"), 1).unwrap().standing, S::Unknown);
    known.take_ranges("b", Some(&[]));
    assert_eq!(known.judge(GOOGLE, address("192.0.2.99"), 1).unwrap().standing, S::False);
    known.take_ranges("b", None);
    assert_eq!(known.judge(GOOGLE, address("192.0.2.99"), 1).unwrap().standing, S::Unknown);
}

#[test]
fn what_is_known_outlives_a_reload_unless_the_domains_change() {
    let known = crawlers(&[google()]);
    ask(&known, 0).1.unwrap().answered(HostAnswer::Confirmed(600), 0);
    let settings = |hosts: &[&str]| crawlers::Settings {
        resolvers: vec!["127.0.0.1:53".parse().unwrap()],
        crawlers: vec![crawler("google", &["Googlebot"], hosts, &[])],
    };
    let same = Crawlers::new(&settings(&[".googlebot.com", ".google.com"]), Some(&known));
    assert_eq!(ask(&same, 1).0, CrawlerStanding::Verified);
    let other = Crawlers::new(&settings(&[".googlebot.com"]), Some(&known));
    let (standing, question) = ask(&other, 1);
    assert_eq!((standing, question.unwrap().resolvers.len()), (CrawlerStanding::Unknown, 1));
    let mut counts = other.requests().into_iter().map(|(_, label, count)| (label, count)).collect::<Vec<_>>();
    counts.sort_unstable();
    assert_eq!(counts, [("false", 0), ("unknown", 2), ("verified", 1)]);
}

/// Whoever is delegated the names of a network answers as late as they like, and keeps nobody else from being verified.
#[test]
fn one_network_does_not_take_all_places() {
    for (first, other) in [("192.0.2.", "198.51.100.1"), ("2001:db8:0:", "2001:db8:1::1")] {
        let known = crawlers(&[google()]);
        let mut held = Vec::new();
        for number in 1..200 {
            let text = if first.contains(':') { format!("{first}{number}::1") } else { format!("{first}{number}") };
            held.extend(known.judge(GOOGLE, address(&text), SECOND).unwrap().questions);
        }
        assert_eq!(held.len(), AT_ONCE_OF_NETWORK, "{first}");
        let claim = known.judge(GOOGLE, address(other), SECOND).unwrap();
        assert_eq!(claim.questions.len(), 1, "{other}");
        drop(held);
        let again = if first.contains(':') { format!("{first}250::1") } else { format!("{first}250") };
        assert_eq!(known.judge(GOOGLE, address(&again), SECOND).unwrap().questions.len(), 1, "{again}");
    }
}
