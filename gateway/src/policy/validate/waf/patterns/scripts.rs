//! Patterns of scripts in pages.

use super::pattern::{ALL, BuiltinPattern, VALUES, pattern, weak};

/// Scripts in pages.
pub(super) const SCRIPTS: &[BuiltinPattern] = &[
    pattern("xss", "xss", ALL, r"<\s*/?\s*script\b"),
    pattern("xss", "xss", ALL, r"<[a-z!/?][^>]{0,400}[\s/'\x22+]on[a-z]{3,24}\s*=\s*['\x22`]?[^\s>]"),
    pattern(
        "xss",
        "xss",
        ALL,
        r"['\x22`]\s*[/\s]*on(?:error|load|click|focus|blur|mouse\w+|key\w+|toggle|begin|start|pointer\w+|animation\w+|transition\w+|input|change|submit|select|scroll|wheel|paste|copy|cut|resize|hashchange|message|pageshow|auxclick|dblclick|contextmenu|drag\w*|drop)\s*=",
    ),
    pattern(
        "xss",
        "xss",
        ALL,
        r"(?:j\s*a\s*v\s*a|v\s*b|l\s*i\s*v\s*e)\s*s\s*c\s*r\s*i\s*p\s*t\s*:\s*(?:[(%/'\x22`\[$]|\w+\s*[(.=`\[])|\b(?:mocha|livescript)\s*:\s*[\w(\[]",
    ),
    pattern(
        "xss",
        "xss",
        ALL,
        r"<\s*(?:iframe|frame|object|embed|applet|base|meta|svg|math|isindex|xss|animate|set|foreignobject|bgsound|marquee|portal)\b[^>]{0,200}(?:=|>|/)",
    ),
    pattern(
        "xss",
        "xss",
        ALL,
        r"\b(?:srcdoc|formaction|xlink:href)\s*=\s*['\x22]?\s*(?:<|&|data:|javascript)|data:\s*(?:text/html|text/xml|application/(?:xhtml\+)?xml)",
    ),
    pattern(
        "xss",
        "xss",
        VALUES,
        r"['\x22`;)\]}]\s*[;,+*/-]?\s*(?:alert|confirm|prompt|eval|fetch|setTimeout|Function|document\.\w+|window\.\w+|location(?:\.\w+)?|top\[)\s*(?:[(=\[]|`[^`\s]{1,64}`)",
    ),
    pattern(
        "xss",
        "xss",
        VALUES,
        r"\b(?:document\s*\.\s*(?:cookie|write(?:ln)?|domain|location)|window\s*\.\s*(?:location|name|open)|String\.fromCharCode|\.innerHTML|\blocalStorage\.)\s*[(=.\[)]",
    ),
    pattern(
        "xss",
        "xss",
        VALUES,
        r"\b(?:style|behavior|binding)\s*[:=][^;]{0,60}(?:expression\s*\(|javascript\s*:|-moz-binding)|\bbehaviou?r\s*:\s*url\s*\(|-moz-binding\s*:",
    ),
    weak("xss", "xss", VALUES, r"\b(?:alert|confirm|prompt)\s*[(`]\s*(?:\d+|['\x22`/]|document|window|location|\))"),
    pattern(
        "xss",
        "xss",
        VALUES,
        r"\b(?:alert|confirm|prompt|eval)\s*(?:(?:\.\s*(?:call|apply|bind)|\?\.)\s*\(|\([^)]{0,60}\)\s*;?['\x22]?\s*(?:>|//|</))|\((?:alert|confirm|prompt|eval)\)\s*[(`]",
    ),
    pattern(
        "xss",
        "xss",
        VALUES,
        r"\bdocument\s*(?:\?\.|\[\s*['\x22`])\s*(?:cookie|domain|location|write)|\beval\s*\(\s*(?:atob|unescape|string|decodeURI\w*|location|name|document|window)\b|[+,(=]\s*document\s*\.\s*cookie\b|\bReflect\.(?:apply|construct)\s*\(\s*(?:alert|confirm|eval|fetch|prompt)\b|<\s*i?layer\b[^>]{0,200}=|\bon[a-z]{3,24}[^\w\s=]{1,40}=\s*['\x22]?(?:alert|confirm|prompt|eval)\b",
    ),
    // A call that shows a message, which is all of a value or an operand in it.
    pattern(
        "xss",
        "xss",
        VALUES,
        r"(?:^|[;,&|?+*/=\[{(!~])\s*(?:alert|confirm|prompt)(?:\(\s*(?:\d*|['\x22`/][^)]{0,40}|(?:document|origin|self|this|top|window)[\w.]{0,20})\s*\)|`[^`]{0,20}`)",
    ),
    // Scripts that are loaded or run later, and names of functions in pieces.
    pattern(
        "xss",
        "xss",
        VALUES,
        r"\b(?:navigator\s*\.\s*serviceWorker\s*\.\s*register|new\s+(?:Shared)?Worker|importScripts|insertAdjacentHTML|import)\s*\(\s*['\x22`]|\bdocument\s*\.\s*body\s*\.\s*\w+\s*=|<\?import\b|<xml\b[^>]{0,100}\bsrc\s*=|\bdatasrc\s*=\s*#|\w['\x22]\s*\+\s*['\x22]\w+['\x22]\s*\]\s*[(`]",
    ),
];
