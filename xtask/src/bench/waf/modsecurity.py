"""Judges requests by libmodsecurity with the Core Rule Set, at each paranoia level: the regression tests of the rules, the
sample that the gateway's own tests have, and the values of corpora. `cargo xtask bench waf --modsecurity` runs this and
compares the verdicts with those of the gateway.

modsecurity.py SETUP RULES TESTS CORPORA OUT: SETUP is the file `crs-setup.conf`, RULES the folder of the rules, TESTS their
folder `tests/regression/tests`, CORPORA has `attack/*` and `benign/*`, OUT becomes one JSON value a line: a request, and for
each level whether it was refused and by which rules.
"""

import glob
import json
import os
import sys
import urllib.parse

import yaml
from libmodsecurity import ModSecurity, RulesSet, Transaction

# With the verdicts at level 1.
SAMPLE = os.path.join(os.path.dirname(__file__), "../../../../tests/fixtures/core-rules/requests.jsonl")

# Asks a database of places, which the package from PyPI is built without.
LEFT_OUT = "REQUEST-910-IP-REPUTATION.conf"

# What the recommended configuration of ModSecurity has besides the rules: which bodies are read how, and that a body that
# cannot be read is refused.
BASE = r"""
SecRuleEngine On
SecRequestBodyAccess On
SecRequestBodyLimit 13107200
SecRequestBodyNoFilesLimit 13107200
SecPcreMatchLimit 100000
SecPcreMatchLimitRecursion 100000
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" \
    "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/(?:[a-z0-9.-]+[+])?json" \
    "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQBODY_ERROR "!@eq 0" "id:200002,phase:2,t:none,log,deny,status:400"
SecRule MULTIPART_STRICT_ERROR "!@eq 0" "id:200003,phase:2,t:none,log,deny,status:400"
"""

# How many values of each corpus are compared: enough for a share with one digit behind the point.
MOST = 500

BROWSER = {
    "Host": "api.example",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
}


def engine(level, setup, folder):
    modsecurity, rules = ModSecurity(), RulesSet()
    text = f"{BASE}\nInclude {setup}\n"
    text += f'SecAction "id:999000,phase:1,nolog,pass,t:none,setvar:tx.paranoia_level={level},'
    text += f'setvar:tx.blocking_paranoia_level={level},setvar:tx.detection_paranoia_level={level}"\n'
    files = sorted(name for name in os.listdir(folder) if name.endswith(".conf") and name != LEFT_OUT)
    text += "".join(f"Include {folder}/{name}\n" for name in files)
    if rules.load(text) < 0:
        sys.exit(rules.get_parser_error())
    return modsecurity, rules


def judge(modsecurity, rules, request):
    found = set()
    modsecurity.set_rule_message_callback(lambda message: found.add(message.rule_id))
    transaction = Transaction(modsecurity, rules)
    transaction.process_connection("192.0.2.1", 40000, "127.0.0.1", 80)
    transaction.process_uri(request["target"], request["method"], request["protocol"].removeprefix("HTTP/"))
    for name, value in request["headers"]:
        transaction.add_request_header(name, value)
    refused = is_refused(transaction.process_request_headers, transaction)
    body = bytes.fromhex(request["body"])
    if body:
        transaction.append_request_body(body)
    # Also where the head is refused already: so the gateway's rules of both phases have something to be compared with.
    refused |= is_refused(transaction.process_request_body, transaction)
    return {"refused": refused, "rules": sorted(found)}


def is_refused(process, transaction):
    process()
    intervention = transaction.intervention()
    return bool(intervention and intervention.disruptive)


def tests(folder):
    """The requests of the regression tests, as their own runner sends them: in the forms of versions 3.3 and 4."""
    for path in sorted(glob.glob(f"{folder}/**/*.yaml", recursive=True)):
        with open(path, encoding="utf-8") as file:
            document = yaml.safe_load(file)
        # Some have comments alone.
        for test in (document or {}).get("tests", []):
            for index, stage in enumerate(test["stages"]):
                sent = stage.get("stage", stage)["input"]
                # Bytes that are no request: a server answers them before rules are asked.
                if "encoded_request" in sent or "raw_request" in sent:
                    continue
                title = test.get("test_title") or f"{document['rule_id']}-{test['test_id']}"
                yield f"{title}/{index}", request_of(sent)


def request_of(sent):
    headers = [[str(name), str(value)] for name, value in (sent.get("headers") or {}).items()]
    data = sent.get("data") or ""
    data = "\r\n".join(data) if isinstance(data, list) else str(data)
    has = lambda name: next((value for known, value in headers if known.lower() == name), None)
    if data and not sent.get("stop_magic") and sent.get("autocomplete_headers", True):
        if has("content-type") is None:
            headers.append(["Content-Type", "application/x-www-form-urlencoded"])
        if has("content-type") == "application/x-www-form-urlencoded" and urllib.parse.unquote(data) == data:
            pairs = urllib.parse.parse_qsl(data)
            data = urllib.parse.urlencode(pairs) if pairs else data
        if has("content-length") is None:
            headers.append(["Content-Length", str(len(data.encode()))])
    return {
        "method": str(sent.get("method", "GET")),
        "target": str(sent.get("uri", "/")),
        "protocol": str(sent.get("version", "HTTP/1.1")),
        "headers": headers,
        "body": data.encode().hex(),
    }


def values(folder):
    """The values of the corpora, evenly chosen: each as a parameter of the query."""
    for kind in ("attack", "benign"):
        for path in sorted(glob.glob(f"{folder}/{kind}/*")):
            with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
                text = file.read()
            found = json.loads(text) if path.endswith(".json") else [line for line in text.split("\n") if line.strip()]
            name = os.path.splitext(os.path.basename(path))[0]
            for value in found[:: max(1, len(found) // MOST)]:
                target = "/items?text=" + urllib.parse.quote(value, safe="")
                yield name, {
                    "method": "GET",
                    "target": target,
                    "protocol": "HTTP/1.1",
                    "headers": [list(pair) for pair in BROWSER.items()],
                    "body": "",
                }


def sample():
    """The requests that the gateway's own tests judge, as tests/e2e/core_rules.rs sends them."""
    with open(SAMPLE, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    for row in rows:
        own, body = row.get("headers", []), row.get("body", "")
        named = {name.lower() for name, _ in own}
        headers = [list(pair) for pair in BROWSER.items() if pair[0].lower() not in named]
        headers += [pair for pair in own if pair[1] is not None]
        if body and "content-length" not in named:
            headers.append(["Content-Length", str(len(body.encode()))])
        yield row["name"], {
            "method": row.get("method", "GET"),
            "target": row["target"],
            "protocol": row.get("protocol", "HTTP/1.1"),
            "headers": headers,
            "body": body.encode().hex(),
        }


def main():
    setup, installed, folder, corpora, out = sys.argv[1:]
    requests = [("tests", name, request) for name, request in tests(folder)]
    requests += [("sample", name, request) for name, request in sample()]
    requests += [(name, "", request) for name, request in values(corpora)]
    lines = [{"group": group, "name": name, **request, "levels": []} for group, name, request in requests]
    for level in (1, 2, 3, 4):
        print(f"== libmodsecurity, level {level}: {len(lines)} requests", file=sys.stderr)
        modsecurity, rules = engine(level, setup, installed)
        for line in lines:
            line["levels"].append(judge(modsecurity, rules, line))
        modsecurity.set_rule_message_callback(None)
    with open(out, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


main()
