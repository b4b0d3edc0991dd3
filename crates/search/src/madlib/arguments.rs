//! `key=value, key=value`: MADlib's way of cutting a text of keyword arguments. Brackets of all
//! three kinds are counted, quotes are not.

use arrowhop_types::Problems;

/// Keys and values without the white space around them, in order; of a key's values the last.
pub(super) struct Arguments<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Arguments<'a> {
    /// Cuts a text.
    ///
    /// # Errors
    /// Each part that is no argument.
    pub(super) fn parse(text: &'a str) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let mut arguments: Vec<(&str, &str)> = Vec::new();
        let parts = if text.trim().is_empty() { Vec::new() } else { parts(text) };
        for part in parts {
            let Some((key, value)) = part.split_once('=') else {
                problems.push(place(part), "is not name=value");
                continue;
            };
            let (key, value) = (key.trim(), value.trim());
            arguments.retain(|(known, _)| *known != key);
            arguments.push((key, value));
        }
        problems.or(Self(arguments))
    }

    /// Takes a value out.
    pub(super) fn take(&mut self, key: &str) -> Option<&'a str> {
        let at = self.0.iter().position(|(known, _)| *known == key)?;
        Some(self.0.remove(at).1)
    }

    /// Refuses what is left.
    pub(super) fn finish(self, refused: &[(&str, &str)], known: &str, problems: &mut Problems) {
        for (key, _) in self.0 {
            let reason = refused.iter().find(|(refused, _)| *refused == key);
            let text = match reason {
                Some((_, reason)) => format!("is not currently accepted: {reason}"),
                None => format!("is not currently accepted; accepted: {known}"),
            };
            problems.push(place(key), text);
        }
    }
}

/// A key, or what stands where one should be.
fn place(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { "a part between commas".to_owned() } else { text.to_owned() }
}

/// The text between the commas that are in no brackets.
fn parts(text: &str) -> Vec<&str> {
    let mut open = Vec::new();
    let mut start = 0;
    let mut parts = Vec::new();
    for (at, character) in text.char_indices() {
        match character {
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' if open.last() == Some(&character) => {
                open.pop();
            }
            ',' if open.is_empty() => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A value without the quotes around it, as many as there are.
pub(super) fn unquoted(value: &str) -> &str {
    value.trim_matches(['"', '\''])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_brackets_separate_nothing_and_the_last_of_a_key_counts() {
        let text = " a = f(x=[1, 2], y={'b': (3, 4)}) ,c=1,a= 2\n, d='it, is' ";
        let Err(problems) = Arguments::parse(text) else { panic!("`is'` is no argument") };
        assert_eq!(problems.to_string(), "is': is not name=value");
        let mut arguments = Arguments::parse(text.trim_end_matches(", is' ")).unwrap();
        assert_eq!(arguments.take("c"), Some("1"));
        assert_eq!(arguments.take("a"), Some("2"));
        assert_eq!(arguments.take("d"), Some("'it"));
        assert_eq!(arguments.take("d"), None);
    }

    #[test]
    fn an_open_bracket_takes_the_rest() {
        let mut arguments = Arguments::parse("a=f(x=1, b=2").unwrap();
        assert_eq!(arguments.take("b"), None);
        assert_eq!(arguments.take("a"), Some("f(x=1, b=2"));
    }

    #[test]
    fn what_is_no_argument_is_named_at_once() {
        let Err(problems) = Arguments::parse("a=1,, b,") else { panic!("three are wrong") };
        let empty = "a part between commas: is not name=value";
        let expected = [empty, "b: is not name=value", empty];
        assert_eq!(problems.to_string().lines().collect::<Vec<_>>(), expected);
        assert!(Arguments::parse("  ").is_ok_and(|arguments| arguments.0.is_empty()));
    }

    #[test]
    fn what_is_left_is_refused_with_the_reason_or_what_there_is() {
        let mut problems = Problems::new();
        let arguments = Arguments::parse("a=1, b=2").unwrap();
        arguments.finish(&[("a", "it is too much")], "x, y", &mut problems);
        let expected = [
            "a: is not currently accepted: it is too much",
            "b: is not currently accepted; accepted: x, y",
        ];
        assert_eq!(problems.to_string().lines().collect::<Vec<_>>(), expected);
    }
}
