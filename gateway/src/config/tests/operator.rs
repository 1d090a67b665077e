//! `[[operator]]`: who is not named well, and who could not ask.

use super::*;

#[test]
fn wrong_operators() {
    let with = |lines: &str| format!("control_group = \"edge\"\n[[operator]]\n{lines}\n[guard.packet_limit]\n");
    let check = |lines: &str, line, key, message, hint| {
        wrong("[guard.packet_limit]\n", &with(lines), line, key, message, hint);
    };
    let (group, user, roles) = ("operator[0].group", "operator[0].user", "operator[0].roles");
    check("group = \"edge\"\nroles = [\"vew\"]", 12, "operator[0].roles[0]", "\"vew\" is unknown", "one of: view");
    check("group = \"edge\"\nroles = []", 12, roles, "is empty", "[\"view\"]");
    check("group = \"edge\"", 10, roles, "missing", "[\"view\"]");
    check("roles = [\"view\"]", 10, group, "missing", "group = ");
    check("group = \"a b\"\nroles = [\"view\"]", 11, group, "no name", "a number");
    check("user = \"root\"\nroles = [\"view\"]", 11, user, "is root", "leave");
    check("group = \"edge\"\nuser = \"eve\"\nroles = [\"view\"]", 12, user, "cannot stand beside", "of its own");
    let one = "group = \"edge\"\nroles = [\"view\"]";
    check(&format!("{one}\n[[operator]]\n{one}"), 14, "operator[1].group", "from operator[0]", "in one table");
}

#[test]
fn operators_who_cannot_open_the_socket() {
    let config = load(&spoiled("[proxy]\n", "[[operator]]\nuser = \"eve\"\nroles = [\"view\"]\n[proxy]\n")).unwrap();
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, ["operator[0].user: has no effect: only root may open the control socket"]);
}

#[test]
fn wrong_control_sockets() {
    let long = format!("\"1h\"\ncontrol_socket = \"/{}\"", "x".repeat(107));
    wrong("\"1h\"", &long, 8, "guard.control_socket", "107 bytes", "shorter");
    wrong("\"1h\"", "\"1h\"\ncontrol_mode = \"0777\"", 8, "guard.control_mode", "unknown", "one of");
    wrong("\"1h\"", "\"1h\"\ncontrol_mode = \"0660\"", 8, "guard.control_mode", "no `guard.control_group`", "name the");
    let closed = "\"1h\"\ncontrol_mode = \"0600\"\ncontrol_group = \"edge\"";
    wrong("\"1h\"", closed, 8, "guard.control_mode", "root alone", "\"0660\"");
    wrong("\"1h\"", "\"1h\"\ncontrol_group = 7", 8, "guard.control_group", "expected a string", "as a string");
}

/// By the width that `gateway allow add` asks for `--yes` by.
#[test]
fn wide_allowances_are_warned_of() {
    let allow = |source: &str| format!("allow = [\"192.0.2.0/24\", \"{source}\"]");
    for (source, widest) in [
        ("0.0.0.0/0", Some(16)),
        ("0.0.0.0/1", Some(16)),
        ("128.0.0.0/1", Some(16)),
        ("10.0.0.0/15", Some(16)),
        ("10.0.0.0/16", None),
        ("::/0", Some(32)),
        ("8000::/1", Some(32)),
        ("2001:db8::/31", Some(32)),
        ("2001:db8::/32", None),
    ] {
        let base = "allow = [\"192.0.2.0/24\"]";
        match widest {
            Some(widest) => {
                warned(base, &allow(source), "guard.allow[1]", &format!("{source} is wider than /{widest}: nobody"));
            }
            None => assert!(load(&spoiled(base, &allow(source))).unwrap().warnings.is_empty(), "{source}"),
        }
    }
}
