//! What is asked, what is written, and what is left alone.

use std::{fs, io::Cursor};

use super::*;

/// Answers, a line each, and the configuration that comes of them.
#[track_caller]
fn asked(mut init: Init, answers: &str) -> Result<Init, String> {
    let mut told = Vec::new();
    init.ask(&mut Cursor::new(answers.as_bytes()), &mut told).map_err(|error| error.to_string())?;
    Ok(init)
}

#[test]
fn answers_become_settings() {
    let init = asked(Init::default(), "\n\n\n\n\n").unwrap();
    assert_eq!(init.upstream.as_deref(), Some("127.0.0.1:9000"));
    assert_eq!((init.listen().to_string().as_str(), init.public), ("127.0.0.1:8080", true));
    let answers = "api:80\ns.crt\ns.key\n[::]:443\neth1\nhttps://issuer.example\n\nkeys.json\n";
    let init = asked(Init::default(), answers).unwrap();
    assert_eq!(init.private_key.as_deref(), Some(Path::new("s.key")));
    assert_eq!((init.listen().to_string().as_str(), init.interface.as_slice()), ("[::]:443", &["eth1".to_owned()][..]));
    assert_eq!((init.audience.as_deref(), init.public), (Some("api"), false));
    // What was given is not asked again.
    let given = Init { upstream: Some("a:1".to_owned()), public: true, ..Init::default() };
    assert_eq!(asked(given, "\n\n\n").unwrap().upstream.as_deref(), Some("a:1"));
    for (answers, expect) in [("", "the input ended"), ("a:1\n\n443\n", "\"443\": ")] {
        let told = asked(Init::default(), answers).map(|_init| ()).unwrap_err();
        assert!(told.starts_with(expect), "{told}");
    }
}

#[test]
fn what_is_missing_is_told() {
    for (upstream, public, issuer, expect) in [
        (None, true, None, Some("--upstream")),
        (Some("a:1"), false, None, Some("nothing says")),
        (Some("a:1"), true, None, None),
        (Some("a:1"), false, Some("https://issuer.example"), None),
    ] {
        let [upstream, issuer] = [upstream, issuer].map(|text: Option<&str>| text.map(str::to_owned));
        let init = Init { upstream, public, issuer, ..Init::default() };
        let missing = init.missing();
        assert!(missing.is_none() == expect.is_none() && missing.unwrap_or("").starts_with(expect.unwrap_or("")));
    }
}

#[test]
fn names_with_quotes_stay_names() {
    let odd = "a\"\\\nb".to_owned();
    let observer_user = Some(odd.clone());
    let init = Init { upstream: Some(odd.clone()), user: odd.clone(), observer_user, public: true, ..Init::default() };
    let read: toml::Table = text(&init).parse().unwrap();
    assert_eq!(read["admin"]["user"].as_str(), Some(odd.as_str()));
    assert_eq!(read["upstream"]["api"]["servers"][0].as_str(), Some(odd.as_str()));
    assert_eq!(read["proxy"]["user"].as_str(), Some(odd.as_str()));
}

#[test]
fn a_file_that_exists_stays() {
    let folder = std::env::temp_dir().join(format!("gateway-init-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("gateway.toml");
    save(&path, "one", false).unwrap();
    assert_eq!(save(&path, "two", false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&path).unwrap(), "one");
    save(&path, "three", true).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "three");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "a draft is left");
    assert!(save(&folder.join("none/gateway.toml"), "one", true).is_err());
    fs::remove_dir_all(folder).unwrap();
}
