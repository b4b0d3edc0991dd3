//! The words that stand for enums in the catalog's columns.

use arrowhop_types::{CheckpointPolicy, Direction, Dtype, Part, TrainMetrics, VisitKind};

use crate::VisitState;

/// An enum that a column holds as one of a few words.
pub(crate) trait Word: Copy + 'static {
    /// Every value.
    const ALL: &'static [Self];

    /// The value's word.
    fn word(self) -> &'static str;

    /// The value of a word.
    fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.word() == word)
    }
}

impl Word for Dtype {
    const ALL: &'static [Self] = &[Self::U8, Self::I32, Self::F32];

    fn word(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::F32 => "f32",
        }
    }
}

impl Word for Part {
    const ALL: &'static [Self] = &[Self::Train, Self::Validation];

    fn word(self) -> &'static str {
        self.name()
    }
}

impl Word for Direction {
    const ALL: &'static [Self] = &[Self::Minimize, Self::Maximize];

    fn word(self) -> &'static str {
        match self {
            Self::Minimize => "minimize",
            Self::Maximize => "maximize",
        }
    }
}

impl Word for TrainMetrics {
    const ALL: &'static [Self] = &[Self::Evaluate, Self::Running];

    fn word(self) -> &'static str {
        match self {
            Self::Evaluate => "evaluate",
            Self::Running => "running",
        }
    }
}

impl Word for CheckpointPolicy {
    const ALL: &'static [Self] = &[Self::EveryVisit, Self::EveryEpoch];

    fn word(self) -> &'static str {
        match self {
            Self::EveryVisit => "every visit",
            Self::EveryEpoch => "every epoch",
        }
    }
}

impl Word for VisitKind {
    const ALL: &'static [Self] = &[Self::Train, Self::Evaluate];

    fn word(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Evaluate => "evaluate",
        }
    }
}

impl Word for VisitState {
    const ALL: &'static [Self] =
        &[Self::Intended, Self::Committed, Self::RolledBack, Self::Abandoned];

    fn word(self) -> &'static str {
        self.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_words_are_distinct<W: Word + PartialEq + std::fmt::Debug>() {
        for value in W::ALL {
            assert_eq!(W::of(value.word()), Some(*value));
        }
        assert_eq!(W::of("something else"), None);
    }

    #[test]
    fn a_word_names_one_value() {
        assert_words_are_distinct::<Dtype>();
        assert_words_are_distinct::<Part>();
        assert_words_are_distinct::<Direction>();
        assert_words_are_distinct::<TrainMetrics>();
        assert_words_are_distinct::<CheckpointPolicy>();
        assert_words_are_distinct::<VisitKind>();
        assert_words_are_distinct::<VisitState>();
    }
}
