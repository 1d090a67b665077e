//! Patterns of template engines and expression languages.

use super::pattern::{ALL, BuiltinPattern, EVERYWHERE, PatternScope, pattern};

/// Templates and expression languages.
pub(super) const EXPRESSIONS: &[BuiltinPattern] = &[
    pattern(
        "template_injection",
        "ssti",
        ALL,
        r"\{\{.{0,200}?(?:\d\s*[*+-]\s*['\x22]?\d|\b(?:config|self|request|constructor|range|lipsum|cycler|joiner|namespace|get_flashed_messages|url_for|_self|app|dump|system|popen)\b\s*[.\[(|}]|\|\s*(?:attr|filter|map|safe|join|reduce|passthru|shell_exec)\b|\bSECRET_KEY\b|\.Env\b|\.\s*constructor|__\w+__)",
    ),
    pattern(
        "template_injection",
        "ssti",
        ALL,
        r"[$#@*]\{\s*['\x22]?\d+\s*[*+/-]\s*['\x22]?\d+|@\(\s*\d+\s*[*+-]\s*\d+|\{\{?=?\s*\d+\s*[*+/%-]\s*\d+\s*\}?\}|\[\[\s*\$\{|\[=\s*\d+\s*\*\s*\d+|\{\{\s*\d+\s*\|\s*\w|\$?\{\{<%|<%\[%|\{\{#(?:with|each)\s[^}]{0,80}\bas\s+\|",
    ),
    pattern(
        "template_injection",
        "ssti",
        ALL,
        r"<%[=@#!-]?.{0,200}?%>|\{%-?\s*(?:for|if|import|include|set|debug|extends|block|macro|from|load|with|call|raw|autoescape)\b|\{php\}|\{system\s*\(|\{literal\}|\{if\s+\w+\(|\{\$smarty\.|\{Smarty_Internal",
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
        r"\{\{[^}]{0,80}['\x22]\s*\.\s*\w+\(|\{\{[^}]{0,80}['\x22]\s*[~+]?\s*['\x22][^}]{0,40}__|\{\{-?\s*(?:printf|define|template|call|html|js|println?|include|source|constant)[\s(]+['\x22.]|\{\{#with\s+['\x22]|\{\{\s*lookup\s+this\b|[$#]\{\s*['\x22][^}]{0,80}\.\w+\(|\$\{\s*import\s|\$\{\s*\.(?:now|data_model|globals|locals|main|vars|version)\b|\$\{\s*@\w+\(|\[#(?:assign|if|import|include|list|macro)\b",
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
        r"\$\{\s*(?:jndi|\$\{|lower\s*:|upper\s*:|env\s*:|sys\s*:|java\s*:|date\s*:|ctx\s*:|main\s*:|base64\s*:|web\s*:|k8s\s*:|docker\s*:|script\s*:|url\s*:|dns\s*:|bundle\s*:|const\s*:|event\s*:|file\s*:|log4j\s*:|map\s*:|marker\s*:|sd\s*:|spring\s*:|base64(?:en|de)coder\s*:|\w{0,8}\$\{|:{1,2}-|[^}]{0,24}:-)",
    ),
    pattern(
        "expression_injection",
        "java",
        ALL,
        // Of classes, those that an expression would use: exceptions are in the reports of every program.
        r"\bjava\.lang\.(?:AutoCloseable|Boolean|Character|Class|Comparable|Integer|Iterable|Math|Object|Process|Runtime|String|System|Thread|instrument|invoke|management|reflect)|\bjava\.io\.(?:Buffered|Byte|Data|File|Input|Object|Output|Print|Random|Reader|Serializable|String|Writer)|\bjava\.net\.(?:Http|Inet|Server|Socket|URI|URL)|\bjava\.util\.(?:Abstract|Array|Base64|BitSet|Collection|Date|Enum|Formatter|Hash|Identity|Iterator|Jar|Linked|List|Locale|Map|Object|Optional|Priority|Properties|Random|Scanner|Service|Set|Stack|Timer|Tree|UUID|Vector|function|jar|logging|stream|zip)|\bjavax\.(?:script|naming)\.|\b(?:getRuntime|getClass|forName|newInstance|ProcessBuilder|ScriptEngineManager|defineClass|getMethod|getDeclaredMethod)\s*\(",
    ),
    pattern(
        "expression_injection",
        "java",
        // Some frameworks evaluate what stands in `Content-Type`.
        EVERYWHERE,
        r"(?:#_?(?:memberAccess|context|request|response|parameters|session|application|root)\b\s*[\[.=])|\bognl\.\w|@java\.|\bT\s*\(\s*(?:java|org|javax)\.|%\{.{0,80}(?:#|@|\d\s*\*\s*\d)|\(\s*#\w+\s*=|^(?:action|redirect|redirectAction)\s*:\s*[%$]\{|['\x22\])]\s*\.\s*execute\s*\(\s*\)|\bEval\.me\s*\(|\bASTTest\s*\(",
    ),
    pattern(
        "expression_injection",
        "java",
        PatternScope::NAME,
        r"(?:^|\.)class(?:\.|\[['\x22]?)(?:module|classLoader|protectionDomain)",
    ),
    pattern(
        "expression_injection",
        "java",
        ALL,
        r"[$#]\{.{0,80}(?:\.class\b|getClass|Runtime|(?:application|page|request|session)Scope|pageContext|facesContext|\bT\s*\(|\.exec\b)",
    ),
];
