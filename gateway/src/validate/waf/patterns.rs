//! The patterns of the built-in rules. Each names its rule, the paranoia level from which it counts, its score, and in
//! what kind of value it is looked for. They are read without regard to case, as bytes, and `.` matches line ends.

use self::{
    commands::COMMANDS,
    pattern::{ALL, EVERYWHERE, VALUES, pattern, weak},
};

mod commands;
mod pattern;

pub(super) use pattern::{Pattern, Scope};

/// All patterns, in the order by which [`get`] finds them.
pub(super) fn all() -> impl Iterator<Item = &'static Pattern> {
    PATTERNS.iter().chain(COMMANDS)
}

/// One of [`all`].
pub(super) fn get(index: usize) -> Option<&'static Pattern> {
    PATTERNS.get(index).or_else(|| COMMANDS.get(index.checked_sub(PATTERNS.len())?))
}

const PATTERNS: &[Pattern] = &[
    // Traversal and files that no client needs.
    pattern("path_traversal", "lfi", ALL, r"(?:^|[/\\;=:\s])\.{2,3}(?:;[^/\\\s]{0,40})?[/\\]"),
    pattern("path_traversal", "lfi", ALL, r"[/\\]\.{2,3}(?:[/\\;]|$)"),
    pattern(
        "sensitive_file",
        "lfi",
        ALL,
        r"(?:^|[/\\:=\s'])etc[/\\](?:\.?[/\\])*(?:passwd|shadow|group|hosts|issue|motd|sudoers|fstab|crontab|ssh/|mysql/|nginx/|apache2/|httpd/)",
    ),
    pattern("sensitive_file", "lfi", ALL, r"[/\\]proc[/\\]+(?:self|version|cmdline|environ|mounts|net|\d+)(?:[/\\]|$)"),
    pattern(
        "sensitive_file",
        "lfi",
        ALL,
        r"[/\\](?:boot|win|system|php)\.ini\b|[/\\]windows[/\\]+(?:system32|win\.ini|system\.ini)|c:[/\\]+(?:windows|boot|inetpub|winnt)",
    ),
    pattern(
        "sensitive_file",
        "lfi",
        Scope::PATH.and(Scope::VALUE),
        r"(?:^|[/\\])(?:\.(?:git|svn|hg|bzr|ssh|aws|env|htaccess|htpasswd|bash_history|npmrc|dockerenv)|WEB-INF|META-INF)(?:[/\\]|$)",
    ),
    pattern("sensitive_file", "lfi", VALUES, r"(?:^|[/\\])var[/\\]+(?:log|www|run|spool|lib)[/\\]+\w"),
    pattern("path_traversal", "lfi", ALL, r"0x2e(?:0x|x)2e|\.\.0x(?:2f|5c)|[/\\]\.{4,}|\.{4,}[/\\]"),
    // Separators that a filter took away, steps that lead nowhere, and names that a file system cuts.
    pattern("path_traversal", "lfi", ALL, r"^(?:file:)?(?:\.{4,}[\w-]+\.\w{2,5}|\.{8,}[\w-]+)$"),
    pattern("path_traversal", "lfi", ALL, r"(?:^|[/\\])(?:\.[/\\]+){2,}|[/\\]\.[/\\]{2,}|^[/\\][a-z0-9]{200,}\.{2}"),
    pattern("path_traversal", "lfi", VALUES, r"[/\\]\.\.[{<*%$?#&|]"),
    pattern(
        "sensitive_file",
        "lfi",
        VALUES,
        r"(?:^|[.:/\\])(?:etc(?:passwd|shadow)|web-inf[/\\]?web\.xml|windows(?:win|system)\.ini|boot\.ini)\b",
    ),
    pattern(
        "sensitive_file",
        "lfi",
        VALUES,
        r"^\\\\[\w.:\[\]-]+\\[a-z]\$|\bWEB-INF[/\\]|\b[a-z]:[/\\]?(?:boot\.ini|inetpub)",
    ),
    // Bytes that end strings, and lines that begin headers.
    pattern("null_byte", "protocol", EVERYWHERE, r"\x00"),
    pattern(
        "header_injection",
        "protocol",
        Scope::PATH.and(Scope::HEADER).and(Scope::FILE).and(Scope::ANYWHERE),
        r"[\r\n]",
    ),
    pattern(
        "header_injection",
        "protocol",
        VALUES,
        r"[\r\n]\s*(?:set-cookie|location|content-(?:type|length|disposition)|x-[a-z-]+|access-control-[a-z-]+|transfer-encoding|host|refresh|status)\s*:\s?\S",
    ),
    pattern(
        "header_injection",
        "protocol",
        VALUES,
        r"[\r\n]\s*(?:HTTP/[0-9.]+\s+\d{3}|(?:GET|POST|PUT|DELETE|HEAD|OPTIONS)\s+\S+\s+HTTP/\d)",
    ),
    pattern("header_injection", "protocol", VALUES, r"[\r\n]\s*(?:bcc|cc|to|reply-to|mime-version)\s*:\s*[^\s@]+@"),
    pattern(
        "header_injection",
        "protocol",
        VALUES,
        r"[\r\n]\s*(?:(?:RCPT\s+TO|MAIL\s+FROM)\s*:|(?:EHLO|HELO)\s+\S|QUIT\s*$|\w{1,8}\s+(?:CAPABILITY|FETCH\s+\d))",
    ),
    // Statements of SQL that the grammar does not see in the middle of text.
    pattern("sql_injection", "sqli", ALL, r"\bunion\s+(?:all\s+|distinct\s+)?(?:/\*.*?\*/\s*)?\(?\s*select\b"),
    pattern(
        "sql_injection",
        "sqli",
        ALL,
        r"\b(?:information_schema|pg_catalog|sqlite_master|sysobjects|syscolumns|mysql\.user|all_tables)\b",
    ),
    pattern(
        "sql_injection",
        "sqli",
        ALL,
        r"['\x22)\d;]\s*;?\s*\b(?:waitfor\s+delay|exec(?:ute)?\s+(?:master|xp_|sp_))",
    ),
    pattern(
        "sql_injection",
        "sqli",
        ALL,
        r"\b(?:pg_sleep|benchmark|dbms_pipe\.receive_message|dbms_lock\.sleep|extractvalue|updatexml|load_file|xp_cmdshell|utl_http\.request|utl_inaddr\.get_host\w*|randomblob)\s*\(",
    ),
    pattern(
        "sql_injection",
        "sqli",
        ALL,
        r"(?:['\x22)]|\b\d+)\s*(?:;|\band\b|\bor\b|\|\||&&|[+,/*-])\s*\(?\s*(?:select\b.{0,60}\b)?sleep\s*\(\s*\d",
    ),
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"['\x22]\s*\)*\s*;\s*(?:drop|delete|insert|update|truncate|alter|create|shutdown|declare|exec)\b",
    ),
    pattern("sql_injection", "sqli", VALUES, r";\s*(?:drop|truncate|alter)\s+(?:table|database|schema|view|user)\s+\w"),
    pattern("sql_injection", "sqli", VALUES, r"\binto\s+(?:out|dump)file\s+['\x22]"),
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"['\x22]\s*(?:or|and|xor|\|\||&&)\s*\(?\s*(?:['\x22][^'\x22]*['\x22]|\d+|true|false|null)\s*(?:=|like|<|>|is\b|--|#|;|$)",
    ),
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"^\s*['\x22]?\d+['\x22)]*\s*(?:or|and)\s+\(?\w+\)?\s+(?:not\s+)?(?:r?like|regexp|between)\s*['\x22(\d]",
    ),
    // What ends its string and all that follows: `admin'--`. Behind the mark stands nothing: else it is text with an apostrophe.
    pattern("sql_injection", "sqli", VALUES, r"^\s*[^'\x22]{0,64}['\x22]\)*\s*;?\s*(?:--|#|/\*)\W*$"),
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"^\s*['\x22]?\d+['\x22)]*\s*;\s*(?:delete\s+from|insert\s+into|update\s+\w+\s+set|copy\s+\w+\s+(?:from|to)|declare\s+@|select\s+(?:top\b|\*|.{1,80}\bfrom\b))",
    ),
    pattern("sql_injection", "sqli", VALUES, r"\b(?:or|and)\s+(?:not\s+)?\(?\s*(\d+)\s*=\s*\(?\d+"),
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"(?:['\x22)]|\b\d+)\s*(?:order|group)\s+by\s+\d+\s*(?:,\s*\d+\s*)*(?:--|#|/\*|$)",
    ),
    pattern("sql_injection", "sqli", VALUES, r"\bselect\b.{1,80}\b(?:from)\b.{1,80}(?:--|#|/\*|;|\bwhere\b.{1,60}=)"),
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"\bselect\s+(?:@@version|version\s*\(|user\s*\(|database\s*\(|current_user|sleep\s*\(|char\s*\(|concat\s*\(|count\s*\(|case\s+when|load_file|banner\b)",
    ),
    pattern("sql_injection", "sqli", VALUES, r"/\*!\d{0,6}\s*\w+"),
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"\b(?:make_set|regexp_substring|crypt_key|user_lock\.sleep|json_extract|name_const|ctxsys\.\w+\.\w+)\s*\(|;\s*iif\s*\(",
    ),
    // Scripts in pages.
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
        r"\b(?:srcdoc|formaction|xlink:href)\s*=\s*['\x22]?\s*(?:<|&|data:|javascript)|data:\s*text/html",
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
        r"\b(?:style|behavior|binding)\s*[:=][^;]{0,60}(?:expression\s*\(|javascript\s*:|-moz-binding)",
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
        r"\bdocument\s*(?:\?\.|\[\s*['\x22`])\s*(?:cookie|domain|location|write)|\beval\s*\(\s*(?:atob|unescape|string|decodeURI\w*)\b|<\s*i?layer\b[^>]{0,200}=|\bon[a-z]{3,24}[^\w\s=]{1,40}=\s*['\x22]?(?:alert|confirm|prompt|eval)\b",
    ),
    // Operators of document stores.
    pattern(
        "nosql_injection",
        "nosql",
        Scope::NAME,
        r"(?:^|[.\[])\$(?:ne|eq|gte?|lte?|n?in|regex|where|exists|not|n?or|and|elemMatch|expr|function|type|mod|all|size|text|jsonSchema|accumulator|lookup|options)(?:[.\]\[]|$)",
    ),
    pattern(
        "nosql_injection",
        "nosql",
        Scope::VALUE,
        // Without quotes, only before a value: GraphQL declares variables as `($where: Filter, $in: [Int!])`.
        r"[{\[,]\s*(?:['\x22]\$(?:ne|eq|gte?|lte?|n?in|regex|where|exists|not|n?or|and|elemMatch|expr|function)['\x22]?\s*:|\$(?:ne|eq|gte?|lte?|n?in|regex|where|exists|not|n?or|and|elemMatch|expr|function)(?:['\x22]\s*:|\s*:\s*(?:['\x22{/\d+-]|\[\s*['\x22{\[\]\d+-]|(?:true|false|null|function|this|new)\b)))",
    ),
    pattern(
        "nosql_injection",
        "nosql",
        Scope::VALUE,
        r"\$where\s*(?:=|:\s*(?:['\x22`{(/\d]|(?:true|function|this|return|sleep|new)\b|\w+\s*\())|\bdb\.\w+\.(?:find|findOne|drop|insert|remove|update|aggregate|mapReduce|count)\s*\(",
    ),
    pattern(
        "nosql_injection",
        "nosql",
        Scope::VALUE,
        r"['\x22]\s*(?:\|\||&&|;)\s*(?:this\.\w|return\b|\(?function\b|while\s*\(|sleep\s*\(|['\x22]?\w+['\x22]?\s*={2,3})",
    ),
    pattern(
        "nosql_injection",
        "nosql",
        Scope::VALUE,
        r"\bthis\.\w+(?:\.match\s*\(|\s*(?:={2,3}|!==?)\s*['\x22\d/])|;\s*return\s+(?:true|1|this\.)|\bdo\s*\{[^}]{0,200}\}\s*while\s*\(",
    ),
    // Templates and expression languages.
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
    // Programs that look for holes, as far as they say who they are.
    pattern(
        "scanner",
        "reputation-scanner",
        Scope::HEADER,
        r"\b(?:sqlmap|nikto|nuclei|openvas|openvasvt|fuzz faster u fool|masscan|nessus|acunetix|wpscan|dirbuster|gobuster|feroxbuster|havij|zgrab|w3af|netsparker|nmap scripting engine|whatweb|arachni|jaeles|commix)\b",
    ),
    // Directories and XML documents.
    pattern(
        "ldap_injection",
        "ldap",
        VALUES,
        r"\)\s*\(\s*[|&!]|\*\s*\)\s*\(|\(\s*[|&!]\s*\(\s*\w+\s*[~<>]?=|\)\s*\(\s*\w+\s*=\s*\*?|\)\s*\(\s*(?:objectClass|uid|cn|sn|mail|userPassword|memberOf)\s*[~<>]?=",
    ),
    pattern("ldap_injection", "ldap", VALUES, r"\w:\d+(?:\.\d+){4,}:=|^\*\)|\|\(\s*\w+=\*\)|\*\(\|\(|^\*[)(|&]"),
    pattern(
        "xpath_injection",
        "xpath",
        VALUES,
        r"\b(?:count|name|string-length|substring|local-name|position|string|node|text|doc|not|contains|starts-with)\s*\(\s*(?:/|\.{1,2}/|//|\*|child::|parent::|self::|@|name\s*\()",
    ),
    pattern(
        "xpath_injection",
        "xpath",
        VALUES,
        r"(?:^|[\s/|\[('])(?:child|parent|ancestor|ancestor-or-self|descendant|descendant-or-self|following|following-sibling|preceding|preceding-sibling|attribute|self)::(?:node\(|\*|\w)|['\x22]\s*\]\s*(?:\||/)|\]\s*\|\s*//|\|\s*//\w|//\*\[|^/\*\[|//\w+\[",
    ),
    // Entities of XML, and objects that are made of text.
    pattern(
        "xxe",
        "xxe",
        VALUES.and(Scope::DOCUMENT),
        r"<!ENTITY\b|<!DOCTYPE[^>\[]*(?:\[|\bSYSTEM\b|\bPUBLIC\b)|<xi:include\b|<\?xml-stylesheet\b",
    ),
    pattern(
        "serialized_object",
        "deserialization",
        ALL.and(Scope::DOCUMENT),
        r"(?-i:\brO0AB[A-Za-z0-9+/]|\bH4sIAAAA[A-Za-z0-9+/]{20})|\xac\xed\x00\x05",
    ),
    pattern(
        "serialized_object",
        "deserialization",
        ALL,
        r"(?:^|[;{:|])[OC]:\+?\d+:\x22[a-z_\\][\w\\]*\x22:\d+:\{|^a:\d+:\{[si]:\d+",
    ),
    pattern(
        "serialized_object",
        "deserialization",
        ALL.and(Scope::DOCUMENT),
        r"_\$\$ND_FUNC\$\$_|!!(?:python/|javax?\.|com\.|org\.|ruby/)|!ruby/(?:object|hash|struct)|\x22?\$type\x22?\s*:\s*\x22System\.|(?-i:AAEAAAD/{5})|TypeConfuseDelegate|ObjectDataProvider|<java\b[^>]{0,100}XMLDecoder|\bysoserial\b",
    ),
    pattern(
        "serialized_object",
        "deserialization",
        ALL,
        r"(?:^|\n)c(?:os|posix|nt|builtins|__builtin__|subprocess)\n\w+\n|\x80[\x02-\x05].{0,40}(?:posix|builtins|__builtin__|subprocess)|(?-i:^gASV[A-Za-z0-9+/]{12}|^BAh[bvI7][A-Za-z0-9+/]{12})",
    ),
    // Classes that readers of JSON and YAML are told to make, and that run what they are told.
    pattern(
        "serialized_object",
        "deserialization",
        ALL.and(Scope::DOCUMENT),
        r"\bcom\.sun\.(?:rowset|org\.apache)\.|\borg\.apache\.(?:tomcat|commons)\.dbcp|\b(?:JdbcRowSetImpl|TemplatesImpl|JndiRefForwardingDataSource|JndiDataSourceFactory|PropertyPathFactoryBean|InvokerTransformer|ClassPathXmlApplicationContext|FileSystemXmlApplicationContext|BCELClassLoader|PoolBackedDataSource|XBeanInvocation|JMXInvokerServlet|BadAttributeValueExpException|WrapperConnectionPoolDataSource)\b",
    ),
    pattern(
        "prototype_pollution",
        "nodejs",
        VALUES,
        r"(?:^|[.\[\]'\x22{,\s])__proto__(?:['\x22]?\s*[.\[\]:=]|['\x22]?$)",
    ),
    pattern(
        "prototype_pollution",
        "nodejs",
        VALUES,
        r"\bconstructor(?:\.|\]\[|\[)\s*['\x22]?prototype\b|['\x22]constructor['\x22]\s*:\s*\{\s*['\x22]prototype",
    ),
    // URLs that lead inside.
    pattern(
        "ssrf",
        "ssrf",
        Scope::VALUE,
        r"^\s*(?:url:)?(?:https?|ftp|wss?):/{2,}(?:[^/?#@]{0,100}@)?(?:localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|127\.\d{1,5}(?:\.\d{1,5})?|0(?:\.0\.0\.0)?|10\.\d{1,3}\.\d{1,3}\.\d{1,3}|192\.168\.\d{1,3}\.\d{1,3}|172\.(?:1[6-9]|2\d|3[01])\.\d{1,3}\.\d{1,3}|169\.254\.\d{1,3}\.\d{1,3}|100\.100\.100\.200|\[[0:]*(?:1|ffff:[0-9a-f.:]+)?\]|\[f[cde][0-9a-f]{2}:[^\]]*\])\.?(?:[:/?#]|$)",
    ),
    pattern(
        "ssrf",
        "ssrf",
        Scope::VALUE,
        r"^\s*(?:url:)?https?:/{2,}(?:[^/?#@]{0,100}@)?(?:0x[0-9a-f]{1,8}(?:\.0x[0-9a-f]{1,2}){0,3}|0[0-7]{1,3}(?:\.[0-7]{1,4}){1,3}|\d{8,10}|metadata(?:\.google\.internal)?|instance-data|[^/?#:]{1,100}\.(?:internal|local|localhost|localdomain|nip\.io|sslip\.io|xip\.io|lvh\.me|localtest\.me|vcap\.me|burpcollaborator\.net|oastify\.com|interact\.sh))(?:[:/?#]|$)",
    ),
    pattern(
        "ssrf",
        "ssrf",
        Scope::VALUE,
        r"^\s*(?:url:)?(?:gopher|dict|ldaps?|jar:\w+|netdoc|file|tftp|sftp|smb|rmi|iiop|local_file)\s*:/{1,3}",
    ),
    pattern(
        "ssrf",
        "ssrf",
        Scope::VALUE,
        r"169\.254\.169\.254|/latest/(?:meta-data|user-data|dynamic/instance-identity)|/computeMetadata/v1",
    ),
];
