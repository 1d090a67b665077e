//! The patterns of the built-in rules. Each names its rule, the paranoia level from which it counts, its score, and in
//! what kind of value it is looked for. They are read without regard to case, as bytes, and `.` matches line ends.

use self::{
    addresses::ADDRESSES,
    commands::COMMANDS,
    expressions::EXPRESSIONS,
    pattern::{ALL, EVERYWHERE, VALUES, pattern},
    scripts::SCRIPTS,
    sql::STATEMENTS,
};

mod addresses;
mod commands;
mod expressions;
mod pattern;
mod scripts;
mod sql;

pub(super) use pattern::{BuiltinPattern, PatternScope};

/// The tables of patterns.
const TABLES: [&[BuiltinPattern]; 6] = [PATTERNS, STATEMENTS, SCRIPTS, EXPRESSIONS, ADDRESSES, COMMANDS];

/// All patterns, in the order by which [`get`] finds them.
pub(super) fn all() -> impl Iterator<Item = &'static BuiltinPattern> {
    TABLES.into_iter().flatten()
}

/// One of [`all`].
pub(super) fn get(mut index: usize) -> Option<&'static BuiltinPattern> {
    TABLES.into_iter().find_map(|table| {
        let found = table.get(index);
        index = index.saturating_sub(table.len());
        found
    })
}

/// A line end: as it is, as an escape, and as characters that some servers cut down to it (U+010D, U+010A).
macro_rules! line_end {
    () => {
        r"(?:[\r\n]|\\[rn]|\xc4\x8d\xc4\x8a)"
    };
}

/// What stands before a path that is handed to a program. Behind a word and a space it is prose: `the passwords in /etc/shadow`.
macro_rules! path_start {
    () => {
        r"(?:^[\s\x22'(]*(?:-{1,2}[\w-]+\s+|\.\s+)?[/\\]*|\t[/\\]*|[^\s/\\][/\\]+|[:=\x22'(,;|<>&]\s*[/\\]*)"
    };
}

const PATTERNS: &[BuiltinPattern] = &[
    // Traversal and files that no client needs.
    pattern("path_traversal", "lfi", ALL, r"(?:^|[/\\;=:\s])\.{2,3}(?:;[^/\\\s]{0,40})?[/\\]"),
    pattern("path_traversal", "lfi", ALL, r"[/\\]\.{2,3}(?:[/\\;]|$)"),
    pattern(
        "sensitive_file",
        "lfi",
        ALL,
        concat!(
            path_start!(),
            r"etc[/\\](?:\.?[/\\])*(?:g?shadow|aliases|cron\.\w|crontab|debian_version|environment|exports|fstab|group|hostname|hosts|init(?:tab|\.d/)|issue|ld\.so\.|lsb-release|master\.passwd|motd|mtab|networks|os-release|pam\.d/|passwd|profile|protocols|rc\.(?:d/|local)|redhat-release|resolv\.conf|security/|services|shells|sudoers|(?:[\w.-]+/){0,3}(?:my|php|sysctl|httpd|nginx|apache2?|vsftpd|smb|proftpd|lighttpd|redis|mongod|sshd?_config)\.?(?:cnf|conf|ini|$)|(?:apache2?|httpd|kubernetes|mysql|nginx|postfix|postgresql|samba|ssh|ssl|tomcat\d*)/)"
        ),
    ),
    pattern(
        "sensitive_file",
        "lfi",
        ALL,
        concat!(path_start!(), r"proc[/\\]+(?:self|version|cmdline|environ|mounts|net|\d+)(?:[/\\]|$)"),
    ),
    pattern(
        "sensitive_file",
        "lfi",
        ALL,
        r"[/\\](?:boot|win|system|php)\.ini\b|[/\\]windows[/\\]+(?:system32|win\.ini|system\.ini)|c:[/\\]+(?:windows|boot|inetpub|winnt)",
    ),
    pattern(
        "sensitive_file",
        "lfi",
        PatternScope::PATH.and(PatternScope::VALUE),
        r"(?:^|[/\\])(?:\.(?:git|svn|hg|bzr|ssh|aws|env|DS_Store|htaccess|htpasswd|bash_history|bash_profile|bashrc|kube|mysql_history|netrc|npmrc|passwd|pgpass|profile|psql_history|rhosts|sh_history|shosts|Xauthority|zshrc|zsh_history|dockerenv)|WEB-INF|META-INF)(?:[/\\]|$)",
    ),
    pattern(
        "sensitive_file",
        "lfi",
        VALUES,
        concat!(path_start!(), r"var[/\\]+(?:log|www|run|spool|lib)[/\\]+\w|^/+(?:run/secrets/|sys/class/|dev/tcp/)"),
    ),
    pattern(
        "path_traversal",
        "lfi",
        ALL,
        r"0x2e(?:0x|x)2e|\.\.0x(?:2f|5c)|[/\\]\.{4,}|\.{4,}[/\\]|\.{2}[\xc0\xc1]|(?:\.\.(?:2f|5c)){2}|\.\.(?:2f|5c)(?:boot|etc|proc|usr|var|windows)(?:2f|5c|\.ini)",
    ),
    // Separators that a filter took away, steps that lead nowhere, and names that a file system cuts.
    pattern("path_traversal", "lfi", ALL, r"^(?:file:)?(?:\.{4,}[\w-]+\.\w{2,5}|\.{8,}[\w-]+)$"),
    pattern("path_traversal", "lfi", ALL, r"(?:^|[/\\])(?:\.[/\\]+){2,}|[/\\]\.[/\\]{2,}|^[/\\][a-z0-9]{200,}\.{2}"),
    pattern("path_traversal", "lfi", VALUES, r"[/\\]\.\.[{<*%$?#&|]|(?:^|[/\\])\.\.[\x01-\x1f]+[/\\]"),
    // `location /static` without a slash at its end, and an alias.
    pattern("path_traversal", "lfi", PatternScope::PATH, r"^/[\w-]+\.\./"),
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
        r"^\\\\[\w.:\[\]-]+\\[a-z]\$|\bWEB-INF[/\\]|\b[a-z]:[/\\]?(?:boot\.ini|inetpub)|\b[a-z]:[/\\]+(?:apache|nginx|php|wamp|xampp)[\w.]*[/\\]",
    ),
    // A value that is a path of the system as a whole, and logs and settings of servers wherever they are.
    pattern(
        "sensitive_file",
        "lfi",
        VALUES,
        r"^[\s'\x22]*(?:file:)?[/\\]+(?:boot|etc|proc|root)[/\\]+[\w.-]+(?:[/\\]+[\w.-]+)*[\s'\x22]*$|^[/\\]+var[/\\]+(?:adm|apache\w*|cron|log)(?:[/\\]|$)|[/\\](?:access|error)[._]\s?log$|[/\\](?:apache2?|httpd|lighttpd|nginx|proftpd?|pure-?ftpd|sshd_config|vsftpd)\.(?:conf|passwd|pdb)(?:\.php)?$",
    ),
    // What an editor or a person leaves of a program of the server, which then is sent as text.
    pattern(
        "sensitive_file",
        "lfi",
        VALUES.and(PatternScope::PATH),
        r"(?:^|[/\\])(?:[\w-]+\.(?:php\d?|phtml|aspx?|jspx?|cfm)|web\.config|\.ht\w+|\.[\w.-]+)(?:\.(?:bak\d?|old|orig|save|source|sw[op])|~)$",
    ),
    // Bytes that end strings, and lines that begin headers.
    pattern("null_byte", "protocol", EVERYWHERE, r"\x00"),
    pattern(
        "header_injection",
        "protocol",
        PatternScope::PATH.and(PatternScope::HEADER).and(PatternScope::FILE).and(PatternScope::ANYWHERE),
        r"[\r\n]",
    ),
    pattern(
        "header_injection",
        "protocol",
        VALUES,
        // People write lists such as `Location: room 4` and `Host: Ada`: these names count only before a value of HTTP.
        concat!(
            line_end!(),
            r"\s*(?:set-cookie\s*:\s?\S|(?:content-(?:type|length|disposition|encoding|language|location|security-policy[a-z-]*)|x-[a-z-]+|access-control-[a-z-]+|cross-origin-[a-z-]+|transfer-encoding|(?:www|proxy)-authenticate|proxy-connection|strict-transport-security|cache-control|last-modified|referrer-policy|permissions-policy|user-agent|if-(?:none-match|modified-since)|etag)\s*:|link\s*:\s?<|expect\s*:\s?100-continue|pragma\s*:\s?no-cache|location\s*:\s?(?:/|\\|[a-z][a-z0-9+.-]{1,20}:)|host\s*:\s?(?:[\w-]+(?:\.[\w-]+)+|\w+:\d|localhost)|refresh\s*:\s?\d+\s*(?:;|[\r\n]|$)|status\s*:\s?\d{3}\b|connection\s*:\s?(?:close|keep-alive|upgrade)\b|authorization\s*:\s?(?:basic|bearer|digest)\b|cookie\s*:\s?[\w-]+=)"
        ),
    ),
    pattern(
        "header_injection",
        "protocol",
        VALUES,
        concat!(line_end!(), r"\s*(?:HTTP/[0-9.]+\s+\d{3}|(?:GET|POST|PUT|DELETE|HEAD|OPTIONS)\s+\S+\s+HTTP/\d)"),
    ),
    // An empty line ends the head of a response, and its body begins: both as escapes that a program resolves.
    pattern(
        "header_injection",
        "protocol",
        VALUES,
        r"\\r\\n\\r\\n\s*<|(?:\r\n|\xc4\x8d\xc4\x8a){2}\s*<(?:html|script)\b",
    ),
    pattern("header_injection", "protocol", VALUES, r"[\r\n]\s*bcc\s*:\s*[^\s@]+@|[\r\n]\s*mime-version\s*:\s*1\.0"),
    // In its second line a value ends the header that it was meant for. Whoever quotes a mail has other headers before.
    pattern("header_injection", "protocol", VALUES, r"^[^\r\n:]*(?:\r\n?|\n)\s*(?:cc|to|reply-to)\s*:\s*[^\s@]+@"),
    pattern(
        "header_injection",
        "protocol",
        VALUES,
        r"[\r\n]\s*(?:(?:RCPT\s+TO|MAIL\s+FROM)\s*:|(?:EHLO|HELO)\s+\S|QUIT\s*$|\w{1,8}\s+(?:CAPABILITY|FETCH\s+\d)|FLUSH(?:ALL|DB)\b|CONFIG\s+SET\s|SLAVEOF\s|\*\d+\s*[\r\n]+\$\d+\s*[\r\n])",
    ),
    // Programs that look for holes, as far as they say who they are.
    pattern(
        "scanner",
        "reputation-scanner",
        PatternScope::HEADER,
        r"\b(?:sqlmap|nikto|nuclei|openvas|openvasvt|fuzz faster u fool|masscan|nessus|acunetix|wpscan|dirbuster|gobuster|feroxbuster|havij|zgrab|w3af|netsparker|nmap scripting engine|whatweb|arachni|jaeles|commix)\b",
    ),
    // Directories and XML documents.
    pattern(
        "ldap_injection",
        "ldap",
        VALUES,
        // A bracket that opens nothing of the value closes a filter. `(char*)(long)` is code.
        r"\)\s*\(\s*[|&!]|^[^(]*\*?\s*\)\s*\(\s*\*|^[^(]*\*\s*\)\s*\(|\(\s*[|&!]\s*\(\s*\w+\s*[~<>]?=|\)\s*\(\s*\w+\s*=\s*\*?|\)\s*\(\s*(?:objectClass|uid|cn|sn|mail|userPassword|memberOf)\s*[~<>]?=",
    ),
    pattern(
        "ldap_injection",
        "ldap",
        VALUES,
        r"\w:\d+(?:\.\d+){4,}:=|^\*\)|\(\s*(?:cn|dc|mail|member(?:Of)?|objectClass|ou|sAMAccountName|sn|uid|userPassword)\s*[~<>]?=\s*\*\s*\)|\|\(\s*\w+=\*\)|\*\(\|\(|^\*[)(|&]",
    ),
    pattern(
        "xpath_injection",
        "xpath",
        VALUES,
        r"\b(?:boolean|concat|count|name|normalize-space|number|string-length|substring|sum|translate|local-name|position|string|node|text|doc|not|contains|starts-with)\s*\(\s*(?:/|\.{1,2}/|//|\*\s*[/\[|]|child::|parent::|self::|@|name\s*\()",
    ),
    pattern(
        "xpath_injection",
        "xpath",
        VALUES,
        r"(?:^|[\s/|\[('])(?:child|parent|ancestor|ancestor-or-self|descendant|descendant-or-self|following|following-sibling|preceding|preceding-sibling|attribute|self)::(?:node\(|\*|\w)|['\x22]\s*\]\s*(?:\||/)|\]\s*\|\s*//|\|\s*//[a-z*@]|//\*\[|^/\*\[|//\w+\[|\b(?:doc-available|system-property|unparsed-text|document|doc)\s*\(\s*['\x22]|['\x22]\s*(?:or|and)\s+(?:/{1,2}[\w*]|@\w|(?:true|false|last|position)\s*\(\s*\)|not\s*\(|(?:contains|starts-with|string-length|normalize-space)\s*\()",
    ),
    // Entities of XML, and objects that are made of text.
    pattern(
        "xxe",
        "xxe",
        VALUES.and(PatternScope::DOCUMENT),
        r"<!ENTITY\b|<!DOCTYPE[^>\[]*(?:\[|\bSYSTEM\b|\bPUBLIC\b)|<xi:include\b|<\?xml-stylesheet\b|\+ADwA?[-!]",
    ),
    pattern(
        "serialized_object",
        "deserialization",
        ALL.and(PatternScope::DOCUMENT),
        r"(?-i:\brO0AB[A-Za-z0-9+/]|\byv66vg[A-Za-z0-9+/]|\bH4sIAAAA[A-Za-z0-9+/]{20})|\xac\xed\x00\x05|\baced0005[0-9a-f]",
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
        ALL.and(PatternScope::DOCUMENT),
        r"_\$\$ND_FUNC\$\$_|!!(?:python/|javax?\.|com\.|org\.|ruby/)|!ruby/(?:object|hash|struct)|\x22?\$type\x22?\s*:\s*\x22System\.|(?-i:AAEAAAD/{5})|TypeConfuseDelegate|ObjectDataProvider|<java\b[^>]{0,100}XMLDecoder|\bysoserial\b|['\x22]py/(?:object|reduce|function|type|repr)\b|<void\s+(?:method|property|class)\s*=|__PHP_Incomplete_Class",
    ),
    pattern(
        "serialized_object",
        "deserialization",
        ALL,
        r"(?:^|\n)c(?:os|posix|nt|builtins|__builtin__|subprocess)\n\w+\n|\x80[\x02-\x05].{0,40}(?:posix|builtins|__builtin__|subprocess)|\x80[\x02-\x05][^\n]{0,40}c(?:os|posix|nt)\n|^\x04\x08[oI{\[]|(?-i:^gASV[A-Za-z0-9+/]{12}|^BAh[bvIJ7][A-Za-z0-9+/]{8})",
    ),
    // Classes that readers of JSON and YAML are told to make, and that run what they are told.
    pattern(
        "serialized_object",
        "deserialization",
        ALL.and(PatternScope::DOCUMENT),
        r"\bcom\.sun\.(?:rowset|org\.apache)\.|\borg\.apache\.(?:tomcat|commons)\.dbcp|\b(?:JdbcRowSetImpl|TemplatesImpl|JndiRefForwardingDataSource|JndiDataSourceFactory|PropertyPathFactoryBean|InvokerTransformer|ClassPathXmlApplicationContext|FileSystemXmlApplicationContext|BCELClassLoader|PoolBackedDataSource|XBeanInvocation|JMXInvokerServlet|BadAttributeValueExpException|WrapperConnectionPoolDataSource|JEditorPane|UnicastRef)\b",
    ),
    pattern(
        "prototype_pollution",
        "nodejs",
        VALUES,
        r"(?:^|[.\[\]'\x22{,\s?&;/(])__proto__(?:['\x22]?\s*[.\[\]:=]|['\x22]?$)|__pro__proto__to__|__(?:define|lookup)(?:Getter|Setter)__",
    ),
    pattern(
        "prototype_pollution",
        "nodejs",
        VALUES,
        r"\bconstructor['\x22]?(?:\.|\]\s*\[|\[|\]\.)\s*['\x22]?prototype\b|\bObject\.prototype\.\w+\s*=[^=]|['\x22]constructor['\x22]\s*:\s*\{\s*['\x22]prototype",
    ),
];
