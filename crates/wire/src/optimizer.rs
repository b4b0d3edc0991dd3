//! Optimizers, there and back: a name, and the parameters by theirs.

use arrowhop_types::Optimizer;
use arrowhop_types::optimizer::{ParameterValue, Semantics};

use crate::WireError;
use crate::control as proto;
use crate::control::optimizer_parameter::Value;
use crate::convert::present;

impl From<Optimizer> for proto::Optimizer {
    fn from(optimizer: Optimizer) -> Self {
        let set = optimizer.parameters().into_iter().filter_map(|parameter| {
            let value = match parameter.value? {
                ParameterValue::Number(number) => Value::Number(number),
                ParameterValue::Flag(flag) => Value::Flag(flag),
                ParameterValue::Numbers(numbers) => Value::Numbers(proto::Numbers { numbers }),
            };
            Some(proto::OptimizerParameter { name: parameter.name.into(), value: Some(value) })
        });
        Self {
            kind: None,
            name: optimizer.name().into(),
            legacy: optimizer.semantics == Semantics::Legacy,
            schedule: optimizer.learning_rate.schedule().unwrap_or_default().into(),
            parameters: set.collect(),
        }
    }
}

impl TryFrom<proto::Optimizer> for Optimizer {
    type Error = WireError;

    fn try_from(optimizer: proto::Optimizer) -> Result<Self, WireError> {
        let semantics = if optimizer.legacy { Semantics::Legacy } else { Semantics::Current };
        let mut values = Vec::new();
        for parameter in &optimizer.parameters {
            let value = match present(parameter.value.as_ref(), "optimizer.parameters.value")? {
                Value::Number(number) => ParameterValue::Number(*number),
                Value::Flag(flag) => ParameterValue::Flag(*flag),
                Value::Numbers(list) => ParameterValue::Numbers(list.numbers.clone()),
            };
            values.push((parameter.name.as_str(), value));
        }
        let read = Self::named(&optimizer.name, semantics)
            .and_then(|plain| match optimizer.schedule.as_str() {
                "" => Ok(plain),
                schedule => plain.scheduled(schedule),
            })
            .and_then(|plain| plain.with(&values));
        read.map_err(|problems| WireError::Unknown {
            field: "optimizer",
            value: problems.to_string().replace('\n', "; "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrowhop_types::optimizer::{Averaging, Clipping, LearningRate, Method};

    #[test]
    fn every_optimizer_comes_back_as_it_went() {
        for semantics in [Semantics::Legacy, Semantics::Current] {
            for method in Method::all(semantics) {
                let mut optimizer = Optimizer::new(method, semantics);
                optimizer.clipping = Some(Clipping::Value(0.1));
                if semantics == Semantics::Current {
                    let overwrite_frequency = Some(7);
                    optimizer.averaging = Some(Averaging { momentum: 0.5, overwrite_frequency });
                    optimizer.weight_decay = Some(0.3);
                    optimizer.learning_rate = LearningRate::PiecewiseConstantDecay {
                        boundaries: vec![10.0, 20.0],
                        values: vec![0.3, 0.2, 0.1],
                    };
                }
                let sent = proto::Optimizer::from(optimizer.clone());
                assert_eq!(Optimizer::try_from(sent), Ok(optimizer));
            }
        }
    }

    #[test]
    fn what_is_no_optimizer_is_refused() {
        let text =
            |optimizer: proto::Optimizer| Optimizer::try_from(optimizer).unwrap_err().to_string();
        assert!(text(proto::Optimizer::default()).starts_with("optimizer holds name: \"\" is not"));
        let adam = Optimizer::named("adam", Semantics::Current).unwrap();
        let mut sent = proto::Optimizer::from(adam);
        sent.parameters[0].value = Some(Value::Number(f64::NAN));
        sent.parameters[1].name = "theta".into();
        let refused = text(sent.clone());
        assert!(refused.contains("learning_rate: must be a number above 0"), "{refused}");
        assert!(refused.contains("theta: adam has no such parameter"), "{refused}");
        sent.parameters[0].value = None;
        assert_eq!(text(sent), "the message lacks optimizer.parameters.value");
    }
}
