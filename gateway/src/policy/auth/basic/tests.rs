//! Names and passwords: which are good, and what is told of those that are not.

use std::{collections::BTreeMap, time::Duration};

use argon2::{Argon2, PasswordHasher as _};

use super::*;
use crate::{os::file::NamedFile, refusal::Reject};

const NOW: Now = Now { monotonic: 1_000_000_000, unix_millis: 1_800_000_000_000 };

fn bcrypt(password: &[u8]) -> String {
    bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap().format_for_version(bcrypt::Version::TwoY)
}

fn argon2id(password: &str) -> String {
    let params = argon2::Params::new(64, 1, 1, None).unwrap();
    let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    argon2.hash_password_with_salt(password.as_bytes(), b"saltsaltsalt").unwrap().to_string()
}

fn settings(users: &str) -> basic::Settings {
    basic::Settings {
        users: NamedFile { path: "users.htpasswd".into(), bytes: users.as_bytes().into() },
        realm: "gateway".to_owned(),
        roles: BTreeMap::from([("ada".to_owned(), vec!["editor".to_owned()])]),
        default_roles: vec!["reader".to_owned()],
        cache: 100,
        remember: Duration::from_secs(60),
        max_waiting: 10,
        max_waiting_per_source: 2,
        forward: false,
    }
}

fn users() -> Basic {
    let (long, short) = ("x".repeat(73), "x".repeat(72));
    let lines = [
        "# staff".to_owned(),
        String::new(),
        format!("ada:{}\r", bcrypt(b"secret")),
        format!("test:{}", argon2id("123\u{a3}")),
        format!("colon:{}", bcrypt(b"a:b:c")),
        format!("long:{}", bcrypt(long.as_bytes())),
        format!("short:{}", bcrypt(short.as_bytes())),
    ];
    Basic::new(&settings(&lines.join("\n"))).unwrap()
}

/// What becomes of a request with these credentials, how often it takes a comparison.
fn judge(basic: &Basic, credentials: &str, now: Now) -> (Result<String, String>, usize) {
    let mut answers = Vec::new();
    loop {
        match basic.authenticate(credentials.as_bytes(), &answers, now) {
            AuthOutcome::Needs(Lookup::Keys(lookup)) => panic!("{lookup:?}"),
            AuthOutcome::Needs(Lookup::Password(check)) => answers.push(LookupAnswer::Password(check.compare())),
            AuthOutcome::Needs(other) => unreachable!("{other:?}"),
            AuthOutcome::Decided(Ok(identity)) => {
                let roles: Vec<_> = identity.roles().collect();
                return (Ok(format!("{} {}", identity.principal(), roles.join(" "))), answers.len());
            }
            AuthOutcome::Decided(Err(refusal)) => {
                assert_eq!(refusal.reject, Reject::InvalidCredentials);
                return (Err(refusal.detail.into_owned()), answers.len());
            }
        }
    }
}

#[track_caller]
fn check(credentials: &str, expect: Result<&str, &str>, comparisons: usize) {
    let (found, compared) = judge(&users(), &BASE64.encode(credentials.as_bytes()), NOW);
    assert_eq!(found.as_deref().map_err(String::as_str), expect, "{credentials:?}");
    assert_eq!(compared, comparisons, "{credentials:?}");
}

#[test]
fn which_credentials_are_good() {
    let wrong = Err("the name or the password is wrong");
    let no_pair = Err("Authorization: Basic is no name with a password");
    check("ada:secret", Ok("basic:ada editor"), 1);
    check("test:123\u{a3}", Ok("basic:test reader"), 1);
    check("colon:a:b:c", Ok("basic:colon reader"), 1);
    check("ada:Secret", wrong, 1);
    check("ada:", wrong, 1);
    check("ada:secret ", wrong, 1);
    check("Ada:secret", wrong, 1);
    check(" ada:secret", wrong, 1);
    check("nobody:secret", wrong, 1);
    check("# staff:x", wrong, 1);
    // What bcrypt does not read of a password counts all the same.
    check(&format!("short:{}", "x".repeat(72)), Ok("basic:short reader"), 1);
    check(&format!("short:{}", "x".repeat(73)), wrong, 1);
    check(&format!("long:{}", "x".repeat(73)), wrong, 1);
    check("ada", no_pair, 0);
    check(":secret", no_pair, 0);
    check("", no_pair, 0);
    check("ada:sec\0ret", no_pair, 0);
    check("a\nda:secret", no_pair, 0);
    for credentials in ["YWRhOnNlY3JldA", "YWRhOnNlY3JldA==\t", " YWRhOnNlY3JldA==", "-", &"A".repeat(100_000)] {
        let (found, _) = judge(&users(), credentials, NOW);
        assert_eq!(found.unwrap_err(), "Authorization: Basic is not in base64", "{credentials:.20}");
    }
    let (found, _) = judge(&users(), &BASE64.encode(b"\xff\xfe:secret"), NOW);
    assert_eq!(found.unwrap_err(), "Authorization: Basic is no name with a password");
}

#[test]
fn results_are_remembered_for_a_while() {
    let basic = users();
    let after = |seconds: u64| Now { monotonic: NOW.monotonic + seconds * 1_000_000_000, ..NOW };
    let of = |credentials: &str, now: Now| {
        let (found, compared) = judge(&basic, &BASE64.encode(credentials.as_bytes()), now);
        (found.is_ok(), compared)
    };
    for (credentials, seconds, expect) in [
        ("ada:secret", 0, (true, 1)),
        ("ada:secret", 59, (true, 0)),
        ("ada:secret", 60, (true, 1)),
        ("ada:wrong", 60, (false, 1)),
        ("ada:wrong", 69, (false, 0)),
        ("ada:wrong", 70, (false, 1)),
        ("nobody:secret", 70, (false, 1)),
        ("nobody:secret", 79, (false, 0)),
    ] {
        assert_eq!(of(credentials, after(seconds)), expect, "{credentials} after {seconds} s");
    }
}

#[test]
fn another_password_in_the_file_counts_at_once() {
    let before = Basic::new(&settings(&format!("ada:{}\nbob:{}", bcrypt(b"old"), bcrypt(b"same")))).unwrap();
    let credentials = |text: &str| BASE64.encode(text.as_bytes());
    for known in ["ada:old", "bob:same"] {
        assert_eq!(judge(&before, &credentials(known), NOW).1, 1);
    }
    let after = before.succeeded_by(&settings(&format!("ada:{}\nbob:{}", bcrypt(b"new"), bcrypt(b"same")))).unwrap();
    for (text, is_good, compared) in [("ada:old", false, 1), ("ada:new", true, 1), ("bob:same", true, 0)] {
        let (found, made) = judge(&after, &credentials(text), NOW);
        assert_eq!((found.is_ok(), made), (is_good, compared), "{text}");
    }
    let without = after.succeeded_by(&settings(&format!("ada:{}", bcrypt(b"new")))).unwrap();
    assert!(judge(&without, &credentials("bob:same"), NOW).0.is_err());
}

#[test]
fn an_unknown_name_costs_what_a_known_one_does() {
    let basic = users();
    let mut kinds = Vec::new();
    for name in 0..200 {
        let credentials = BASE64.encode(format!("nobody{name}:x").as_bytes());
        let check = |basic: &Basic| match basic.authenticate(credentials.as_bytes(), &[], NOW) {
            AuthOutcome::Needs(Lookup::Password(check)) => format!("{check:?}"),
            decided => panic!("{decided:?}"),
        };
        assert_eq!(check(&basic), check(&basic), "the same for one name");
        kinds.push(check(&basic));
    }
    assert!(kinds.iter().any(|kind| kind.contains("bcrypt")) && kinds.iter().any(|kind| kind.contains("argon2id")));
    // Without users there is nothing to hide.
    let (found, compared) = judge(&Basic::new(&settings("")).unwrap(), &BASE64.encode(b"a:b"), NOW);
    assert_eq!((found.unwrap_err().as_str(), compared), ("there are no users", 0));
}

#[test]
fn wrong_files() {
    let good = bcrypt(b"x");
    let strong = "$2y$17$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u";
    let costly = "$argon2id$v=19$m=4194304,t=3,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";
    for (line, message, hint) in [
        ("ada", "has no colon", "NAME:HASH"),
        (":$2y$", "the name is empty", "NAME:HASH"),
        ("a\u{200b}da:x", "cannot be seen", "NAME:HASH"),
        (&format!("{}:x", "a".repeat(256)), "too long", "NAME:HASH"),
        ("ada:secret", "DES or a password in plain text", "htpasswd -nB"),
        ("ada:", "DES or a password in plain text", "htpasswd -nB"),
        ("ada:$apr1$Cq4bTpsY$yyyyyyyyyyyyyyyyyyyyy.", "MD5", "htpasswd -nB"),
        ("ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "SHA-1", "htpasswd -nB"),
        ("ada:$6$salt$hash", "SHA-512", "htpasswd -nB"),
        ("ada:$2x$05$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u", "broken bcrypt", "htpasswd -nB"),
        ("ada:$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaA", "argon2i", "htpasswd -nB"),
        ("ada:$2y$12$tooshort", "bcrypt hash is not well formed", "htpasswd -nB"),
        (&format!("ada:{good}:comment"), "bcrypt hash is not well formed", "htpasswd -nB"),
        (&format!("ada:{strong}"), "the cost of bcrypt is 17", "htpasswd -nB"),
        ("ada:$argon2id$v=19$m=64", "argon2id hash is not well formed", "argon2 SALT"),
        ("ada:$argon2id$v=16$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2g", "not well formed", "argon2 SALT"),
        (&format!("ada:{costly}"), "costs more than", "argon2 SALT"),
        (&format!("bob:{good}"), "a second time", "keep the line"),
    ] {
        let faults = Basic::new(&settings(&format!("bob:{good}\n\n{line}\n"))).map(drop).expect_err(line);
        let [fault] = faults.as_slice() else { panic!("{line}: {faults:?}") };
        assert_eq!(fault.key, "basic.users", "{line}");
        assert!(fault.message.starts_with("line 3: ") && fault.message.contains(message), "{line}: {fault:?}");
        assert!(fault.hint.as_deref().unwrap_or_default().contains(hint), "{line}: {fault:?}");
        assert!(!format!("{fault:?}").contains("secret"), "what is in the file is told: {fault:?}");
    }
    let many = "x\n".repeat(1_000);
    assert_eq!(Basic::new(&settings(&many)).map(drop).unwrap_err().len(), 11);
}

#[test]
fn unwise_files() {
    let warnings = |users: &str| {
        let warnings = Basic::new(&settings(users)).unwrap().warnings();
        warnings.into_iter().map(|warning| format!("{}: {}", warning.key, warning.message)).collect::<Vec<_>>()
    };
    assert_eq!(warnings(""), ["basic.users: there is no user", "basic.roles: there is no user \"ada\""]);
    let weak = "basic.users: 1 password is hashed so cheaply that it can be guessed from the file";
    assert_eq!(warnings(&format!("ada:{}", bcrypt(b"x"))), [weak]);
    assert!(warnings("ada:$2y$12$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u").is_empty());
}
