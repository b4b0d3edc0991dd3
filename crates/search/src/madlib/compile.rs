//! MADlib's compile parameters: `optimizer='Adam(lr=0.01)', loss='mse', metrics=['mae']`.

use std::fmt;

use arrowhop_types::Problems;
use arrowhop_types::optimizer::{Optimizer, Semantics};

use super::arguments::{Arguments, unquoted};
use super::literal::Literal;
use super::{Noted, call};

const KNOWN: &str = "optimizer, loss, metrics, loss_weights, weighted_metrics, sample_weight_mode";
const LOSSES_REFUSED: [&str; 4] =
    ["sparse_categorical_crossentropy", "serialize", "deserialize", "get"];
const METRICS_REFUSED: [&str; 3] = [
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy",
];

/// How a model is compiled, as MADlib takes it in one text.
#[derive(Debug, Clone, PartialEq)]
pub struct CompileParams {
    optimizer: Optimizer,
    loss: String,
    metric: Option<String>,
}

impl CompileParams {
    /// Reads a text as MADlib does: keys in any order, the last of each counts, white space and
    /// quotes around values are dropped. MADlib runs on tf.keras with the legacy semantics; others
    /// read the same text by the current ones.
    ///
    /// # Errors
    /// All that MADlib or Keras refuses, by the key, and what has no place here.
    pub fn parse(text: &str, semantics: Semantics) -> Result<Noted<Self>, Problems> {
        let mut arguments = Arguments::parse(text)?;
        let mut problems = Problems::new();
        let optimizer = arguments.take("optimizer").map(unquoted);
        let optimizer = read_optimizer(optimizer, semantics, &mut problems);
        let loss = read_loss(arguments.take("loss").map(unquoted), &mut problems);
        let metric = read_metric(arguments.take("metrics").map(unquoted), &mut problems);
        let others = [
            ("loss_weights", "networks have one output here; leave it out"),
            ("weighted_metrics", "rows have no weights here; use metrics"),
            ("sample_weight_mode", "rows have no weights here; leave it out"),
        ];
        for (key, reason) in others {
            let value = arguments.take(key).map(unquoted);
            if let Some(value) = value.filter(|value| !matches!(*value, "None" | "[]")) {
                problems.push(key, format!("{value} is not currently accepted: {reason}"));
            }
        }
        arguments.finish(&[], KNOWN, &mut problems);
        match (optimizer, loss) {
            (Some(Noted { value: optimizer, warnings }), Some(loss)) if problems.is_empty() => {
                Ok(Noted { value: Self { optimizer, loss, metric }, warnings })
            }
            _ => Err(problems),
        }
    }

    /// The optimizer.
    #[must_use]
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The loss's name.
    #[must_use]
    pub fn loss(&self) -> &str {
        &self.loss
    }

    /// The metric's name; MADlib takes one at most.
    #[must_use]
    pub fn metric(&self) -> Option<&str> {
        self.metric.as_deref()
    }
}

fn read_optimizer(
    text: Option<&str>,
    semantics: Semantics,
    problems: &mut Problems,
) -> Option<Noted<Optimizer>> {
    let Some(text) = text else {
        problems.push("optimizer", "is a required parameter for compile");
        return None;
    };
    call::parse(text, semantics).map_err(|found| problems.extend("", &found)).ok()
}

fn read_loss(text: Option<&str>, problems: &mut Problems) -> Option<String> {
    match text {
        None | Some("") => problems.push("loss", "is a required parameter for compile"),
        Some(name) if LOSSES_REFUSED.contains(&name) => {
            problems.push("loss", format!("loss function {name} is not supported"));
        }
        Some(name) => return Some(name.to_owned()),
    }
    None
}

fn read_metric(text: Option<&str>, problems: &mut Problems) -> Option<String> {
    let text = text?;
    let refused = match Literal::parse(text) {
        Err(error) => format!("invalid input value {text}: {error}"),
        Ok(Literal::None) => return None,
        Ok(Literal::List(list)) => match list.as_slice() {
            [] => return None,
            [Literal::Text(name)] if METRICS_REFUSED.contains(&name.as_str()) => {
                format!("metric {name} is not supported")
            }
            [Literal::Text(name)] => return Some(name.clone()),
            [other] => format!("{other} is not a metric's name in quotes"),
            _ => "only one metric at a time is supported".to_owned(),
        },
        Ok(other) => format!("must be a list, not {other}"),
    };
    problems.push("metrics", refused);
    None
}

/// As MADlib writes it.
impl fmt::Display for CompileParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metrics = self.metric.iter().cloned().map(Literal::Text).collect();
        let (optimizer, metrics) = (call::text(&self.optimizer), Literal::List(metrics));
        write!(f, "optimizer='{optimizer}',metrics={metrics},loss='{}'", self.loss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> CompileParams {
        let Noted { value, warnings } = CompileParams::parse(text, Semantics::Legacy).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        value
    }

    #[test]
    fn any_order_and_white_space_reads_the_same() {
        let texts = [
            "optimizer=SGD(lr=0.01, decay=1e-6, nesterov=True), loss='categorical_crossentropy', \
             metrics=['accuracy']",
            "metrics = [ \"accuracy\" ],\nloss=\"categorical_crossentropy\" ,\
             optimizer = 'SGD(nesterov=True,decay=1e-6,lr=0.01)'",
            "loss='mse',loss=categorical_crossentropy,metrics=['accuracy'],loss_weights=None,\
             optimizer='adam',optimizer='sgd(lr=0.01,decay=1e-6,nesterov=True)'",
            "weighted_metrics=[],sample_weight_mode=None,metrics='[\"accuracy\"]',\
             loss='categorical_crossentropy',optimizer='SGD(learning_rate=.01,decay=1e-6,nesterov=7)'",
        ];
        for text in texts {
            let params = read(text);
            let optimizer = params.optimizer().to_string();
            assert_eq!(optimizer, "legacy sgd 0.01 decay 1e-6 nesterov true", "{text}");
            assert_eq!(params.loss(), "categorical_crossentropy", "{text}");
            assert_eq!(params.metric(), Some("accuracy"), "{text}");
        }
        for none in ["", ",metrics=[]", ",metrics=None"] {
            assert_eq!(read(&format!("optimizer=adam,loss=mse{none}")).metric(), None);
        }
    }

    #[test]
    fn what_madlib_refuses_is_refused_by_its_key() {
        let table = [
            ("loss=mse", "optimizer: is a required parameter for compile"),
            ("optimizer=sgd", "loss: is a required parameter for compile"),
            ("optimizer=sgd,loss=''", "loss: is a required parameter for compile"),
            (
                "optimizer=sgd,loss='sparse_categorical_crossentropy'",
                "loss: loss function sparse_categorical_crossentropy is not supported",
            ),
            ("optimizer=sgd,loss=get", "loss: loss function get is not supported"),
            (
                "optimizer=sgd,loss=mse,metrics=['accuracy','mae']",
                "metrics: only one metric at a time is supported",
            ),
            (
                "optimizer=sgd,loss=mse,metrics=['sparse_categorical_accuracy']",
                "metrics: metric sparse_categorical_accuracy is not supported",
            ),
            (
                "optimizer=sgd,loss=mse,metrics={'0':'mae'}",
                "metrics: must be a list, not {'0': 'mae'}",
            ),
            (
                "optimizer=sgd,loss=mse,metrics=['mae'",
                "metrics: invalid input value ['mae: lacks a closing '",
            ),
            (
                "optimizer=sgd,loss=mse,metrics='mae'",
                "metrics: invalid input value mae: \"mae\" is no value that is written out",
            ),
            (
                "optimizer=sgd,loss=mse,metrics=[mae]",
                "metrics: invalid input value [mae]: \"mae\" is no value that is written out",
            ),
            ("optimizer=sgd,loss=mse,metrics=[3]", "metrics: 3 is not a metric's name in quotes"),
            (
                "optimizer=sgd,loss=mse,loss_weights = keras.layers.Input(shape=(32,))",
                "loss_weights: keras.layers.Input(shape=(32,)) is not currently accepted: networks \
                 have one output here; leave it out",
            ),
            (
                "optimizer=sgd,loss=mse,sample_weight_mode='temporal'",
                "sample_weight_mode: temporal is not currently accepted: rows have no weights here; \
                 leave it out",
            ),
            (
                "optimizer=sgd,loss=mse,target_tensors=None",
                "target_tensors: is not currently accepted; accepted: optimizer, loss, metrics, \
                 loss_weights, weighted_metrics, sample_weight_mode",
            ),
            ("optimizer=sgd,loss=mse,", "a part between commas: is not name=value"),
            ("", "optimizer: is a required parameter for compile"),
            (
                "optimizer=SGDlr=0.01, decay=1e-6, nesterov=True), loss='mse'",
                "optimizer: \"SGDlr=0.01\" is not known",
            ),
        ];
        for (text, expected) in table {
            let problems = CompileParams::parse(text, Semantics::Legacy).unwrap_err().to_string();
            let first = problems.lines().next().unwrap();
            assert!(first.starts_with(expected), "{text}: {problems}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let text = "optimizer='SGD(theta=1, lr=x)',metrics=[1,2],loss=get,verbose=1";
        let problems = CompileParams::parse(text, Semantics::Legacy).unwrap_err();
        let places: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
        assert_eq!(places, ["optimizer.lr", "optimizer.theta", "loss", "metrics", "verbose"]);
    }

    #[test]
    fn it_is_written_as_madlib_writes_it() {
        let params = read("optimizer=RMSprop(lr=1e-5,centered=True), loss=mse, metrics=['mae']");
        assert_eq!(
            params.to_string(),
            "optimizer='RMSprop(learning_rate=1e-5,decay=0.0,rho=0.9,momentum=0.0,epsilon=1e-7,\
             centered=True)',metrics=['mae'],loss='mse'"
        );
    }

    /// A number of some parameter's domain, most often.
    fn any_number() -> impl Strategy<Value = f64> {
        prop_oneof![0.0..1.0, Just(1.0), Just(0.0), 1.0..1e6, -1.0..0.0, 1e-300..1e-10]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_read_is_read_again_from_its_text(
            method in proptest::sample::select(arrowhop_types::optimizer::Method::all(Semantics::Legacy)),
            numbers in proptest::collection::vec(any_number(), 12),
            flags in any::<u16>(),
            loss in "[a-z_]{1,12}",
            metric in proptest::option::of("[a-z_]{1,12}"),
        ) {
            let plain = Optimizer::new(method, Semantics::Legacy);
            let values = plain.parameters().into_iter().zip(&numbers).enumerate();
            let values = values.filter_map(|(i, (parameter, &number))| {
                let flag = flags >> i & 1 == 1;
                use arrowhop_types::optimizer::ParameterValue::{Flag, Number};
                let value = [Number(number), Flag(flag)];
                let value = value.into_iter().find(|value| parameter.domain.has(value))?;
                (!parameter.name.contains("clip")).then_some((parameter.name, value))
            });
            let optimizer = plain.with(&values.collect::<Vec<_>>()).unwrap();
            let is_refused = LOSSES_REFUSED.contains(&loss.as_str());
            prop_assume!(!is_refused);
            let params = CompileParams { optimizer, loss, metric };
            let again = CompileParams::parse(&params.to_string(), Semantics::Legacy).unwrap();
            prop_assert_eq!(again, Noted { value: params, warnings: vec![] });
        }

        #[test]
        fn no_text_panics(
            text in "(optimizer|loss|metrics|[a-z(=,'\\[]{0,9})?(=)?[-A-Za-z0-9_.'\"\\[\\](){}:,= é]{0,60}",
        ) {
            let _ = CompileParams::parse(&text, Semantics::Legacy);
            let text = format!("loss=mse,optimizer=Adam({text})");
            let _ = CompileParams::parse(&text, Semantics::Current);
        }
    }
}
