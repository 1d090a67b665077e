//! What the documents of APIs have counted, and what they protect.

use super::{
    Snapshot,
    contracts::{self, ContractLoss},
};
use crate::{policy::validate::openapi::Contract, settings::proxy};

impl Snapshot {
    /// How often deprecated operations of APIs were asked for: the API, the operation, how often.
    pub fn deprecated_calls(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.apis().flat_map(|(api, contract)| {
            contract.deprecated_calls().map(move |(operation, count)| (api, operation, count))
        })
    }

    /// What requests broke of documents that only report: the API, the rule, how often.
    pub fn request_violations(&self) -> impl Iterator<Item = (&str, &'static str, u64)> {
        self.apis().flat_map(|(api, contract)| {
            contract.reported_violations().into_iter().map(move |(rule, count)| (api, rule, count))
        })
    }

    /// How many responses broke the documents of APIs: the API, the operation, how often.
    pub fn response_violations(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.apis().flat_map(|(api, contract)| {
            contract.response_violations().map(move |(operation, count)| (api, operation, count))
        })
    }

    /// How many bodies of responses were not judged, by API.
    pub fn unjudged_responses(&self) -> impl Iterator<Item = (&str, u64)> {
        let all = self.apis().filter(|(_, contract)| contract.judges_responses());
        all.map(|(api, contract)| (api, contract.unjudged_responses()))
    }

    fn apis(&self) -> impl Iterator<Item = (&str, &Contract)> {
        let apis = self.settings.apis.iter().zip(&self.contracts);
        apis.filter_map(|(api, contract)| Some((api.name.as_str(), contract.as_deref()?)))
    }

    /// What it takes away of what the OpenAPI documents of `old` protect.
    #[must_use]
    pub fn losses(&self, old: &proxy::Settings) -> Vec<ContractLoss> {
        contracts::losses(old, &self.settings, &self.contracts)
    }
}
