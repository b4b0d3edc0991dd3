//! From text to a condition. Whatever is not on the list of what is allowed is refused, with its place
//! in the text's own words.

use arrowhop_types::Problems;
use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, InTarget, UnaryOperator, Value, ValueWithSpan,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

use super::{Check, Comparison, DEPTH_MAX, Literal, TEXT_BYTES_MAX, Test};

/// What is said to everything else.
const ALLOWED: &str = "is not read; compare a column with a literal (=, <>, <, <=, >, >=, BETWEEN, IN, \
                       LIKE, IS NULL), or name a column of booleans, and join these by AND, OR, NOT and \
                       parentheses";
/// So much of what was refused is shown.
const SHOWN: usize = 60;

pub(super) fn parse(place: &str, text: &str) -> Result<Test, Problems> {
    if text.len() > TEXT_BYTES_MAX {
        let text = format!("has {} bytes; at most {TEXT_BYTES_MAX} are read", text.len());
        return Err(Problems::one(place, text));
    }
    let wrong = |text: String| Problems::one(place, text);
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text)
        .tokenize()
        .map_err(|error| wrong(format!("is no condition: {error}; check its quotes")))?;
    let is_comment = |token: &Token| {
        matches!(
            token,
            Token::Whitespace(
                Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)
            )
        )
    };
    if tokens.iter().any(is_comment) {
        return Err(wrong("has a comment; leave it out".into()));
    }
    let mut parser =
        Parser::new(&PostgreSqlDialect {}).with_recursion_limit(DEPTH_MAX).with_tokens(tokens);
    let expression =
        parser.parse_expr().map_err(|error| wrong(format!("is no condition: {error}")))?;
    match parser.peek_token().token {
        Token::EOF => {}
        more => return Err(wrong(format!("goes on with `{more}` behind a condition; {ALLOWED}"))),
    }
    let mut reader = Reader { place, problems: Problems::new() };
    let test = reader.test(&expression, false);
    reader.problems.or(())?;
    Ok(test.expect("nothing was wrong"))
}

/// Reads expressions; what is wrong is gathered, and then there is nothing.
struct Reader<'a> {
    place: &'a str,
    problems: Problems,
}

impl Reader<'_> {
    /// A condition, or its negation.
    fn test(&mut self, expression: &Expr, is_not: bool) -> Option<Test> {
        match expression {
            Expr::Nested(inner) => self.test(inner, is_not),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => self.test(expr, !is_not),
            Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } => {
                self.chain(expression, op, is_not)
            }
            Expr::BinaryOp { left, op, right } => {
                self.comparison(expression, left, op, right, is_not)
            }
            Expr::Between { expr, negated, low, high } => {
                let [low, high] =
                    [(low, Comparison::GreaterOrEqual), (high, Comparison::LessOrEqual)].map(
                        |(bound, comparison)| {
                            self.compare(expr, comparison, bound, is_not ^ negated)
                        },
                    );
                let both = vec![low?, high?];
                Some(if is_not ^ negated { Test::Any(both) } else { Test::All(both) })
            }
            Expr::In { expr, target: InTarget::List(list), negated, global: false } => {
                let column = self.column(expr);
                let literals: Vec<_> = list.iter().map(|literal| self.literal(literal)).collect();
                let literals = literals.into_iter().collect::<Option<_>>()?;
                Some(Test::Of {
                    column: column?,
                    check: Check::In { literals, is_in: !(is_not ^ negated) },
                })
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                let column = self.column(expr);
                let pattern = self.pattern(pattern)?;
                Some(Test::Of {
                    column: column?,
                    check: Check::Like { pattern, is_like: !(is_not ^ negated) },
                })
            }
            Expr::IsNull(expr) => self.null(expr, !is_not),
            Expr::IsNotNull(expr) => self.null(expr, is_not),
            Expr::Identifier(_) => {
                Some(Test::Of { column: self.column(expression)?, check: Check::Is(!is_not) })
            }
            other => self.refuse(other),
        }
    }

    /// Conditions joined by the same operator, however many. Parsed, each is a step deeper.
    fn chain(&mut self, expression: &Expr, by: &BinaryOperator, is_not: bool) -> Option<Test> {
        let mut parts = Vec::new();
        let mut rest = expression;
        while let Expr::BinaryOp { left, op, right } = rest
            && op == by
        {
            parts.push(&**right);
            rest = left;
        }
        parts.push(rest);
        let tests: Vec<_> = parts.into_iter().rev().map(|part| self.test(part, is_not)).collect();
        let tests = tests.into_iter().collect::<Option<_>>()?;
        let is_and = *by == BinaryOperator::And;
        Some(if is_and == is_not { Test::Any(tests) } else { Test::All(tests) })
    }

    fn comparison(
        &mut self,
        whole: &Expr,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
        is_not: bool,
    ) -> Option<Test> {
        let comparison = match op {
            BinaryOperator::Eq => Comparison::Equal,
            BinaryOperator::NotEq => Comparison::NotEqual,
            BinaryOperator::Lt => Comparison::Less,
            BinaryOperator::LtEq => Comparison::LessOrEqual,
            BinaryOperator::Gt => Comparison::Greater,
            BinaryOperator::GtEq => Comparison::GreaterOrEqual,
            _ => return self.refuse(whole),
        };
        match (left, right) {
            (Expr::Identifier(_), Expr::Identifier(_)) => self.refuse(whole),
            (literal, column @ Expr::Identifier(_)) => {
                self.compare(column, comparison.mirrored(), literal, is_not)
            }
            (column, literal) => self.compare(column, comparison, literal, is_not),
        }
    }

    fn compare(
        &mut self,
        column: &Expr,
        comparison: Comparison,
        literal: &Expr,
        is_not: bool,
    ) -> Option<Test> {
        let column = self.column(column);
        let comparison = if is_not { comparison.negated() } else { comparison };
        let check = match (comparison, boolean(literal)) {
            (Comparison::Equal, Some(value)) => Check::Is(value),
            (Comparison::NotEqual, Some(value)) => Check::Is(!value),
            _ => Check::Compare(comparison, self.literal(literal)?),
        };
        Some(Test::Of { column: column?, check })
    }

    fn null(&mut self, column: &Expr, is_null: bool) -> Option<Test> {
        Some(Test::Of { column: self.column(column)?, check: Check::IsNull(is_null) })
    }

    /// A column, by the name it has.
    fn column(&mut self, expression: &Expr) -> Option<String> {
        match expression {
            Expr::Identifier(name) if matches!(name.quote_style, None | Some('"')) => {
                Some(name.value.clone())
            }
            Expr::CompoundIdentifier(_) => {
                self.wrong(expression, "names a table, too; name the column alone")
            }
            other => self.refuse(other),
        }
    }

    fn pattern(&mut self, expression: &Expr) -> Option<String> {
        let Some(Literal::Text(pattern)) = self.literal(expression) else {
            return self.wrong(expression, "is no pattern; write a text, with % and _ in it");
        };
        let escapes = pattern.chars().rev().take_while(|letter| *letter == '\\').count();
        if escapes % 2 == 1 {
            return self.wrong(expression, "ends with an escape; write \\\\ for a backslash");
        }
        Some(pattern)
    }

    fn literal(&mut self, expression: &Expr) -> Option<Literal> {
        let text = |of: &ValueWithSpan| match &of.value {
            Value::SingleQuotedString(text) if !text.contains('\0') => Some(text.clone()),
            _ => None,
        };
        let found = match expression {
            Expr::Value(of) => match &of.value {
                Value::Number(digits, false) => Some(Literal::Number(digits.clone())),
                Value::Null => {
                    return self.wrong(
                        expression,
                        "is compared with; nothing equals it: write IS NULL or IS NOT NULL",
                    );
                }
                _ => text(of).map(Literal::Text),
            },
            Expr::UnaryOp { op: op @ (UnaryOperator::Minus | UnaryOperator::Plus), expr } => {
                let sign = if *op == UnaryOperator::Minus { "-" } else { "" };
                match &**expr {
                    Expr::Value(ValueWithSpan { value: Value::Number(digits, false), .. }) => {
                        Some(Literal::Number(format!("{sign}{digits}")))
                    }
                    _ => None,
                }
            }
            Expr::TypedString(of) if is_moment(&of.data_type) => {
                text(&of.value).map(Literal::Moment)
            }
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
            } if is_moment(data_type) => match &**expr {
                Expr::Value(of) => text(of).map(Literal::Moment),
                _ => None,
            },
            _ => None,
        };
        match found {
            None => self.wrong(
                expression,
                "is no literal that is read; write a number, a text in '', TRUE or FALSE behind = or \
                 <>, or DATE or TIMESTAMP before a text",
            ),
            found => found,
        }
    }

    fn refuse<T>(&mut self, expression: &Expr) -> Option<T> {
        self.wrong(expression, ALLOWED)
    }

    fn wrong<T>(&mut self, expression: &Expr, text: &str) -> Option<T> {
        let whole = expression.to_string();
        let mut shown: String = whole.chars().take(SHOWN).collect();
        if shown.len() < whole.len() {
            shown.push('…');
        }
        self.problems.push(self.place, format!("`{shown}` {text}"));
        None
    }
}

fn boolean(expression: &Expr) -> Option<bool> {
    match expression {
        Expr::Value(ValueWithSpan { value: Value::Boolean(value), .. }) => Some(*value),
        _ => None,
    }
}

/// Types whose literals say what they are: dates and times.
fn is_moment(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date | DataType::Time(None, _) | DataType::Timestamp(None, _))
}
