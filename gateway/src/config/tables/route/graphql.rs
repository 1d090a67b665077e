//! Reads `route.graphql`: how much a query of GraphQL may ask for.

use crate::{
    config::{reader::Keys, table::Table, value},
    settings::graphql::GraphqlLimits,
};

/// The keys of `route.graphql`.
const KEYS: Keys = &[
    ("max_depth", "How deep fields may be within fields, fragments included."),
    ("max_aliases", "How many fields a query may ask for under another name."),
    (
        "max_cost",
        "How many fields a query may ask for. Fields below `first`, `last`, `limit` and the like count that many times.",
    ),
    ("max_batch", "How many queries one request may hold."),
    ("introspection", "Whether clients may ask for the schema."),
];

pub(super) fn read(table: &Table<'_>) -> Option<GraphqlLimits> {
    let table = table.table("graphql", KEYS);
    if !table.is_present() {
        return None;
    }
    let default = GraphqlLimits::default();
    let number = |key, default| table.or(key, default, value::integer(1..=1_000_000_u32));
    let limits = GraphqlLimits {
        max_depth: number("max_depth", default.max_depth),
        max_aliases: table.or("max_aliases", default.max_aliases, value::integer(0..=1_000_000_u32)),
        max_cost: number("max_cost", default.max_cost),
        max_batch: number("max_batch", default.max_batch),
        introspection: table.or("introspection", default.introspection, value::boolean()),
    };
    table.finish();
    Some(limits)
}
