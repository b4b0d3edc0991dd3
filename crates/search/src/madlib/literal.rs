//! Python literals, as `ast.literal_eval` reads them: numbers, texts, `True`, `False`, `None`, and
//! lists, tuples and dictionaries of them. Sets, bytes and complex numbers have no use here and are
//! not read.

use std::fmt;

/// Deeper ones are refused rather than read until the stack is used up.
const DEPTH_MAX: usize = 50;

/// A value that Python would read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    None,
    Flag(bool),
    Whole(i64),
    Number(f64),
    Text(String),
    List(Vec<Literal>),
    Tuple(Vec<Literal>),
    Dictionary(Vec<(Literal, Literal)>),
}

impl Literal {
    /// Reads a whole text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { rest: text, depth: 0 };
        let literal = reader.literal()?;
        match reader.peek() {
            None => Ok(literal),
            Some(_) => Err(format!("{:?} follows the value", reader.rest)),
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// The next character that is no white space.
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn skip(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.rest = &self.rest[wanted.len_utf8()..];
        }
        found
    }

    fn literal(&mut self) -> Result<Literal, String> {
        if self.depth == DEPTH_MAX {
            return Err(format!("is nested more than {DEPTH_MAX} deep"));
        }
        self.depth += 1;
        let literal = match self.peek() {
            None => Err("ends where a value should be".to_owned()),
            Some('[') => self.items('[', ']').map(|(items, _)| Literal::List(items)),
            Some('(') => self.items('(', ')').map(|(mut items, has_comma)| {
                // In parentheses without a comma there is no tuple.
                if items.len() == 1 && !has_comma { items.remove(0) } else { Literal::Tuple(items) }
            }),
            Some('{') => self.dictionary(),
            Some('\'' | '"') => self.texts(),
            Some(_) => self.word(),
        };
        self.depth -= 1;
        literal
    }

    /// Values between brackets, and whether there was a comma.
    fn items(&mut self, open: char, close: char) -> Result<(Vec<Literal>, bool), String> {
        self.skip(open);
        let (mut items, mut has_comma) = (Vec::new(), false);
        while !self.skip(close) {
            items.push(self.literal()?);
            let is_more = self.comma_or(close)?;
            has_comma |= is_more;
        }
        Ok((items, has_comma))
    }

    /// Whether a comma is next, rather than the closing bracket.
    fn comma_or(&mut self, close: char) -> Result<bool, String> {
        match self.peek() {
            None => Err(format!("lacks a closing {close}")),
            Some(',') => Ok(self.skip(',')),
            Some(other) if other == close => Ok(false),
            Some(_) => Err(format!("{:?} should be a comma or {close:?}", self.rest)),
        }
    }

    fn dictionary(&mut self) -> Result<Literal, String> {
        self.skip('{');
        let mut entries = Vec::new();
        while !self.skip('}') {
            let key = self.literal()?;
            if !self.skip(':') {
                return Err(format!("{:?} should be a colon and a value", self.rest));
            }
            entries.push((key, self.literal()?));
            self.comma_or('}')?;
        }
        Ok(Literal::Dictionary(entries))
    }

    /// Texts one after the other are one text.
    fn texts(&mut self) -> Result<Literal, String> {
        let mut text = String::new();
        while let Some(quote @ ('\'' | '"')) = self.peek() {
            self.rest = &self.rest[1..];
            let mut characters = self.rest.char_indices();
            loop {
                match characters.next() {
                    None | Some((_, '\n')) => return Err(format!("lacks a closing {quote}")),
                    Some((_, '\\')) => match characters.next() {
                        Some((_, 'n')) => text.push('\n'),
                        Some((_, 't')) => text.push('\t'),
                        Some((_, kept @ ('\\' | '\'' | '"'))) => text.push(kept),
                        _ => return Err("has an escape that is not read here".to_owned()),
                    },
                    Some((at, character)) if character == quote => {
                        self.rest = &self.rest[at + 1..];
                        break;
                    }
                    Some((_, character)) => text.push(character),
                }
            }
        }
        Ok(Literal::Text(text))
    }

    fn word(&mut self) -> Result<Literal, String> {
        let is_end = |c: char| c.is_whitespace() || "[](){},:'\"".contains(c);
        let end = self.rest.find(is_end).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(format!("{:?} stands where a value should be", self.rest));
        }
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        let literal = match word {
            "None" => Some(Literal::None),
            "True" => Some(Literal::Flag(true)),
            "False" => Some(Literal::Flag(false)),
            _ => number(word),
        };
        literal.ok_or_else(|| format!("{word:?} is no value that is written out"))
    }
}

/// A decimal number with or without a sign, as Python writes it.
fn number(word: &str) -> Option<Literal> {
    let is_number = word.chars().all(|c| c.is_ascii_digit() || "+-.eE_".contains(c));
    if !is_number || !word.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let word = without_underscores(word)?;
    let digits = word.trim_start_matches(['+', '-']);
    if digits.chars().all(|c| c.is_ascii_digit()) {
        let is_zero = digits.chars().all(|c| c == '0');
        let is_decimal = is_zero || !digits.starts_with('0');
        return word.parse().ok().filter(|_| is_decimal).map(Literal::Whole);
    }
    word.parse().ok().map(Literal::Number)
}

/// Python allows single ones between digits.
pub(super) fn without_underscores(word: &str) -> Option<String> {
    let bytes = word.as_bytes();
    let is_digit =
        |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let mut underscores = word.match_indices('_');
    let is_right = underscores.all(|(at, _)| is_digit(at.checked_sub(1)) && is_digit(Some(at + 1)));
    is_right.then(|| word.replace('_', ""))
}

/// As Python prints it.
impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = |f: &mut fmt::Formatter<'_>, items: &[Self]| {
            for (i, item) in items.iter().enumerate() {
                write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
            }
            Ok(())
        };
        match self {
            Self::None => f.write_str("None"),
            Self::Flag(flag) => f.write_str(if *flag { "True" } else { "False" }),
            Self::Whole(whole) => write!(f, "{whole}"),
            Self::Number(number) => write!(f, "{number:?}"),
            Self::Text(text) => {
                let text = text.replace('\\', "\\\\").replace('\'', "\\'");
                write!(f, "'{}'", text.replace('\n', "\\n").replace('\t', "\\t"))
            }
            Self::List(list) => {
                f.write_str("[")?;
                items(f, list)?;
                f.write_str("]")
            }
            Self::Tuple(list) => {
                f.write_str("(")?;
                items(f, list)?;
                f.write_str(if list.len() == 1 { ",)" } else { ")" })
            }
            Self::Dictionary(entries) => {
                f.write_str("{")?;
                for (i, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key}: {value}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Literal::{Dictionary, Flag, List, None, Number, Text, Tuple, Whole};
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Literal {
        Text(text.to_owned())
    }

    #[test]
    fn what_python_reads_is_read() {
        let table = [
            ("None", None),
            (" True ", Flag(true)),
            ("False", Flag(false)),
            ("32", Whole(32)),
            ("-1_000", Whole(-1000)),
            ("00", Whole(0)),
            ("1e-3", Number(0.001)),
            (".5", Number(0.5)),
            ("1.", Number(1.0)),
            ("'it''s'", text("its")),
            ("\"a\\'b\\\\\"", text("a'b\\")),
            ("[]", List(vec![])),
            ("['accuracy', ]", List(vec![text("accuracy")])),
            ("(1)", Whole(1)),
            ("(1,)", Tuple(vec![Whole(1)])),
            ("()", Tuple(vec![])),
            (
                "{0: 1.5, 'a': [None]}",
                Dictionary(vec![(Whole(0), Number(1.5)), (text("a"), List(vec![None]))]),
            ),
        ];
        for (given, expected) in table {
            assert_eq!(Literal::parse(given), Ok(expected), "{given}");
        }
    }

    #[test]
    fn what_python_does_not_read_is_refused() {
        let table = [
            ("", "ends where a value should be"),
            ("[1", "lacks a closing ]"),
            ("[1,", "ends where a value should be"),
            ("[1 2]", "\"2]\" should be a comma or ']'"),
            ("{1}", "\"}\" should be a colon and a value"),
            ("{1: 2 3}", "\"3}\" should be a comma or '}'"),
            ("'a", "lacks a closing '"),
            ("accuracy", "\"accuracy\" is no value that is written out"),
            ("not_lit_eval(1)", "\"not_lit_eval\" is no value that is written out"),
            ("012", "\"012\" is no value that is written out"),
            ("1__0", "\"1__0\" is no value that is written out"),
            ("1 2", "\"2\" follows the value"),
            ("inf", "\"inf\" is no value that is written out"),
            ("[,]", "\",]\" stands where a value should be"),
        ];
        for (given, expected) in table {
            assert_eq!(Literal::parse(given), Err(expected.to_owned()), "{given}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(Literal::parse(&deep), Err("is nested more than 50 deep".to_owned()));
    }

    /// Any value of a few levels.
    fn any_literal() -> impl Strategy<Value = Literal> {
        let number = any::<f64>().prop_filter("finite", |number| number.is_finite());
        let leaf = prop_oneof![
            Just(None),
            any::<bool>().prop_map(Flag),
            any::<i64>().prop_map(Whole),
            number.prop_map(Number),
            ".{0,6}".prop_map(|text| Text(text.replace(char::is_control, "\n"))),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let items = proptest::collection::vec(inner.clone(), 0..4);
            prop_oneof![
                items.clone().prop_map(List),
                items.prop_map(Tuple),
                proptest::collection::vec((inner.clone(), inner), 0..3).prop_map(Dictionary),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: Option::None, ..ProptestConfig::default() })]

        #[test]
        fn every_value_is_read_as_it_is_printed(literal in any_literal()) {
            prop_assert_eq!(Literal::parse(&literal.to_string()), Ok(literal));
        }

        #[test]
        fn no_text_panics(text in "[-0-9a-zA-Z_.'\"\\\\\\[\\](){}:, é]{0,40}") {
            let _ = Literal::parse(&text);
        }
    }
}
