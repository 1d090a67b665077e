//! The table of who may have what.

use serde_json::Value;

use super::*;

fn roles() -> Settings {
    let role = |name: &str, gives: &[&str]| (name.to_owned(), gives.iter().map(|given| (*given).to_owned()).collect());
    Settings::from([
        role("reader", &["items:read"]),
        role("writer", &["items:write"]),
        role("editor", &["items:read", "items:write"]),
        role("auditor", &["audit:read"]),
        role("nothing", &[]),
        role("keeper", &["items:*"]),
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
        (&both, Some(&["keeper"][..]), None),
        (&permissions(&["audit:read"]), Some(&["keeper"][..]), forbidden),
        (&permissions(&["items:read", "items:read"]), Some(&["reader"][..]), None),
    ] {
        check(requirement, identity, expect);
    }
}

/// A token that has these scopes and this claim `tenant`.
fn token(scopes: &[&str], tenant: Option<Value>) -> Identity {
    Identity::of_token("ann", &["reader"], scopes, vec![tenant])
}

#[test]
fn what_a_token_has_to_be_good_for() {
    let tenant = ClaimPath::of(&["tenant"]);
    let condition = |any_of: &[&str]| ClaimCondition {
        path: tenant.clone(),
        any_of: any_of.iter().map(|one| Value::from(*one)).collect(),
    };
    let kept = [ClaimPath::of(&["other"]), tenant.clone()];
    let policy = Policy::new(&roles());
    let judge = |scopes: &[&str], claims: &[ClaimCondition], kept: &[ClaimPath], identity: &Identity| {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let access = policy.compile(&permissions(&["items:read"])).unwrap().of_tokens(&scopes, claims, kept);
        access.authorize(Some(identity)).err().map(|refusal| refusal.detail.into_owned()).unwrap_or_default()
    };
    let own = &kept[1..];
    for (scopes, claims, kept, identity, expect) in [
        (&["a"][..], vec![], own, token(&["b", "a"], None), ""),
        (&["a", "b"], vec![], own, token(&["b"], None), "the scope a is missing: scopes b"),
        (&["a"], vec![], own, token(&["A"], None), "the scope a is missing: scopes A"),
        (&["a"], vec![], own, token(&[], None), "the scope a is missing: no scopes"),
        (&["a"], vec![], own, Identity::of("cert:x:y", &["reader"]), "the scope a is missing: no scopes"),
        (&[], vec![condition(&["x", "y"])], own, token(&[], Some("y".into())), ""),
        (&[], vec![condition(&["x"])], own, token(&[], Some("y".into())), "the claim tenant is missing or not"),
        (&[], vec![condition(&["x"])], own, token(&[], None), "the claim tenant is missing or not"),
        (&[], vec![condition(&[])], own, token(&[], Some(false.into())), ""),
        (&[], vec![condition(&["y"])], &[], token(&[], Some("y".into())), "the claim tenant is missing or not"),
        (&[], vec![condition(&["x"])], own, Identity::of("cert:x:y", &["reader"]), "the claim tenant is missing or"),
    ] {
        let detail = judge(scopes, &claims, kept, &identity);
        assert!(detail.starts_with(expect) && expect.is_empty() == detail.is_empty(), "{detail:?}, not {expect:?}");
    }
}

#[test]
fn a_denial_names_what_is_missing_and_what_there_is() {
    let many: Vec<String> = (0..12).map(|at| format!("r{at}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (asked, has, expect) in [
        (&["items:read", "items:write"][..], &["reader"][..], "missing permissions items:write; roles reader"),
        (&["items:read"], &[], "missing permissions items:read; no roles"),
        (
            &["items:read"],
            &many,
            "missing permissions items:read; roles r0, r1, r2, r3, r4, r5, r6, r7, r8, r9 and 2 more",
        ),
    ] {
        let access = Policy::new(&roles()).compile(&permissions(asked)).unwrap();
        let refusal = access.authorize(Some(&Identity::of("ann", has))).unwrap_err();
        assert_eq!((refusal.reject, &*refusal.detail), (Reject::Forbidden, expect));
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
