//! Compiles the paths and operations of a document.

use std::sync::atomic::AtomicU64;

use serde_json::Value;

use super::{
    collector::{DocumentCollector, DocumentReading, Example, Version},
    content::{self, Contents},
    document::{At, DocumentFault, Documents},
    operation::{Condition, NamedLimit, Operation, Template},
    parameters,
    paths::{self, Paths},
    responses::{self, Declared, Wanted},
    security::{self, SecurityRule},
    servers,
};
use crate::{
    policy::validate::{
        body::{Body, Content, media::MediaRange},
        parameter::{Parameters, decode::decode},
        schema::set::{FileMembers, SchemaSet},
    },
    refusal::violation::RequestPart,
};

/// What counts the requests of an operation besides what counts those of its route.
const LIMITS: &str = "x-gateway-limits";

/// The methods of a path item, as the document has them.
const METHODS: [&str; 9] = ["delete", "get", "head", "options", "patch", "post", "put", "query", "trace"];

/// What is read of a document so far.
struct Compiler<'d> {
    collector: DocumentCollector<'d>,
    /// Of responses, where they are looked at.
    of_responses: Option<(DocumentCollector<'d>, Vec<Declared>)>,
    schemes: security::Schemes,
    rules: Vec<SecurityRule>,
    operations: Vec<Operation>,
    /// What the document says of the body of each of them.
    bodies: Vec<Option<At<'d>>>,
    templates: Vec<Template>,
    paths: Paths,
}

/// What a document was compiled to, without its schemas.
pub(super) struct Read<'d> {
    pub(super) responses: Option<Wanted<'d>>,
    pub(super) version: Version,
    pub(super) schemas: Vec<(usize, &'d Value)>,
    pub(super) places: Vec<String>,
    pub(super) files: FileMembers,
    pub(super) warnings: Vec<DocumentFault>,
    pub(super) examples: Vec<Example<'d>>,
    pub(super) schemes: security::Schemes,
    pub(super) rules: Vec<SecurityRule>,
    pub(super) operations: Vec<Operation>,
    pub(super) templates: Vec<Template>,
    pub(super) paths: Paths,
}

/// Reads all operations of a document.
pub(super) fn read<'d>(documents: &'d Documents, reading: &'d DocumentReading<'d>) -> Result<Read<'d>, DocumentFault> {
    let Some(root) = documents.root() else { return Err(documents.fault_at(0, "", "there is no document")) };
    let mut compiler = Compiler {
        collector: DocumentCollector::new(documents, reading)?,
        of_responses: match reading.responses {
            true => Some((DocumentCollector::new(documents, reading)?, Vec::new())),
            false => None,
        },
        schemes: security::schemes(documents, &root)?,
        rules: Vec::new(),
        operations: Vec::new(),
        bodies: Vec::new(),
        templates: Vec::new(),
        paths: Paths::default(),
    };
    compiler.collector.fields(&root, "document")?;
    if let Some(dialect) = root.get("jsonSchemaDialect") {
        let known = ["https://spec.openapis.org/oas/3.1/dialect/", "https://spec.openapis.org/oas/3.2/dialect/"];
        let text = dialect.value.as_str().unwrap_or_default();
        let is_known = known.iter().any(|known| text.starts_with(known)) || text.contains("/draft/2020-12/schema");
        if !is_known {
            return Err(documents.fault(&dialect, "only the dialect of OpenAPI and draft 2020-12 are read"));
        }
    }
    let bases = compiler.bases(&root)?;
    if let Some(paths) = root.get("paths") {
        for (path, at) in paths.members().filter(|(path, _)| !path.starts_with("x-")) {
            compiler.path_item(path, at, &root, &bases)?;
        }
    }
    let Compiler { collector, of_responses, schemes, rules, operations, templates, paths, .. } = compiler;
    let DocumentCollector { version, schemas, places, files, mut warnings, examples, .. } = collector;
    let responses = of_responses.map(|(collector, operations)| {
        warnings.extend(collector.warnings);
        Wanted { operations, schemas: collector.schemas, examples: collector.examples }
    });
    Ok(Read {
        responses,
        version,
        schemas,
        places,
        files,
        warnings,
        examples,
        schemes,
        rules,
        operations,
        templates,
        paths,
    })
}

/// Tells each parameter what its schema is about, now that it is compiled.
pub(super) fn set_shapes(operations: &mut [Operation], schemas: &SchemaSet) {
    for operation in operations {
        for parameter in &mut operation.parameters.all {
            if let Some(schema) = parameter.schema {
                parameter.shape = schemas.shape(schema);
            }
        }
        if let Some((_, schema, shape)) = &mut operation.parameters.query {
            *shape = schemas.shape(*schema);
        }
        for (_, content) in &mut operation.body.contents {
            if let Content::Form { schema, fields, shape, .. } | Content::Multipart { schema, fields, shape, .. } =
                content
            {
                *shape = schemas.shape(*schema);
                content::set_fields(fields, shape, schemas);
            }
        }
    }
}

impl<'d> Compiler<'d> {
    /// Where the operations of `holder` are served: as the configuration says, or else its servers.
    fn bases(&self, holder: &At<'_>) -> Result<Vec<String>, DocumentFault> {
        match self.collector.reading.base_path {
            Some(base) => Ok(vec![base.trim_end_matches('/').to_owned()]),
            None => servers::bases(self.collector.documents, holder),
        }
    }

    fn path_item(&mut self, path: &str, at: At<'d>, root: &At<'d>, bases: &[String]) -> Result<(), DocumentFault> {
        let item = self.collector.documents.resolve(at.clone())?;
        self.collector.fields(&item, "path item")?;
        if at.value.get("$ref").is_some()
            && at.value.as_object().is_some_and(|it| it.keys().any(|key| METHODS.contains(&key.as_str())))
        {
            return Err(self
                .collector
                .fault(&at, "a path item has \"$ref\" and operations: OpenAPI does not say which count"));
        }
        let bases = match item.get("servers") {
            Some(_) => self.bases(&item)?,
            None => bases.to_vec(),
        };
        let mut operations: Vec<(String, At<'d>)> = METHODS
            .into_iter()
            .filter(|method| *method != "query" || self.collector.version >= Version::V3_2)
            .filter_map(|method| Some((method.to_ascii_uppercase(), item.get(method)?)))
            .collect();
        if let Some(at) = item.get("query").filter(|_| self.collector.version < Version::V3_2) {
            let message =
                "\"query\" is a method of OpenAPI 3.2: this operation is not declared, and requests of it are refused";
            self.collector.warn(&at, message);
        }
        if let Some(more) = item.get("additionalOperations") {
            operations.extend(more.members().map(|(method, at)| (method.to_owned(), at)));
        }
        for (method, at) in operations {
            self.operation(path, &method, (&item, &at, root), &bases)?;
        }
        Ok(())
    }

    fn operation(
        &mut self,
        path: &str,
        method: &str,
        (item, at, root): (&At<'d>, &At<'d>, &At<'d>),
        bases: &[String],
    ) -> Result<(), DocumentFault> {
        self.collector.fields(at, "operation")?;
        let mut parameters = parameters::read(&mut self.collector, item, at)?;
        let (end, conditions) = self.conditions(path, &mut parameters, at);
        let plain = path.get(..end).unwrap_or(path);
        for name in parameters.matrix().filter(|name| paths::begins_segment(plain, name)) {
            let message = format!(
                "{path:?} begins a segment with the parameter {name:?} of the style \"matrix\": every request is \
                 refused with 400, as programs read a segment that begins with \";\" in different ways. Put it behind a \
                 literal (\"/items{{{name}}}\"), or choose the style \"simple\""
            );
            self.collector.warn(at, message);
        }
        let rule = security::rule(self.collector.documents, root, at, &self.schemes)?;
        self.schemes.note_credentials(&rule, &mut parameters);
        let declared = at.get("requestBody").map(|body| self.collector.documents.resolve(body)).transpose()?;
        let body = match &declared {
            Some(body) => self.body(body)?,
            None => Body::default(),
        };
        self.bodies.push(declared);
        let bases = match at.get("servers") {
            Some(_) => self.bases(at)?,
            None => bases.to_vec(),
        };
        let rule = self.rules.iter().position(|known| *known == rule).unwrap_or_else(|| {
            self.rules.push(rule);
            self.rules.len() - 1
        });
        if let Some((collector, declared)) = &mut self.of_responses {
            declared.push(responses::read(collector, at));
        }
        let number = self.operations.len();
        self.operations.push(Operation {
            name: format!("{method} {path}").into(),
            parameters,
            body,
            rule,
            conditions,
            limits: self.limits(at)?,
            is_deprecated: at.is_true("deprecated"),
            calls: AtomicU64::new(0),
        });
        for base in bases {
            self.place(&format!("{base}{plain}"), method, number, at)?;
        }
        Ok(())
    }

    /// The limits that an operation names.
    fn limits(&self, operation: &At<'_>) -> Result<Box<[NamedLimit]>, DocumentFault> {
        let Some(at) = operation.get(LIMITS) else { return Ok(Box::default()) };
        let wrong = || self.collector.fault(&at, "limits are an array of strings");
        let names = security::strings(at.value).ok_or_else(wrong)?;
        let mut limits: Vec<NamedLimit> = Vec::new();
        for (name, element) in names.into_iter().zip(at.elements()) {
            if limits.iter().all(|known| *known.name != *name) {
                limits.push(NamedLimit { name: name.into(), place: self.collector.fault(&element, "").place });
            }
        }
        Ok(limits.into())
    }

    /// Puts an operation where requests find it.
    fn place(&mut self, path: &str, method: &str, number: usize, at: &At<'d>) -> Result<(), DocumentFault> {
        let pieces = paths::template(path).map_err(|why| self.collector.fault(at, format!("{path:?}: {why}")))?;
        let names = paths::names(&pieces);
        let is_twice = |at: usize, name: &str| name != servers::ANY && names.iter().take(at).any(|it| **it == *name);
        if let Some(name) = names.iter().enumerate().find(|(at, name)| is_twice(*at, name)) {
            return Err(self.collector.fault(at, format!("{path:?} has the parameter {:?} twice", name.1)));
        }
        if let Some(operation) = self.operations.get(number) {
            let declared = |name: &str| {
                operation.parameters.all.iter().any(|it| it.part == RequestPart::Path && *it.name == *name)
            };
            if let Some(name) = names.iter().find(|name| ***name != *servers::ANY && !declared(name)) {
                self.collector
                    .warn(at, format!("{path:?} has the parameter {name:?}, which is not declared: any value passes"));
            }
        }
        let template = self.paths.add(&pieces, self.templates.len());
        if template == self.templates.len() {
            self.templates.push(Template { path: paths::anonymous(path).into(), operations: Vec::new() });
        }
        let wanted = |number: usize| self.operations.get(number).map(|operation| &operation.conditions);
        let known = self.templates.get(template).map_or(&[][..], |found| &found.operations);
        let of_method = known.iter().filter(|(known, _, _)| **known == *method).map(|(_, number, _)| *number);
        let rivals: Vec<usize> = of_method.filter(|rival| wanted(*rival) == wanted(number)).collect();
        // Two servers may have the same base.
        if rivals.contains(&number) {
            return Ok(());
        }
        for rival in rivals {
            let other = self.operations.get(rival).map_or("", |operation| &operation.name).to_owned();
            let are_apart = self
                .are_apart(rival, number)
                .map_err(|why| self.collector.fault(at, format!("no request tells it from {other:?}, and {why}")))?;
            let message = format!("it has the path of {other:?}: requests pass that keep the contract of either");
            self.collector.warn(at, message);
            if let Some((_, declared)) = self.of_responses.as_mut().filter(|_| !are_apart) {
                for one in [rival, number] {
                    if let Some(declared) = declared.get_mut(one) {
                        declared.is_shared = true;
                    }
                }
            }
        }
        let conditions = wanted(number).map_or(0, Vec::len);
        let Some(found) = self.templates.get_mut(template) else { return Ok(()) };
        let place = found.operations.partition_point(|(_, other, _)| {
            self.operations.get(*other).is_some_and(|other| other.conditions.len() >= conditions)
        });
        found.operations.insert(place, (method.into(), number, names.into()));
        Ok(())
    }

    /// Whether the type of its body tells of each request which of two operations it asks for. If not, it is judged by the
    /// one whose parameters it has, or by the first.
    ///
    /// # Errors
    /// Why that cannot be: others would be let through, or the body would be judged by another schema.
    fn are_apart(&self, one: usize, other: usize) -> Result<bool, &'static str> {
        let body = |number: usize| self.bodies.get(number).and_then(Option::as_ref).map(|at| (at.document, at.value));
        let is_same_body = body(one) == body(other);
        let known = |number: usize| {
            let operation = self.operations.get(number)?;
            Some((operation, self.rules.get(operation.rule)?))
        };
        let (Some((one, one_rule)), Some((other, other_rule))) = (known(one), known(other)) else {
            return Err("one of them is not known");
        };
        if !one_rule.asks_like(other_rule) {
            return Err("they do not ask for the same `security`");
        }
        if !one.limits.iter().map(|limit| &limit.name).eq(other.limits.iter().map(|limit| &limit.name)) {
            return Err("they do not name the same limits");
        }
        let is_apart = |range: &MediaRange| other.body.contents.iter().all(|(theirs, _)| !theirs.overlaps(range));
        let are_apart = one.body.is_declared()
            && other.body.is_declared()
            && one.body.contents.iter().all(|(range, _)| is_apart(range));
        if is_same_body || are_apart { Ok(are_apart) } else { Err("their bodies differ, though not by their types") }
    }

    /// What stands behind `#` or `?` in a path, which some documents tell operations of one path apart by:
    /// `/#Action=CreateQueue`. What no request says is left out: then nothing may be left to be told apart.
    fn conditions(&mut self, path: &str, parameters: &mut Parameters, at: &At<'_>) -> (usize, Vec<Condition>) {
        let mut conditions = Vec::new();
        let end = path.find(['#', '?']).unwrap_or(path.len());
        let wanted = path.get(end..).unwrap_or_default();
        let is_query = wanted.starts_with('?');
        for pair in wanted.split(['#', '?', '&']).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)));
            let value = value.filter(|value| !value.starts_with('{'));
            let declared = parameters.all.iter().find(|it| it.name.eq_ignore_ascii_case(name)).map(|it| it.part);
            let part = match declared {
                Some(part @ (RequestPart::Header | RequestPart::Query)) => part,
                _ if is_query => {
                    let decoded = decode(name, true).unwrap_or_else(|_fault| name.to_owned());
                    parameters.also_known.push(decoded.into());
                    RequestPart::Query
                }
                _ => {
                    self.collector
                        .warn(at, format!("{name:?} in the path is no declared header or parameter of the query"));
                    continue;
                }
            };
            // The request's are decoded, too. What no request can be decoded to is left as it stands.
            let decoded = |text: &str| -> Box<str> {
                match part {
                    RequestPart::Query => decode(text, true).unwrap_or_else(|_fault| text.to_owned()).into(),
                    _ => text.into(),
                }
            };
            conditions.push(Condition { part, name: decoded(name), value: value.map(decoded) });
        }
        (end, conditions)
    }

    fn body(&mut self, at: &At<'d>) -> Result<Body, DocumentFault> {
        self.collector.fields(at, "request body")?;
        let mut contents = Contents::default();
        match at.get("content") {
            Some(content) => {
                for (range, media) in content.members() {
                    let media = self.collector.documents.resolve(media)?;
                    content::read(&mut self.collector, range, &media, &mut contents)?;
                }
            }
            None => return Err(self.collector.fault(at, "\"content\" is missing")),
        }
        let contents = contents.sorted(&self.collector)?;
        Ok(Body { is_required: at.is_true("required"), contents })
    }
}
