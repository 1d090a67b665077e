//! `gateway api`: what an OpenAPI document lets through, as the gateway reads it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
};

use clap::{Args, Subcommand, ValueEnum};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts};
use serde_json::{Value, json};

use super::{
    context::Context,
    exit::Exit,
    request::NOWHERE,
    table::{Table, clean, prose},
};
use crate::{
    config::{Disk, Files as _},
    os::file::NamedFile,
    policy::validate::{
        openapi::{
            BodyReading, Contract, DocumentFault, DocumentReading, NoOperation,
            lint::{Lint, lint},
        },
        schema::STACK,
    },
    refusal::{Refusal, Reject},
    route::target::Target,
    settings::validate::Formats,
    text::counted::counted,
    web::path::PathRules,
};

/// The longest path with its query, as `proxy.max_target` is without a setting.
const MOST_TARGET: usize = 8 << 10;

#[derive(Debug, Subcommand)]
pub(super) enum ApiCommand {
    /// Tell what a document leaves open, and which of its examples break it
    Lint(ApiDocument),
    /// List the operations of a document
    Routes(ApiDocument),
    /// Try a request on a document
    Test(ApiTest),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Reads a document as `[api.NAME]` does, and does not ask the running gateway.
Ends with 1 if the document is refused, with 2 if a file cannot be read.

Examples:
  gateway api lint shop.yaml
  gateway api routes shop.yaml --json | jq .operations")]
pub(super) struct ApiDocument {
    /// The document: OpenAPI 3.0, 3.1 or 3.2, in JSON or YAML
    file: PathBuf,
    /// A file that it refers to; may be given more than once
    #[arg(long = "with", value_name = "FILE")]
    others: Vec<PathBuf>,
    /// Where the API is served, as `base_path` of `[api.NAME]`
    #[arg(long, value_name = "PATH")]
    base_path: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Judges path, method, parameters and body of a request. Identity and limits are
left out. Paths are read as the gateway reads them: what a route refuses in
paths is refused, unless --allow-in-path lets it through, as `allow_in_path` of
the route does. Ends with 1 if the request is refused.

Examples:
  gateway api test shop.yaml GET '/v1/items?limit=10'
  gateway api test shop.yaml --allow-in-path parameters GET '/v1/items;id=5'
  gateway api test shop.yaml POST /v1/items \\
    --header 'content-type: application/json' --body item.json")]
pub(super) struct ApiTest {
    #[command(flatten)]
    document: ApiDocument,
    /// The method
    method: Method,
    /// The path, with its query
    target: String,
    /// A header; may be given more than once
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// What the route has in `allow_in_path`; may be given more than once
    #[arg(long, value_name = "WHAT")]
    allow_in_path: Vec<Oddity>,
    /// The file with the body
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
}

/// What routes refuse in paths unless they allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Oddity {
    EmptySegments,
    EncodedSlashes,
    Parameters,
}

impl ApiCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        let execute = || match self {
            Self::Lint(document) => document.lint(context),
            Self::Routes(document) => document.routes(context),
            Self::Test(test) => test.execute(context),
        };
        // By a stack as large as the proxy has for it.
        let executed = thread::scope(|scope| {
            let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, execute);
            thread.map(|thread| thread.join().unwrap_or(Exit::Refused))
        });
        executed.unwrap_or_else(|error| context.out.fail(&error.to_string(), Exit::Refused))
    }
}

impl ApiDocument {
    fn read(&self) -> Result<Lint, ApiCommandError> {
        let file = |path: &PathBuf| -> Result<NamedFile, ApiCommandError> {
            let wrong = |error: io::Error| {
                (format!("cannot read {}: {error}", path.display()), Exit::of_file(&error, Exit::Usage))
            };
            let path = fs::canonicalize(path).map_err(wrong)?;
            let bytes = Disk.read(&path).map_err(wrong)?;
            Ok(NamedFile { path, bytes })
        };
        let others = self.others.iter().map(file).collect::<Result<Vec<_>, _>>()?;
        let reading =
            DocumentReading { base_path: self.base_path.as_deref(), responses: true, ..DocumentReading::default() };
        lint(&file(&self.file)?, &others, Formats::Annotate, &reading).map_err(|fault| (line(&fault), Exit::Refused))
    }

    fn lint(&self, context: &Context) -> Exit {
        let out = context.out;
        let lint = match self.read() {
            Ok(lint) => lint,
            Err((message, exit)) => return out.fail(&message, exit),
        };
        let warnings = lint.contract.warnings();
        if out.json {
            let told = |faults: &[DocumentFault]| -> Vec<Value> {
                faults.iter().map(|fault| json!({ "place": fault.place, "message": fault.message })).collect()
            };
            let value = json!({
                "operations": lint.contract.operations().count(),
                "warnings": told(warnings),
                "holes": told(&lint.holes),
                "examples": lint.examples,
                "broken_examples": told(&lint.broken),
            });
            return out.value(&value, Exit::Done);
        }
        let mut lines = Vec::new();
        for (kind, faults) in [("warning", warnings), ("open", &lint.holes), ("example", &lint.broken)] {
            lines.extend(faults.iter().map(|fault| format!("{kind}: {}", clean(&line(fault)))));
        }
        lines.push(format!(
            "{}: {}, {}, {} open, {} of {} broken",
            clean(&name(&self.file)),
            counted(lint.contract.operations().count(), "operation", "operations"),
            counted(warnings.len(), "warning", "warnings"),
            counted(lint.holes.len(), "place", "places"),
            lint.broken.len(),
            counted(lint.examples, "example", "examples")
        ));
        out.text(&prose(&lines.join("\n")), Exit::Done)
    }

    fn routes(&self, context: &Context) -> Exit {
        let out = context.out;
        let lint = match self.read() {
            Ok(lint) => lint,
            Err((message, exit)) => return out.fail(&message, exit),
        };
        if out.json {
            let operations: Vec<Value> = lint
                .contract
                .operations()
                .map(|operation| {
                    let parameters = operation.parameters.iter();
                    json!({
                        "operation": operation.name,
                        "parameters": parameters
                            .map(|(part, name, required)| json!({ "in": part, "name": name, "required": required }))
                            .collect::<Vec<_>>(),
                        "body": operation.body.map(|(types, required)| json!({ "types": types, "required": required })),
                        "public": operation.is_public,
                        "deprecated": operation.is_deprecated,
                    })
                })
                .collect();
            return out.value(&json!({ "operations": operations }), Exit::Done);
        }
        let mut table = Table::new(["OPERATION", "PARAMETERS", "BODY", "SECURITY", "DEPRECATED"]);
        for operation in lint.contract.operations() {
            let parameters = operation.parameters.iter();
            let parameters =
                parameters.map(|(part, name, required)| format!("{part} {name}{}", if *required { "!" } else { "" }));
            let body = match operation.body {
                None => "none",
                Some((_, true)) => "required",
                Some((_, false)) => "optional",
            };
            let security = match (operation.is_public, operation.is_undeclared) {
                (true, _) => "public",
                (_, true) => "not declared",
                _ => "declared",
            };
            table.row([
                operation.name.to_owned(),
                parameters.collect::<Vec<_>>().join(", "),
                body.to_owned(),
                security.to_owned(),
                if operation.is_deprecated { "yes" } else { "" }.to_owned(),
            ]);
        }
        out.text(&table.render(), Exit::Done)
    }
}

impl ApiTest {
    fn execute(&self, context: &Context) -> Exit {
        let out = context.out;
        let contract = match self.document.read() {
            Ok(lint) => lint.contract,
            Err((message, exit)) => return out.fail(&message, exit),
        };
        let head = self.head().map_err(|message| (message, Exit::Usage));
        let (head, body) = match head.and_then(|head| Ok((head, self.body()?))) {
            Ok(read) => read,
            Err((message, exit)) => return out.fail(&message, exit),
        };
        match judge(&contract, &head, self.rules(), &body) {
            Ok(operation) if out.json => out.value(&json!({ "passes": true, "operation": operation }), Exit::Done),
            Ok(operation) => out.text(&prose(&format!("passes: {}", clean(&operation))), Exit::Done),
            Err(refusal) => {
                let row = refusal.row();
                let violations: Vec<(String, &str)> =
                    refusal.violations.iter().map(|it| (it.to_string(), &*it.expected)).collect();
                if out.json {
                    let violations: Vec<Value> = violations
                        .iter()
                        .map(|(rule, expected)| json!({ "rule": rule, "expected": expected }))
                        .collect();
                    let value = json!({
                        "passes": false,
                        "status": row.status.as_u16(),
                        "reject": row.label,
                        "detail": refusal.detail,
                        "violations": violations,
                    });
                    return out.value(&value, Exit::Refused);
                }
                let mut lines =
                    vec![format!("refused: {} {}: {}", row.status.as_u16(), row.label, clean(&refusal.detail))];
                lines.extend(
                    violations.iter().map(|(rule, expected)| format!("  {}: {}", clean(rule), clean(expected))),
                );
                out.text(&prose(&lines.join("\n")), Exit::Refused)
            }
        }
    }

    /// The head, as it would be received. Before HTTP/1.1, no host has to be named.
    fn head(&self) -> Result<Parts, String> {
        let request = http::Request::builder().method(self.method.clone()).uri(&self.target);
        let request = request.version(http::Version::HTTP_10).body(());
        let request = request.map_err(|error| format!("{:?} cannot be sent: {error}", self.target))?;
        let (mut head, ()) = request.into_parts();
        head.headers = self.headers()?;
        Ok(head)
    }

    fn rules(&self) -> PathRules {
        let has = |oddity| self.allow_in_path.contains(&oddity);
        PathRules {
            encoded_slashes: has(Oddity::EncodedSlashes),
            parameters: has(Oddity::Parameters),
            empty_segments: has(Oddity::EmptySegments),
        }
    }

    fn headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for text in &self.headers {
            let wrong = || format!("{text:?} is no header: write it as \"name: value\"");
            let (name, value) = text.split_once(':').ok_or_else(wrong)?;
            let name: HeaderName = name.trim().parse().map_err(|_invalid| wrong())?;
            headers.append(name, HeaderValue::from_str(value.trim()).map_err(|_invalid| wrong())?);
        }
        Ok(headers)
    }

    fn body(&self) -> Result<Vec<u8>, ApiCommandError> {
        let Some(path) = &self.body else { return Ok(Vec::new()) };
        fs::read(path)
            .map_err(|error| (format!("cannot read {}: {error}", path.display()), Exit::of_file(&error, Exit::Usage)))
    }
}

/// Judges a request as the proxy does on a route that allows `rules` in paths; the operation that it asks for.
fn judge(contract: &Contract, head: &Parts, rules: PathRules, body: &[u8]) -> Result<String, Refusal> {
    let target = Target::read(head, NOWHERE, MOST_TARGET)?;
    if let Some(found) = rules.refuses(target.odd()) {
        return Err(Refusal::new(Reject::BadRequest, found));
    }
    let query = target.origin().query().unwrap_or_default();
    let found = contract.find(&head.method, target.path(), query, &head.headers).map_err(|miss| match miss {
        NoOperation::NotFound => Refusal::new(Reject::NotFound, "no path of the API"),
        NoOperation::Method(_) => Refusal::new(Reject::MethodNotAllowed, "no method of the API's path"),
        NoOperation::Unclear(refusal) => refusal,
    })?;
    contract.judge_head(&found, query, &head.headers)?;
    let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
    if let BodyReading::Whole = contract.reading(found.operation, &head.headers, Some(length))? {
        contract.judge_body(found.operation, head.headers.get(header::CONTENT_TYPE), body)?;
    }
    Ok(contract.name(found.operation).to_owned())
}

/// What went wrong, and how the command ends.
type ApiCommandError = (String, Exit);

fn line(fault: &DocumentFault) -> String {
    format!("{}: {}", fault.place, fault.message)
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a request, with `parameters` allowed in paths: `passes`, or the status and why.
    #[track_caller]
    fn check((path, parameter): (&str, &str), target: &str, allows: bool, expect: &str) {
        let text = format!(
            "openapi: 3.1.0\ninfo: {{title: a, version: '1'}}\npaths:\n  {path}:\n    get:\n      security: []\n      \
             parameters: [{{name: p, required: true, {parameter}}}]\n"
        );
        let file = NamedFile { path: "/shop.yaml".into(), bytes: text.as_bytes().into() };
        let contract = Contract::new(&file, &[], Formats::Annotate, &DocumentReading::default()).unwrap();
        let head = http::Request::builder().uri(target).version(http::Version::HTTP_10).body(()).unwrap();
        let rules = PathRules { parameters: allows, ..PathRules::default() };
        let told = match judge(&contract, &head.into_parts().0, rules, &[]) {
            Ok(_) => "passes".to_owned(),
            Err(refusal) => format!("{} {}", refusal.row().status.as_u16(), refusal.detail),
        };
        assert_eq!(told, expect, "{path} {parameter} {target}");
    }

    #[test]
    fn paths_are_judged_as_the_proxy_judges_them() {
        let number = |style: &str| format!("in: path, style: {style}, schema: {{type: integer}}");
        let list = |style: &str| {
            format!("in: path, explode: true, style: {style}, schema: {{type: array, items: {{type: integer}}}}")
        };
        let text = |style: &str| format!("in: path, style: {style}, schema: {{type: string}}");
        for (path, parameter, target, allows, expect) in [
            ("/a/{p}", number("simple"), "/a/5", false, "passes"),
            ("/a/{p}", number("simple"), "/a/%35", false, "passes"),
            ("/a/{p}", number("simple"), "/a/x", false, "400 path p: type"),
            ("/a/{p}", list("simple"), "/a/1,2", false, "passes"),
            ("/a/{p}", text("simple"), "/a/..", false, "400 dot segment"),
            ("/a/{p}", text("simple"), "/a/x%2Fy", false, "400 encoded separator"),
            ("/a/{p}", text("simple"), "/a//x", false, "400 empty segment"),
            ("/a/{p}", text("simple"), "/a/x;y", false, "400 path parameter"),
            ("/a/{p}", text("simple"), "/a/%zz", false, "400 % without two hexadecimal digits"),
            ("/a/{p}", number("label"), "/a/.5", false, "passes"),
            ("/a/{p}", number("label"), "/a/5", false, "400 path p: style"),
            ("/a/{p}", list("label"), "/a/.1.2", false, "passes"),
            ("/a/{p}", text("label"), "/a/.", false, "400 dot segment"),
            ("/a/{p}", text("label"), "/a/..", false, "400 dot segment"),
            ("/a/{p}", text("label"), "/a/.x;y", false, "400 path parameter"),
            ("/a/{p}", number("matrix"), "/a/;p=5", false, "400 path parameter without a segment"),
            ("/a/{p}", number("matrix"), "/a/;p=5", true, "400 path parameter without a segment"),
            ("/a{p}", number("matrix"), "/a;p=5", false, "400 path parameter"),
            ("/a{p}", number("matrix"), "/a;p=5", true, "passes"),
            ("/a{p}", number("matrix"), "/a;p=x", true, "400 path p: type"),
            ("/a{p}", list("matrix"), "/a;p=1;p=2", false, "400 path parameter"),
            ("/a{p}", list("matrix"), "/a;p=1;p=2", true, "passes"),
            ("/a{p}", list("matrix"), "/a%3Bp=1", false, "400 path p: style"),
        ] {
            check((path, &parameter), target, allows, expect);
        }
    }

    #[test]
    fn queries_are_judged_as_the_proxy_judges_them() {
        let list = |style: &str| {
            format!("in: query, explode: false, style: {style}, schema: {{type: array, items: {{type: integer}}}}")
        };
        let object =
            "in: query, style: deepObject, schema: {type: object, properties: {a: {type: integer}}}".to_owned();
        for (parameter, target, expect) in [
            (list("form"), "/a?p=1,2", "passes"),
            (list("form"), "/a?p=1,x", "400 query p: type at /1"),
            (list("form"), "/a?p=1&p=2", "400 query p: once"),
            (list("form"), "/a?p=%zz", "400 query p: encoding"),
            (list("spaceDelimited"), "/a?p=1%202", "passes"),
            (list("pipeDelimited"), "/a?p=1%7C2", "passes"),
            (object.clone(), "/a?p[a]=1", "passes"),
            (object, "/a?p[a]=x", "400 query p: type at /a"),
        ] {
            check(("/a", &parameter), target, false, expect);
        }
    }
}
