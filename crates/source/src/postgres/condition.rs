//! A condition on rows, as SQL and as it is evaluated here: both keep the same rows. The SQL is made of
//! quoted names and of literals that were values before; what the user wrote is not part of it.

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use arrowhop_types::Problems;

use super::kind::{Kind, Scalar};
use super::server::{literal, quoted};
use crate::filter::{Bound, BoundCheck, BoundTest, Comparison, Filter};

/// A column that a condition may be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate<'a> {
    pub(super) name: &'a str,
    pub(super) kind: &'a Kind,
    /// Whether texts that are equal are so byte by byte, as far as is known.
    pub(super) has_plain_texts: bool,
}

/// A condition, bound to the columns of a relation.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) bound: Bound,
    pub(super) sql: String,
}

impl Condition {
    /// Binds a condition to the columns of `place`; `missing` says which there are.
    pub(super) fn new(
        filter: &Filter,
        place: &str,
        columns: &[Candidate<'_>],
        missing: impl Fn() -> String,
    ) -> Result<Self, Problems> {
        let find = |name: &str| columns.iter().find(|column| column.name == name);
        let mut problems = Problems::new();
        for name in filter.columns() {
            if let Some(Candidate { kind: Kind::Scalar(Scalar::Padded), .. }) = find(name) {
                let text = "is of type character(n), whose blanks count or not, as the case may be; \
                            make it varchar or text to ask for rows by it";
                problems.push(format!("{place}, column `{name}`"), text);
            }
        }
        problems.or(())?;
        let data_type = |name: &str| Some(find(name)?.kind.field(name).data_type().clone());
        let bound = filter.bind(place, data_type, missing)?;
        let sql = of_test(&bound.test, &|name| find(name).expect("it was bound").clone());
        Ok(Self { bound, sql })
    }
}

fn of_test<'a>(test: &BoundTest, find: &dyn Fn(&str) -> Candidate<'a>) -> String {
    let joined = |tests: &[BoundTest], by: &str| {
        let tests: Vec<_> = tests.iter().map(|test| of_test(test, find)).collect();
        format!("({})", tests.join(by))
    };
    match test {
        BoundTest::All(tests) => joined(tests, " AND "),
        BoundTest::Any(tests) => joined(tests, " OR "),
        BoundTest::Of { column, check } => of_check(&find(column), check),
    }
}

fn of_check(column: &Candidate<'_>, check: &BoundCheck) -> String {
    let name = quoted(column.name);
    // As it is read, so that both ways compare the same values.
    let value = match column.kind {
        Kind::Scalar(Scalar::Numeric) => format!("{name}::float8"),
        Kind::Scalar(Scalar::Text | Scalar::Jsonb | Scalar::Cast) => format!("{name}::text"),
        _ => name,
    };
    let is_text = matches!(column.kind, Kind::Scalar(_)) && column.kind.is_text();
    let bytewise = if is_text { " COLLATE \"C\"" } else { "" };
    // Without a collation of its own a comparison may use what the table was partitioned by.
    let equal = if column.has_plain_texts { "" } else { bytewise };
    match check {
        BoundCheck::Never => "false".to_owned(),
        BoundCheck::IsNull(true) => format!("{value} IS NULL"),
        BoundCheck::IsNull(false) => format!("{value} IS NOT NULL"),
        BoundCheck::Is(true) => value,
        BoundCheck::Is(false) => format!("NOT {value}"),
        BoundCheck::Compare(comparison, with) => {
            let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
            let collation = if is_equality { equal } else { bytewise };
            format!("{value}{collation} {} {}", comparison.sign(), written(with))
        }
        BoundCheck::In { values, is_in } => {
            let values: Vec<_> = values.iter().map(written).collect();
            let not = if *is_in { "" } else { "NOT " };
            format!("{value}{equal} {not}IN ({})", values.join(", "))
        }
        BoundCheck::Like { pattern, is_like } => {
            let not = if *is_like { "" } else { "NOT " };
            format!("{value}{equal} {not}LIKE {}::text", literal(pattern))
        }
    }
}

/// The only value of an array, as SQL takes it literally.
fn written(value: &ArrayRef) -> String {
    let text = match value.data_type() {
        // Times with a zone are kept in UTC.
        DataType::Timestamp(unit, Some(_)) => {
            let plain = cast(value, &DataType::Int64)
                .and_then(|number| cast(&number, &DataType::Timestamp(*unit, None)));
            let plain = plain.expect("the same number");
            array_value_to_string(&plain, 0).map(|text| format!("{text}+00"))
        }
        _ => array_value_to_string(value, 0),
    };
    let text = text.expect("a value of these types is shown");
    let data_type = match value.data_type() {
        DataType::Int16 => "int2",
        DataType::Int32 => "int4",
        DataType::Int64 => "int8",
        DataType::UInt32 => "oid",
        DataType::Float32 => "float4",
        DataType::Float64 => "float8",
        DataType::Date32 => "date",
        DataType::Time64(_) => "time",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Timestamp(_, Some(_)) => "timestamptz",
        DataType::Utf8 => "text",
        other => unreachable!("{other} is compared with nothing"),
    };
    format!("{}::{data_type}", literal(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_literals_are_values_of_their_types() {
        let kinds = [
            ("a\"b", Kind::Scalar(Scalar::Text), true),
            ("odd", Kind::Scalar(Scalar::Text), false),
            ("n", Kind::Scalar(Scalar::Numeric), true),
            ("i", Kind::Scalar(Scalar::Int2), true),
            ("f", Kind::Scalar(Scalar::Float4), true),
            ("t", Kind::Scalar(Scalar::TimestampTz), true),
            ("b", Kind::Scalar(Scalar::Bool), true),
            ("m", Kind::List(Scalar::Int4), true),
        ];
        let columns: Vec<Candidate<'_>> = kinds
            .iter()
            .map(|(name, kind, has_plain_texts)| Candidate {
                name,
                kind,
                has_plain_texts: *has_plain_texts,
            })
            .collect();
        let sql = |text: &str| {
            let filter = Filter::parse("where", text).unwrap();
            Condition::new(&filter, "table t", &columns, String::new).unwrap().sql
        };
        for (text, wanted) in [
            ("\"a\"\"b\" = 'it''s \\'", "\"a\"\"b\"::text = E'it\\'s \\\\'::text"),
            ("\"a\"\"b\" < 'x'", "\"a\"\"b\"::text COLLATE \"C\" < E'x'::text"),
            ("odd IN ('x')", "\"odd\"::text COLLATE \"C\" IN (E'x'::text)"),
            ("n <= 1.50", "\"n\"::float8 <= E'1.5'::float8"),
            ("i < 2.5", "\"i\" <= E'2'::int2"),
            ("i = 2.5 OR i <> 70000", "(false OR \"i\" IS NOT NULL)"),
            ("f = 0.1", "\"f\" = E'0.1'::float4"),
            ("t > '2020-01-02 03:04:05+02'", "\"t\" > E'2020-01-02T01:04:05+00'::timestamptz"),
            ("NOT (b AND m IS NULL)", "(NOT \"b\" OR \"m\" IS NOT NULL)"),
        ] {
            assert_eq!(sql(text), wanted, "{text}");
        }
    }
}
