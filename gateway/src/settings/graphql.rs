//! `route.graphql`: how much a query of GraphQL may ask for.

/// Limits on queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphqlLimits {
    /// Fields within fields. `max_depth`.
    pub max_depth: u32,
    /// Fields under another name. `max_aliases`.
    pub max_aliases: u32,
    /// Fields, those of a list as often as it has elements. `max_cost`.
    pub max_cost: u32,
    /// Queries of one request. `max_batch`.
    pub max_batch: u32,
    /// Whether the schema may be asked for. `introspection`.
    pub introspection: bool,
}

impl Default for GraphqlLimits {
    fn default() -> Self {
        Self { max_depth: 10, max_aliases: 15, max_cost: 1_000, max_batch: 1, introspection: false }
    }
}
