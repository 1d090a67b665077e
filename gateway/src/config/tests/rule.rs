//! Weights of rules, and what they count in the place of signals.

use super::*;

#[test]
fn wrong_weights() {
    let count = |line: &str| format!("count = 10\n{line}");
    wrong("count = 10", &count("distinct = \"principal\""), 51, "rule[0].distinct", "unknown", "mean \"principals\"?");
    wrong(
        "count = 10",
        &count("weights = { forbidden = 2 }"),
        51,
        "rule[0].weights.forbidden",
        "not one of",
        "forged_token",
    );
    wrong(
        "count = 10",
        &count("weights = { forged_token = 65 }"),
        51,
        "rule[0].weights.forged_token",
        "range",
        "to 64",
    );
    let both = count("distinct = \"sources\"\nweights = { forged_token = 2 }");
    wrong("count = 10", &both, 52, "rule[0].weights", "beside `distinct`", "leave one");
    wrong("count = 10", &count("share = 101"), 51, "rule[0].share", "range", "1 to 100");
    wrong("count = 10", &count("by = \"prefix\"\nshare = 50"), 52, "rule[0].share", "single sources", "by source");
    wrong("count = 10", &count("by = \"network\""), 51, "rule[0].by", "unknown", "prefix");
    wrong("count = 10", &count("by = \"principal\""), 51, "rule[0].by", "forged tokens have none", "by source");
    wrong("count = 10", &count("after = [\"forged_token\"]"), 51, "rule[0].after[0]", "one of the rule's", "once");
    wrong("count = 10", &count("enabled = 1"), 51, "rule[0].enabled", "boolean", "");
    wrong(
        "[\"forged_token\"]",
        "[\"forbidden\"]\nby = \"prefix\"\ndistinct = \"sources\"",
        50,
        "rule[0].by",
        "beside",
        "leave",
    );
    // What names nobody is never counted: such a rule would never ban anybody.
    for (signal, told) in [
        ("missing_token", "missing tokens"),
        ("bad_handshake", "bad handshakes"),
        ("bad_request", "bad requests"),
        ("unknown_route", "unknown routes"),
        ("not_yet_valid", "tokens that are not yet valid"),
        ("wrong_issuer", "tokens of another issuer"),
        ("forged_token", "forged tokens"),
        ("unknown_key", "tokens by unknown keys"),
    ] {
        for distinct in ["principals", "sources"] {
            let nobody = format!("[\"wrong_password\", \"{signal}\"]\ndistinct = \"{distinct}\"");
            let told = format!("{told} have none");
            wrong("[\"forged_token\"]", &nobody, 50, "rule[0].distinct", &told, "wrong_password");
        }
    }
}

#[test]
fn default_rules_that_are_changed() {
    let rule = |lines: &str| {
        let text = BASE.replacen("[[rule]]\n", &format!("[[rule]]\n{lines}\n[[rule]]\n"), 1);
        load(&text).unwrap_or_else(|errors| panic!("{errors}")).proxy.detect.rules.remove(0)
    };
    // A share is of one source's requests: what is added up over sources has none.
    assert_eq!(rule("name = \"credential-stuffing\"").share, Some(50));
    assert_eq!(rule("name = \"credential-stuffing\"\ndistinct = \"paths\"").share, Some(50));
    assert_eq!(rule("name = \"credential-stuffing\"\ndistinct = \"sources\"").share, None);
    assert_eq!(rule("name = \"credential-stuffing\"\nby = \"prefix\"").share, None);
    let misspelt = "[[rule]]\nname = \"path-scna\"\ncount = 40\n[[rule]]\n";
    let line = BASE.lines().position(|line| line == "[[rule]]").unwrap() + 2;
    wrong("[[rule]]\n", misspelt, line, "rule[0].name", "is no default rule", "did you mean \"path-scan\"?");
}
