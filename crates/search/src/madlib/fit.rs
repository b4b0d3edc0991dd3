//! MADlib's fit parameters: `batch_size=32, epochs=1`.

use std::fmt;

use arrowhop_types::Problems;

use super::Noted;
use super::arguments::Arguments;
use super::literal::Literal;

const KNOWN: &str = "batch_size, epochs, verbose, shuffle, class_weight, initial_epoch, \
                     steps_per_epoch, callbacks";
const REFUSED: [(&str, &str); 5] = [
    ("validation_split", "validation rows are the data's; see [data]"),
    ("validation_data", "validation rows are the data's; see [data]"),
    ("validation_steps", "validation is over all rows"),
    ("validation_freq", "validation follows each epoch"),
    ("sample_weight", "rows have no weights here"),
];
const TENSORBOARD: [&str; 7] = [
    "log_dir",
    "histogram_freq",
    "batch_size",
    "update_freq",
    "write_graph",
    "write_grad",
    "write_images",
];
/// Keras's own.
const USUAL_BATCH_ROWS: u32 = 32;

/// How a model is fitted to a shard at each visit, as MADlib takes it in one text.
#[derive(Debug, Clone, PartialEq)]
pub struct FitParams {
    /// Rows per batch.
    pub batch_rows: u32,
    /// Passes over the shard in one visit: Keras's epochs.
    pub passes: u32,
    /// What the rows of a class, by its number, count for; those that are not here count 1.
    pub class_weight: Vec<(u32, f64)>,
}

impl FitParams {
    /// Reads a text as MADlib does. An empty one has Keras's defaults.
    ///
    /// # Errors
    /// All that MADlib or Keras refuses, by the key, and what has no place here.
    pub fn parse(text: &str) -> Result<Noted<Self>, Problems> {
        let mut arguments = Arguments::parse(text)?;
        let mut problems = Problems::new();
        let mut warnings = Vec::new();
        let mut read = Reader { arguments: &mut arguments, problems: &mut problems };
        let batch_rows = read.count("batch_size", 1).unwrap_or(USUAL_BATCH_ROWS);
        let epochs = read.count("epochs", 1).unwrap_or(1);
        let initial_epoch = read.count("initial_epoch", 0).unwrap_or(0);
        let passes = epochs.saturating_sub(initial_epoch);
        if passes == 0 {
            let text = format!("{initial_epoch} leaves none of {epochs} epochs");
            read.problems.push("initial_epoch", text);
        }
        let _ = read.literal("verbose");
        if let Some(shuffle) = read.literal("shuffle").filter(|shuffle| !is_true(shuffle)) {
            let text = format!("{shuffle} is not done here: rows come in a new order in each pass");
            read.problems.push("shuffle", text);
        }
        if let Some(steps) = read.literal("steps_per_epoch").filter(|steps| !is_none(steps)) {
            let text = format!("{steps} is not done here: a pass is over all rows of a shard");
            read.problems.push("steps_per_epoch", text);
        }
        let class_weight = read.class_weight();
        if let Some(text) = arguments.take("callbacks") {
            match callbacks(text) {
                Ok(warning) => warnings.push(warning),
                Err(text) => problems.push("callbacks", text),
            }
        }
        arguments.finish(&REFUSED, KNOWN, &mut problems);
        problems.or(Noted { value: Self { batch_rows, passes, class_weight }, warnings })
    }
}

struct Reader<'a, 'b> {
    arguments: &'b mut Arguments<'a>,
    problems: &'b mut Problems,
}

impl Reader<'_, '_> {
    fn literal(&mut self, key: &str) -> Option<Literal> {
        let text = self.arguments.take(key)?;
        let read = Literal::parse(text);
        read.map_err(|error| {
            self.problems.push(key, format!("invalid input value {text}: {error}"));
        })
        .ok()
    }

    /// A whole number; none where it is left to Keras.
    fn count(&mut self, key: &str, least: u32) -> Option<u32> {
        let literal = self.literal(key).filter(|literal| !is_none(literal))?;
        let count = match literal {
            Literal::Whole(count) => u32::try_from(count).ok().filter(|count| *count >= least),
            _ => None,
        };
        if count.is_none() {
            let text = format!("must be a whole number from {least}, not {literal}");
            self.problems.push(key, text);
        }
        count
    }

    fn class_weight(&mut self) -> Vec<(u32, f64)> {
        let Some(literal) = self.literal("class_weight").filter(|literal| !is_none(literal)) else {
            return Vec::new();
        };
        let weight = |(class, weight): &(Literal, Literal)| match (class, weight) {
            (Literal::Whole(class), weight) => {
                let weight = match *weight {
                    Literal::Number(number) => number,
                    #[expect(clippy::cast_precision_loss, reason = "weights are small")]
                    Literal::Whole(whole) => whole as f64,
                    _ => return None,
                };
                let is_weight = weight.is_finite() && weight >= 0.0;
                Some((u32::try_from(*class).ok()?, weight)).filter(|_| is_weight)
            }
            _ => None,
        };
        let weights = match &literal {
            Literal::Dictionary(entries) => entries.iter().map(weight).collect(),
            _ => None,
        };
        weights.unwrap_or_else(|| {
            let text = format!("{literal} is not a dictionary from classes' numbers to weights");
            self.problems.push("class_weight", text);
            Vec::new()
        })
    }
}

fn is_none(literal: &Literal) -> bool {
    *literal == Literal::None
}

fn is_true(literal: &Literal) -> bool {
    matches!(literal, Literal::Flag(true) | Literal::Whole(1))
}

/// Checks callbacks as MADlib does, and says what becomes of them.
fn callbacks(text: &str) -> Result<String, String> {
    let text = text.trim_matches('\'');
    let list = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let call = list.and_then(|list| list.trim().strip_suffix(')')?.split_once('('));
    let Some((name, arguments)) = call else {
        return Err(format!("{text} is not a list of one callback, like [TensorBoard(...)]"));
    };
    if name.trim() != "TensorBoard" {
        return Err(format!("only TensorBoard is accepted, not {}", name.trim()));
    }
    let mut arguments = Arguments::parse(arguments).map_err(|found| found.to_string())?;
    let mut log_dir = None;
    for key in TENSORBOARD {
        if let Some(value) = arguments.take(key) {
            let value = Literal::parse(value).map_err(|error| format!("{key}: {error}"))?;
            log_dir = log_dir.or((key == "log_dir").then_some(value));
        }
    }
    let mut problems = Problems::new();
    arguments.finish(&[], &TENSORBOARD.join(", "), &mut problems);
    problems.or(()).map_err(|found| found.to_string())?;
    if log_dir.is_none() {
        return Err("log_dir of TensorBoard is needed".to_owned());
    }
    Ok("callbacks: TensorBoard's files are not written; the catalog has what they would show"
        .to_owned())
}

/// As MADlib writes it.
impl fmt::Display for FitParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epochs={},batch_size={}", self.passes, self.batch_rows)?;
        if self.class_weight.is_empty() {
            return Ok(());
        }
        let entries = self
            .class_weight
            .iter()
            .map(|(class, weight)| (Literal::Whole(i64::from(*class)), Literal::Number(*weight)));
        write!(f, ",class_weight={}", Literal::Dictionary(entries.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fit(batch_rows: u32, passes: u32) -> FitParams {
        FitParams { batch_rows, passes, class_weight: vec![] }
    }

    #[test]
    fn fit_parameters_are_read_with_keras_s_defaults() {
        let weighted = FitParams { class_weight: vec![(0, 1.0), (2, 0.5)], ..fit(32, 1) };
        let table = [
            ("", fit(32, 1)),
            ("  ", fit(32, 1)),
            ("batch_size=2, epochs=3, verbose=0", fit(2, 3)),
            (" epochs = 5 ,\n batch_size = 1_000", fit(1000, 5)),
            ("batch_size=1, batch_size=10, verbose='auto'", fit(10, 1)),
            ("batch_size=None,shuffle=True,steps_per_epoch=None", fit(32, 1)),
            ("epochs=5,initial_epoch=3", fit(32, 2)),
            ("class_weight={0: 1, 2: .5}", weighted),
            ("class_weight=None", fit(32, 1)),
        ];
        for (text, expected) in table {
            let read = FitParams::parse(text).unwrap();
            assert_eq!(read, Noted { value: expected, warnings: vec![] }, "{text}");
        }
    }

    #[test]
    fn what_is_refused_is_refused_by_its_key() {
        let table = [
            (
                "does_not_exist=2",
                "does_not_exist: is not currently accepted; accepted: batch_size, e",
            ),
            (
                "batch_size=not_lit_eval(1)",
                "batch_size: invalid input value not_lit_eval(1): \"not_lit_eval\" is no value",
            ),
            ("batch_size=0", "batch_size: must be a whole number from 1, not 0"),
            ("batch_size=2.5", "batch_size: must be a whole number from 1, not 2.5"),
            ("epochs='2'", "epochs: must be a whole number from 1, not '2'"),
            ("epochs=True", "epochs: must be a whole number from 1, not True"),
            ("initial_epoch=1", "initial_epoch: 1 leaves none of 1 epochs"),
            ("shuffle=False", "shuffle: False is not done here: rows come in a new order"),
            ("shuffle='batch'", "shuffle: 'batch' is not done here"),
            ("steps_per_epoch=3", "steps_per_epoch: 3 is not done here: a pass is over all rows"),
            ("class_weight='balanced'", "class_weight: 'balanced' is not a dictionary from class"),
            ("class_weight={0: -1}", "class_weight: {0: -1} is not a dictionary"),
            ("class_weight={'a': 1}", "class_weight: {'a': 1} is not a dictionary"),
            (
                "validation_split=0.1",
                "validation_split: is not currently accepted: validation rows",
            ),
            ("validation_data=(1,2,3)", "validation_data: is not currently accepted: valid"),
            ("validation_steps=1", "validation_steps: is not currently accepted: valid"),
            ("validation_freq=[1]", "validation_freq: is not currently accepted: valid"),
            ("sample_weight=np.array([1,2,3])", "sample_weight: is not currently accepted: rows"),
            (
                "callbacks=keras.callbacks.Callback()",
                "callbacks: keras.callbacks.Callback() is not a",
            ),
            (
                "callbacks=[ReduceLROnPlateau()]",
                "callbacks: only TensorBoard is accepted, not Reduce",
            ),
            ("callbacks=[TensorBoard(), TensorBoard()]", "callbacks: ): is not name=value"),
            (
                "callbacks=[TensorBoard(update_freq=1)]",
                "callbacks: log_dir of TensorBoard is needed",
            ),
            ("callbacks=[TensorBoard(log_dir=x)]", "callbacks: log_dir: \"x\" is no value"),
            ("callbacks=[TensorBoard(profile=1)]", "callbacks: profile: is not currently accepted"),
            ("batch_size", "batch_size: is not name=value"),
        ];
        for (text, expected) in table {
            let problems = FitParams::parse(text).unwrap_err().to_string();
            assert!(problems.starts_with(expected), "{text}: {problems}");
        }
    }

    #[test]
    fn tensorboard_is_accepted_with_a_warning() {
        for quoted in ["[TensorBoard(log_dir=\"logs/fit\")]", "'[ TensorBoard(log_dir=\"a\") ]'"] {
            let read = FitParams::parse(&format!("callbacks={quoted},epochs=2")).unwrap();
            assert_eq!(read.value, fit(32, 2));
            assert!(read.warnings[0].starts_with("callbacks: TensorBoard's files are not written"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_read_is_read_again_from_its_text(
            batch_rows in 1_u32..,
            passes in 1_u32..,
            class_weight in proptest::collection::vec((any::<u32>(), 0.0..1e300), 0..4),
        ) {
            let params = FitParams { batch_rows, passes, class_weight };
            let again = FitParams::parse(&params.to_string()).unwrap();
            prop_assert_eq!(again, Noted { value: params, warnings: vec![] });
        }

        #[test]
        fn no_text_panics(
            text in "(epochs|callbacks|class_weight)?(=\\[TensorBoard\\()?[-A-Za-z0-9_.'\"\\[\\](){}:,= é]{0,60}",
        ) {
            let _ = FitParams::parse(&text);
        }
    }
}
