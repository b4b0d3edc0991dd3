//! How rows were prepared, as text that is kept with the models: versioned JSON, private to this
//! crate. Statistics are written as decimal strings, so that they read back to the same bit.

use arrowhop_types::{Dtype, InputSpec, Target};
use serde::{Deserialize, Serialize};

use crate::encoder::Encoder;
use crate::error::SourceError;
use crate::tabular::{ColumnKind, TableColumn, TableEncoder};
use crate::target::TargetEncoder;
use crate::tensor::TensorEncoder;

/// The version written, and the only one read.
const VERSION: u64 = 1;

/// All that is needed to prepare more rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Preparation {
    /// How columns become `x`.
    pub(crate) encoder: Encoder,
    /// How a column becomes `y`.
    pub(crate) target: TargetEncoder,
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u64,
    inputs: InputsDocument,
    target: TargetDocument,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum InputsDocument {
    Tensor { column: String, shape: Vec<usize>, dtype: DtypeDocument, normalize: f32 },
    Table { standardise: bool, columns: Vec<ColumnDocument> },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DtypeDocument {
    U8,
    F32,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum ColumnDocument {
    Number { name: String, mean: Exact, deviation: Exact },
    Category { name: String, categories: Vec<Option<String>> },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum TargetDocument {
    Classes { column: String, classes: Vec<String>, is_index: bool },
    Values { column: String, width: usize },
}

/// A number as the shortest decimal that reads back to it.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[derive(Clone)]
struct Exact(f64);

impl TryFrom<String> for Exact {
    type Error = std::num::ParseFloatError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<Exact> for String {
    fn from(number: Exact) -> Self {
        number.0.to_string()
    }
}

impl Preparation {
    /// Its text.
    pub(crate) fn to_text(&self) -> String {
        let inputs = match &self.encoder {
            Encoder::Tensor(tensor) => InputsDocument::Tensor {
                column: tensor.column.clone(),
                shape: tensor.input.shape.clone(),
                dtype: match tensor.input.dtype {
                    Dtype::U8 => DtypeDocument::U8,
                    Dtype::F32 => DtypeDocument::F32,
                },
                normalize: tensor.input.normalize,
            },
            Encoder::Table(table) => InputsDocument::Table {
                standardise: table.standardise,
                columns: table.columns.iter().cloned().map(ColumnDocument::from).collect(),
            },
        };
        let column = self.target.column.clone();
        let target = match self.target.target.clone() {
            Target::Classes(classes) => {
                TargetDocument::Classes { column, classes, is_index: self.target.is_index }
            }
            Target::Values(width) => TargetDocument::Values { column, width },
        };
        let document = Document { version: VERSION, inputs, target };
        serde_json::to_string(&document).expect("texts, finite numbers and lists are JSON")
    }

    /// Reads its text.
    pub(crate) fn from_text(text: &str) -> Result<Self, SourceError> {
        let invalid = |source| SourceError::Preparation { source };
        let found = serde_json::from_str::<Versioned>(text).map_err(invalid)?.version;
        if found != VERSION {
            return Err(SourceError::PreparationVersion { found, supported: VERSION });
        }
        let document: Document = serde_json::from_str(text).map_err(invalid)?;
        let encoder = match document.inputs {
            InputsDocument::Tensor { column, shape, dtype, normalize } => {
                let dtype = match dtype {
                    DtypeDocument::U8 => Dtype::U8,
                    DtypeDocument::F32 => Dtype::F32,
                };
                let input = InputSpec { shape, dtype, normalize };
                Encoder::Tensor(TensorEncoder { column, input })
            }
            InputsDocument::Table { standardise, columns } => Encoder::Table(TableEncoder {
                standardise,
                columns: columns.into_iter().map(TableColumn::from).collect(),
            }),
        };
        let target = match document.target {
            TargetDocument::Classes { column, classes, is_index } => {
                TargetEncoder { column, target: Target::Classes(classes), is_index }
            }
            TargetDocument::Values { column, width } => {
                TargetEncoder { column, target: Target::Values(width), is_index: false }
            }
        };
        Ok(Self { encoder, target })
    }
}

impl From<TableColumn> for ColumnDocument {
    fn from(column: TableColumn) -> Self {
        let name = column.name;
        match column.kind {
            ColumnKind::Number { mean, deviation } => {
                Self::Number { name, mean: Exact(mean), deviation: Exact(deviation) }
            }
            ColumnKind::Category(categories) => Self::Category { name, categories },
        }
    }
}

impl From<ColumnDocument> for TableColumn {
    fn from(document: ColumnDocument) -> Self {
        match document {
            ColumnDocument::Number { name, mean, deviation } => {
                Self { name, kind: ColumnKind::Number { mean: mean.0, deviation: deviation.0 } }
            }
            ColumnDocument::Category { name, categories } => {
                Self { name, kind: ColumnKind::Category(categories) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(mean: f64, deviation: f64) -> Preparation {
        let categories = vec![None, Some("a\"b".into()), Some("é".into())];
        Preparation {
            encoder: Encoder::Table(TableEncoder {
                standardise: true,
                columns: vec![
                    TableColumn {
                        name: "age".into(),
                        kind: ColumnKind::Number { mean, deviation },
                    },
                    TableColumn { name: "job".into(), kind: ColumnKind::Category(categories) },
                ],
            }),
            target: TargetEncoder {
                column: "y".into(),
                target: Target::Values(2),
                is_index: false,
            },
        }
    }

    proptest! {
        #[test]
        fn statistics_read_back_to_the_bit(mean in any::<f64>(), deviation in any::<f64>()) {
            prop_assume!(mean.is_finite() && deviation.is_finite());
            let preparation = table(mean, deviation);
            let text = preparation.to_text();
            prop_assert_eq!(Preparation::from_text(&text).unwrap(), preparation);
        }

        #[test]
        fn normalize_reads_back_to_the_bit(normalize in 1e-30_f32..1e30) {
            let input = InputSpec { shape: vec![28, 28, 1], dtype: Dtype::U8, normalize };
            let preparation = Preparation {
                encoder: Encoder::Tensor(TensorEncoder { column: "image".into(), input }),
                target: TargetEncoder {
                    column: "label".into(),
                    target: Target::Classes(vec!["a".into()]),
                    is_index: true,
                },
            };
            let text = preparation.to_text();
            prop_assert_eq!(Preparation::from_text(&text).unwrap(), preparation);
        }
    }

    #[test]
    fn the_text_stays_as_it_is() {
        assert_eq!(
            table(0.1, 2.0).to_text(),
            r#"{"version":1,"inputs":{"kind":"table","standardise":true,"columns":[{"kind":"number","name":"age","mean":"0.1","deviation":"2"},{"kind":"category","name":"job","categories":[null,"a\"b","é"]}]},"target":{"kind":"values","column":"y","width":2}}"#
        );
    }

    #[test]
    fn other_versions_and_other_texts_are_refused() {
        let error = Preparation::from_text(r#"{"version":2,"more":1}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the preparation has version 2, and this program reads version 1; \
             use the program that trained the model"
        );
        let unknown = table(0.0, 1.0).to_text().replace(r#""width":2"#, r#""width":2,"depth":1"#);
        assert!(matches!(Preparation::from_text(&unknown), Err(SourceError::Preparation { .. })));
        assert!(matches!(Preparation::from_text("{"), Err(SourceError::Preparation { .. })));
    }
}
