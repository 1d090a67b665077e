//! The table of who may have what.

use super::*;

fn roles() -> Settings {
    let role = |name: &str, gives: &[&str]| (name.to_owned(), gives.iter().map(|given| (*given).to_owned()).collect());
    Settings::from([
        role("reader", &["items:read"]),
        role("writer", &["items:write"]),
        role("editor", &["items:read", "items:write"]),
        role("auditor", &["audit:read"]),
        role("nothing", &[]),
    ])
}

fn permissions(names: &[&str]) -> Requirement {
    Requirement::Permissions(names.iter().map(|name| (*name).to_owned()).collect())
}

#[track_caller]
fn check(requirement: &Requirement, roles_of_identity: Option<&[&str]>, expect: Option<Reject>) {
    let access = Policy::new(&roles()).compile(requirement).unwrap();
    let identity = roles_of_identity.map(|roles| Identity::of("somebody", roles));
    let verdict = access.authorize(identity.as_ref());
    assert_eq!(verdict.err().map(|refusal| refusal.reject), expect, "{requirement:?} {roles_of_identity:?}");
}

#[test]
fn who_may_have_what() {
    use Requirement as R;
    let (both, read) = (permissions(&["items:read", "items:write"]), permissions(&["items:read"]));
    let (forbidden, missing) = (Some(Reject::Forbidden), Some(Reject::MissingToken));
    for (requirement, identity, expect) in [
        (&R::Nobody, None, forbidden),
        (&R::Nobody, Some(&["editor"][..]), forbidden),
        (&R::Public, None, None),
        (&R::Public, Some(&[][..]), None),
        (&R::Authenticated, None, missing),
        (&R::Authenticated, Some(&[][..]), None),
        (&read, None, missing),
        (&read, Some(&[][..]), forbidden),
        (&read, Some(&["reader"][..]), None),
        (&read, Some(&["nothing", "reader", "reader"][..]), None),
        (&read, Some(&["writer"][..]), forbidden),
        (&read, Some(&["Reader"][..]), forbidden),
        (&read, Some(&["items:read"][..]), forbidden),
        (&read, Some(&["admin"][..]), forbidden),
        (&both, Some(&["reader"][..]), forbidden),
        (&both, Some(&["reader", "auditor"][..]), forbidden),
        (&both, Some(&["editor"][..]), None),
        (&both, Some(&["reader", "writer"][..]), None),
        (&permissions(&["items:read", "items:read"]), Some(&["reader"][..]), None),
    ] {
        check(requirement, identity, expect);
    }
}

#[test]
fn only_who_decides_needs_an_identity() {
    let policy = Policy::new(&roles());
    for (requirement, needs) in [
        (Requirement::Nobody, false),
        (Requirement::Public, false),
        (Requirement::Authenticated, true),
        (permissions(&["items:read"]), true),
    ] {
        assert_eq!(policy.compile(&requirement).unwrap().needs_identity(), needs, "{requirement:?}");
    }
}

#[test]
fn what_nobody_could_meet_is_a_fault() {
    let many: Vec<_> = (0..65).map(|_| "items:read").collect();
    for (asked, hint) in [
        (&["item:read"][..], "did you mean \"items:read\"?"),
        (&["items:read", "zzz"][..], "give it to a role in [roles]"),
        (&[][..], "\"public\", \"authenticated\" or permissions"),
        (&many[..], ""),
    ] {
        let fault = Policy::new(&roles()).compile(&permissions(asked)).unwrap_err();
        assert_eq!((fault.key.as_str(), fault.hint.as_deref().unwrap_or("")), ("require", hint), "{asked:?}");
    }
}
