//! Holds what upstreams answer against the document of their API. What breaks it is counted and logged, and passes as it is.
//!
//! *Invariant:* nothing waits for it: a body is copied as it passes, up to a limit, and judged behind its last byte.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, header, response};

use crate::{
    os::clock::Now,
    policy::validate::openapi::{Contract, LARGEST_RESPONSE, OperationId, ResponseFault, ResponseSchema},
    proxy::request::exchange::Exchange,
    text::digits::decimal,
    web::request_id::RequestId,
};

/// The body of a response, as much of it as has passed.
pub(in crate::proxy::request) struct ResponseCopy {
    contract: Arc<Contract>,
    operation: OperationId,
    id: RequestId,
    schema: ResponseSchema,
    bytes: Vec<u8>,
}

impl ResponseCopy {
    /// Judges the head of a response. `None`: nothing of its body is to be judged.
    pub(in crate::proxy::request) fn begin(
        exchange: &Exchange,
        head: &response::Parts,
        has_body: bool,
    ) -> Option<Box<Self>> {
        let contract = exchange.compiled_route()?.contract.as_ref().filter(|contract| contract.judges_responses())?;
        let operation = exchange.routing.operation?;
        let is_head = exchange.request.line.as_ref().is_some_and(|(method, _, _)| *method == Method::HEAD);
        let schema = match contract.judge_response(operation, head.status, &head.headers, has_body && !is_head) {
            Ok(schema) => schema?,
            Err(fault) => {
                note(contract, operation, exchange.id, &fault);
                return None;
            }
        };
        if !is_readable(&head.headers) || !contract.begin_copy() {
            contract.note_unjudged();
            return None;
        }
        let (contract, id) = (Arc::clone(contract), exchange.id);
        Some(Box::new(Self { contract, operation, id, schema, bytes: Vec::new() }))
    }

    /// One more piece passes. `false`: the body is too long to be judged.
    pub(in crate::proxy::request) fn add(&mut self, piece: &Bytes) -> bool {
        let fits = self.bytes.len() + piece.len() <= LARGEST_RESPONSE;
        if fits {
            self.bytes.extend_from_slice(piece);
        } else {
            self.contract.note_unjudged();
        }
        fits
    }

    /// The whole body has passed.
    pub(in crate::proxy::request) fn judge(&self) {
        if let Err(fault) = self.contract.judge_response_body(self.schema, &self.bytes) {
            note(&self.contract, self.operation, self.id, &fault);
        }
    }
}

impl Drop for ResponseCopy {
    fn drop(&mut self) {
        self.contract.end_copy();
    }
}

/// Whether a body can be read as it comes, and is not known to be too long.
fn is_readable(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| decimal(length.to_str().ok()?));
    !headers.contains_key(header::CONTENT_ENCODING) && length.is_none_or(|length: usize| length <= LARGEST_RESPONSE)
}

fn note(contract: &Contract, operation: OperationId, id: RequestId, fault: &ResponseFault) {
    if contract.note_response(operation, Now::read().monotonic / 1_000_000_000) {
        let ResponseFault { rule, place } = fault;
        let operation = contract.name(operation);
        tracing::warn!(operation, rule, place, request_id = %id, "a response breaks the document of its API");
    }
}
