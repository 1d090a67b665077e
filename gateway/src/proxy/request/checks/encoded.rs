//! Bodies with a `Content-Encoding`: whether they are decoded for those who judge them, and what becomes of those that cannot
//! be.
//!
//! *Invariant:* whoever refuses what is wrong sees a body decoded, or the request is refused. Nobody judges encoded bytes.

use bytes::Bytes;
use http::request::Parts;

use super::{
    contract::{self, BodyRule},
    inspect::Inspection,
};
use crate::{
    policy::validate::coding::ContentCoding,
    proxy::{generation::Generation, request::exchange::Exchange},
    refusal::{Refusal, Reject},
    settings::validate::ContentEncoding,
    snapshot::CompiledRoute,
};

/// What judges a body.
pub(in crate::proxy::request) struct Readers {
    pub(in crate::proxy::request) rule: Option<BodyRule>,
    pub(in crate::proxy::request) inspection: Inspection,
}

impl Readers {
    /// Whether anything does.
    pub(in crate::proxy::request) fn are_none(&self, route: &CompiledRoute) -> bool {
        self.rule.is_none() && route.graphql.is_none() && self.inspection == Inspection::Head
    }

    /// How the body is to be decoded before it is judged.
    ///
    /// # Errors
    /// It cannot be decoded, or is not to be, and what cannot be judged must not pass.
    pub(in crate::proxy::request) fn coding(
        &mut self,
        route: &CompiledRoute,
        head: &Parts,
        exchange: &mut Exchange,
    ) -> Result<Option<ContentCoding>, Refusal> {
        let refusal = match (ContentCoding::of(&head.headers), route.content_encoding) {
            (Ok(None), _) => return Ok(None),
            (_, None | Some(ContentEncoding::Inspect)) if self.are_none(route) => return Ok(None),
            (Ok(coding), Some(ContentEncoding::Decode | ContentEncoding::Inspect)) => return Ok(coding),
            (Ok(_), None | Some(ContentEncoding::Refuse)) => {
                Refusal::new(Reject::UnsupportedMediaType, "Content-Encoding")
            }
            (Err(refusal), _) => refusal,
        };
        self.miss(route, refusal, exchange)?;
        Ok(None)
    }

    /// The body decoded. `None`: it cannot be, and what would judge it only reports.
    ///
    /// # Errors
    /// It cannot be decoded within the limits, and what cannot be judged must not pass.
    pub(in crate::proxy::request) async fn decode(
        &mut self,
        (generation, route): (&Generation, &CompiledRoute),
        (coding, body, largest): (ContentCoding, &Bytes, u64),
        exchange: &mut Exchange,
    ) -> Result<Option<Bytes>, Refusal> {
        let encoded = body.clone();
        // A small body can become a large one: no worker waits for that.
        match generation.validators().run(move || coding.decode(&encoded, largest)).await.flatten() {
            Ok(decoded) => Ok(Some(decoded.into())),
            Err(refusal) => self.miss(route, refusal, exchange).map(|()| None),
        }
    }

    /// The body will not be judged: that is refused, or reported by all that would have judged it.
    fn miss(&mut self, route: &CompiledRoute, refusal: Refusal, exchange: &mut Exchange) -> Result<(), Refusal> {
        let rule_enforces = match &self.rule {
            Some(BodyRule::Contract(..)) => !route.is_report_only,
            Some(BodyRule::Form(_) | BodyRule::Schema(_)) => true,
            None => false,
        };
        let waf = route.waf.as_ref().filter(|_| self.inspection != Inspection::Head);
        let refuses = matches!(route.content_encoding, Some(ContentEncoding::Decode | ContentEncoding::Refuse));
        if refuses || rule_enforces || route.graphql.is_some() || waf.is_some_and(|waf| waf.enforces()) {
            return Err(refusal);
        }
        if let Some(waf) = waf {
            let detail = format!("waf {}: not inspected: {}", waf.name(), refusal.detail);
            exchange.outcome.would_deny.get_or_insert(("waf", detail.into()));
            waf.skip();
        }
        if self.rule.is_some() {
            contract::report(route, refusal, exchange);
        }
        *self = Self { rule: None, inspection: Inspection::Head };
        Ok(())
    }
}
