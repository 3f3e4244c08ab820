//! Names that stand on the metrics page as labels. There is a bounded number of them, whoever makes them up.
//!
//! Each combination of labels is a series that a monitoring system keeps for weeks. Names come from clients, so a
//! name is let in only once the upstream has answered a request with it well, and only while there is a place.
//! It then stays for the run: a counter that vanished and came back would look like a restart.

/// The most models that have a label of their own.
pub const MODELS_MAX: usize = 32;

/// The most credentials that have a label of their own.
pub const CREDENTIALS_MAX: usize = 16;

/// The longest name in a label. What is cut off of two names makes them one label.
pub const LABEL_CHARS_MAX: usize = 80;

/// Stands for everything that has no label of its own.
pub const OTHER: &str = "other";

/// The names that have a label of their own, by when they came.
#[derive(Debug)]
pub struct Labels<T> {
    known: Vec<T>,
    known_max: usize,
}

impl<T: PartialEq> Labels<T> {
    /// No names, and room for so many.
    pub fn new(known_max: usize) -> Self {
        Self { known: Vec::new(), known_max }
    }

    /// The place of a name that has one.
    pub fn find(&self, is_it: impl Fn(&T) -> bool) -> Option<usize> {
        self.known.iter().position(is_it)
    }

    /// Gives a name a place, if it has none yet and there is one left. Whether it was so.
    pub fn introduce(&mut self, name: T) -> bool {
        let is_new = self.known.len() < self.known_max && !self.known.contains(&name);
        if is_new {
            self.known.push(name);
        }
        is_new
    }

    /// Every name that has a place, in the order of the places.
    pub fn known(&self) -> &[T] {
        &self.known
    }
}

/// A name as a label shows it.
pub fn shortened(name: &str) -> &str {
    name.char_indices().nth(LABEL_CHARS_MAX).map_or(name, |(end, _)| &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_have_a_place_and_keep_it() {
        let mut labels = Labels::new(2);
        assert_eq!(["a", "b", "a", "c"].map(|name| labels.introduce(name)), [true, true, false, false]);
        assert_eq!(labels.known(), ["a", "b"]);
        assert_eq!((labels.find(|it| *it == "b"), labels.find(|it| *it == "c")), (Some(1), None));
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let name = "\u{e9}".repeat(LABEL_CHARS_MAX);
        assert_eq!(shortened(&name), name);
        assert_eq!(shortened(&format!("{name}x")), name);
    }
}
