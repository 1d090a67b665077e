//! Measures a document: how deep it goes, how many aliases it has, and what it costs.

use std::collections::HashMap;

use serde_json::Value;

use super::document::{self, Count, Fallback, GraphqlDocument, Selection};

/// What a document asks for: of its dearest operation, with its fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measure {
    /// Fields within fields.
    pub(super) depth: u64,
    pub(super) aliases: u64,
    /// Fields, those of a list as often as it has elements.
    pub(super) cost: u64,
    /// It asks for the schema.
    pub(super) introspects: bool,
}

/// A fragment may not be within itself.
#[derive(Clone, Copy)]
enum State {
    Done(Measure),
    Open,
}

impl Measure {
    /// Measures every operation; `variables` are those of the request.
    pub(super) fn of(document: &GraphqlDocument<'_>, variables: &Value) -> Result<Self, &'static str> {
        let mut all = Self::default();
        let (mut steps, mut within) = (MOST_STEPS, HashMap::new());
        for (set, defaults) in &document.operations {
            let mut walk =
                Walk { document, variables, defaults, fragments: HashMap::new(), within: &mut within, steps };
            let found = walk.set(*set, 0)?;
            steps = walk.steps;
            all = Self {
                depth: all.depth.max(found.depth),
                aliases: all.aliases.max(found.aliases),
                cost: all.cost.max(found.cost),
                introspects: all.introspects || found.introspects,
            };
        }
        Ok(all)
    }

    /// Both, one beside the other.
    const fn and(self, other: Self) -> Self {
        Self {
            depth: if self.depth > other.depth { self.depth } else { other.depth },
            aliases: self.aliases.saturating_add(other.aliases),
            cost: self.cost.saturating_add(other.cost),
            introspects: self.introspects || other.introspects,
        }
    }
}

/// How many sets may be open within one another, fragments included.
const DEEPEST: usize = 512;

/// How many selections are looked at, of all operations together: each of them has the fragments anew.
const MOST_STEPS: u32 = 200_000;

struct Walk<'a, 'w> {
    document: &'a GraphqlDocument<'a>,
    variables: &'a Value,
    defaults: &'a HashMap<&'a str, Fallback>,
    fragments: HashMap<&'a str, State>,
    /// The largest count in each variable that is an object, once it was looked for.
    within: &'w mut HashMap<&'a str, u64>,
    /// How many are left.
    steps: u32,
}

impl<'a> Walk<'a, '_> {
    fn set(&mut self, set: usize, open: usize) -> Result<Measure, &'static str> {
        if open > DEEPEST {
            return Err("the document is nested too deep");
        }
        let document = self.document;
        let mut sum = Measure::default();
        for selection in document.sets.get(set).into_iter().flatten() {
            self.steps = self.steps.checked_sub(1).ok_or("the operations use too many fragments")?;
            let one = match selection {
                Selection::Inline(set) => self.set(*set, open + 1)?,
                Selection::Spread(name) => self.fragment(name, open)?,
                Selection::Field { name, is_aliased, counts, set } => {
                    let below = set.map_or(Ok(Measure::default()), |set| self.set(set, open + 1))?;
                    let mut times = 1;
                    for count in counts {
                        times = self.number(*count)?.max(times);
                    }
                    Measure {
                        depth: below.depth.saturating_add(1),
                        aliases: below.aliases.saturating_add(u64::from(*is_aliased)),
                        cost: below.cost.saturating_mul(times).saturating_add(1),
                        introspects: below.introspects || matches!(*name, "__schema" | "__type"),
                    }
                }
            };
            sum = sum.and(one);
        }
        Ok(sum)
    }

    fn fragment(&mut self, name: &'a str, open: usize) -> Result<Measure, &'static str> {
        match self.fragments.get(name) {
            Some(State::Done(measure)) => return Ok(*measure),
            Some(State::Open) => return Err("a fragment is within itself"),
            None => {}
        }
        let set = *self.document.fragments.get(name).ok_or("a fragment is missing")?;
        self.fragments.insert(name, State::Open);
        let measure = self.set(set, open + 1)?;
        self.fragments.insert(name, State::Done(measure));
        Ok(measure)
    }

    /// How many elements a list has. What is no number counts as one, as a size of a name does: `size: LARGE`.
    fn number(&mut self, count: Count<'a>) -> Result<u64, &'static str> {
        const QUOTED: &str = "a count is a number between quotes";
        let name = match count {
            Count::Number(number) => return Ok(number),
            Count::Quoted => return Err(QUOTED),
            Count::Variable(name) => name,
            Count::Within(name) => return Ok(self.within(name)),
        };
        match self.variables.get(name) {
            Some(Value::Number(number)) => Ok(document::number(&number.to_string())),
            Some(Value::String(text)) if document::is_numeric(text) => Err(QUOTED),
            None | Some(Value::Null) => Ok(self.defaults.get(name).and_then(|default| default.number).unwrap_or(1)),
            Some(_) => Ok(1),
        }
    }

    /// The largest count in a variable that is an object.
    fn within(&mut self, name: &'a str) -> u64 {
        match self.variables.get(name) {
            None | Some(Value::Null) => self.defaults.get(name).map_or(1, |default| default.within),
            Some(value) => *self.within.entry(name).or_insert_with(|| largest(value)),
        }
    }
}

/// The largest count in a value. It is no deeper than the JSON that is read.
fn largest(value: &Value) -> u64 {
    let count = |(name, value): (&String, &Value)| match value {
        Value::Number(number) if document::is_count(name) => document::number(&number.to_string()),
        Value::String(text) if document::is_count(name) => document::leading(text),
        value => largest(value),
    };
    match value {
        Value::Array(elements) => elements.iter().map(largest).max().unwrap_or_default(),
        Value::Object(members) => members.iter().map(count).max().unwrap_or_default(),
        _ => 0,
    }
}
