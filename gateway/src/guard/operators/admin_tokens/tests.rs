//! Tokens that are made, used, expire, are revoked, and whose file is damaged.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;
use crate::settings::operators::Role;

const DAY: u64 = 86_400;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("gateway-admin-tokens-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join(file::NAME)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn at(seconds: u64) -> Now {
    Now { monotonic: seconds * SECOND, unix_millis: seconds * 1_000 }
}

fn roles(roles: &[Role]) -> Roles {
    roles.iter().copied().collect()
}

/// Waits for what is done beside the loop.
fn answered(ask: impl FnOnce(oneshot::Sender<ControlAnswer>)) -> ControlAnswer {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (sender, receiver) = oneshot::channel();
    runtime.block_on(async {
        ask(sender);
        receiver.await.unwrap()
    })
}

/// Makes a token: itself, or why not.
fn make(tokens: &AdminTokens, name: &str, seconds: u64, now: Now) -> Result<String, String> {
    let drawn = tokens.draw(name, &roles(&[Role::View, Role::Block]), seconds, "operator:0".to_owned(), now);
    let answer = match drawn {
        Err(refused) => refused,
        Ok(drawn) => answered(|answer| tokens.grant(drawn, answer)),
    };
    match answer {
        ControlAnswer::AdminToken(made) => Ok(made.token),
        ControlAnswer::Refused { code, .. } => Err(code),
        other => panic!("{other:?}"),
    }
}

fn found(tokens: &mut AdminTokens, token: &str, now: Now) -> String {
    match tokens.find(&hash(token), now) {
        Ok(holder) => format!("{} {}", holder.name, holder.roles.len()),
        Err(refusal) => format!("{refusal:?}"),
    }
}

#[test]
fn a_token_is_in_force_until_it_expires_or_is_revoked() {
    let folder = Folder::new("life");
    let mut tokens = AdminTokens::open(&folder.0);
    let ada = make(&tokens, "ada", DAY, at(1_000)).unwrap();
    assert!(ada.starts_with(PREFIX) && ada.len() == PREFIX.len() + 43, "{ada}");
    assert_eq!(make(&tokens, "ada", DAY, at(1_000)), Err("exists".to_owned()));
    let text = fs::read_to_string(folder.file()).unwrap();
    assert!(!text.contains(&ada) && !text.contains(&ada[PREFIX.len()..]), "{text}");
    assert_eq!(fs::metadata(folder.file()).unwrap().permissions().mode() & 0o777, 0o600);

    // The next guard knows it too.
    tokens = AdminTokens::open(&folder.0);
    assert_eq!(found(&mut tokens, &ada, at(1_000 + DAY - 1)), "ada 2");
    assert!(found(&mut tokens, &ada, at(1_000 + DAY)).starts_with("Expired"));
    assert_eq!(found(&mut tokens, &ada.to_lowercase(), at(1_000 + DAY)), "Unknown");
    let listed = tokens.list(at(1_000 + DAY));
    assert_eq!((listed[0].name.as_str(), listed[0].expired, listed[0].used.is_some()), ("ada", true, true));
    // Who has expired is in nobody's way.
    let again = make(&tokens, "ada", 1, at(1_000 + DAY)).unwrap();
    assert_eq!(found(&mut tokens, &again, at(1_000 + DAY)), "ada 2");
    assert_eq!(found(&mut tokens, &ada, at(1_000 + DAY)), "Unknown");

    let done = answered(|answer| assert!(tokens.revoke("ada", answer)));
    assert!(matches!(done, ControlAnswer::Done { changed: 1, .. }), "{done:?}");
    assert_eq!(found(&mut tokens, &again, at(1_000 + DAY)), "Unknown");
    let none = answered(|answer| assert!(!tokens.revoke("ada", answer)));
    assert!(matches!(none, ControlAnswer::Refused { .. }), "{none:?}");
    tokens = AdminTokens::open(&folder.0);
    assert!(tokens.list(at(0)).is_empty() && tokens.warning().is_none());
}

#[test]
fn what_may_not_be_made() {
    let folder = Folder::new("bounds");
    let tokens = AdminTokens::open(&folder.0);
    for (name, seconds) in [("", 1), ("a b", 1), ("a:b", 1), (&*"a".repeat(65), 1), ("a", 0), ("a", LONGEST + 1)] {
        assert_eq!(make(&tokens, name, seconds, at(1)), Err("bad_request".to_owned()), "{name} {seconds}");
    }
    let none = tokens.draw("a", &Roles::new(), 1, String::new(), at(1));
    assert!(none.is_err(), "a token without a role");
    assert!(make(&tokens, "a", LONGEST, at(1)).is_ok());
}

#[test]
fn guesses_are_held_up_and_tokens_are_not() {
    let folder = Folder::new("guesses");
    let mut tokens = AdminTokens::open(&folder.0);
    let ada = make(&tokens, "ada", DAY, at(1)).unwrap();
    let guesses: Vec<String> = (0..30).map(|number| found(&mut tokens, &format!("gwat_{number}"), at(1))).collect();
    assert_eq!(guesses.iter().filter(|said| *said == "Unknown").count(), 20, "{guesses:?}");
    assert_eq!(guesses.last().unwrap(), "TooMany");
    assert_eq!(found(&mut tokens, &ada, at(1)), "ada 2");
    assert_eq!(found(&mut tokens, "gwat_x", at(2)), "Unknown");
}

#[test]
fn a_damaged_file_lets_nobody_in() {
    let folder = Folder::new("damage");
    let ada = make(&AdminTokens::open(&folder.0), "ada", DAY, at(1)).unwrap();
    let whole = fs::read(folder.file()).unwrap();
    for damaged in [&whole[..whole.len() - 9], b"", b"{\"version\":2,\"tokens\":[]}", b"[]", &[0xff; 2_000_000]] {
        fs::write(folder.file(), damaged).unwrap();
        let mut tokens = AdminTokens::open(&folder.0);
        assert_eq!(found(&mut tokens, &ada, at(1)), "Unknown");
        assert!(tokens.warning().unwrap().contains("set aside"), "{:?}", tokens.warning());
        // Others can be made.
        let eve = make(&tokens, "eve", DAY, at(1)).unwrap();
        assert_eq!(found(&mut AdminTokens::open(&folder.0), &eve, at(1)), "eve 2");
    }
    // A disk that takes nothing makes none.
    fs::remove_file(folder.file()).unwrap();
    fs::create_dir(folder.file()).unwrap();
    fs::write(folder.file().join("x"), "").unwrap();
    let mut tokens = AdminTokens { path: folder.file().join("y/z.json"), ..AdminTokens::open(&folder.0) };
    assert_eq!(make(&tokens, "ada", DAY, at(1)), Err("not_written".to_owned()));
    assert!(tokens.list(at(1)).is_empty());
    assert_eq!(found(&mut tokens, &ada, at(1)), "Unknown");
}
