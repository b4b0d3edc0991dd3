//! What is minimised: Keras's losses, by Keras's names.

use std::fmt;
use std::str::FromStr;

use crate::term::{self, InvalidTerm, Term};

/// A loss. Formulas: `arrowhop_train`'s objective. Its text is Keras's name, with the parameters
/// that are not the default: `huber(delta=0.5)`.
///
/// ```
/// # use arrowhop_types::Loss;
/// assert_eq!("mse".parse(), Ok(Loss::MeanSquaredError));
/// let smoothed: Loss = "BinaryCrossentropy(label_smoothing=0.1)".parse()?;
/// assert_eq!(smoothed.to_string(), "binary_crossentropy(label_smoothing=0.1)");
/// # Ok::<(), arrowhop_types::InvalidTerm>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Cross-entropy between a distribution over classes, or one class, and probabilities.
    CategoricalCrossentropy(Crossentropy),
    /// The same between the index of a class and probabilities.
    SparseCategoricalCrossentropy {
        /// As in [`Crossentropy`].
        from_logits: bool,
    },
    /// Cross-entropy of each output on its own.
    BinaryCrossentropy(Crossentropy),
    /// Mean of squared differences.
    MeanSquaredError,
    /// Mean of absolute differences.
    MeanAbsoluteError,
    /// Mean of absolute differences, in percent of the target.
    MeanAbsolutePercentageError,
    /// Mean of squared differences of logarithms.
    MeanSquaredLogarithmicError,
    /// How far the outputs' distribution is from the target's.
    KullbackLeiblerDivergence,
    /// Of counts and their expected values, but for what depends on the counts alone.
    Poisson,
    /// The negative cosine of the angle between outputs and targets.
    CosineSimilarity,
    /// Hinge of the largest wrong output over the right one.
    CategoricalHinge,
    /// Hinge of each output on its own; targets are −1 or 1, and 0 counts as −1.
    Hinge,
    /// Its square.
    SquaredHinge,
    /// Logarithm of the hyperbolic cosine of the differences.
    LogCosh,
    /// Squared differences up to `delta`, absolute ones beyond.
    Huber {
        /// Where it changes, above 0.
        delta: f64,
    },
}

/// Parameters of a cross-entropy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Crossentropy {
    /// Outputs are before their softmax or sigmoid.
    pub from_logits: bool,
    /// This much of each target, 0 to 1, is spread evenly over all.
    pub label_smoothing: f64,
}

/// Keras's names and the losses with their defaults. The first name of a loss is the one it is
/// written by.
const NAMES: [(&str, Loss); 24] = [
    ("categorical_crossentropy", Loss::CATEGORICAL_CROSSENTROPY),
    ("sparse_categorical_crossentropy", Loss::SPARSE_CATEGORICAL_CROSSENTROPY),
    ("binary_crossentropy", Loss::BINARY_CROSSENTROPY),
    ("bce", Loss::BINARY_CROSSENTROPY),
    ("mean_squared_error", Loss::MeanSquaredError),
    ("mse", Loss::MeanSquaredError),
    ("mean_absolute_error", Loss::MeanAbsoluteError),
    ("mae", Loss::MeanAbsoluteError),
    ("mean_absolute_percentage_error", Loss::MeanAbsolutePercentageError),
    ("mape", Loss::MeanAbsolutePercentageError),
    ("mean_squared_logarithmic_error", Loss::MeanSquaredLogarithmicError),
    ("msle", Loss::MeanSquaredLogarithmicError),
    ("kullback_leibler_divergence", Loss::KullbackLeiblerDivergence),
    ("kl_divergence", Loss::KullbackLeiblerDivergence),
    ("kld", Loss::KullbackLeiblerDivergence),
    ("poisson", Loss::Poisson),
    ("cosine_similarity", Loss::CosineSimilarity),
    ("cosine_proximity", Loss::CosineSimilarity),
    ("categorical_hinge", Loss::CategoricalHinge),
    ("hinge", Loss::Hinge),
    ("squared_hinge", Loss::SquaredHinge),
    ("logcosh", Loss::LogCosh),
    ("log_cosh_error", Loss::LogCosh),
    ("huber", Loss::Huber { delta: 1.0 }),
];

impl Loss {
    /// With Keras's defaults.
    pub const CATEGORICAL_CROSSENTROPY: Self = Self::CategoricalCrossentropy(Crossentropy::DEFAULT);
    /// With Keras's defaults.
    pub const SPARSE_CATEGORICAL_CROSSENTROPY: Self =
        Self::SparseCategoricalCrossentropy { from_logits: false };
    /// With Keras's defaults.
    pub const BINARY_CROSSENTROPY: Self = Self::BinaryCrossentropy(Crossentropy::DEFAULT);

    /// Keras's name of it, without parameters.
    #[must_use]
    pub fn name(&self) -> &'static str {
        let same = std::mem::discriminant(self);
        let named = NAMES.iter().find(|(_, loss)| std::mem::discriminant(loss) == same);
        named.expect("every loss has a name").0
    }

    /// The name of every loss, once.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(|(name, loss)| loss.name() == *name).map(|(name, _)| *name)
    }

    /// Reads a term whose name is a loss's; `None` where it is not.
    pub(crate) fn read(term: &Term) -> Option<Result<Self, InvalidTerm>> {
        let key = term.key();
        let named = NAMES.iter().find(|(name, _)| name.replace('_', "") == key)?;
        Some(named.1.with(term))
    }

    /// This loss with a term's parameters.
    fn with(self, term: &Term) -> Result<Self, InvalidTerm> {
        const FROM_LOGITS: &str = "from_logits";
        const LABEL_SMOOTHING: &str = "label_smoothing";
        let crossentropy = || {
            term.allow(&[FROM_LOGITS, LABEL_SMOOTHING])?;
            let share = |value: f64| (0.0..=1.0).contains(&value);
            let label_smoothing = term.number(LABEL_SMOOTHING, 0.0, "from 0 to 1", share)?;
            Ok(Crossentropy { from_logits: term.flag(FROM_LOGITS)?, label_smoothing })
        };
        match self {
            Self::CategoricalCrossentropy(_) => crossentropy().map(Self::CategoricalCrossentropy),
            Self::BinaryCrossentropy(_) => crossentropy().map(Self::BinaryCrossentropy),
            Self::SparseCategoricalCrossentropy { .. } => {
                term.allow(&[FROM_LOGITS])?;
                let from_logits = term.flag(FROM_LOGITS)?;
                Ok(Self::SparseCategoricalCrossentropy { from_logits })
            }
            Self::Huber { delta } => {
                term.allow(&["delta"])?;
                let positive = |value: f64| value.is_finite() && value > 0.0;
                let delta = term.number("delta", delta, "a number above 0", positive)?;
                Ok(Self::Huber { delta })
            }
            _ => term.allow(&[]).map(|()| self),
        }
    }
}

impl Crossentropy {
    const DEFAULT: Self = Self { from_logits: false, label_smoothing: 0.0 };
}

impl FromStr for Loss {
    type Err = InvalidTerm;

    fn from_str(text: &str) -> Result<Self, InvalidTerm> {
        let term = Term::parse(text)?;
        Self::read(&term).unwrap_or_else(|| {
            let known = Self::names().collect::<Vec<_>>().join(", ");
            Err(InvalidTerm(format!("{:?} is no loss; known: {known}", term.name)))
        })
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |is_set: bool| is_set.then(|| ("from_logits", "true".to_owned()));
        let number = |key: &'static str, value: f64, default: f64| {
            #[expect(clippy::float_cmp, reason = "exactly the default is not written")]
            (value != default).then(|| (key, value.to_string()))
        };
        let parameters = match *self {
            Self::CategoricalCrossentropy(of) | Self::BinaryCrossentropy(of) => {
                [flag(of.from_logits), number("label_smoothing", of.label_smoothing, 0.0)]
            }
            Self::SparseCategoricalCrossentropy { from_logits } => [flag(from_logits), None],
            Self::Huber { delta } => [number("delta", delta, 1.0), None],
            _ => [None, None],
        };
        term::write(f, self.name(), &parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_keras_is_read_and_one_is_written() {
        assert_eq!(Loss::names().count(), 15);
        for (name, loss) in NAMES {
            assert_eq!(name.parse(), Ok(loss));
            assert_eq!(loss.to_string().parse(), Ok(loss));
        }
        for class in ["CategoricalCrossentropy", "KLDivergence", "LogCosh", "MSE", "log_cosh"] {
            assert!(class.parse::<Loss>().is_ok(), "{class}");
        }
    }

    #[test]
    fn parameters_come_back_as_they_went_in() {
        let smoothed = Crossentropy { from_logits: true, label_smoothing: 0.1 };
        let table = [
            (
                Loss::CategoricalCrossentropy(smoothed),
                "categorical_crossentropy(from_logits=true,label_smoothing=0.1)",
            ),
            (
                Loss::SparseCategoricalCrossentropy { from_logits: true },
                "sparse_categorical_crossentropy(from_logits=true)",
            ),
            (Loss::Huber { delta: 0.3 }, "huber(delta=0.3)"),
        ];
        for (loss, text) in table {
            assert_eq!(loss.to_string(), text);
            assert_eq!(text.parse(), Ok(loss));
        }
    }

    #[test]
    fn what_is_no_loss_is_refused_with_what_there_is() {
        let refused = |text: &str| text.parse::<Loss>().unwrap_err().to_string();
        assert!(refused("crossentropy").starts_with("\"crossentropy\" is no loss; known: categ"));
        assert_eq!(refused("mse(delta=1)"), "mse has no parameters, so no delta");
        assert_eq!(refused("huber(delta=0)"), "delta of huber must be a number above 0, not \"0\"");
        assert_eq!(
            refused("bce(label_smoothing=2)"),
            "label_smoothing of bce must be from 0 to 1, not \"2\""
        );
    }
}
