//! Patterns of scripts in pages.

use super::pattern::{ALL, Pattern, VALUES, pattern, weak};

/// Scripts in pages.
pub(super) const SCRIPTS: &[Pattern] = &[
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
        r"['\x22`;)\]}]\s*[;,+*/-]?\s*(?:alert|confirm|prompt|eval|fetch|setTimeout|Function|document\.\w+|window\.\w+|location(?:\.\w+)?|top\[)\s*[(=`\[]",
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
];
