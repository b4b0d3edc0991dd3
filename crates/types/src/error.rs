//! Error classes: what a caller may do about a failure, whatever crate it came from.

use std::fmt;

/// What a failure means to the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The request is wrong and will stay wrong.
    Invalid,
    /// The thing asked for does not exist.
    Missing,
    /// The request is right, but not in this state.
    Conflict,
    /// A limit was reached; later it may go through.
    Overloaded,
    /// The peer could not be reached, or did not answer in time.
    Unavailable,
    /// A fault of ours.
    Bug,
}

/// Says which class an error is of. Each crate's error implements it.
pub trait Classify {
    /// The class of this error.
    fn class(&self) -> ErrorClass;
}

/// One thing wrong with an input: where, what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// File, field, column, row or JSON pointer.
    pub place: String,
    /// What is wrong there, and the next step.
    pub text: String,
}

/// Everything wrong with an input, found in one pass, so that it can be mended in one pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(Vec<Problem>);

/// More problems than this are counted, not kept: an input can be wrong in every row.
const PROBLEMS_MAX: usize = 50;

impl Problems {
    /// No problems yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Just one problem.
    #[must_use]
    pub fn one(place: impl Into<String>, text: impl Into<String>) -> Self {
        let mut problems = Self::new();
        problems.push(place, text);
        problems
    }

    /// Adds a problem; beyond fifty it is dropped and a closing line says so.
    pub fn push(&mut self, place: impl Into<String>, text: impl Into<String>) {
        match self.0.len() {
            n if n < PROBLEMS_MAX => {
                self.0.push(Problem { place: place.into(), text: text.into() });
            }
            PROBLEMS_MAX => self.0.push(Problem {
                place: "…".into(),
                text: format!("and more: only the first {PROBLEMS_MAX} problems are listed"),
            }),
            _ => {}
        }
    }

    /// Adds all of `others`, each place prefixed with `prefix`.
    pub fn extend(&mut self, prefix: &str, others: &Self) {
        for problem in &others.0 {
            self.push(format!("{prefix}{}", problem.place), problem.text.clone());
        }
    }

    /// Whether no more are kept: what is left of a long input need not be looked at.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.len() > PROBLEMS_MAX
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The problems, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// `value` when nothing is wrong, else all problems.
    ///
    /// # Errors
    /// The problems themselves.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let end = if i + 1 < self.0.len() { "\n" } else { "" };
            write!(f, "{}: {}{end}", problem.place, problem.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Classify for Problems {
    fn class(&self) -> ErrorClass {
        ErrorClass::Invalid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_bounded_and_say_so() {
        let mut problems = Problems::new();
        for row in 0..1_000 {
            problems.push(format!("row {row}"), "is null");
        }
        assert_eq!(problems.iter().count(), PROBLEMS_MAX + 1);
        assert!(problems.is_full() && !Problems::one("a", "b").is_full());
        assert!(problems.to_string().ends_with("only the first 50 problems are listed"));
    }
}
