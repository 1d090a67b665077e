//! Wrong arguments, and what they are told would be right.

use super::*;

/// A sign makes no other option of an amount, and no tip says so.
#[test]
fn amounts_with_a_sign_are_told_what_would_be_right() {
    for (text, says) in [
        ("block add 203.0.113.7 --for -5", "--forever blocks until removed"),
        ("block add 203.0.113.7 --for -5m", "--forever blocks until removed"),
        ("block add 203.0.113.7 --confirm -1s", "write"),
        ("block import a --for -1d", "write"),
        ("alert silence a --for -5", "write"),
        ("key new --name a --expires -90d", "without this option there is no end"),
        ("watch --count -5", "-5 is not in"),
        ("top --interval -5", "-5 is not in"),
        ("logs --since -5m", "write"),
        ("quota set --used -5 ada", "invalid digit"),
        ("admin-token new --name a --role view --expires -1d", "write"),
        ("audit show --last -3", "invalid digit"),
        ("confirm -1", "write its number"),
        ("alert unsilence -1", "write its number"),
        ("token revocations del -1", "write its number"),
        ("allow add -1", "invalid"),
    ] {
        let words = std::iter::once("gateway").chain(text.split(' '));
        let error = command().try_get_matches_from(words).unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains("tip: to pass"), "{text}: {error}");
    }
}

/// As where it is not set.
#[test]
fn an_empty_variable_names_no_configuration() {
    let argument = |command: &clap::Command| {
        command.get_arguments().find(|argument| argument.get_id() == "config").unwrap().get_env().map(ToOwned::to_owned)
    };
    assert_eq!(argument(&Arguments::command()).as_deref(), Some(std::ffi::OsStr::new(CONFIG)));
    assert_eq!(argument(&without_variable(Arguments::command())), None);
}

#[test]
fn a_number_of_a_list_is_told_as_that() {
    for (text, says) in [
        ("confirm foo", "write its number"),
        ("alert unsilence foo", "write its number"),
        ("token revocations del foo", "write its number"),
        ("can ada GET https://a.example/ --from foo", "write an IP address"),
        ("waf test - --from foo", "write an IP address"),
    ] {
        let words = std::iter::once("gateway").chain(text.split(' '));
        let error = command().try_get_matches_from(words).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

/// What is no address says how to come to one.
#[test]
fn what_is_no_address_says_how_to_come_to_one() {
    for (text, says) in [
        ("foo", "names are not looked up"),
        ("10.0.0", "write an IP address"),
        ("10.0.0.0/8", "that is a network"),
        ("2001:db8::/32", "that is a network"),
        ("7", "the id of a block"),
        ("ca97e45691b0df390000000000000004", "gateway logs --grep"),
        ("00000000000000000000000000000004", "gateway logs --grep"),
    ] {
        let error = command().try_get_matches_from(["gateway", "why", text]).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}
