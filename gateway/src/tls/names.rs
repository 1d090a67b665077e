//! A map by host name: the entry for exactly that name, else the one for `*.` and what is behind its first label
//! (RFC 9525 6.3). Thousands of names cost what one does.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
};

/// A value for each of many names.
pub(super) struct Names<T> {
    exact: HashMap<Box<str>, T>,
    /// By what is behind `*.`.
    wildcards: HashMap<Box<str>, T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcards: HashMap::new() }
    }
}

impl<T> fmt::Debug for Names<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} names", self.exact.len() + self.wildcards.len())
    }
}

impl<T> Names<T> {
    /// Enters `name`, in lower case. The value that it has already stays, and is returned.
    pub(super) fn enter(&mut self, name: &str, value: T) -> Option<&T> {
        let (map, name) = match name.strip_prefix("*.") {
            Some(behind) => (&mut self.wildcards, behind),
            None => (&mut self.exact, name),
        };
        match map.entry(name.into()) {
            Entry::Occupied(there) => Some(there.into_mut()),
            Entry::Vacant(free) => {
                free.insert(value);
                None
            }
        }
    }

    /// What `host`, in lower case, has.
    pub(super) fn find(&self, host: &str) -> Option<&T> {
        let behind = || self.wildcards.get(host.split_once('.')?.1);
        self.exact.get(host).or_else(behind)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_before_wildcard() {
        let mut names = Names::default();
        for (value, name) in ["a.example", "*.example", "*.b.example", "x.b.example"].into_iter().enumerate() {
            assert_eq!(names.enter(name, value), None);
        }
        assert_eq!(names.enter("*.example", 9), Some(&1));
        for (host, expect) in [
            ("a.example", Some(0)),
            ("b.example", Some(1)),
            ("c.b.example", Some(2)),
            ("x.b.example", Some(3)),
            ("y.x.b.example", None),
            ("example", None),
            ("*.example", Some(1)),
            ("", None),
            (".example", Some(1)),
        ] {
            assert_eq!(names.find(host), expect.as_ref(), "{host}");
        }
    }

    #[test]
    fn thousands() {
        let mut names = Names::default();
        for number in 0..10_000 {
            names.enter(&format!("host{number}.example"), number);
        }
        assert_eq!((names.find("host9999.example"), names.find("host10000.example")), (Some(&9_999), None));
    }
}
