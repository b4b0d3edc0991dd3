//! Which Arrow type a PostgreSQL type becomes.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};

use crate::shards::{extension, tensor_metadata};

/// How values of a column are read. Types that are not listed here come as PostgreSQL's own text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// One value.
    Scalar(Scalar),
    /// An array without a fixed shape: a list, flattened if it has several axes of one element.
    List(Scalar),
    /// Arrays that all have this shape, of at least two axes; elements in row-major order.
    Tensor(Scalar, Vec<usize>),
}

/// How one value, or one element of an array, is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    /// The nearest f64.
    Numeric,
    Date,
    /// Microseconds of a day.
    Time,
    /// Microseconds, of no time zone.
    Timestamp,
    /// Microseconds, in UTC.
    TimestampTz,
    Uuid,
    Bytes,
    Text,
    /// Text filled up with blanks (`character(n)`), which SQL skips where it compares.
    Padded,
    Jsonb,
    /// Any other type: the server casts it to text.
    Cast,
}

impl Scalar {
    /// By the OID of a built-in type (`pg_type.dat`); nothing for all others.
    pub(super) fn of(oid: u32) -> Option<Self> {
        Some(match oid {
            16 => Self::Bool,
            17 => Self::Bytes,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            25 | 114 | 1043 => Self::Text,
            26 => Self::Oid,
            700 => Self::Float4,
            701 => Self::Float8,
            1042 => Self::Padded,
            1082 => Self::Date,
            1083 => Self::Time,
            1114 => Self::Timestamp,
            1184 => Self::TimestampTz,
            1700 => Self::Numeric,
            2950 => Self::Uuid,
            3802 => Self::Jsonb,
            _ => return None,
        })
    }

    /// The Arrow type.
    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Oid => DataType::UInt32,
            Self::Float4 => DataType::Float32,
            Self::Float8 | Self::Numeric => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Uuid => DataType::FixedSizeBinary(16),
            Self::Bytes => DataType::Binary,
            Self::Text | Self::Padded | Self::Jsonb | Self::Cast => DataType::Utf8,
        }
    }

    /// The length of a value in a heap tuple and on the wire; nothing where it varies.
    pub(super) fn fixed_length(self) -> Option<usize> {
        match self {
            Self::Bool => Some(1),
            Self::Int2 => Some(2),
            Self::Int4 | Self::Oid | Self::Float4 | Self::Date => Some(4),
            Self::Int8 | Self::Float8 | Self::Time | Self::Timestamp | Self::TimestampTz => Some(8),
            Self::Uuid => Some(16),
            Self::Numeric | Self::Bytes | Self::Text | Self::Padded | Self::Jsonb | Self::Cast => {
                None
            }
        }
    }

    /// Whether its bytes in a heap tuple are understood here.
    fn is_in_heap(self) -> bool {
        !matches!(self, Self::Jsonb | Self::Cast)
    }
}

impl Kind {
    /// What each value, or each element, is.
    pub(super) fn scalar(&self) -> Scalar {
        match self {
            Self::Scalar(scalar) | Self::List(scalar) | Self::Tensor(scalar, _) => *scalar,
        }
    }

    /// Whether its bytes in a heap tuple are understood here.
    pub(super) fn is_in_heap(&self) -> bool {
        match self {
            Self::Scalar(scalar) => scalar.is_in_heap(),
            Self::List(scalar) | Self::Tensor(scalar, _) => scalar.fixed_length().is_some(),
        }
    }

    /// Whether it is text in the server's encoding.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.scalar(), Scalar::Text | Scalar::Padded | Scalar::Jsonb | Scalar::Cast)
    }

    /// A column of this name.
    pub(super) fn field(&self, name: &str) -> Field {
        let element = self.scalar().data_type();
        let item = || Arc::new(Field::new_list_field(element.clone(), true));
        match self {
            Self::Scalar(Scalar::Uuid) => Field::new(name, element, true)
                .with_metadata(extension("arrow.uuid", String::new())),
            Self::Scalar(_) => Field::new(name, element, true),
            Self::List(_) => Field::new(name, DataType::List(item()), true),
            Self::Tensor(_, shape) => {
                let length = i32::try_from(shape.iter().product::<usize>());
                let length = length.expect("a probed shape has at most 2^24 elements");
                Field::new(name, DataType::FixedSizeList(item(), length), true)
                    .with_metadata(tensor_metadata(shape))
            }
        }
    }
}
