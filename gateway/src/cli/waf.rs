//! `gateway waf`: what rules say of a request, and which rules there are.

use std::{
    fs,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use clap::Subcommand;
use http::{HeaderMap, HeaderValue, header, header::InvalidHeaderValue, request::Parts};
use serde_json::{Value, json};

use super::{
    arguments::client,
    context::Context,
    exit::Exit,
    request::NOWHERE,
    table::{clean, prose},
};
use crate::{
    config::{Config, Diagnostics, Disk},
    policy::validate::{
        coding::ContentCoding,
        waf::{Waf as Compiled, WafRequest, WafRules, WafVerdict, rule_names},
    },
    route::{Routes, target::Target},
    settings::waf,
};

/// The largest request that is read, in bytes.
const LARGEST: u64 = 32 * 1024 * 1024;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Reads the configuration and does not ask the running gateway. Nothing is sent
and nothing is counted.

FILE is a request as HTTP/1.1 has it: a line with method, path and version,
headers, an empty line, the body. A body in chunks or with a Content-Encoding is
decoded. One with a Content-Length has that length. It is judged by the rules of
its route, whatever `inspect_body` says. With --waf, it is judged by that table,
and no route is looked for.

Ends with 0 if the request passes, with 1 if it is an attack, whatever `mode`
says.

Examples:
  gateway waf test request.txt
  gateway waf test - --waf api --json < request.txt | jq .findings
  gateway waf rules")]
pub(super) enum WafCommand {
    /// Judge a request from a file
    Test {
        /// The file with the request; - for standard input
        file: String,
        /// The `[waf.NAME]` to judge it by, instead of that of its route
        #[arg(long, value_name = "NAME")]
        waf: Option<String>,
        /// The address of the client
        #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), value_parser = client)]
        from: IpAddr,
    },
    /// List the built-in rules
    Rules,
}

/// A request as it stands in a file.
struct FileRequest {
    method: String,
    target: String,
    protocol: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl WafCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        let Self::Test { file, waf, from } = self else {
            let names: Vec<&str> = rule_names().collect();
            return if context.out.json {
                context.out.value(&json!({ "rules": names }), Exit::Done)
            } else {
                context.out.text(&names.join("\n"), Exit::Done)
            };
        };
        let request = match read(file).and_then(|bytes| parse(&bytes).map_err(|reason| (reason, Exit::Usage))) {
            Ok(request) => request,
            Err((reason, exit)) => return context.out.fail(&reason, exit),
        };
        let config = match Config::load(context.config(), &Disk) {
            Ok(config) => config,
            Err(errors) => return refuse(context, &errors),
        };
        match judge(&config, &request, waf.as_deref(), *from) {
            Ok((name, route, verdict)) => {
                let exit = if verdict.is_attack { Exit::Refused } else { Exit::Done };
                if context.out.json {
                    return context.out.value(&value(&name, route, &verdict), exit);
                }
                context.out.text(&prose(&render(&name, route, &verdict)), exit)
            }
            Err(WafCommandError::Told(reason)) => context.out.fail(&reason, Exit::Usage),
            Err(WafCommandError::Config(errors)) => refuse(context, &errors),
        }
    }
}

enum WafCommandError {
    Told(String),
    Config(Diagnostics),
}

fn refuse(context: &Context, errors: &Diagnostics) -> Exit {
    context.out.fail(&errors.to_string(), Exit::of_configuration(errors))
}

/// By which table it was judged, for which route, and how.
fn judge(
    config: &Config,
    request: &FileRequest,
    named: Option<&str>,
    client: IpAddr,
) -> Result<(String, Option<usize>, WafVerdict), WafCommandError> {
    let wafs = &config.proxy.wafs;
    let (settings, route): (&waf::Settings, _) = match named {
        Some(name) => {
            let found = wafs.iter().find(|waf| waf.name == name);
            (found.ok_or_else(|| WafCommandError::Told(format!("there is no [waf.{name}]")))?, None)
        }
        None => {
            let index = route(config, request)?;
            let of = config.proxy.routes.get(index).and_then(|route| route.waf);
            let found = of.and_then(|of| wafs.get(of.index));
            let none = || format!("route[{index}] names no `waf`: name one by --waf");
            (found.ok_or_else(|| WafCommandError::Told(none()))?, Some(index))
        }
    };
    let rules = WafRules::new(settings, None).map_err(|wrong| {
        let wrong = wrong.into_iter().map(|one| one.under(&format!("waf.{}", settings.name)));
        WafCommandError::Config(Diagnostics::from_diagnostics(&config.document, wrong.collect()))
    })?;
    let of_route = route.and_then(|index| config.proxy.routes.get(index));
    let threshold = of_route.and_then(|route| route.waf?.threshold);
    let waf = Compiled::new(Arc::new(rules), of_route.and_then(|route| route.name.as_deref()), threshold);
    let headers: Vec<_> = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let FileRequest { method, target, protocol, body, .. } = request;
    Ok((
        settings.name.clone(),
        route,
        waf.judge(&WafRequest { method, target, protocol, headers: &headers, body, client }),
    ))
}

/// The route that takes the request.
fn route(config: &Config, request: &FileRequest) -> Result<usize, WafCommandError> {
    let routes = Routes::new(&config.proxy.routes);
    let routes =
        routes.map_err(|wrong| WafCommandError::Config(Diagnostics::from_diagnostics(&config.document, wrong)))?;
    let told = |reason: String| WafCommandError::Told(format!("{reason}: name the table by --waf"));
    let head = head(request).ok_or_else(|| told("the request has no valid head".to_owned()))?;
    let target = Target::read(&head, NOWHERE, config.proxy.head.target);
    let target = target.map_err(|refusal| told(format!("it is refused before rules are asked, {}", refusal.detail)))?;
    let found = routes.find(&target, &head.method, &head.headers);
    found.map_err(|miss| told(format!("no route takes it, {}", miss.refusal.detail)))
}

fn head(request: &FileRequest) -> Option<Parts> {
    let mut built = http::Request::builder().method(request.method.as_str()).uri(request.target.as_str());
    for (name, value) in &request.headers {
        built = built.header(name.as_str(), value.as_slice());
    }
    built.body(()).ok().map(|request| request.into_parts().0)
}

fn read(file: &str) -> Result<Vec<u8>, (String, Exit)> {
    let mut bytes = Vec::new();
    let read = if file == "-" {
        io::stdin().lock().take(LARGEST).read_to_end(&mut bytes)
    } else {
        fs::File::open(file).and_then(|open| open.take(LARGEST).read_to_end(&mut bytes))
    };
    read.map(|_length| bytes)
        .map_err(|error| (format!("cannot read {file}: {error}"), Exit::of_file(&error, Exit::Usage)))
}

/// Reads a request as text. Lines end with or without a carriage return.
fn parse(bytes: &[u8]) -> Result<FileRequest, String> {
    let mut rest = bytes;
    let mut line = || -> Option<&[u8]> {
        let end = memchr::memchr(b'\n', rest)?;
        let line = rest.get(..end)?;
        rest = rest.get(end + 1..)?;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    };
    let first = String::from_utf8_lossy(line().unwrap_or(bytes)).into_owned();
    let mut words = first.splitn(2, ' ');
    let (method, after) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (target, protocol) = match after.rsplit_once(' ') {
        Some((target, protocol)) if protocol.starts_with("HTTP/") => (target, protocol),
        _ => (after, "HTTP/1.1"),
    };
    if method.is_empty() || target.is_empty() {
        return Err("the file is no request: write \"GET /path HTTP/1.1\" in its first line".to_owned());
    }
    let mut headers = Vec::new();
    while let Some(text) = line().filter(|text| !text.is_empty()) {
        let colon = memchr::memchr(b':', text).ok_or("a header has no colon")?;
        let (name, value) = text.split_at_checked(colon).unwrap_or_default();
        let value = value.get(1..).unwrap_or_default().trim_ascii().to_vec();
        headers.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value));
    }
    let (method, target, protocol) = (method.to_owned(), target.to_owned(), protocol.to_owned());
    let body = decoded(&headers, body(&headers, rest)?)?;
    Ok(FileRequest { method, target, protocol, headers, body })
}

/// The body without its `Content-Encoding`.
fn decoded(headers: &[(String, Vec<u8>)], body: Vec<u8>) -> Result<Vec<u8>, String> {
    let values = headers.iter().filter(|(name, _)| name == "content-encoding").map(|(_, value)| value);
    let values = values.map(|value| HeaderValue::from_bytes(value)).map(|value| Ok((header::CONTENT_ENCODING, value?)));
    let values: Result<Vec<_>, InvalidHeaderValue> = values.collect();
    let mut encodings = HeaderMap::new();
    for (name, value) in values.map_err(|_bad| "Content-Encoding has characters that no header has")? {
        encodings.append(name, value);
    }
    match ContentCoding::of(&encodings).map_err(|refusal| refusal.detail.into_owned())? {
        Some(coding) => coding.decode(&body, LARGEST).map_err(|refusal| refusal.detail.into_owned()),
        None => Ok(body),
    }
}

/// The body that headers frame: by chunks, by its length, or up to the end of the file.
fn body(headers: &[(String, Vec<u8>)], rest: &[u8]) -> Result<Vec<u8>, String> {
    let of = |wanted: &'static str| headers.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| &**value);
    let mut codings = of("transfer-encoding");
    if let Some(coding) = codings.next() {
        if codings.next().is_some() || !coding.eq_ignore_ascii_case(b"chunked") {
            let shown = String::from_utf8_lossy(coding);
            return Err(format!("Transfer-Encoding {shown:?} cannot be read: write \"chunked\", or the body as it is"));
        }
        if of("content-length").next().is_some() {
            return Err("the request has Transfer-Encoding and Content-Length: leave one out".to_owned());
        }
        return chunked(rest);
    }
    for length in of("content-length") {
        let shown = String::from_utf8_lossy(length);
        let is_number = !shown.is_empty() && shown.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || shown.parse::<usize>() != Ok(rest.len()) {
            let is = rest.len();
            return Err(format!(
                "Content-Length says {shown:?}, and the body has {is} bytes: correct it, or leave it out"
            ));
        }
    }
    Ok(rest.to_vec())
}

/// A body in chunks (RFC 9112 7.1). Lines end with or without a carriage return.
fn chunked(mut rest: &[u8]) -> Result<Vec<u8>, String> {
    fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (line, after) = rest.split_at_checked(memchr::memchr(b'\n', rest)?)?;
        *rest = after.get(1..)?;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
    let mut body = Vec::new();
    for number in 1_usize.. {
        let head = line(&mut rest).ok_or_else(|| format!("chunk {number} of the body has no line with its size"))?;
        let size = head.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        let digits = std::str::from_utf8(size).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let size = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let size = size.ok_or_else(|| format!("chunk {number} of the body has no hexadecimal size"))?;
        if size == 0 {
            break;
        }
        let ends_early = || format!("chunk {number} of the body is not {size} bytes long");
        let (chunk, after) = rest.split_at_checked(size).ok_or_else(ends_early)?;
        body.extend_from_slice(chunk);
        rest = after;
        if line(&mut rest).is_none_or(|end| !end.is_empty()) {
            return Err(ends_early());
        }
    }
    // Trailers.
    while line(&mut rest).ok_or("the body has no empty line after its last chunk")? != b"" {}
    if rest.is_empty() { Ok(body) } else { Err(format!("{} bytes stand behind the last chunk", rest.len())) }
}

fn render(name: &str, route: Option<usize>, verdict: &WafVerdict) -> String {
    let by = route.map_or_else(String::new, |index| format!(" for route[{index}]"));
    let what = if verdict.is_attack { "attack" } else { "passes" };
    let mut lines = vec![format!("{what}: score {} of {}, by [waf.{name}]{by}", verdict.score, verdict.threshold)];
    let findings = verdict.findings.iter();
    lines.extend(findings.map(|finding| format!("  {:>3}  {}", finding.score, clean(&finding.to_string()))));
    lines.join("\n")
}

fn value(name: &str, route: Option<usize>, verdict: &WafVerdict) -> Value {
    let findings = verdict.findings.iter().map(|finding| {
        json!({
            "rule": finding.rule,
            "place": finding.place.name(),
            "parameter": finding.parameter,
            "score": finding.score,
        })
    });
    json!({
        "attack": verdict.is_attack,
        "score": verdict.score,
        "threshold": verdict.threshold,
        "waf": name,
        "route": route,
        "findings": findings.collect::<Vec<_>>(),
    })
}
