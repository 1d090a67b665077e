//! What a request body consists of, once it is taken apart.

use std::{borrow::Cow, iter, ops::Range};

/// The most values that are taken out of one request.
pub(super) const MOST_VALUES: usize = 1_000;

/// A name and its value.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// What a body consists of.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Fields of forms and multipart, and every scalar of JSON by its path.
    pub(super) fields: Vec<Pair>,
    /// Names of fields by which files come, and the names of the files.
    pub(super) files: Vec<Pair>,
    /// Names of fields whose content is not looked at: of files, and of what is no text.
    pub(super) unread: Vec<Vec<u8>>,
    /// The sizes of files together.
    pub(super) files_size: usize,
    /// Where in the body what is no text stands: nothing of it is looked at.
    pub(super) binary: Vec<Range<usize>>,
    /// Headers of parts, by the names of their fields.
    pub(super) part_headers: Vec<Pair>,
    /// The text of XML, and where in it the text of each element ends.
    pub(super) text: Vec<u8>,
    pub(super) text_ends: Vec<usize>,
    /// The values of attributes.
    pub(super) attributes: Vec<Vec<u8>>,
    /// Comments, instructions and declarations.
    pub(super) asides: Vec<Vec<u8>>,
    /// Why it is not what it says it is.
    pub(super) error: Option<&'static str>,
    /// There are more values than are inspected.
    pub(super) is_cut: bool,
    /// It has an encoding in which nothing is inspected.
    pub(super) is_foreign: bool,
}

impl Parts {
    /// Those of a body that is no text.
    pub(super) fn binary(body: &[u8]) -> Self {
        Self { binary: iter::once(0..body.len()).collect(), ..Self::default() }
    }

    /// What of `body` is text. All of it, where nobody knows where its parts begin.
    pub(super) fn text_of<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        if self.binary.is_empty() || self.error.is_some() {
            return Cow::Borrowed(body);
        }
        let ends = self.binary.iter().map(|range| range.start).chain([body.len()]);
        let begins = [0].into_iter().chain(self.binary.iter().map(|range| range.end));
        begins.zip(ends).flat_map(|(begin, end)| body.get(begin..end).unwrap_or_default()).copied().collect()
    }

    /// The text of each element.
    pub(super) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        let begins = iter::once(0).chain(self.text_ends.iter().copied());
        begins.zip(&self.text_ends).filter_map(|(begin, &end)| self.text.get(begin..end))
    }
}
