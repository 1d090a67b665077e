//! Patterns of template engines and expression languages.

use super::pattern::{ALL, EVERYWHERE, Pattern, Scope, pattern};

/// Templates and expression languages.
pub(super) const EXPRESSIONS: &[Pattern] = &[
    pattern(
        "template_injection",
        "ssti",
        ALL,
        r"\{\{.{0,200}?(?:\d\s*[*+-]\s*['\x22]?\d|\b(?:config|self|request|constructor|range|lipsum|cycler|joiner|namespace|get_flashed_messages|url_for|_self|app|dump|system|popen)\b\s*[.\[(|}]|\|\s*(?:attr|filter|map|safe|join)\b|\.\s*constructor|__\w+__)",
    ),
    pattern(
        "template_injection",
        "ssti",
        ALL,
        r"[$#@*]\{\s*['\x22]?\d+\s*[*+/-]\s*['\x22]?\d+|@\(\s*\d+\s*[*+-]\s*\d+|\{\{?=?\s*\d+\s*[*+-]\s*\d+\s*\}?\}|\[\[\s*\$\{|\[=\s*\d+\s*\*\s*\d+",
    ),
    pattern(
        "template_injection",
        "ssti",
        ALL,
        r"<%[=@#!-]?.{0,200}?%>|\{%-?\s*(?:for|if|import|include|set|debug|extends|block|macro|from|raw|autoescape)\b|\{php\}|\{system\s*\(|\{literal\}|\{if\s+\w+\(",
    ),
    pattern(
        "template_injection",
        "ssti",
        ALL,
        r"#set\s*\(\s*\$|#(?:foreach|include|parse|evaluate)\s*\(|<#(?:assign|list|include|if|import)\b|freemarker\.template|\$\{?(?:class|request|application|session|T)\.(?:inspect|getClass|class)|\?new\s*\(\s*\)",
    ),
    pattern(
        "template_injection",
        "ssti",
        ALL,
        r"#\{[^}]{0,80}(?:\d\s*[*+-]\s*\d|`|system|exec|file\.|io\.|kernel\.|%x)",
    ),
    pattern(
        "expression_injection",
        "java",
        EVERYWHERE,
        r"\$\{\s*(?:jndi|\$\{|lower\s*:|upper\s*:|env\s*:|sys\s*:|java\s*:|date\s*:|ctx\s*:|main\s*:|base64\s*:|web\s*:|k8s\s*:|docker\s*:|script\s*:|url\s*:|dns\s*:|:{1,2}-|[^}]{0,24}:-)",
    ),
    pattern(
        "expression_injection",
        "java",
        ALL,
        r"\bjava\.(?:lang|io|net|util)\.[A-Za-z]+|\bjavax\.(?:script|naming)\.|\b(?:getRuntime|getClass|forName|newInstance|ProcessBuilder|ScriptEngineManager|defineClass|getMethod|getDeclaredMethod)\s*\(",
    ),
    pattern(
        "expression_injection",
        "java",
        // Some frameworks evaluate what stands in `Content-Type`.
        EVERYWHERE,
        r"(?:#_?(?:memberAccess|context|request|response|parameters|session|application|root)\b\s*[\[.=])|\bognl\.\w|@java\.|\bT\s*\(\s*(?:java|org|javax)\.|%\{.{0,80}(?:#|@|\d\s*\*\s*\d)",
    ),
    pattern(
        "expression_injection",
        "java",
        Scope::NAME,
        r"(?:^|\.)class(?:\.|\[['\x22]?)(?:module|classLoader|protectionDomain)",
    ),
    pattern(
        "expression_injection",
        "java",
        ALL,
        r"[$#]\{.{0,80}(?:\.class\b|getClass|Runtime|applicationScope|sessionScope|pageContext|facesContext|\bT\s*\(|\.exec\b)",
    ),
];
