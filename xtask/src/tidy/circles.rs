//! Circles and chains in a graph of a few hundred nodes.

use std::collections::{BTreeMap, BTreeSet};

/// Who depends on whom.
pub(super) type Graph<Node> = BTreeMap<Node, BTreeSet<Node>>;

/// The groups of nodes of which each leads to each: the circles.
pub(super) fn circles<Node: Copy + Ord>(graph: &Graph<Node>) -> Vec<BTreeSet<Node>> {
    let reached: BTreeMap<Node, BTreeSet<Node>> = graph.keys().map(|node| (*node, reach(graph, *node))).collect();
    let leads = |from: Node, to: Node| reached.get(&from).is_some_and(|all| all.contains(&to));
    let mut found: Vec<BTreeSet<Node>> = Vec::new();
    for &node in graph.keys().filter(|node| leads(**node, **node)) {
        if !found.iter().any(|circle| circle.contains(&node)) {
            let with = graph.keys().copied().filter(|other| leads(node, *other) && leads(*other, node));
            found.push(with.collect());
        }
    }
    found
}

/// Everything that `node` leads to.
fn reach<Node: Copy + Ord>(graph: &Graph<Node>, node: Node) -> BTreeSet<Node> {
    let mut reached = BTreeSet::new();
    let mut next = vec![node];
    while let Some(node) = next.pop() {
        next.extend(graph.get(&node).into_iter().flatten().copied().filter(|to| reached.insert(*to)));
    }
    reached
}

/// The longest way through a graph without circles.
pub(super) fn longest<Node: Copy + Ord>(graph: &Graph<Node>) -> Vec<Node> {
    let mut known = BTreeMap::new();
    let ways = graph.keys().map(|node| from(graph, *node, &mut known));
    ways.max_by_key(Vec::len).unwrap_or_default()
}

fn from<Node: Copy + Ord>(graph: &Graph<Node>, node: Node, known: &mut BTreeMap<Node, Vec<Node>>) -> Vec<Node> {
    if let Some(way) = known.get(&node) {
        return way.clone();
    }
    // Who comes back to itself goes no further.
    known.insert(node, vec![node]);
    let ways = graph.get(&node).into_iter().flatten().map(|next| from(graph, *next, known));
    let longest = ways.collect::<Vec<_>>().into_iter().max_by_key(Vec::len).unwrap_or_default();
    let way: Vec<Node> = [node].into_iter().chain(longest).collect();
    known.insert(node, way.clone());
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_and_chains() {
        let graph: Graph<u8> =
            [(1, [2].into()), (2, [3, 4].into()), (3, [2].into()), (4, [5].into()), (5, [].into())].into();
        assert_eq!(circles(&graph), [[2, 3].into()]);
        let graph: Graph<u8> = [(1, [2, 5].into()), (2, [4].into()), (4, [5].into()), (5, [].into())].into();
        assert!(circles(&graph).is_empty());
        assert_eq!(longest(&graph), [1, 2, 4, 5]);
    }
}
