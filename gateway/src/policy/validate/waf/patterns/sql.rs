//! Patterns of SQL injection and of operators of document stores.

use super::pattern::{ALL, BuiltinPattern, PatternScope, VALUES, pattern};

/// Statements of SQL, and operators of document stores.
pub(super) const STATEMENTS: &[BuiltinPattern] = &[
    // Statements of SQL that the grammar does not see in the middle of text.
    // What follows is what a statement selects. `union select committee` is prose.
    pattern(
        "sql_injection",
        "sqli",
        ALL,
        r"\bunion\s+(?:all\s+|distinct(?:row)?\s+)?(?:/\*.*?\*/\s*)?\(?\s*select\b(?:[\s\xa0\xc2]*[^\sa-z,.?!\x80-\xff-]|\s*-[\d\s(@-]|\s+(?:all|current_user|database|distinct|false|into|null|session_user|table|true|user|version)\b|\s+[\w.`]+\s*(?:[(=|+*/#;]|--)|.{1,200}\bfrom\s*[\w.`\x22\[(])",
    ),
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"(?:['\x22)\d]|\bnull)\s*union\s+(?:all\s+|distinct\s+)?(?:values\s*\(|table\s+\w|with\s+\w+\s+as\s*\()",
    ),
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
        r"['\x22)\d;]\s*;?\s*\b(?:waitfor(?:\s|/\*.{0,40}?\*/)+delay|exec(?:ute)?\s+(?:master|xp_|sp_))",
    ),
    pattern(
        "sql_injection",
        "sqli",
        ALL,
        r"\b(?:pg_sleep|benchmark|dbms_pipe\.receive_message|dbms_lock\.sleep|extractvalue|updatexml|load_file|xp_cmdshell|utl_http\.request|utl_inaddr\.get_host\w*|randomblob)\s*\(|\b(?:gtid_subset|gtid_subtract|st_\w+geohash|load_extension|dbms_xmlgen\.\w+|(?:query|database)_to_xml|lo_(?:import|export)|pg_(?:read_file|ls_dir)|dblink(?:_\w+)?|sys_(?:eval|exec)|openrowset|opendatasource)\s*\(\s*[^\s)]",
    ),
    pattern(
        "sql_injection",
        "sqli",
        ALL,
        r"(?:['\x22`)]|\b\d+)\s*(?:;|\band\b|\bor\b|\|\||&&|[+,/*-])\s*\(?\s*(?:select\b.{0,60}\b)?sleep\s*\(\s*\d",
    ),
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"['\x22]\s*\)*\s*;\s*(?:drop|delete|insert|update|truncate|alter|create|shutdown|declare|exec)\b",
    ),
    pattern("sql_injection", "sqli", VALUES, r";\s*(?:drop|truncate|alter)\s+(?:table|database|schema|view|user)\s+\w"),
    // Expressions that ask one bit of a database, and functions that show it in an error.
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"\bcase\s+(?:\d+\s+)?when\s+\(?\s*['\x22]?\w+['\x22]?\s*(?:=\s*['\x22]?\w+['\x22]?\s*\)?\s*)?then\s+(?:[\d'\x22(]|null\b|sleep\b|\w+\s*\()|\b(?:raise_error\s*\(\s*['\x22]|generate_series\s*\(\s*\d|elt\s*\(\s*\d+\s*=)",
    ),
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"\(\s*select\s*(?:\(|\d+\s+from\b|(?:\d+\s*=\s*\(?\s*)?['\x22][^'\x22]{0,40}['\x22]\s*(?:\|\||\+))|\b\d+['\x22]?\s+\(\s*(\d+)\s*=\s*\d+\s*\)\s*[*+/-]\s*\d|/\*.{0,40}?\*/\s*(?:and|or)\s*/\*.{0,40}?\*/\s*\d+\s*=",
    ),
    pattern("sql_injection", "sqli", VALUES, r"\binto\s+(?:out|dump)file\s*['\x22]"),
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        // A word in quotes is no condition by itself: `'left' or 'right' is fine`.
        r"['\x22]\s*(?:or|and|xor|\|\||&&)\s*\(?\s*(?:not\s+|!\s*)?(?:['\x22][^'\x22]*['\x22]\s*(?:=|like|<|>|is\s+(?:not\s+)?(?:null|true|false|unknown)\b)|(?:['\x22][^'\x22a-z][^'\x22]*['\x22]|\d+|true|false|null)\s*(?:=|like|<|>|is\b|--|#|;|$))",
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
    pattern("sql_injection", "sqli", VALUES, r"\bselect\b.{1,80}\bfrom\b.{1,80}\bwhere\b.{1,60}="),
    // A list of columns, one name of a table, and what ends the statement. `Select one item from the list; ...` is prose.
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"\bselect\b\s*(?:(?:all|distinct|top\s+\d+)\s+)?(?:[\w.`*]+(?:\s+as\s+\w+)?(?:\s*,\s*[\w.`*]+)*\s*|[^?!]{0,60}[(@'\x22|+][^?!]{0,60})\bfrom\b[\s(`\x22\[]*[\w.$`\x22\]]+[\s)]*(?:(?:as\s+)?\w{1,2}\s*|as\s+\w+\s*)?(?:(?:,|\b(?:limit|offset|where|order\s+by|group\s+by|having|join|left|right|inner|cross|natural|union|for\s+update|into|procedure)\b).{0,80})?(?:--|#|/\*|;)",
    ),
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"\(\s*select\s*[*(@]|\bselect\s+(?:@@version|version\s*\(|user\s*\(|database\s*\(|current_user|sleep\s*\(|char\s*\(|concat\s*\(|count\s*\(|case\s+when|load_file|banner\b)",
    ),
    pattern("sql_injection", "sqli", VALUES, r"/\*!\d{0,6}\s*\w+"),
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"\b(?:make_set|regexp_substring|crypt_key|user_lock\.sleep|json_extract|name_const|ctxsys\.\w+\.\w+)\s*\(\s*[^\s)]|;\s*iif\s*\(|\b\d\.e\s?\(",
    ),
    // Statements and clauses behind what ends a string or a number.
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"(?:^\s*['\x22]?-?\d+|['\x22])\)*\s*;\s*(?:create\s+(?:or\s+replace\s+)?(?:alias|database|extension|function|index|login|procedure|role|schema|table|temp\w*|trigger|user|view)\b|truncate\s+(?:table\s+)?\w+\s*(?:;|--|#|$)|(?:grant|revoke)\s[\w\s,*.]{1,60}\s(?:to|from)\s|(?:merge|replace)\s+into\b|prepare\s+\w+\s+(?:as|from)\b|handler\s+\w+\s+(?:open|read)\b|attach\s+database\b|load\s+data\b|call\s+[\w.]+\s*\(|copy\s*\(|do\s+\$|execute\s+immediate\b|set\s+(?:global|session|@)|rename\s+table\b|pragma\s+\w)",
    ),
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"(?:^\s*-?\d+\s|['\x22])\s*\)*\s*(?:procedure\s+analyse\b|for\s+update\s*(?:--|#|;|$)|on\s+duplicate\s+key\b|on\s+conflict\s+(?:do\b|\()|returning\s+[\w*,\s]{1,60}(?:--|#|;)|lines\s+terminated\s+by\b|limit\s+\d+(?:\s*(?:,|offset)\s*\d+)?\s*(?:--|#|;|/\*)|(?:order|group)\s+by\s+[\w.,\s]{1,60}(?:--|#|/\*))",
    ),
    // Conditions without what they leave, calls that read one character of a secret, and programs that wait.
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"^\s*[\d'\x22)\s]*\b(?:where|having)\s+\(*\s*\d+\s*[=<>]\s*\(*\s*\d+|^[\s)]*(?:or|and)\s+(?:['\x22][^'\x22]{0,40}['\x22]?\s*(?:[=<>]|like\b)\s*['\x22]|(?:true|1)\s*(?:--|#|/\*))|^\s*(?:group|order)\s+by\s+(?:\d+(?:\s*,\s*\d+)*\s*(?:--|#|/\*)|sleep\s*\()|\b(?:r?like|regexp)\s*\(?\s*(?:sleep|benchmark)\s*\(|\b(?:ascii|bin|char_length|hex|left|length|lower|mid|ord|right|substr|substring|upper)\s*\(\s*(?:(?:current_user|database|session_user|system_user|user|version)\s*\(|@@\w)",
    ),
    pattern(
        "sql_injection",
        "sqli",
        VALUES,
        r"\bwaitfor\s+(?:delay|time)\s*['\x22]|\bdeclare\s+@\w+\s+(?:as\s+)?n?(?:var)?char\b|;\s*if\s*\(\s*\d+\s*=\s*\d+\s*\)|\bexec(?:ute)?\s*\(\s*@\w|(?:\b(?:print|select)|[=,(+])\s*@@[a-z]\w{2,}",
    ),
    // Operators of document stores.
    pattern(
        "nosql_injection",
        "nosql",
        PatternScope::NAME,
        r"(?:^|[.\[])\$(?:ne|eq|gte?|lte?|n?in|regex|where|exists|not|n?or|and|elemMatch|expr|function|type|mod|all|size|text|jsonSchema|accumulator|lookup|options|graphLookup|unionWith)(?:[.\]\[]|$)",
    ),
    pattern(
        "nosql_injection",
        "nosql",
        PatternScope::VALUE,
        // Without quotes, only before a value: GraphQL declares variables as `($where: Filter, $in: [Int!])`.
        r"[{\[,]\s*(?:['\x22]\$(?:ne|eq|gte?|lte?|n?in|regex|where|exists|not|n?or|and|elemMatch|expr|function|accumulator|jsonSchema|(?:graph)?lookup|unionWith)['\x22]?\s*:|\$(?:ne|eq|gte?|lte?|n?in|regex|where|exists|not|n?or|and|elemMatch|expr|function)(?:['\x22]\s*:|\s*:\s*(?:['\x22{/\d+-]|\[\s*['\x22{\[\]\d+-]|(?:true|false|null|function|this|new)\b)))",
    ),
    pattern(
        "nosql_injection",
        "nosql",
        PatternScope::VALUE,
        r"\$where\s*(?:=|:\s*(?:['\x22`{(/\d]|(?:true|function|this|return|sleep|new)\b|\w+\s*\())|\bdb\.(?:\w+|getCollection\([^)]{0,60}\))\.(?:find|findOne|drop|insert|remove|update|aggregate|mapReduce|count)\s*\(",
    ),
    pattern(
        "nosql_injection",
        "nosql",
        PatternScope::VALUE,
        // The first quote ends the string. In `if (a === 'x' && b === 'y')` it begins one.
        r"^(?:[^']*'|[^\x22]*\x22)\s*(?:\|\||&&|;)\s*(?:this\.\w|return\b|\(?function\b|while\s*\(|sleep\s*\(|['\x22]?\w+['\x22]?\s*={2,3})|(?:^|['\x22])\s*\d*\s*(?:\|\||&&)\s*\d+\s*={2,3}\s*\d|(?:^|[?&])[\w.\[\]-]{0,64}\[\$(?:ne|eq|gte?|lte?|n?in|regex|where|exists|not|n?or)\]\s*=",
    ),
    pattern(
        "nosql_injection",
        "nosql",
        PatternScope::VALUE,
        r"\bthis\[['\x22]\w+['\x22]\]\s*={2,3}|^\s*function\s*\(\s*\)\s*\{|\bthis\.\w+(?:\.match\s*\(|\s*(?:={2,3}|!==?)\s*['\x22\d/])|;\s*return\s+(?:true|1|this\.)|['\x22;]\s*do\s*\{[^}]{0,200}\}\s*while\s*\(",
    ),
];
