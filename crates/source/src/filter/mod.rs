//! Which rows of a table are read: a condition on its columns, as SQL's `WHERE` has it. It is parsed
//! against a list of what is allowed (`parse.rs`), bound to a table's columns, which makes its literals
//! values of their types (`bind.rs`), and then evaluated on batches (`evaluate.rs`), compared with a
//! file's statistics (`prune.rs`), or written as SQL of our own (`postgres/condition.rs`). The text that
//! was given goes nowhere.
//!
//! A value is compared as it is read: a `numeric` as the nearest f64, a type that is read as text as that
//! text, text byte by byte (collation `C`), and NaN is equal to itself and above all numbers, as in
//! PostgreSQL. What is compared with null is neither true nor false, and a row is kept where the whole is
//! true. `NOT` is pushed down to the comparisons while parsing, so that from there on it makes no
//! difference whether something is false or unknown.

mod bind;
mod evaluate;
mod literal;
mod parse;
mod prune;

use std::sync::Arc;

use arrowhop_types::Problems;

pub(crate) use self::bind::{Bound, BoundCheck, BoundTest};
pub(crate) use self::prune::Bounds;

/// A condition is at most this long, in bytes.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Parentheses and the like go at most this deep.
const DEPTH_MAX: usize = 50;

/// A condition on the columns of a table, such as `label < 5 AND city IN ('Paris', 'Rome')`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    test: Arc<Test>,
    columns: Arc<[String]>,
}

impl Filter {
    /// Reads comparisons of a column with a literal (`=`, `<>`, `<`, `<=`, `>`, `>=`, `BETWEEN`, `IN`,
    /// `LIKE`, `IS NULL`), columns of booleans, and `AND`, `OR`, `NOT` and parentheses between them.
    /// Columns are named exactly as they are called, with `""` around names that are no plain words;
    /// literals are numbers, texts, booleans, and dates and times in ISO 8601.
    ///
    /// # Errors
    /// Everything that is not of these, at `place`.
    pub fn parse(place: &str, text: &str) -> Result<Self, Problems> {
        Ok(Self::of(parse::parse(place, text)?))
    }

    /// Both conditions.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self::of(Test::All(vec![Test::clone(&self.test), Test::clone(&other.test)]))
    }

    fn of(test: Test) -> Self {
        let mut columns = Vec::new();
        test.add_columns(&mut columns);
        Self { test: Arc::new(test), columns: columns.into() }
    }

    /// The columns that it looks at, each once.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }
}

/// A condition without a `NOT` around another.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    /// All of them hold.
    All(Vec<Test>),
    /// Any of them holds.
    Any(Vec<Test>),
    Of {
        column: String,
        check: Check,
    },
}

/// What is asked of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Check {
    Compare(Comparison, Literal),
    In {
        literals: Vec<Literal>,
        is_in: bool,
    },
    Like {
        pattern: String,
        is_like: bool,
    },
    IsNull(bool),
    /// Of booleans.
    Is(bool),
}

/// How a column is compared with a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A literal as it was written; what it is follows from its column.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Literal {
    /// Digits, with a sign, a point and an exponent where there are.
    Number(String),
    /// A text, or a date or time in one.
    Text(String),
    /// What was said to be a date or time.
    Moment(String),
}

impl Comparison {
    /// What holds exactly where this one does not.
    fn negated(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
        }
    }

    /// The same with both sides exchanged.
    fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }

    /// As SQL writes it.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl Test {
    fn add_columns(&self, columns: &mut Vec<String>) {
        match self {
            Self::All(tests) | Self::Any(tests) => {
                tests.iter().for_each(|test| test.add_columns(columns));
            }
            Self::Of { column, .. } => {
                if !columns.contains(column) {
                    columns.push(column.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Array, ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Float32Array,
        Float64Array, Int8Array, LargeStringArray, ListArray, RecordBatch, StringArray,
        TimestampMillisecondArray, UInt64Array,
    };
    use arrow::datatypes::{Int32Type, Schema};

    use super::*;

    fn refused(text: &str) -> String {
        Filter::parse("where", text).unwrap_err().to_string()
    }

    /// Rows of every kind of column that files have, null at the end.
    fn batch() -> RecordBatch {
        let lists = [Some(vec![Some(1)]), None, None, None];
        let zone = "+02:00";
        let columns: [(&str, ArrayRef); 10] = [
            ("i", Arc::new(Int8Array::from(vec![Some(-1), Some(0), Some(5), None]))),
            ("u", Arc::new(UInt64Array::from(vec![Some(0), Some(7), Some(u64::MAX), None]))),
            ("f", Arc::new(Float32Array::from(vec![Some(0.1), Some(-0.0), Some(f32::NAN), None]))),
            ("d", Arc::new(Float64Array::from(vec![Some(0.1), Some(-f64::NAN), Some(2.5), None]))),
            (
                "n",
                Arc::new(
                    Decimal128Array::from(vec![Some(150), Some(-25), Some(0), None])
                        .with_precision_and_scale(9, 2)
                        .unwrap(),
                ),
            ),
            ("s", Arc::new(StringArray::from(vec![Some("a%"), Some("Ä\n_"), Some(""), None]))),
            ("l", Arc::new(LargeStringArray::from(vec![Some("a"), Some("b\\"), Some("c"), None]))),
            (
                "c",
                Arc::new(DictionaryArray::<Int32Type>::from_iter([
                    Some("x"),
                    Some("y"),
                    Some("x"),
                    None,
                ])),
            ),
            ("b", Arc::new(BooleanArray::from(vec![Some(true), Some(false), Some(true), None]))),
            ("m", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
        ];
        let times = vec![Some(0), Some(1_500), Some(86_400_000), None];
        let at = TimestampMillisecondArray::from(times.clone()).with_timezone(zone);
        let plain: ArrayRef = Arc::new(TimestampMillisecondArray::from(times));
        let more: [(&str, ArrayRef); 2] = [("z", Arc::new(at)), ("t", plain)];
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().chain(more).map(|(name, column)| (name, column, true)),
        )
        .unwrap()
    }

    fn bound(text: &str, schema: &Schema) -> Result<Bound, Problems> {
        let data_type = |name: &str| Some(schema.field_with_name(name).ok()?.data_type().clone());
        Filter::parse("where", text)?.bind("t", data_type, || "is not there".to_owned())
    }

    #[test]
    fn rows_pass_as_sql_says() {
        let batch = batch();
        let rows = |text: &str| -> Vec<usize> {
            let passes = bound(text, &batch.schema()).unwrap().passes(&batch).unwrap();
            (0..4).filter(|&row| passes.is_valid(row) && passes.value(row)).collect()
        };
        for (text, wanted) in [
            ("i < 5", vec![0, 1]),
            ("5 > i", vec![0, 1]),
            ("NOT i < 5", vec![2]),
            ("i <> 0", vec![0, 2]),
            ("i > -0.5", vec![1, 2]),
            ("i < 128 AND i > -1e9", vec![0, 1, 2]),
            ("i = 4.5 OR i = 300 OR i > 1000", vec![]),
            ("i NOT IN (4.5, 300)", vec![0, 1, 2]),
            ("i NOT IN (0, 5)", vec![0]),
            ("i BETWEEN -1 AND 0", vec![0, 1]),
            ("i NOT BETWEEN -1 AND 0", vec![2]),
            ("NOT (i BETWEEN -1 AND 0 OR i IS NULL)", vec![2]),
            ("NOT (i NOT BETWEEN -1 AND 0)", vec![0, 1]),
            ("i IS NULL OR i = 5", vec![2, 3]),
            ("u = 18446744073709551615", vec![2]),
            ("u > -1", vec![0, 1, 2]),
            ("f = 0.1", vec![0]),
            ("f = 0", vec![1]),
            ("f < 0", vec![]),
            ("f > 1e30", vec![2]),
            ("d > 2.5", vec![1]),
            ("n >= 0 AND n < 1.5", vec![2]),
            ("n = 1.50", vec![0]),
            ("s = 'a%'", vec![0]),
            ("s LIKE 'a\\%'", vec![0]),
            ("s LIKE '_\n\\_'", vec![1]),
            ("s NOT LIKE '%'", vec![]),
            ("NOT s LIKE '_%'", vec![2]),
            ("s < 'b'", vec![0, 2]),
            ("l LIKE '%\\\\'", vec![1]),
            ("l IN ('a', 'c', 'a')", vec![0, 2]),
            ("c = 'x' AND b", vec![0, 2]),
            ("NOT b", vec![1]),
            ("b = FALSE OR b <> TRUE", vec![1]),
            ("m IS NOT NULL", vec![0]),
            ("z = '1970-01-01 00:00:01.5Z'", vec![1]),
            ("z < TIMESTAMP '1970-01-02'", vec![0, 1]),
            ("t >= '1970-01-02'::timestamp", vec![2]),
            ("i = -1 OR i = 0 AND s = 'no'", vec![0]),
        ] {
            assert_eq!(rows(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_its_column_is_said_at_once() {
        let found = bound(
            "i = 'five' AND s = 5 AND f < 1e99 AND m = 1 AND i LIKE '5%' AND s AND b < 1 AND \
             t = '2020-13-01' AND t = 'tomorrow' AND t = '2020-01-01 00:00:00Z'",
            &batch().schema(),
        );
        assert_eq!(
            found.unwrap_err().to_string(),
            "t, column `i`: `'five'` is compared with numbers; write one without ''\n\
             t, column `s`: `5` is compared with text; put it between ''\n\
             t, column `f`: `1e99` is no number, or beyond its type\n\
             t, column `m`: holds List(Int32), of which a condition can say only whether it IS NULL \
             or IS NOT NULL\n\
             t, column `i`: holds Int8; LIKE is of text\n\
             t, column `s`: holds Utf8, no booleans; compare it with a literal\n\
             t, column `b`: `1` is compared with booleans; write TRUE or FALSE\n\
             t, column `t`: `2020-13-01` is not in the calendar, or beyond its type\n\
             t, column `t`: `'tomorrow'` is compared with times without a zone; write 'YYYY-MM-DD \
             HH:MM:SS'\n\
             t, column `t`: `'2020-01-01 00:00:00Z'` is compared with times without a zone; write \
             'YYYY-MM-DD HH:MM:SS'"
        );
        let found = bound("gone = 1 AND \"I\" = 2", &batch().schema()).unwrap_err().to_string();
        assert_eq!(found, "t, column `gone`: is not there\nt, column `I`: is not there");
    }

    #[test]
    fn whatever_is_not_allowed_is_refused() {
        for text in [
            "upper(s) = 'A'",
            "i + 1 = 2",
            "i = j",
            "t.i = 1",
            "i = (SELECT 1)",
            "i IN (SELECT 1)",
            "EXISTS (SELECT 1)",
            "s ILIKE 'a'",
            "s ~ 'a'",
            "s SIMILAR TO 'a'",
            "s LIKE 'a' ESCAPE '!'",
            "s LIKE 'a\\'",
            "s = E'a'",
            "s = $$a$$",
            "s = N'a'",
            "s = U&'a'",
            "s = X'41'",
            "s = 'a' COLLATE \"C\"",
            "s = 'a'::text",
            "i = CAST('5' AS int)",
            "i = $1",
            "i = ?",
            "i = NULL",
            "i IS DISTINCT FROM 1",
            "b IS TRUE",
            "TRUE",
            "1 = 1",
            "i = 1 AND",
            "i = 1; DROP TABLE t",
            "i = 1 -- all",
            "i = 1 /* all */",
            "i = 1) OR (i = 2",
            "(i = 1",
            "i = 'a",
            "CASE WHEN b THEN 1 END = 1",
            "i[1] = 1",
            "ROW(i) = ROW(1)",
            "(i, u) = (1, 2)",
            "i = ANY(ARRAY[1])",
            "i = -(-1)",
            "current_user = 'a'",
            "b < TRUE",
            "i = DATE",
            "i IN ()",
            "`i` = 1",
            "s = \"a\"",
            "i == 1 XOR b",
            "i = 1 UNION SELECT 1",
            "",
        ] {
            let found = refused(text);
            assert!(found.starts_with("where: "), "{text}: {found}");
        }
        let found = refused("upper(s) = 'A' AND i = NULL");
        assert_eq!(found.lines().count(), 2, "{found}");
        assert!(
            found.starts_with("where: `upper(s)` is not read; compare a column with a literal")
        );
        assert!(refused(&"(".repeat(1_000)).starts_with("where: is no condition"));
        assert!(refused(&format!("s = '{}'", "x".repeat(TEXT_BYTES_MAX))).contains("are read"));
        let long = vec!["i = 1"; 1_500].join(" OR ");
        assert_eq!(Filter::parse("where", &long).unwrap().columns(), ["i"]);
        let deep = format!("{}i = 1{}", "NOT (".repeat(15), ")".repeat(15));
        assert!(Filter::parse("where", &deep).is_ok());
    }
}
