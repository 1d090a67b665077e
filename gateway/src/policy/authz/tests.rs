//! The table of who may have what.

use serde_json::Value;

use super::*;
use crate::identity::expression::RouteScope;

/// A request of which nothing is asked.
const FACTS: RequestFacts<'_> =
    RequestFacts { path: "/users/ada", is_odd: false, method: &http::Method::GET, address: None };

fn roles() -> authz::Settings {
    let role = |name: &str, gives: &[&str]| (name.to_owned(), gives.iter().map(|given| (*given).to_owned()).collect());
    authz::Settings::from([
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
    let verdict = access.authorize(identity.as_ref(), &FACTS, &mut WouldDeny::default());
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
        access
            .authorize(Some(identity), &FACTS, &mut WouldDeny::default())
            .err()
            .map(|refusal| refusal.detail.into_owned())
            .unwrap_or_default()
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
        let refusal = access.authorize(Some(&Identity::of("ann", has)), &FACTS, &mut WouldDeny::default()).unwrap_err();
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

#[test]
fn conditions_and_sources() {
    let sources = std::collections::BTreeMap::new();
    let scope = RouteScope::new("/users/{id}", &[], &sources);
    let kept = [ClaimPath::of(&["sub"])];
    let conditions = |texts: &[&str]| -> Vec<Expression> {
        texts.iter().map(|text| Expression::parse(text, &scope).unwrap()).collect()
    };
    let of = |sub: Option<Value>| Identity::of_token("ann", &["reader"], &[], vec![sub]);
    for (texts, identity, expect) in [
        (&["{id} == claim.sub"][..], of(Some("ada".into())), ""),
        (&["{id} == claim.sub"], of(Some("bob".into())), "the condition is false: {id} == claim.sub"),
        (
            &["method == 'GET'", "not claim.sub == {id} or method == 'PUT'"],
            of(None),
            "the condition is unknown, as something in `claim.sub == {id}` is missing or of another type: not claim.sub \
             == {id} or method == 'PUT'",
        ),
        (&["source in 0.0.0.0/0"], of(None), "the condition is unknown, as something in `source in 0.0.0.0/0`"),
    ] {
        let access = Policy::new(&roles()).compile(&permissions(&["items:read"])).unwrap();
        let access = access.restricted(None, &conditions(texts), &kept);
        let detail = access
            .authorize(Some(&identity), &FACTS, &mut WouldDeny::default())
            .err()
            .map(|refusal| refusal.detail)
            .unwrap_or_default();
        assert!(detail.starts_with(expect) && expect.is_empty() == detail.is_empty(), "{detail:?}, not {expect:?}");
    }
    let set = crate::net::source_set::SourceSet::new(&["10.0.0.0/8".parse().unwrap()]);
    let sources = Sources { set, ..Sources::default() };
    let access = Policy::new(&roles()).compile(&Requirement::Public).unwrap();
    let admitted = |access: &Access, address: Option<&str>| {
        access
            .admit(address.map(|text| text.parse().unwrap()), &mut WouldDeny::default())
            .err()
            .map(|refusal| refusal.reject)
    };
    assert_eq!(admitted(&access, None), None, "without `sources` nobody is asked");
    let access = access.restricted(Some(&sources), &[], &[]);
    for (address, expect) in [
        (Some("10.1.2.3"), None),
        (Some("::ffff:10.1.2.3"), None),
        (Some("11.1.2.3"), Some(Reject::SourceNotAllowed)),
        (None, Some(Reject::SourceNotAllowed)),
    ] {
        assert_eq!(admitted(&access, address), expect, "{address:?}");
    }
}

#[test]
fn what_is_in_shadow_is_noted_and_lets_through() {
    let scopes = ["a".to_owned()];
    let access = Policy::new(&roles()).compile(&permissions(&["items:read"])).unwrap().of_tokens(&scopes, &[], &[]);
    let shadow = |parts: &[RequirementPart]| Some(Arc::new(ShadowParts::new("items", parts)));
    let nobody = Identity::of("ann", &[]);
    for (parts, enforced, noted) in [
        (&[][..], Some(Reject::Forbidden), 0),
        (&[RequirementPart::Scopes], Some(Reject::Forbidden), 0),
        (&[RequirementPart::Require], Some(Reject::Forbidden), 1),
        (&[RequirementPart::Scopes, RequirementPart::Require], None, 2),
    ] {
        let access = Access { shadow: shadow(parts), ..access.clone() };
        let mut would = WouldDeny::default();
        let verdict = access.authorize(Some(&nobody), &FACTS, &mut would);
        assert_eq!(verdict.err().map(|refusal| refusal.reject), enforced, "{parts:?}");
        assert_eq!(would.len(), noted, "{parts:?}");
    }
    let access = Access { shadow: shadow(&[RequirementPart::Require]), scopes: Box::default(), ..access };
    for (reject, counts) in [(Reject::MissingToken, true), (Reject::InvalidToken, true), (Reject::BadRequest, false)] {
        let mut would = WouldDeny::default();
        let verdict = access.unproved(Refusal::new(reject, ""), &mut would);
        assert_eq!((verdict.is_ok(), would.len()), (counts, usize::from(counts)), "{reject:?}");
    }
    access.shadow().unwrap().enforce("route.items.require");
    let mut would = WouldDeny::default();
    assert!(access.unproved(Refusal::new(Reject::MissingToken, ""), &mut would).is_err(), "promoted");
}

#[test]
fn a_requirement_in_shadow_opens_no_other() {
    let token = |scopes: &[&str]| Identity::of_token("ann", &["reader"], scopes, vec![None]);
    let claim = ClaimCondition { path: ClaimPath::of(&["tenant"]), any_of: Box::default() };
    let kept = [ClaimPath::of(&["tenant"])];
    use RequirementPart::{Claims, Require, Scopes};
    for (scopes, claims, shadow, identity, refusal, denied, counted) in [
        // Who proves nothing has no scope either.
        (&["a"][..], false, &[Require][..], None, None, Some(Reject::MissingToken), 0),
        (&["a"], false, &[Require], None, Some(Reject::InvalidToken), Some(Reject::InvalidToken), 0),
        (&[], true, &[Require], None, Some(Reject::MissingToken), Some(Reject::MissingToken), 0),
        (&["a"], true, &[Require, Scopes], None, Some(Reject::MissingToken), Some(Reject::MissingToken), 0),
        (&["a"], false, &[Require], Some(token(&["a"])), None, None, 0),
        (&["a"], false, &[Require], Some(token(&[])), None, Some(Reject::Forbidden), 0),
        // What both steps deny it for counts once.
        (&[], false, &[Require], None, Some(Reject::InvalidToken), None, 1),
        (&["a"], true, &[Require, Scopes, Claims], None, Some(Reject::InvalidToken), None, 3),
        (&["a"], true, &[Require, Scopes, Claims], None, None, None, 3),
    ] {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let claims: Vec<ClaimCondition> = claims.then(|| claim.clone()).into_iter().collect();
        let access = Policy::new(&roles()).compile(&permissions(&["items:read"])).unwrap();
        let shadowed = Some(Arc::new(ShadowParts::new("items", shadow)));
        let access = Access { shadow: shadowed, ..access.of_tokens(&scopes, &claims, &kept) };
        let mut would = WouldDeny::default();
        let proved = refusal.map_or(Ok(()), |reject| access.unproved(Refusal::new(reject, ""), &mut would));
        let judged = proved.and_then(|()| access.authorize(identity.as_ref(), &FACTS, &mut would).map(|_permit| ()));
        let told = (judged.as_ref().err().map(|refusal| refusal.reject), would.len());
        assert_eq!(
            told,
            (denied, if denied.is_some() { told.1 } else { counted }),
            "{scopes:?} {shadow:?} {refusal:?}"
        );
        access.count(&would, "192.0.2.1");
        let counts: Vec<u64> = access.shadow().unwrap().take().map(|it| it.requests).collect();
        assert!(counts.iter().all(|requests| *requests == 1), "{counts:?}");
    }
}
