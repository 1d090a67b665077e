//! What a subschema has to know of those that apply it: which members of its value are read-only, and what is a file.

use std::{collections::BTreeSet, sync::Arc};

use super::read_only_members::ReadOnlyMembers;

/// What a subschema has to know of those that apply it. Of two that differ, one schema makes two nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Inherited {
    /// Members of the value that are read-only, whatever holds of the value.
    pub(super) read_only: BTreeSet<Box<str>>,
    /// Those that are so by what this is an alternative within.
    pub(super) read_only_outside: BTreeSet<Box<str>>,
    /// Those that are so by one alternative and not by another.
    pub(super) doubtful: BTreeSet<Box<str>>,
    /// The members that are files: of a multipart body.
    files: Arc<[Box<str>]>,
    /// Whether the value stands for a file, or for several.
    pub(super) is_file: bool,
}

/// What the value of a subschema is to that of the schema that applies it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Applied<'a> {
    /// The same, if this alternative holds.
    Alternative,
    /// The same, if a discriminator leads here. Such a schema has its parent in `allOf`, and learns of it there.
    Child,
    /// An element of it.
    Element,
    /// Its member of this name.
    Member(&'a str),
    /// Something of it that no document names.
    Other,
    /// The same, and whether it holds is only asked.
    Question,
    /// The same.
    Same,
}

impl Inherited {
    /// That of a whole body.
    pub(super) fn of_body(files: Arc<[Box<str>]>) -> Self {
        Self { files, ..Self::default() }
    }

    /// That of a subschema of a schema which says that `own` are read-only.
    pub(super) fn of(self: &Arc<Self>, applied: Applied<'_>, own: &ReadOnlyMembers) -> Arc<Self> {
        let files = || Arc::clone(&self.files);
        let of_file = |is_file| Arc::new(Self { is_file, ..Self::default() });
        match applied {
            Applied::Same if own.is_empty() => Arc::clone(self),
            Applied::Same => Arc::new(Self {
                read_only: self.read_only.union(&own.all).cloned().collect(),
                doubtful: self.doubtful.union(&own.some).cloned().collect(),
                ..Self::clone(self)
            }),
            Applied::Alternative => Arc::new(Self {
                read_only: BTreeSet::new(),
                read_only_outside: [&self.read_only, &self.read_only_outside, &own.all]
                    .into_iter()
                    .flatten()
                    .cloned()
                    .collect(),
                doubtful: BTreeSet::new(),
                files: files(),
                is_file: self.is_file,
            }),
            Applied::Child | Applied::Question => {
                Arc::new(Self { files: files(), is_file: self.is_file, ..Self::default() })
            }
            Applied::Element => of_file(self.is_file),
            Applied::Member(name) => of_file(self.files.iter().any(|file| **file == *name)),
            Applied::Other => of_file(false),
        }
    }
}
