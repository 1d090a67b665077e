//! Holds requests against the contract of their API: which operation they ask for, and whether they keep it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};

use crate::{
    policy::validate::{
        form_rules::FormRules,
        openapi::{BodyReading, Contract, NoOperation, OperationId},
        schema::Schema,
    },
    proxy::{generation::Generation, request::exchange::Exchange},
    refusal::{Refusal, Reject, violation},
    snapshot::CompiledRoute,
};

/// What the body of a request is judged by.
pub(in crate::proxy::request) enum BodyRule {
    Contract(Arc<Contract>, OperationId),
    Form(Arc<FormRules>),
    Schema(Arc<Schema>),
}

/// Finds the operation that a request asks for, and what it asks of clients.
pub(in crate::proxy::request) fn find<'a>(
    route: &'a CompiledRoute,
    exchange: &mut Exchange,
    head: &Parts,
) -> Result<&'a CompiledRoute, Refusal> {
    let Some(contract) = &route.contract else { return Ok(route) };
    let target = exchange.target()?;
    let query = target.origin().query().unwrap_or_default();
    match contract.find(&head.method, target.path(), query, &head.headers) {
        Ok(found) => {
            let operation = found.operation;
            exchange.routing.operation = Some(operation);
            contract.note_call(operation);
            let rule = contract.rule(operation);
            if route.variants.is_empty() {
                return Ok(route);
            }
            exchange.routing.variant = Some(rule);
            route.variants.get(rule).ok_or_else(|| Refusal::new(Reject::NotFound, "no such operation"))
        }
        // Without an operation, nobody has access where the document says who has.
        Err(_) if route.is_report_only => {
            report(route, Refusal::new(Reject::NotFound, "no operation of the API"), exchange);
            Ok(route)
        }
        Err(NoOperation::NotFound) => Err(Refusal::new(Reject::NotFound, "no path of the API")),
        Err(NoOperation::Unclear(refusal)) => Err(refusal),
        Err(NoOperation::Method(allow)) => {
            exchange.routing.allow = allow;
            Err(Refusal::new(Reject::MethodNotAllowed, "no method of the API's path"))
        }
    }
}

/// Counts and notes what a contract that only reports would have refused a request for.
pub(in crate::proxy::request) fn report(route: &CompiledRoute, refusal: Refusal, exchange: &mut Exchange) {
    if let Some(contract) = &route.contract {
        contract.note_reported(&refusal);
    }
    let listed = (!refusal.violations.is_empty()).then(|| violation::listed(&refusal.violations).into());
    exchange.outcome.would_refuse = Some(listed.unwrap_or(refusal.detail));
}

/// Judges the parameters of a request, and says what its body is judged by. `length`: that of its body, where it is known.
pub(in crate::proxy::request) fn judge_head(
    route: &CompiledRoute,
    exchange: &mut Exchange,
    head: &Parts,
    length: Option<u64>,
) -> Result<Option<BodyRule>, Refusal> {
    if let Some(parameters) = &route.parameters {
        let target = exchange.target()?;
        parameters.judge(target.path(), target.origin().query().unwrap_or_default(), &head.headers)?;
        parameters.judge_type(&head.headers, length)?;
    }
    if let Some(form) = &route.form {
        form.judge_head(&head.headers, length)?;
        return Ok(Some(BodyRule::Form(Arc::clone(form))));
    }
    let schema = || route.schema.clone().map(BodyRule::Schema);
    let Some((contract, operation)) = route.contract.as_ref().zip(exchange.routing.operation) else {
        return Ok(schema());
    };
    let judged = judge(contract, exchange, head).and_then(|()| contract.reading(operation, &head.headers, length));
    match judged {
        Ok(BodyReading::Whole) => Ok(Some(BodyRule::Contract(Arc::clone(contract), operation))),
        Ok(BodyReading::Pass) => Ok(None),
        Err(refusal) if route.is_report_only => {
            report(route, refusal, exchange);
            Ok(None)
        }
        Err(refusal) => Err(refusal),
    }
}

fn judge(contract: &Contract, exchange: &Exchange, head: &Parts) -> Result<(), Refusal> {
    let target = exchange.target()?;
    let query = target.origin().query().unwrap_or_default();
    let found = contract.find(&head.method, target.path(), query, &head.headers);
    let found = found.map_err(|_miss| Refusal::new(Reject::NotFound, "no path of the API"))?;
    contract.judge_head(&found, query, &head.headers)
}

/// Judges a whole body: at once where that is quick, otherwise by a thread.
pub(in crate::proxy::request) async fn judge_body(
    generation: &Generation,
    rule: BodyRule,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(), Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE);
    let validators = generation.validators();
    match rule {
        BodyRule::Schema(schema) => match schema.validate_at_once(content_type, body) {
            Some(judged) => judged,
            None => validators.validate(body.clone(), move |body| schema.validate(body)).await,
        },
        BodyRule::Form(form) => match form.judge_at_once(content_type, body) {
            Some(judged) => judged,
            None => {
                let content_type = content_type.cloned();
                validators.validate(body.clone(), move |body| form.judge(content_type.as_ref(), body)).await
            }
        },
        BodyRule::Contract(contract, operation) => match contract.judge_body_at_once(operation, content_type, body) {
            Some(judged) => judged,
            None => {
                let content_type = content_type.cloned();
                let judge = move |body: &[u8]| contract.judge_body(operation, content_type.as_ref(), body);
                validators.validate(body.clone(), judge).await
            }
        },
    }
}
