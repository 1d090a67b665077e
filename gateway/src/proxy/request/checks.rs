//! What is asked of a request on its way: limits, contract, attacks, priority. Each check asks its policy.

pub(super) mod contract;
pub(super) mod encoded;
pub(super) mod inspect;
pub(super) mod limited;
pub(super) mod looked;
pub(super) mod lookup;
pub(super) mod priority;
pub(super) mod withdrawn;
