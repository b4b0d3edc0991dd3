//! What a descriptor of `DoExchange` asks for: which model, and how much it is to say about each row.

use arrowhop_types::{ModelId, Problems, RunId};
use serde::Deserialize;

use super::query::read_json;

/// The first element of a descriptor's path.
const PREDICT: &str = "predict";
/// Instead of a model's number.
const BEST: &str = "best";

/// A model, to be applied to rows that are streamed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PredictRequest {
    /// The run.
    pub run: RunId,
    /// The model; `None` for the run's best.
    pub model: Option<ModelId>,
    /// Of each row and target only the most probable classes; at least one, `None` for all.
    pub top_k: Option<u32>,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    predict: Asked,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    run: u64,
    model: Option<Model>,
    top_k: Option<u32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Model {
    Number(u32),
    Name(String),
}

impl PredictRequest {
    /// Its JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let model = self.model.map_or_else(|| BEST.into(), |model| serde_json::json!(model.0));
        let mut asked = serde_json::json!({ "run": self.run.0, "model": model });
        if let Some(top_k) = self.top_k {
            asked["top_k"] = top_k.into();
        }
        serde_json::json!({ PREDICT: asked }).to_string()
    }
}

/// Reads a descriptor's path, `["predict", RUN, MODEL]`.
impl TryFrom<&[String]> for PredictRequest {
    type Error = Problems;

    fn try_from(path: &[String]) -> Result<Self, Problems> {
        let [predict, run, model] = path else {
            let text = format!("has {} elements, not predict, a run and a model", path.len());
            return Err(Problems::one("descriptor.path", text));
        };
        let mut problems = Problems::new();
        if predict != PREDICT {
            problems.push("descriptor.path[0]", format!("is {predict:.100}, not {PREDICT}"));
        }
        let run = run.parse().map(RunId);
        if run.is_err() {
            problems.push("descriptor.path[1]", "is not the number of a run");
        }
        let model = model_named("descriptor.path[2]", model);
        if let Err(found) = &model {
            problems.extend("", found);
        }
        problems.or(())?;
        Ok(Self { run: run.expect("it was checked"), model: model?, top_k: None })
    }
}

/// Reads the JSON of a descriptor's `cmd`.
impl TryFrom<&[u8]> for PredictRequest {
    type Error = Problems;

    fn try_from(json: &[u8]) -> Result<Self, Problems> {
        let Written { predict: Asked { run, model, top_k } } = read_json(json)?;
        if top_k == Some(0) {
            let text = "is 0; give at least 1, or leave it out for all classes";
            return Err(Problems::one("descriptor.predict.top_k", text));
        }
        let model = match model {
            None => None,
            Some(Model::Number(number)) => Some(ModelId(number)),
            Some(Model::Name(name)) => model_named("descriptor.predict.model", &name)?,
        };
        Ok(Self { run: RunId(run), model, top_k })
    }
}

fn model_named(place: &str, text: &str) -> Result<Option<ModelId>, Problems> {
    if text == BEST {
        return Ok(None);
    }
    let number = text.parse().map(|number| Some(ModelId(number)));
    number.map_err(|_| Problems::one(place, "is neither the number of a model nor best"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_json(json: &str) -> Result<PredictRequest, Problems> {
        PredictRequest::try_from(json.as_bytes())
    }

    fn of_path(path: &[&str]) -> Result<PredictRequest, Problems> {
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        PredictRequest::try_from(path.as_slice())
    }

    #[test]
    fn a_model_is_named_by_its_number_or_as_the_best() {
        let best = PredictRequest { run: RunId(1), model: None, top_k: None };
        let third = PredictRequest { model: Some(ModelId(3)), top_k: Some(2), ..best };
        for request in [best, third] {
            assert_eq!(of_json(&request.to_json()), Ok(request));
        }
        assert_eq!(of_json(r#"{"predict": {"run": 1}}"#), Ok(best));
        assert_eq!(of_path(&["predict", "1", "best"]), Ok(best));
        assert_eq!(of_path(&["predict", "1", "3"]), Ok(PredictRequest { top_k: None, ..third }));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let text = |refused: Result<PredictRequest, Problems>| refused.unwrap_err().to_string();
        assert_eq!(
            text(of_path(&["predict"])),
            "descriptor.path: has 1 elements, not predict, a run and a model"
        );
        assert_eq!(
            text(of_path(&["train", "x", "y"])),
            "descriptor.path[0]: is train, not predict\n\
             descriptor.path[1]: is not the number of a run\n\
             descriptor.path[2]: is neither the number of a model nor best"
        );
        assert_eq!(
            text(of_json(r#"{"predict": {"run": 1, "top_k": 0}}"#)),
            "descriptor.predict.top_k: is 0; give at least 1, or leave it out for all classes"
        );
        assert_eq!(
            text(of_json(r#"{"predict": {"run": 1, "model": "worst"}}"#)),
            "descriptor.predict.model: is neither the number of a model nor best"
        );
        for json in [r#"{"predict": {}}"#, r#"{"predict": {"run": 1, "k": 2}}"#, "{}"] {
            assert!(text(of_json(json)).starts_with("descriptor.cmd: is not the JSON"), "{json}");
        }
    }
}
