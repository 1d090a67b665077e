//! `gateway api`: what an OpenAPI document lets through, as the gateway reads it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
};

use clap::{Args, Subcommand};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::{Value, json};

use super::{
    context::Context,
    exit::Exit,
    table::{Table, clean, prose},
};
use crate::{
    config::{Disk, Files as _},
    counted::counted,
    file::NamedFile,
    refusal::Refusal,
    settings::validate::Formats,
    validate::{
        openapi::{
            BodyReading, Contract, DocumentFault, NoOperation, Reading,
            lint::{Lint, lint},
        },
        schema::STACK,
    },
};

#[derive(Debug, Subcommand)]
pub(super) enum Api {
    /// Tell what a document leaves open, and which of its examples break it
    Lint(Document),
    /// List the operations of a document
    Routes(Document),
    /// Try a request on a document
    Test(Test),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Reads a document as `[api.NAME]` does, and does not ask the running gateway.
Ends with 1 if the document is refused, with 2 if a file cannot be read.

Examples:
  gateway api lint shop.yaml
  gateway api routes shop.yaml --json | jq .operations")]
pub(super) struct Document {
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
left out. Ends with 1 if the request is refused.

Examples:
  gateway api test shop.yaml GET '/v1/items?limit=10'
  gateway api test shop.yaml POST /v1/items \\
    --header 'content-type: application/json' --body item.json")]
pub(super) struct Test {
    #[command(flatten)]
    document: Document,
    /// The method
    method: Method,
    /// The path, with its query
    target: String,
    /// A header; may be given more than once
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The file with the body
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
}

impl Api {
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

impl Document {
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
        let reading = Reading { base_path: self.base_path.as_deref(), responses: true, ..Reading::default() };
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

impl Test {
    fn execute(&self, context: &Context) -> Exit {
        let out = context.out;
        let contract = match self.document.read() {
            Ok(lint) => lint.contract,
            Err((message, exit)) => return out.fail(&message, exit),
        };
        let (headers, body) = match self.headers().and_then(|headers| Ok((headers, self.body()?))) {
            Ok(read) => read,
            Err(message) => return out.fail(&message, Exit::Usage),
        };
        match judge(&contract, &self.method, &self.target, &headers, &body) {
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

    fn body(&self) -> Result<Vec<u8>, String> {
        let Some(path) = &self.body else { return Ok(Vec::new()) };
        fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    }
}

/// Judges a request as the proxy does; the operation that it asks for.
fn judge(
    contract: &Contract,
    method: &Method,
    target: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<String, Refusal> {
    use crate::refusal::Reject;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let found = contract.find(method, path, query, headers).map_err(|miss| match miss {
        NoOperation::NotFound => Refusal::new(Reject::NotFound, "no path of the API"),
        NoOperation::Method(_) => Refusal::new(Reject::MethodNotAllowed, "no method of the API's path"),
        NoOperation::Unclear(refusal) => refusal,
    })?;
    contract.judge_head(&found, query, headers)?;
    let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
    if let BodyReading::Whole = contract.reading(found.operation, headers, Some(length))? {
        contract.judge_body(found.operation, headers.get(header::CONTENT_TYPE), body)?;
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
