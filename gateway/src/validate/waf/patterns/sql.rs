//! Patterns of SQL injection and of operators of document stores.

use super::pattern::{ALL, Pattern, Scope, VALUES, pattern};

/// Statements of SQL, and operators of document stores.
pub(super) const STATEMENTS: &[Pattern] = &[
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
];
