//! The patterns of commands and code: what a shell, PHP, Node.js, Python, Ruby or .NET would run.

use super::pattern::{ALL, BuiltinPattern, VALUES, pattern};

/// Commands of a shell, and code.
pub(super) const COMMANDS: &[BuiltinPattern] = &[
    // Commands of a shell.
    // A call of a function that ends a string of PHP, and what follows is a comment.
    pattern(
        "command_injection",
        "rce",
        VALUES,
        r"(?:^|['\x22;.])\s*(?:exit|die|print|echo|eval|assert|var_dump|print_r|printf)\s*\(\s*\w+\s*\(.{0,100}\)\s*\)\s*;\s*(?:#|//|/\*)|[;\r\n]\s*(?:env|printenv)\s*;",
    ),
    pattern(
        "command_injection",
        "rce",
        ALL,
        // A name alone in backticks is how people write about a command.
        r"`\s*(?:/(?:usr/)?s?bin/)?(?:(?:whoami|uname|nslookup|tasklist|systeminfo)\b|(?:wget|curl|bash|zsh|ncat|netcat|ifconfig|powershell|certutil|bitsadmin|printenv|telnet|chmod|chown|mkfifo|nohup|busybox|reboot|shutdown)\b\s*[^`\s])|(?:[;&|\n]|\$\(|\bsh\s+-c\s*['\x22]?)\s*(?:/(?:usr/)?s?bin/)?(?:wget|curl|whoami|uname|bash|zsh|ncat|netcat|ifconfig|nslookup|powershell|certutil|systeminfo|tasklist|bitsadmin|printenv|telnet|chmod|chown|mkfifo|nohup|busybox|reboot|shutdown)(?:$|[^\w,])",
    ),
    pattern(
        "command_injection",
        "rce",
        ALL,
        r"(?:[;&|\n`]|\$\()\s*(?:/(?:usr/)?s?bin/)?(?:(?:cat|tac|nl|head|tail|less|more|xxd|strings|base64|cut|sort|rev|grep|find|awk|sed)\s+[-/.~*$'\x22{<]\S|find\s+[/.~]\s+-|ls\s+[-/.~]|ping\s+(?:-\w|\d)|sleep\s+\d|echo\s+[\w'\x22$-]|rm\s+-|cp\s+/|mv\s+/|touch\s+/|nc\s+[-\d]|dir\s+(?:[/\\]|[a-z]:)|type\s+[%c\\]|(?:sh|dash|ksh)\s+[-<]|(?:perl|ruby|php|python[23]?|node|lua)\s+-\w|net\s+(?:user|view|localgroup)|kill\s+-)",
    ),
    pattern(
        "command_injection",
        "rce",
        ALL,
        // A column of a table that is drawn with bars is none: `| id | name |`.
        r"(?:[;&|\n]|\$\()\s*(?:/(?:usr/)?s?bin/)?(?:ls|dir|id|pwd|env|ps|w|who|date|hostname|netstat|set)\s*(?:$|[;&`)#]|\|\s*(?:$|['\x22;|&)]|(?:/\S*)?(?:cat|nc|ncat|tee|base64|sh|bash|curl|wget|xargs|grep|head|tail|sed|awk)\b)|-\w)",
    ),
    // In backticks: alone, behind at most one word, or joined to what stands around it. `the field `id` of` is prose.
    pattern(
        "command_injection",
        "rce",
        ALL,
        r"(?:^[^\w`]*(?:\w+[^\w`]+)?|[\w$\\;&|=@#%+])`\s*(?:id|ls|pwd|env|ps|w|who|date|hostname|netstat|set|dir)\s*`(?:\W*$|[$\\|&])|[\w$\\;&|=@#%+]`\s*(?:id|ls|pwd|env|ps|w|who|date|hostname|netstat|set)\s*`",
    ),
    pattern(
        "command_injection",
        "rce",
        ALL,
        r"(?:[;&|`]|\$\()\s*(?:/(?:usr/)?s?bin/)?(?:xargs\s+[-\w]|tee\s+[-/]|dd\s+if=|socat\s|openssl\s+s_client|(?:ssh|scp)\s+[\w.-]+@|crontab\s+-|(?:pkill|killall)\s+[-\w]|ln\s+-s|d[fu]\s+-\w|ip\s+(?:a|addr|address|link|r|route)\b|(?:ss|arp|route|od|hexdump)\s+-\w|ps\s+(?:aux|ax|-\w)|(?:lsof|dmesg)\s*(?:$|[;|&`)]|-)|whereis\s+\w|dig\s+[\w.@-]+\.\w|host\s+[\w-]+\.[\w.-]+\s*(?:$|[;|&`)])|timeout\s+(?:/t\s+)?\d|(?:mshta|rundll32|regsvr32|wmic)\s+[\w/]|for\s+/f\s|echo\s+%|start\s+(?:calc|cmd|notepad|powershell)\b|calc(?:\.exe)?\s*(?:$|[&|])|ipconfig\s*(?:/|$)|(?:useradd|usermod|visudo)\b|passwd\s+root\b|su\s+-|sudo\s+(?:-\w|id|su|cat|sh|bash)\b|iptables\s+-|(?:eval|exec|command|builtin)\s+(?:(?:id|ls|cat|sh|bash|whoami|uname)\b|['\x22$`])|(?:source|\.)\s+/\w|which\s+(?:nc|curl|wget|python\d?|perl|bash)\b|printf\s+['\x22\\%$]|seq\s+\d+\s+\d)",
    ),
    // Names that a shell completes, and words that it builds.
    pattern(
        "command_injection",
        "rce",
        ALL,
        r"[;&|`(]\s*/[\w*]{0,20}\?[\w?*]{0,20}/[\w?*]|\w\$\(\)\w|\$\{\w{1,30}:\d{1,3}:\d{1,3}\}|\$\{?0\}?\s*<<<|\w<<<\s*['\x22$]|[<>]\((?:id|cat|ls|sh|bash|whoami|curl|wget|echo)\b|\|\s*(?:ba|da|z|k)?sh\s*(?:$|[;|&)`\n])|:\(\)\s*\{\s*:\s*\|",
    ),
    // Options by which a program runs another one, and cells by which a spreadsheet does.
    pattern(
        "command_injection",
        "rce",
        VALUES,
        r"(?:^|\s)-(?:o\s*ProxyCommand\s*=|-(?:upload|receive)-pack\s*[= ]|-checkpoint-action\s*=|-use-compress-program\s*=)|\bcmd\s*\|\s*['\x22]|\bDDE\s*\(\s*['\x22]|\bwscript\.shell\b|\bnew\s+ActiveXObject\s*\(|<(?:cf(?:execute|include|query)|jsp:\w+)\b",
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
        r"\$\(\s*(?:id|ls|cat|pwd|env|ps|whoami|uname|sleep|ping|echo|printf|date|hostname)\b[^`)]{0,100}[`)]|`\s*(?:(?:id|ls|cat|pwd|env|ps|date|hostname)\s+[-/.~$'\x22\d<>|*]|(?:whoami|uname|sleep|ping|echo|printf)\b\s*[^`)\s])[^`)]{0,100}[`)]",
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
    // The same, where it loads or changes something; and behind a line end that a program makes of its escape.
    pattern(
        "command_injection",
        "rce",
        VALUES,
        r"^[\s'\x22;|&]*(?:(?:wget|curl)\s+(?:-\S+\s+)*['\x22]?(?:https?|ftp):|ls\s+-\w+\s+/|ipconfig\s+/all\b|net\s+(?:user|localgroup)\s+\w+\s.{0,60}/(?:add|delete|active)|(?:perl|python[23]?|ruby|php|node)\s+-[ecr]\s*['\x22]|reg\s+(?:add|delete|query|save)\s+\W?hk|type\s+%\w+%|netsh\s+\w+\s|(?:awk|base64|cat|chmod|chown|cp|curl|cut|grep|head|less|ln|more|mv|nano|nl|od|rm|sed|sort|source|strings|tac|tail|tee|touch|vim?|xxd)\s+(?:\S+\s+){0,3}/(?:etc|home|proc|root|usr|var)/)|\\[nr]\s*(?:/(?:usr/)?s?bin/\w|(?:id|ls|pwd|whoami|uname|env)\s*(?:$|[;|&\\`]))|;\s*(?:id|whoami|pwd)\\[nr]",
    ),
    // Names as escapes of a shell (`$'\x69\x64'`), and commands that a shell makes of a list (`{cat,/etc/hosts}`).
    pattern(
        "command_injection",
        "rce",
        VALUES,
        r"[;&|`\n(]\s*(?:\$'\\(?:[0-7]{2,3}|x[0-9a-f]{2})|\{(?:cat|curl|echo|id|ls|nc|ping|rm|sh|bash|sleep|uname|wget|whoami),)|[;&|\n]\s*(?:reg\s+(?:query|add|delete|save)\s|netsh\s+\w|sysinfo\b|(?:waitfor|choice)\s+/\w|java\s+-(?:jar|cp)\s|xterm\s+-|schtasks\s+/|sc\s+(?:query|create|start|stop)\b|vssadmin\s|bcdedit\b|(?:tcpdump|strace|gdb|screen|tmux)\s+-|docker\s+(?:run|exec|ps)\b|kubectl\s+\w|systemctl\s+\w|service\s+\w+\s+(?:start|stop|restart)\b|git\s+clone\b|pip3?\s+install\b|npm\s+i(?:nstall)?\b|apt(?:-get)?\s+install\b)",
    ),
    pattern("code_injection", "php", ALL, r"<\?(?:php\b|=|\s+(?:echo|system|eval))|\{\$\{\s*\w+\s*\("),
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
        r"\$_(?:get|post|request|cookie|server|files|env|session)\b|\$globals\b|\b(?:php|zip|phar|expect|glob|compress\.\w+|ogg|rar|ssh2)://|\b(?:allow_url_include|auto_(?:append|prepend)_file)\s*=|\b(?:include|require)(?:_once)?\s*\(?\s*['\x22](?:https?|ftp|php|data):|\barray_(?:filter|map|walk)\s*\(\s*['\x22]\w",
    ),
    pattern("code_injection", "php", VALUES, r"(?:^|[;'\x22(])\s*eval\s*\(\s*['\x22]"),
    pattern(
        "code_injection",
        "nodejs",
        VALUES,
        r"\brequire\s*\(\s*['\x22](?:child_process|fs|os|net|http|vm|process)['\x22]|\bprocess\.(?:mainModule|binding|env|exit|kill)\b|\bchild_process\b|\bexec(?:Sync|File|FileSync)?\s*\(\s*['\x22]|\bspawn(?:Sync)?\s*\(\s*['\x22]|\bconstructor\s*\.\s*constructor\s*\(",
    ),
    pattern(
        "code_injection",
        "python",
        VALUES,
        // `__init__` alone is a file (`__init__.py`) or a method.
        r"\b__(?:import__|class__|mro__|subclasses__|globals__|builtins__|bases__|base__)\b|[.\[|(]\s*['\x22]__init__|__init__['\x22]?\]?\s*\.\s*_{2}|\bos\.(?:system|popen|exec\w*)\s*\(|\bsubprocess\.\w+\s*\(|\bgetattr\s*\([^)]{0,40}['\x22](?:system|popen|__)",
    ),
    pattern(
        "code_injection",
        "rce",
        VALUES,
        r"%x[({\[]\s*(?:id|ls|cat|whoami|uname)\b|\bOpen3\.\w+\s*\(|\binstance_eval\s*[({]|\bsend\s*\(\s*:(?:system|exec|eval)\b|\bloadstring\s*\(|\bSystem\.Diagnostics\.Process\b|\bProcess\.Start\s*\(\s*['\x22]",
    ),
];
