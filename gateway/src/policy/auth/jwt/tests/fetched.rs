//! Keys that change while tokens are verified: fetched ones, and those of files that are read again.

use super::*;
use crate::settings::jwt::tests::fetch;

const MINUTE: u64 = 60 * crate::os::clock::SECOND;

fn later(minutes: u64) -> Now {
    Now { monotonic: now().monotonic + minutes * MINUTE, unix_millis: now().unix_millis }
}

/// Settings of an issuer whose keys are fetched.
fn fetched() -> jwt::Settings {
    changed(settings(""), |issuer| issuer.keys = KeySource::Url(Box::new(fetch())))
}

/// What is said of a token once `answers` are known.
fn outcome(jwt: &Jwt, token: &str, answers: &[LookupAnswer], now: Now) -> String {
    match jwt.authenticate(token.as_bytes(), answers, &Revocations::default(), now) {
        AuthOutcome::Decided(Ok(identity)) => identity.principal().to_owned(),
        AuthOutcome::Decided(Err(refusal)) => {
            let Refusal { reject, retry_after, .. } = &refusal;
            format!("{reject:?} {:?} {retry_after:?}", refusal.row().signal)
        }
        AuthOutcome::Needs(Lookup::Keys(lookup)) => format!("needs {:?}", lookup.name.kid),
        AuthOutcome::Needs(other) => format!("needs {other:?}"),
    }
}

fn keys(issuer: &Issuer) -> JwtKeys {
    JwtKeys::new(issuer.set().as_bytes()).unwrap()
}

#[test]
fn keys_come_change_and_go() {
    let (old, new, jwt) = (Issuer::new(), Issuer::new(), Jwt::new(&fetched()).unwrap());
    let set = Arc::clone(jwt.fetched().next().unwrap());
    let (first, second) = (old.with_claims(&good()), new.with_claims(&good()));
    let answer = |answer| [LookupAnswer::Keys(answer)];
    let later_in = answer(KeysAnswer::Later(Duration::from_secs(7)));
    // Without keys nobody is told that a token is not valid, and nothing is held against anybody.
    assert_eq!(outcome(&jwt, &first, &[], now()), "needs Some(\"ed\")");
    assert_eq!(outcome(&jwt, &first, &later_in, now()), "Unavailable None Some(8)");
    // What is plainly wrong is wrong without keys.
    assert_eq!(outcome(&jwt, "a.b.c", &[], now()), "InvalidToken Some(MalformedToken) None");
    let stranger = old.token("ed", &header("XS256", "ed"), &good());
    assert_eq!(outcome(&jwt, &stranger, &[], now()), "InvalidToken Some(UnknownKey) None");
    set.replace(keys(&old), now());
    assert_eq!(outcome(&jwt, &first, &answer(KeysAnswer::Known), now()), "ann");
    assert_eq!(outcome(&jwt, &second, &[], now()), "InvalidToken Some(ForgedToken) None");
    let unknown = old.token("x", &header("EdDSA", "other"), &good());
    assert_eq!(outcome(&jwt, &unknown, &[], now()), "needs Some(\"other\")");
    assert_eq!(outcome(&jwt, &unknown, &answer(KeysAnswer::Absent), now()), "InvalidToken Some(UnknownKey) None");
    assert_eq!(outcome(&jwt, &unknown, &later_in, now()), "Unavailable None Some(8)");
    // A key that goes vouches for nothing any more, remembered tokens included.
    set.replace(keys(&new), later(1));
    assert_eq!(outcome(&jwt, &first, &[], later(1)), "InvalidToken Some(ForgedToken) None");
    assert_eq!(outcome(&jwt, &second, &[], later(1)), "ann");
}

#[test]
fn keys_that_stay_do_not_cost_what_is_remembered() {
    let (issuer, jwt) = (Issuer::new(), Jwt::new(&fetched()).unwrap());
    let set = Arc::clone(jwt.fetched().next().unwrap());
    let token = issuer.with_claims(&good());
    set.replace(keys(&issuer), now());
    for minute in 1..4 {
        assert_eq!(outcome(&jwt, &token, &[], later(minute)), "ann");
        set.replace(keys(&issuer), later(minute));
    }
    assert_eq!(jwt.take_verifications(), 1);
}

#[test]
fn keys_end_when_nobody_confirms_them() {
    let (issuer, jwt) = (Issuer::new(), Jwt::new(&fetched()).unwrap());
    let set = Arc::clone(jwt.fetched().next().unwrap());
    let token = issuer.with_claims(&good());
    let day = 24 * 60;
    set.replace(keys(&issuer), now());
    assert_eq!(outcome(&jwt, &token, &[], later(day - 1)), "ann");
    // Remembered or not.
    assert_eq!(outcome(&jwt, &token, &[], later(day)), "needs Some(\"ed\")");
    set.confirm(later(day));
    assert_eq!(outcome(&jwt, &token, &[], later(day)), "ann");
    assert_eq!(outcome(&jwt, &token, &[], later(2 * day)), "needs Some(\"ed\")");
}

/// Somebody is told before tokens are refused, and no more once they are: that is told in another way.
#[test]
fn stale_keys_are_told_of() {
    let (issuer, jwt) = (Issuer::new(), Jwt::new(&fetched()).unwrap());
    let set = Arc::clone(jwt.fetched().next().unwrap());
    let is_stale = |minutes| set.is_stale(later(minutes).monotonic);
    assert!(!is_stale(0) && !is_stale(90), "there are none yet");
    set.replace(keys(&issuer), now());
    let told = [0, 60, 61, 24 * 60 - 1, 24 * 60].map(is_stale);
    assert_eq!(told, [false, false, true, true, false]);
    set.confirm(later(90));
    assert!(!is_stale(150) && is_stale(151));
}

#[test]
fn keys_of_the_process_before() {
    let issuer = Issuer::new();
    let token = issuer.with_claims(&good());
    let kept = JwtKeys::reduce(issuer.set().as_bytes()).unwrap();
    assert!(!kept.windows(5).any(|it| it == b"\"enc\"") && kept.len() < issuer.set().len());
    let (minute, hour) = (60_000, 3_600_000_i64);
    let source = "https://issuer.example at http://localhost:9100/jwks";
    for (source, kept, age, expect) in [
        (source, &*kept, 0, "ann"),
        // The clock was set back: how old they are is not known. By a little, it was only set right.
        (source, &*kept, -minute, "ann"),
        (source, &*kept, -minute - 1, "needs Some(\"ed\")"),
        (source, &*kept, -48 * hour, "needs Some(\"ed\")"),
        (source, &*kept, 23 * hour, "ann"),
        (source, &*kept, 24 * hour, "needs Some(\"ed\")"),
        ("https://issuer.example at http://localhost:9100/others", &*kept, 0, "needs Some(\"ed\")"),
        (source, b"{}".as_slice(), 0, "needs Some(\"ed\")"),
    ] {
        let jwt = Jwt::new(&fetched()).unwrap();
        let set = jwt.fetched().next().unwrap();
        set.adopt(source, kept, now().unix_millis.saturating_add_signed(-age), now());
        assert_eq!(outcome(&jwt, &token, &[], now()), expect, "{source} {age}");
        // They are no better than they were.
        if expect == "ann" && age > 0 {
            assert_eq!(outcome(&jwt, &token, &[], later(60)), "needs Some(\"ed\")");
        }
    }
}

#[test]
fn a_reload_goes_on_with_keys_that_were_fetched() {
    let (issuer, jwt) = (Issuer::new(), Arc::new(Jwt::new(&fetched()).unwrap()));
    jwt.fetched().next().unwrap().replace(keys(&issuer), now());
    let token = issuer.with_claims(&good());
    for (change, expect) in [
        ((|issuer| issuer.rules.leeway = Duration::ZERO) as fn(&mut IssuerSettings), "ann"),
        (|issuer| issuer.keys = KeySource::Discovery(Box::new(fetch())), "needs Some(\"ed\")"),
    ] {
        let next = jwt.succeeded_by(&changed(fetched(), change)).unwrap();
        assert_eq!(outcome(&next, &token, &[], now()), expect);
    }
}

#[test]
fn a_file_that_has_changed() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let jwt = old.jwt();
    let (first, second) = (old.with_claims(&good()), new.with_claims(&good()));
    let file = |path: &str, content: &str| (PathBuf::from(path), content.as_bytes().to_vec());
    for (files, is_good, expect) in [
        (vec![file("others.json", &new.set())], true, ["ann", "InvalidToken Some(ForgedToken) None"]),
        (vec![file("jwks.json", "{")], false, ["ann", "InvalidToken Some(ForgedToken) None"]),
        (
            vec![file("jwks.json", "{"), file("jwks.json", &new.set())],
            true,
            ["InvalidToken Some(ForgedToken) None", "ann"],
        ),
    ] {
        assert_eq!(jwt.renew(&files).is_ok(), is_good, "{files:?}");
        assert_eq!([&first, &second].map(|token| outcome(&jwt, token, &[], now())), expect, "{files:?}");
    }
}

/// A file that was read again and then put back: the settings are those of the start, and the keys in force are not.
#[test]
fn a_reload_takes_the_keys_of_its_own_files() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let tokens = [&old, &new].map(|issuer| issuer.with_claims(&good()));
    let forged = "InvalidToken Some(ForgedToken) None";
    for (renewed, reloaded, is_shared, expect) in [
        (None, &old, true, ["ann", forged]),
        (None, &new, false, [forged, "ann"]),
        (Some(&new), &old, false, ["ann", forged]),
        (Some(&new), &new, false, [forged, "ann"]),
        (Some(&old), &old, true, ["ann", forged]),
    ] {
        let jwt = Arc::new(old.jwt());
        if let Some(issuer) = renewed {
            jwt.renew(&[(PathBuf::from("jwks.json"), issuer.set().into_bytes())]).unwrap();
        }
        let next = jwt.succeeded_by(&reloaded.settings()).unwrap();
        assert_eq!(Arc::ptr_eq(&next, &jwt), is_shared);
        assert_eq!(tokens.each_ref().map(|token| outcome(&next, token, &[], now())), expect, "{is_shared}");
    }
}
