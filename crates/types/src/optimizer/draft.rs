//! An optimizer while its parameters are being set one by one, each by its name.

use crate::Problems;

use super::parameters::{Domain, Field, Parameter, ParameterValue};
use super::{Averaging, Clipping, LearningRate, Method, Optimizer, Semantics};

/// Parameters of Keras's that are known, and not done here.
const NOT_DONE: [(&str, &str); 4] = [
    ("lr", "is the old name of learning_rate; use that"),
    ("gradient_accumulation_steps", "is not done here; use a larger batch_size"),
    (
        "loss_scale_factor",
        "is not done here: training is in single precision throughout; leave it out",
    ),
    ("jit_compile", "is not done here; leave it out"),
];

/// Everything by itself, so that each part can be set in any order.
pub(super) struct Draft {
    method: Method,
    learning_rate: LearningRate,
    semantics: Semantics,
    weight_decay: Option<f64>,
    clipnorm: Option<f64>,
    clipvalue: Option<f64>,
    global_clipnorm: Option<f64>,
    use_ema: bool,
    ema_momentum: Option<f64>,
    ema_overwrite_frequency: Option<f64>,
}

impl Draft {
    pub(super) fn of(optimizer: &Optimizer) -> Self {
        let clip = |of: fn(Clipping) -> Option<f64>| optimizer.clipping.and_then(of);
        let averaging = optimizer.averaging;
        Self {
            method: optimizer.method,
            learning_rate: match optimizer.learning_rate {
                // So that a decay can be set.
                LearningRate::Constant(initial) if decays(optimizer) => {
                    LearningRate::Decaying { initial, decay: 0.0 }
                }
                ref rate => rate.clone(),
            },
            semantics: optimizer.semantics,
            weight_decay: optimizer.weight_decay,
            clipnorm: clip(|clipping| match clipping {
                Clipping::Norm(norm) => Some(norm),
                _ => None,
            }),
            clipvalue: clip(|clipping| match clipping {
                Clipping::Value(value) => Some(value),
                _ => None,
            }),
            global_clipnorm: clip(|clipping| match clipping {
                Clipping::GlobalNorm(norm) => Some(norm),
                _ => None,
            }),
            use_ema: averaging.is_some(),
            ema_momentum: averaging.map(|averaging| averaging.momentum),
            ema_overwrite_frequency: averaging
                .and_then(|averaging| averaging.overwrite_frequency)
                .map(f64::from),
        }
    }

    /// What these semantics have, in the order of Keras's arguments.
    fn fields(&mut self) -> Vec<Field<'_>> {
        use Domain::{Count, NotNegative, Positive, Share};
        let mut fields = self.learning_rate.fields();
        fields.extend(self.method.fields(self.semantics));
        if self.semantics == Semantics::Current {
            fields.push(Field::optional("weight_decay", NotNegative, &mut self.weight_decay));
        }
        fields.extend([
            Field::optional("clipnorm", Positive, &mut self.clipnorm),
            Field::optional("clipvalue", Positive, &mut self.clipvalue),
            Field::optional("global_clipnorm", Positive, &mut self.global_clipnorm),
        ]);
        if self.semantics == Semantics::Current {
            let frequency = &mut self.ema_overwrite_frequency;
            fields.extend([
                Field::flag("use_ema", &mut self.use_ema),
                Field::optional("ema_momentum", Share, &mut self.ema_momentum),
                Field::optional("ema_overwrite_frequency", Count, frequency),
            ]);
        }
        fields
    }

    pub(super) fn parameters(mut self) -> Vec<Parameter> {
        let of = |field: Field<'_>| {
            let value = field.value();
            Parameter { name: field.name, domain: field.domain, value }
        };
        self.fields().into_iter().map(of).collect()
    }

    /// Sets one parameter.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn set(&mut self, name: &str, value: &ParameterValue) -> Result<(), String> {
        match self.fields().iter_mut().find(|field| field.name == name) {
            Some(field) => field.set(value),
            None => Err(self.unknown(name)),
        }
    }

    /// Why there is no such parameter.
    fn unknown(&mut self, name: &str) -> String {
        if let Some((_, text)) = NOT_DONE.iter().find(|(known, _)| *known == name) {
            return (*text).to_owned();
        }
        match (self.method, self.semantics, name) {
            (Method::Nadam(_), Semantics::Legacy, "decay") => {
                return "is ignored by tf.keras's Nadam; its own is schedule_decay".to_owned();
            }
            (Method::Adafactor(_), _, "relative_step") => {
                return "changes nothing in Keras, whose rate is 1/√t at most; leave it out"
                    .to_owned();
            }
            _ => {}
        }
        let other = self.semantics.other();
        let theirs = Optimizer::named(self.method.name(), other);
        if theirs.is_ok_and(|theirs| theirs.parameters().iter().any(|known| known.name == name)) {
            return format!("is of {other}, but this optimizer is of {}", self.semantics);
        }
        let names: Vec<_> = self.fields().iter().map(|field| field.name).collect();
        format!("{} has no such parameter; it has {}", self.method.name(), names.join(", "))
    }

    /// The optimizer, and all that does not go together in it.
    pub(super) fn finish(mut self) -> (Optimizer, Problems) {
        let mut problems = Problems::new();
        for field in self.fields().iter().filter(|field| field.is_missing()) {
            problems.push(field.name, "is needed");
        }
        self.check_semantics(&mut problems);
        self.check_rate(&mut problems);
        let learning_rate = match self.learning_rate {
            LearningRate::Decaying { initial, decay: 0.0 } => LearningRate::Constant(initial),
            rate => rate,
        };
        let clippings = [
            ("clipnorm", self.clipnorm.map(Clipping::Norm)),
            ("clipvalue", self.clipvalue.map(Clipping::Value)),
            ("global_clipnorm", self.global_clipnorm.map(Clipping::GlobalNorm)),
        ];
        let mut clippings = clippings.into_iter().filter_map(|(name, clip)| Some((name, clip?)));
        let clipping = clippings.next();
        for (name, _) in clippings {
            problems.push(name, "goes with no other clipping; give one of them");
        }
        if !self.use_ema {
            let others = [
                ("ema_momentum", self.ema_momentum),
                ("ema_overwrite_frequency", self.ema_overwrite_frequency),
            ];
            for (name, _) in others.into_iter().filter(|(_, value)| value.is_some()) {
                problems.push(name, "has no effect without use_ema = true");
            }
        }
        let averaging = self.use_ema.then(|| Averaging {
            momentum: self.ema_momentum.unwrap_or(0.99),
            overwrite_frequency: self.ema_overwrite_frequency.map(whole),
        });
        let optimizer = Optimizer {
            method: self.method,
            learning_rate,
            clipping: clipping.map(|(_, clipping)| clipping),
            weight_decay: self.weight_decay,
            averaging,
            semantics: self.semantics,
        };
        (optimizer, problems)
    }

    /// What only the other semantics have.
    fn check_semantics(&self, problems: &mut Problems) {
        let semantics = self.semantics;
        let name = self.method.name();
        if !Method::all(semantics).iter().any(|method| method.name() == name) {
            problems.push("name", format!("{name} is not of {semantics}"));
        }
        match semantics {
            Semantics::Legacy => {
                for (field, is_set) in
                    [("weight_decay", self.weight_decay.is_some()), ("use_ema", self.use_ema)]
                {
                    if is_set {
                        problems.push(field, format!("is not of {semantics}"));
                    }
                }
            }
            Semantics::Current => {
                if matches!(self.learning_rate, LearningRate::Decaying { .. }) {
                    problems.push("decay", format!("is not of {semantics}"));
                }
                if matches!(self.method, Method::Nadam(nadam) if nadam.schedule_decay != 1.0) {
                    problems.push("schedule_decay", format!("is not of {semantics}"));
                }
            }
        }
        if matches!(self.method, Method::AdamW(_)) && self.weight_decay.is_none() {
            problems.push("weight_decay", "is needed; without it adamw is adam");
        }
    }

    fn check_rate(&self, problems: &mut Problems) {
        let is_legacy_nadam =
            matches!(self.method, Method::Nadam(_)) && self.semantics == Semantics::Legacy;
        if is_legacy_nadam && !matches!(self.learning_rate, LearningRate::Constant(_)) {
            problems.push("learning_rate", "is a number in tf.keras's Nadam, never a schedule");
        }
        match &self.learning_rate {
            LearningRate::PiecewiseConstantDecay { boundaries, values }
                if !values.is_empty() && boundaries.len() + 1 != values.len() =>
            {
                let (found, boundaries) = (values.len(), boundaries.len());
                let text = format!(
                    "has {found} values for {boundaries} boundaries; give one more value than \
                     boundaries"
                );
                problems.push("learning_rate.values", text);
            }
            LearningRate::CosineDecay { warmup_target: None, warmup_steps, .. }
                if *warmup_steps > 0.0 =>
            {
                let text = "has no effect without warmup_target";
                problems.push("learning_rate.warmup_steps", text);
            }
            _ => {}
        }
    }
}

/// Whether the legacy decay can be set.
fn decays(optimizer: &Optimizer) -> bool {
    optimizer.semantics == Semantics::Legacy && !matches!(optimizer.method, Method::Nadam(_))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked: a count")]
fn whole(count: f64) -> u32 {
    count as u32
}
