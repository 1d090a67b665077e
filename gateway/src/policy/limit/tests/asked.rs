//! What operators are told of limits and reset, and what is charged once a request is over.

use super::*;

#[test]
fn operators_ask() {
    let world = World::new(
        "[limit.address]\nrequests = 3\nper = \"1h\"\n[limit.tenant]\nby = [\"claim:tenant\", \"route\"]\nrequests = 2\n\
         per = \"1h\"\nshadow = true\n",
    );
    let ask = Ask { identity: by("ada", &[], json!("acme"), Value::Null), ..Ask::default() };
    assert_eq!(world.served(&ask, 5, START), 3);
    let rows = |question: LimitQuestion| report::answer(Some(&world.limits), &question, START + 10 * SECOND);
    let list = rows(LimitQuestion::List);
    let counts = |at: usize| (list[at].limit.as_str(), list[at].admitted, list[at].refused, list[at].mode.as_str());
    assert_eq!(counts(0), ("address", Some(3), Some(2), "enforce"));
    assert_eq!(counts(1), ("tenant", Some(2), Some(1), "shadow"));
    let top = rows(LimitQuestion::Top);
    let keys: Vec<_> = top.iter().map(|row| (row.key.as_deref().unwrap(), row.refused, row.last_seconds)).collect();
    let tenant = "claim:tenant=acme route=/items/{id}";
    assert_eq!(keys, [("address=192.0.2.1", Some(2), Some(10)), (tenant, Some(1), Some(10))]);
    // What `top` shows can be asked for and reset.
    for (key, left) in [("address=192.0.2.1", 0), (tenant, 0)] {
        let parts = || {
            let part = |part: &str| part.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            key.split(' ').filter_map(part).collect::<Vec<_>>()
        };
        assert_eq!(
            rows(LimitQuestion::Show(parts())).iter().map(|row| row.left).collect::<Vec<_>>(),
            [Some(left)],
            "{key}"
        );
        assert_eq!(rows(LimitQuestion::Reset(parts())).len(), 1, "{key}");
        assert!(rows(LimitQuestion::Show(parts())).is_empty(), "{key}");
    }
    assert!(rows(LimitQuestion::Top).is_empty());
    assert_eq!(world.served(&ask, 5, START), 3);
}

/// A claim is written as its token has it, whatever its type.
#[test]
fn claims_that_are_no_text_are_asked_for() {
    for (claim, written) in [(json!("acme"), "acme"), (json!(7), "7"), (json!(true), "true"), (json!([1, 2]), "[1,2]")]
    {
        let world = World::new("[limit.tenant]\nby = [\"claim:tenant\"]\nrequests = 2\nper = \"1h\"\n");
        let ask = Ask { identity: by("ada", &[], claim, Value::Null), ..Ask::default() };
        assert_eq!(world.served(&ask, 5, START), 2);
        let rows = |question: LimitQuestion| report::answer(Some(&world.limits), &question, START);
        assert_eq!(rows(LimitQuestion::Top)[0].key, Some(format!("claim:tenant={written}")));
        let parts = || vec![("claim:tenant".to_owned(), written.to_owned())];
        assert_eq!(rows(LimitQuestion::Show(parts())).iter().map(|row| row.left).collect::<Vec<_>>(), [Some(0)]);
        assert_eq!(rows(LimitQuestion::Reset(parts())).len(), 1, "{written}");
        assert_eq!(world.served(&ask, 5, START), 2);
    }
}

#[test]
fn what_is_known_only_afterwards_is_charged_then() {
    let spent = RequestUsage { request_bytes: 300, response_bytes: 2_000, grpc_messages: 7 };
    let header = |value: &'static str| {
        Some(HeaderMap::from_iter([(HeaderName::from_static("x-cost"), HeaderValue::from_static(value))]))
    };
    for (cost, answer, charged) in [
        ("request_bytes", None, 300),
        ("response_bytes", None, 2_000),
        ("grpc_messages", None, 7),
        ("header:x-cost", header("12"), 12),
        ("header:x-cost", header("-1"), 1),
        ("header:x-cost", header(""), 1),
        ("header:x-cost", header("1.5"), 1),
        ("header:x-cost", header("18446744073709551616"), 1),
        // One wrong number empties the budget, and no more.
        ("header:x-cost", header("18446744073709551615"), 1_000),
        ("header:x-cost", None, 1),
    ] {
        let world = World::new(&format!("[limit.a]\nunits = 1000\nper = \"1h\"\ncost = \"{cost}\"\n"));
        let mut judged = world.serve(&Ask::default(), START).unwrap();
        assert_eq!(world.limits.reads_responses(), cost.starts_with("header:"));
        if let Some(answer) = &answer {
            let is_number = answer["x-cost"].to_str().unwrap().parse::<u64>().is_ok();
            assert_eq!(world.limits.note_response(answer, &mut judged), (!is_number).then_some("a"));
        }
        world.limits.settle(&mut judged, &spent, START);
        assert!(!judged.is_owing());
        let asked = LimitQuestion::Show(vec![("address".to_owned(), "192.0.2.1".to_owned())]);
        // The least there is was taken when it began.
        let left = 1_000_u64.saturating_sub(charged + 1);
        assert_eq!(report::answer(Some(&world.limits), &asked, START)[0].left, Some(left), "{cost}");
        let wait = world.serve(&Ask::default(), START).err().and_then(|refusal| refusal.retry_after);
        assert_eq!(wait.is_some(), charged >= 1_000, "{cost}: what is owed has to come back first");
        assert!(charged > 1_000 || wait.is_none_or(|wait| wait <= 4), "{cost}: {wait:?}");
    }
}
