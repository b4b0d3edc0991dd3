//! A condition bound to a table: its columns are there, and its literals are values of their types.

use std::cmp::Ordering;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrowhop_types::Problems;

use super::literal::{Value, comparable};
use super::{Check, Comparison, Filter, Literal, Test};

/// A condition whose literals are values of their columns' types.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) test: BoundTest,
}

/// As [`Test`].
#[derive(Debug, Clone)]
pub(crate) enum BoundTest {
    All(Vec<BoundTest>),
    Any(Vec<BoundTest>),
    Of { column: String, check: BoundCheck },
}

/// What is asked of a column's values; of null the answer is no, but for `IsNull`.
#[derive(Debug, Clone)]
pub(crate) enum BoundCheck {
    /// With the only value of an array of the comparable type.
    Compare(Comparison, ArrayRef),
    /// With the values of such arrays, at least one.
    In {
        values: Vec<ArrayRef>,
        is_in: bool,
    },
    Like {
        pattern: String,
        is_like: bool,
    },
    IsNull(bool),
    Is(bool),
    /// No value passes.
    Never,
}

impl Filter {
    /// Looks its columns up in a table, whose type each has, and whose name in messages is `place`.
    ///
    /// # Errors
    /// Columns that are not there, with `missing` about each, and literals that are none of their types.
    pub(crate) fn bind(
        &self,
        place: &str,
        data_type: impl Fn(&str) -> Option<DataType>,
        missing: impl Fn() -> String,
    ) -> Result<Bound, Problems> {
        let mut problems = Problems::new();
        for column in self.columns() {
            if data_type(column).is_none() {
                problems.push(format!("{place}, column `{column}`"), missing());
            }
        }
        problems.or(())?;
        let mut binder = Binder { place, data_type, problems: Problems::new() };
        let test = binder.test(&self.test);
        let Binder { problems, .. } = binder;
        problems.or(())?;
        Ok(Bound { test: test.expect("nothing was wrong") })
    }
}

struct Binder<'a, F> {
    place: &'a str,
    data_type: F,
    problems: Problems,
}

impl<F: Fn(&str) -> Option<DataType>> Binder<'_, F> {
    fn test(&mut self, test: &Test) -> Option<BoundTest> {
        let mut all = |tests: &[Test]| {
            let bound: Vec<_> = tests.iter().map(|test| self.test(test)).collect();
            bound.into_iter().collect::<Option<Vec<_>>>()
        };
        Some(match test {
            Test::All(tests) => BoundTest::All(all(tests)?),
            Test::Any(tests) => BoundTest::Any(all(tests)?),
            Test::Of { column, check } => {
                let data_type = (self.data_type)(column).expect("it was looked for");
                match bound(check, &data_type) {
                    Ok(check) => BoundTest::Of { column: column.clone(), check },
                    Err(text) => {
                        let place = format!("{}, column `{column}`", self.place);
                        self.problems.push(place, text);
                        return None;
                    }
                }
            }
        })
    }
}

fn bound(check: &Check, data_type: &DataType) -> Result<BoundCheck, String> {
    if let Check::IsNull(is_null) = check {
        return Ok(BoundCheck::IsNull(*is_null));
    }
    let Some(comparable) = comparable(data_type) else {
        return Err(format!(
            "holds {data_type}, of which a condition can say only whether it IS NULL or IS NOT NULL"
        ));
    };
    let is_text = matches!(comparable, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    Ok(match check {
        Check::Compare(comparison, literal) => compared(*comparison, literal, &comparable)?,
        Check::In { literals, is_in } => {
            let mut values = Vec::new();
            for literal in literals {
                // Whole numbers are never in between, nor beyond their type.
                if let Value::Is(value) = literal.of_type(&comparable)? {
                    values.push(value);
                }
            }
            match (values.is_empty(), *is_in) {
                (false, is_in) => BoundCheck::In { values, is_in },
                (true, true) => BoundCheck::Never,
                (true, false) => BoundCheck::IsNull(false),
            }
        }
        Check::Like { pattern, is_like } if is_text => {
            BoundCheck::Like { pattern: pattern.clone(), is_like: *is_like }
        }
        Check::Like { .. } => return Err(format!("holds {data_type}; LIKE is of text")),
        Check::Is(value) if comparable == DataType::Boolean => BoundCheck::Is(*value),
        Check::Is(_) => {
            return Err(format!("holds {data_type}, no booleans; compare it with a literal"));
        }
        Check::IsNull(_) => unreachable!("it was bound above"),
    })
}

fn compared(
    comparison: Comparison,
    literal: &Literal,
    comparable: &DataType,
) -> Result<BoundCheck, String> {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let always = BoundCheck::IsNull(false);
    Ok(match (literal.of_type(comparable)?, comparison) {
        (Value::Is(value), comparison) => BoundCheck::Compare(comparison, value),
        (Value::Above(_) | Value::Beyond(_), Equal) => BoundCheck::Never,
        (Value::Above(_) | Value::Beyond(_), NotEqual) => always,
        (Value::Above(lower), Less | LessOrEqual) => BoundCheck::Compare(LessOrEqual, lower),
        (Value::Above(lower), Greater | GreaterOrEqual) => BoundCheck::Compare(Greater, lower),
        // All values are above what is below them, and the other way about.
        (Value::Beyond(Ordering::Less), Greater | GreaterOrEqual)
        | (Value::Beyond(Ordering::Greater), Less | LessOrEqual) => always,
        (Value::Beyond(_), _) => BoundCheck::Never,
    })
}
