//! Reads a TOML table key by key and remembers everything that is wrong with it, so that a user
//! mends an experiment in one go. serde stops at the first mistake; this does not.

use arrowhop_types::Problems;
use toml::{Table, Value};

/// A table being read. Keys that nobody asked for are problems too.
pub(super) struct Fields<'a> {
    table: Table,
    path: String,
    problems: &'a mut Problems,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(table: Table, path: &str, problems: &'a mut Problems) -> Self {
        Self { table, path: path.to_owned(), problems, known: Vec::new() }
    }

    /// Says that something is wrong with a key.
    pub(super) fn wrong(&mut self, key: &str, text: impl Into<String>) {
        let place = self.place(key);
        self.problems.push(place, text);
    }

    /// Says all that was found wrong below this table.
    pub(super) fn all_wrong(&mut self, found: &Problems) {
        let place = self.place("");
        self.problems.extend(&place, found);
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.take(key, "a text in quotes", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.take(key, "true or false", Value::as_bool)
    }

    pub(super) fn number(&mut self, key: &'static str) -> Option<f64> {
        self.take(key, "a number", number)
    }

    /// A whole number in `1..=most`.
    pub(super) fn count(&mut self, key: &'static str, most: u64) -> Option<u64> {
        self.take(key, &format!("a whole number from 1 to {most}"), |value| {
            value
                .as_integer()
                .and_then(|n| u64::try_from(n).ok())
                .filter(|n| (1..=most).contains(n))
        })
    }

    pub(super) fn seed(&mut self, key: &'static str) -> Option<u64> {
        self.take(key, "a whole number from 0", |value| {
            value.as_integer().and_then(|n| u64::try_from(n).ok())
        })
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.take(key, "a list of texts", |value| {
            list(value, |item| item.as_str().map(str::to_owned))
        })
    }

    /// A list of anything.
    pub(super) fn values(&mut self, key: &'static str) -> Option<Vec<Value>> {
        self.take(key, "a list", |value| value.as_array().cloned())
    }

    pub(super) fn counts(&mut self, key: &'static str) -> Option<Vec<u32>> {
        self.take(key, "a list of whole numbers", |value| {
            list(value, |item| item.as_integer().and_then(|n| u32::try_from(n).ok()))
        })
    }

    pub(super) fn table(&mut self, key: &'static str) -> Option<Table> {
        self.take(key, "a table", |value| value.as_table().cloned())
    }

    pub(super) fn tables(&mut self, key: &'static str) -> Option<Vec<Table>> {
        self.take(key, "a list of tables", |value| list(value, |item| item.as_table().cloned()))
    }

    /// One of `choices`.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        self.take(key, &format!("one of {}", names.join(", ")), |value| chosen(value, choices))
    }

    /// Some of `choices`: one, or a list of them.
    pub(super) fn choices<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<Vec<T>> {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let one = |value: &Value| chosen(value, choices);
        self.take(key, &format!("one of {}, or a list of these", names.join(", ")), |value| {
            one(value).map(|choice| vec![choice]).or_else(|| list(value, one))
        })
    }

    /// Whether a key is given and was not read yet.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A key's value, whatever it is.
    pub(super) fn value(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    /// What is left, for tables whose keys are not known beforehand.
    pub(super) fn rest(mut self) -> Table {
        std::mem::take(&mut self.table)
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(mut self) {
        for key in std::mem::take(&mut self.table).keys() {
            let known = self.known.join(", ");
            self.wrong(key, format!("unknown key; known here: {known}"));
        }
    }

    fn take<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let read = read(&value);
        if read.is_none() {
            self.wrong(key, format!("{} is not {wanted}", shown(&value)));
        }
        read
    }

    fn place(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// The choice that a text names.
fn chosen<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Option<T> {
    let text = value.as_str()?;
    choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice)
}

/// A number, whole or not.
#[expect(clippy::cast_precision_loss, reason = "TOML integers in experiments are small")]
pub(super) fn number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|n| n as f64))
}

/// A list whose every item reads.
pub(super) fn list<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(read).collect()
}

/// A value in an error text, cut short.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        return text;
    }
    text.chars().take(60).chain(['…']).collect()
}
