//! Values at numbered places. A place that becomes free is used again.

/// Values at numbered places.
#[derive(Debug)]
pub(in crate::proxy) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    pub(in crate::proxy) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// Puts `value` into a place. Which.
    #[inline]
    pub(in crate::proxy) fn insert(&mut self, value: T) -> usize {
        if let Some(free) = self.free.pop() {
            if let Some(place) = self.places.get_mut(free) {
                *place = Some(value);
            }
            return free;
        }
        self.places.push(Some(value));
        self.places.len() - 1
    }

    /// Frees a place. What was there.
    #[inline]
    pub(in crate::proxy) fn remove(&mut self, place: usize) -> Option<T> {
        let value = self.places.get_mut(place)?.take()?;
        self.free.push(place);
        Some(value)
    }

    #[inline]
    pub(in crate::proxy) fn at_mut(&mut self, place: usize) -> Option<&mut T> {
        self.places.get_mut(place)?.as_mut()
    }

    /// All values.
    pub(in crate::proxy) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().filter_map(Option::as_mut)
    }

    /// All values.
    pub(in crate::proxy) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again() {
        let mut slab = Slab::new();
        assert_eq!((slab.insert('a'), slab.insert('b'), slab.insert('c')), (0, 1, 2));
        assert_eq!((slab.remove(1), slab.remove(1), slab.remove(7)), (Some('b'), None, None));
        assert_eq!(slab.at_mut(1), None);
        assert_eq!((slab.insert('d'), slab.insert('e')), (1, 3));
        assert_eq!(slab.at_mut(1), Some(&mut 'd'));
        assert_eq!(slab.iter().collect::<String>(), "adce");
    }
}
