//! The patterns of commands and code: what a shell, PHP, Node.js or Python would run.

use super::pattern::{ALL, Pattern, VALUES, pattern};

/// Commands of a shell, and code.
pub(super) const COMMANDS: &[Pattern] = &[
    // Commands of a shell.
    pattern(
        "command_injection",
        "rce",
        ALL,
        r"(?:[;&|\n`]|\$\(|\bsh\s+-c\s*['\x22]?)\s*(?:/(?:usr/)?s?bin/)?(?:wget|curl|whoami|uname|bash|zsh|ncat|netcat|ifconfig|nslookup|powershell|certutil|systeminfo|tasklist|bitsadmin|printenv|telnet|chmod|chown|mkfifo|nohup|busybox|reboot|shutdown)\b",
    ),
    pattern(
        "command_injection",
        "rce",
        ALL,
        r"(?:[;&|\n`]|\$\()\s*(?:/(?:usr/)?s?bin/)?(?:(?:cat|tac|nl|head|tail|less|more|xxd|strings|base64|cut|sort|rev|grep|find|awk|sed)\s+[-/.~*$'\x22{<]\S|ls(?:\s+[-/.~]|\s*(?:$|[;|&`)]))|(?:id|pwd|env|ps|w|who|date|hostname|netstat|set)\s*(?:$|[;|&`)#]|-\w)|ping\s+(?:-\w|\d)|sleep\s+\d|echo\s+[\w'\x22$-]|rm\s+-|cp\s+/|mv\s+/|touch\s+/|nc\s+[-\d]|dir(?:\s+[/\\a-z]:?|\s*(?:$|[&|]))|type\s+[%c\\]|(?:sh|dash|ksh)\s+[-<]|(?:perl|ruby|php|python[23]?|node|lua)\s+-\w|net\s+(?:user|view|localgroup)|kill\s+-)",
    ),
    pattern(
        "command_injection",
        "rce",
        ALL,
        r"\$\{?IFS\b|\(\s*\)\s*\{\s*:?;?\s*\}\s*;|[<>]\s*/dev/(?:tcp|udp|null)\b|/bin/(?:ba|z|c|k|da|a)?sh\b|\bcmd(?:\.exe)?\s*/[ckr]\b|%comspec%",
    ),
    pattern(
        "command_injection",
        "rce",
        ALL,
        r"\bpowershell(?:\.exe)?\s+-|\binvoke-(?:expression|webrequest|command|restmethod)\b|\biex\s*\(|\bnew-object\s+(?:system\.)?net\.webclient",
    ),
    pattern(
        "command_injection",
        "rce",
        VALUES,
        r"(?:\$\(|`)\s*(?:id|ls|cat|pwd|env|ps|whoami|uname|sleep|ping|echo|printf|date|hostname)\b[^`)]{0,100}[`)]",
    ),
    pattern(
        "command_injection",
        "rce",
        ALL,
        r"^\s*/(?:usr/)?(?:local/)?s?bin/\w+(?:\s+-|\s*$)|[;&|]\s*(?:getent\s|set\s+/a\s)|<!--\s*#\s*(?:exec|include|printenv|config|echo)\b",
    ),
    // A value that is a command as a whole: what a program gets that hands it to a shell.
    pattern(
        "command_injection",
        "rce",
        VALUES,
        r"^[\s'\x22]*(?:/?(?:usr/)?s?bin/\w+|(?:id|ls|pwd|whoami|uname|hostname|ipconfig|ifconfig|netstat|systeminfo)(?:\s+-\w+)?)\s*[;|&]+\s*$",
    ),
    pattern(
        "command_injection",
        "rce",
        VALUES,
        r"^[\s'\x22;|&]*(?:(?:ping|nslookup|tracert|netstat|ipconfig|tasklist|systeminfo)(?:\.exe)?\s+[-/][a-z]\b|dir\s+(?:/\w\s+)?[a-z]:(?:[/\\\s|&;'\x22]|$)|(?:uname|netstat|ifconfig|whoami|wget|curl|nc|ncat|chmod|bash|sh)\s+-\w)",
    ),
    pattern(
        "command_injection",
        "rce",
        VALUES,
        r"^[\s'\x22]*`\s*(?:true|false|id|w|who|whoami|uname|hostname|ls|pwd|env|ps|date|set|netstat|ifconfig|ipconfig|(?:sleep|ping|cat|echo)\s[^`]{1,100})\s*`[\s'\x22]*$",
    ),
    pattern("command_injection", "rce", VALUES, r"[;&|\n`]\s*/?(?:usr/(?:local/)?)?s?bin/[\w.-]+"),
    pattern("command_injection", "rce", VALUES, r"[;&|][\s+|]*dir[\s+|&]*[a-z]:(?:[/\\'\x22\s+|]|$)"),
    pattern("code_injection", "php", ALL, r"<\?(?:php\b|=|\s+(?:echo|system|eval))"),
    pattern(
        "code_injection",
        "php",
        VALUES,
        r"\b(?:system|passthru|shell_exec|popen|proc_open|pcntl_exec|assert|phpinfo|base64_decode|file_get_contents|file_put_contents|fopen|readfile|create_function|call_user_func|preg_replace|gzinflate|str_rot13|move_uploaded_file|fsockopen)\s*\(\s*(?:['\x22$)\\_]|\w+\s*\()",
    ),
    pattern(
        "code_injection",
        "php",
        VALUES,
        r"\$_(?:get|post|request|cookie|server|files|env|session)\b|\$globals\b|\b(?:php|zip|phar|expect|glob|compress\.\w+|ogg|rar|ssh2)://",
    ),
    pattern(
        "code_injection",
        "nodejs",
        VALUES,
        r"\brequire\s*\(\s*['\x22](?:child_process|fs|os|net|http|vm|process)['\x22]|\bprocess\.(?:mainModule|binding|env|exit|kill)\b|\bchild_process\b|\bexec(?:Sync|File|FileSync)?\s*\(\s*['\x22]|\bspawn(?:Sync)?\s*\(\s*['\x22]",
    ),
    pattern(
        "code_injection",
        "python",
        VALUES,
        // `__init__` alone is a file (`__init__.py`) or a method.
        r"\b__(?:import__|class__|mro__|subclasses__|globals__|builtins__|bases__|base__)\b|[.\[|(]\s*['\x22]__init__|__init__['\x22]?\]?\s*\.\s*_{2}|\bos\.(?:system|popen|exec\w*)\s*\(|\bsubprocess\.\w+\s*\(",
    ),
];
