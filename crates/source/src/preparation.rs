//! How rows were prepared, as text that is kept with the models: versioned JSON, private to this
//! crate. Statistics are written as decimal strings, so that they read back to the same bit.

use arrowhop_types::{ClassList, Dtype, Encoding, InputSpec, TargetColumn};
use serde::{Deserialize, Serialize};

use crate::classes::LabelType;
use crate::encoder::{Encoder, EncoderKind};
use crate::error::SourceError;
use crate::shards::Buffers;
use crate::spec::{Pictures, Resampling, Scale, Side};
use crate::tabular::{ColumnKind, TableColumn, TableEncoder};
use crate::target::{Learned, TargetEncoder};
use crate::tensor::TensorEncoder;
use crate::whole::{Meaning, WholeEncoder};

/// The version written, and the only one read.
const VERSION: u64 = 3;

/// All that is needed to prepare more rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Preparation {
    /// How columns become inputs.
    pub(crate) encoders: Vec<Encoder>,
    /// How columns become targets.
    pub(crate) targets: Vec<TargetEncoder>,
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u64,
    inputs: Vec<InputDocument>,
    targets: Vec<TargetDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum InputDocument {
    Tensor {
        name: String,
        column: String,
        shape: Vec<usize>,
        dtype: DtypeDocument,
        is_converted: bool,
        normalize: f32,
        resize: Option<ResizeDocument>,
        channels: Option<usize>,
        divided_by: Option<Exact>,
    },
    Tokens {
        name: String,
        column: String,
        length: usize,
        padding: SideDocument,
        truncating: SideDocument,
    },
    OneHot {
        name: String,
        column: String,
        length: usize,
        width: u32,
    },
    Table {
        name: String,
        scale: ScaleDocument,
        columns: Vec<ColumnDocument>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DtypeDocument {
    U8,
    F32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResizeDocument {
    size: [usize; 2],
    by: ResamplingDocument,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ResamplingDocument {
    Nearest,
    Bilinear,
    Bicubic,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ScaleDocument {
    Unscaled,
    Standardise,
    MinMax,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LabelsDocument {
    Index,
    Text,
    Boolean,
    Integer,
    Float,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SideDocument {
    Start,
    End,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum ColumnDocument {
    Number { name: String, mean: Exact, deviation: Exact, least: Exact, greatest: Exact },
    Category { name: String, categories: Vec<Option<String>> },
    Bucket { name: String, bounds: Vec<Exact> },
    Hash { name: String, buckets: u32, is_number: bool },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum TargetDocument {
    Classes { name: String, column: String, classes: Vec<Option<String>>, labels: LabelsDocument },
    Values { name: String, column: String, width: usize },
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
    /// What rows become, as far as it is known before they are read: not how many tokens there are.
    pub(crate) fn unfilled(&self) -> Vec<InputSpec> {
        self.encoders.iter().map(Encoder::input).collect()
    }

    /// What rows become that fill these buffers.
    pub(crate) fn inputs(&self, buffers: &[Buffers]) -> Vec<InputSpec> {
        let inputs = self.encoders.iter().zip(buffers).map(|(encoder, buffers)| {
            let mut input = encoder.input();
            if let Encoding::Tokens { vocabulary } = &mut input.encoding {
                *vocabulary = buffers.vocabulary();
            }
            input
        });
        inputs.collect()
    }

    /// What is learned of them.
    pub(crate) fn learned(&self) -> Vec<TargetColumn> {
        self.targets.iter().map(TargetEncoder::learned).collect()
    }

    /// Its text.
    pub(crate) fn to_text(&self) -> String {
        let document = Document {
            version: VERSION,
            inputs: self.encoders.iter().cloned().map(InputDocument::from).collect(),
            targets: self.targets.iter().cloned().map(TargetDocument::from).collect(),
        };
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
        Ok(Self {
            encoders: document.inputs.into_iter().map(Encoder::from).collect(),
            targets: document.targets.into_iter().map(TargetEncoder::from).collect(),
        })
    }
}

impl From<Encoder> for InputDocument {
    fn from(Encoder { name, kind }: Encoder) -> Self {
        match kind {
            EncoderKind::Tensor(encoder) => {
                let TensorEncoder { column, input, is_converted, pictures, divided_by } = encoder;
                let dtype = match input.dtype {
                    Dtype::U8 => DtypeDocument::U8,
                    Dtype::F32 | Dtype::I32 => DtypeDocument::F32,
                };
                let Encoding::Numbers { normalize } = input.encoding else {
                    unreachable!("tensors are numbers")
                };
                Self::Tensor {
                    name,
                    column,
                    shape: input.shape,
                    dtype,
                    is_converted,
                    normalize,
                    resize: pictures.resize.map(ResizeDocument::from),
                    channels: pictures.channels,
                    divided_by: divided_by.map(Exact),
                }
            }
            EncoderKind::Whole(WholeEncoder { column, length, meaning }) => match meaning {
                Meaning::Tokens { padding, truncating } => {
                    let [padding, truncating] = [padding, truncating].map(SideDocument::from);
                    Self::Tokens { name, column, length, padding, truncating }
                }
                Meaning::OneHot { width } => Self::OneHot { name, column, length, width },
            },
            EncoderKind::Table(table) => Self::Table {
                name,
                scale: table.scale.into(),
                columns: table.columns.into_iter().map(ColumnDocument::from).collect(),
            },
        }
    }
}

impl From<InputDocument> for Encoder {
    fn from(document: InputDocument) -> Self {
        match document {
            InputDocument::Tensor {
                name,
                column,
                shape,
                dtype,
                is_converted,
                normalize,
                resize,
                channels,
                divided_by,
            } => {
                let dtype = match dtype {
                    DtypeDocument::U8 => Dtype::U8,
                    DtypeDocument::F32 => Dtype::F32,
                };
                let input = InputSpec::numbers(shape, dtype, normalize);
                let resize = resize.map(|resize| (resize.size, resize.by.into()));
                let kind = EncoderKind::Tensor(TensorEncoder {
                    column,
                    input,
                    is_converted,
                    pictures: Pictures { resize, channels },
                    divided_by: divided_by.map(|by| by.0),
                });
                Self { name, kind }
            }
            InputDocument::Tokens { name, column, length, padding, truncating } => {
                let [padding, truncating] = [padding, truncating].map(Side::from);
                let meaning = Meaning::Tokens { padding, truncating };
                Self { name, kind: EncoderKind::Whole(WholeEncoder { column, length, meaning }) }
            }
            InputDocument::OneHot { name, column, length, width } => {
                let meaning = Meaning::OneHot { width };
                Self { name, kind: EncoderKind::Whole(WholeEncoder { column, length, meaning }) }
            }
            InputDocument::Table { name, scale, columns } => {
                let columns = columns.into_iter().map(TableColumn::from).collect();
                Self {
                    name,
                    kind: EncoderKind::Table(TableEncoder { scale: scale.into(), columns }),
                }
            }
        }
    }
}

impl From<([usize; 2], Resampling)> for ResizeDocument {
    fn from((size, by): ([usize; 2], Resampling)) -> Self {
        let by = match by {
            Resampling::Nearest => ResamplingDocument::Nearest,
            Resampling::Bilinear => ResamplingDocument::Bilinear,
            Resampling::Bicubic => ResamplingDocument::Bicubic,
        };
        Self { size, by }
    }
}

impl From<ResamplingDocument> for Resampling {
    fn from(by: ResamplingDocument) -> Self {
        match by {
            ResamplingDocument::Nearest => Self::Nearest,
            ResamplingDocument::Bilinear => Self::Bilinear,
            ResamplingDocument::Bicubic => Self::Bicubic,
        }
    }
}

impl From<Scale> for ScaleDocument {
    fn from(scale: Scale) -> Self {
        match scale {
            Scale::Unscaled => Self::Unscaled,
            Scale::Standardise => Self::Standardise,
            Scale::MinMax => Self::MinMax,
        }
    }
}

impl From<ScaleDocument> for Scale {
    fn from(scale: ScaleDocument) -> Self {
        match scale {
            ScaleDocument::Unscaled => Self::Unscaled,
            ScaleDocument::Standardise => Self::Standardise,
            ScaleDocument::MinMax => Self::MinMax,
        }
    }
}

impl From<LabelType> for LabelsDocument {
    fn from(labels: LabelType) -> Self {
        match labels {
            LabelType::Index => Self::Index,
            LabelType::Text => Self::Text,
            LabelType::Boolean => Self::Boolean,
            LabelType::Integer => Self::Integer,
            LabelType::Float => Self::Float,
        }
    }
}

impl From<LabelsDocument> for LabelType {
    fn from(labels: LabelsDocument) -> Self {
        match labels {
            LabelsDocument::Index => Self::Index,
            LabelsDocument::Text => Self::Text,
            LabelsDocument::Boolean => Self::Boolean,
            LabelsDocument::Integer => Self::Integer,
            LabelsDocument::Float => Self::Float,
        }
    }
}

impl From<Side> for SideDocument {
    fn from(side: Side) -> Self {
        match side {
            Side::Start => Self::Start,
            Side::End => Self::End,
        }
    }
}

impl From<SideDocument> for Side {
    fn from(side: SideDocument) -> Self {
        match side {
            SideDocument::Start => Self::Start,
            SideDocument::End => Self::End,
        }
    }
}

impl From<TargetEncoder> for TargetDocument {
    fn from(TargetEncoder { name, column, kind }: TargetEncoder) -> Self {
        match kind {
            Learned::Classes { list, labels } => {
                let (classes, labels) = (list.names().to_vec(), labels.into());
                Self::Classes { name, column, classes, labels }
            }
            Learned::Values(width) => Self::Values { name, column, width },
        }
    }
}

impl From<TargetDocument> for TargetEncoder {
    fn from(document: TargetDocument) -> Self {
        match document {
            TargetDocument::Classes { name, column, classes, labels } => {
                let (list, labels) = (ClassList::new(classes), labels.into());
                Self { name, column, kind: Learned::Classes { list, labels } }
            }
            TargetDocument::Values { name, column, width } => {
                Self { name, column, kind: Learned::Values(width) }
            }
        }
    }
}

impl From<TableColumn> for ColumnDocument {
    fn from(column: TableColumn) -> Self {
        let name = column.name;
        match column.kind {
            ColumnKind::Number { mean, deviation, least, greatest } => {
                let [mean, deviation, least, greatest] =
                    [mean, deviation, least, greatest].map(Exact);
                Self::Number { name, mean, deviation, least, greatest }
            }
            ColumnKind::Category(categories) => Self::Category { name, categories },
            ColumnKind::Bucket(bounds) => {
                Self::Bucket { name, bounds: bounds.into_iter().map(Exact).collect() }
            }
            ColumnKind::Hash { buckets, is_number } => Self::Hash { name, buckets, is_number },
        }
    }
}

impl From<ColumnDocument> for TableColumn {
    fn from(document: ColumnDocument) -> Self {
        match document {
            ColumnDocument::Number { name, mean, deviation, least, greatest } => {
                let [mean, deviation, least, greatest] =
                    [mean, deviation, least, greatest].map(|number| number.0);
                Self { name, kind: ColumnKind::Number { mean, deviation, least, greatest } }
            }
            ColumnDocument::Category { name, categories } => {
                Self { name, kind: ColumnKind::Category(categories) }
            }
            ColumnDocument::Bucket { name, bounds } => {
                let bounds = bounds.into_iter().map(|bound| bound.0).collect();
                Self { name, kind: ColumnKind::Bucket(bounds) }
            }
            ColumnDocument::Hash { name, buckets, is_number } => {
                Self { name, kind: ColumnKind::Hash { buckets, is_number } }
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
        let kinds = [
            ("age", ColumnKind::Number { mean, deviation, least: -deviation, greatest: mean }),
            ("job", ColumnKind::Category(categories)),
            ("pay", ColumnKind::Bucket(vec![mean, deviation])),
            ("zip", ColumnKind::Hash { buckets: 256, is_number: true }),
        ];
        let columns = kinds.into_iter().map(|(name, kind)| TableColumn { name: name.into(), kind });
        let table = TableEncoder { scale: Scale::MinMax, columns: columns.collect() };
        let whole = |column: &str, meaning| {
            EncoderKind::Whole(WholeEncoder { column: column.into(), length: 3, meaning })
        };
        let tokens = Meaning::Tokens { padding: Side::Start, truncating: Side::End };
        let kinds = [
            ("facts", EncoderKind::Table(table)),
            ("words", whole("w", tokens)),
            ("tags", whole("t", Meaning::OneHot { width: 9 })),
        ];
        let encoders = kinds.into_iter().map(|(name, kind)| Encoder { name: name.into(), kind });
        Preparation {
            encoders: encoders.collect(),
            targets: vec![TargetEncoder {
                name: "y".into(),
                column: "pay".into(),
                kind: Learned::Values(2),
            }],
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
            let input = InputSpec::numbers(vec![28, 28, 1], Dtype::U8, normalize);
            let pictures =
                Pictures { resize: Some(([28, 28], Resampling::Bicubic)), channels: Some(1) };
            let image = EncoderKind::Tensor(TensorEncoder {
                pictures,
                is_converted: true,
                divided_by: Some(f64::from(normalize) / 3.0),
                ..TensorEncoder::of("image", input)
            });
            let preparation = Preparation {
                encoders: vec![Encoder { name: "x".into(), kind: image }],
                targets: vec![TargetEncoder {
                    name: "y".into(),
                    column: "label".into(),
                    kind: Learned::Classes {
                        list: ClassList::new(vec![None, Some("a".into()), None]),
                        labels: LabelType::Index,
                    },
                }],
            };
            let text = preparation.to_text();
            prop_assert_eq!(Preparation::from_text(&text).unwrap(), preparation);
        }
    }

    #[test]
    fn the_text_stays_as_it_is() {
        assert_eq!(
            table(0.1, 2.0).to_text(),
            concat!(
                r#"{"version":3,"inputs":[{"kind":"table","name":"facts","scale":"min_max","#,
                r#""columns":[{"kind":"number","name":"age","mean":"0.1","deviation":"2","#,
                r#""least":"-2","greatest":"0.1"},"#,
                r#"{"kind":"category","name":"job","categories":[null,"a\"b","é"]},"#,
                r#"{"kind":"bucket","name":"pay","bounds":["0.1","2"]},"#,
                r#"{"kind":"hash","name":"zip","buckets":256,"is_number":true}]},"#,
                r#"{"kind":"tokens","name":"words","column":"w","length":3,"padding":"start","#,
                r#""truncating":"end"},"#,
                r#"{"kind":"one_hot","name":"tags","column":"t","length":3,"width":9}],"#,
                r#""targets":[{"kind":"values","name":"y","column":"pay","width":2}]}"#
            )
        );
    }

    #[test]
    fn other_versions_and_other_texts_are_refused() {
        let error = Preparation::from_text(r#"{"version":1,"more":1}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the preparation has version 1, and this program reads version 3; \
             use the program that trained the model"
        );
        let unknown = table(0.0, 1.0).to_text().replace(r#""width":2"#, r#""width":2,"depth":1"#);
        assert!(matches!(Preparation::from_text(&unknown), Err(SourceError::Preparation { .. })));
        assert!(matches!(Preparation::from_text("{"), Err(SourceError::Preparation { .. })));
    }
}
