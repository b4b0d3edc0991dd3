//! What a connection string says about TLS, which is more than the driver knows: these keys are taken
//! out of it, whichever of its two forms it has.

use std::collections::BTreeMap;
use std::ops::Range;

/// Keys and their values.
pub(super) type Values = BTreeMap<&'static str, String>;

/// The values of these keys, and the text without them. What is no connection string stays as it is.
pub(super) fn take(text: &str, keys: &[&'static str]) -> (Values, String) {
    let is_url = ["postgresql://", "postgres://"].iter().any(|scheme| text.starts_with(scheme));
    let found = if is_url { of_url(text, keys) } else { of_words(text, keys) };
    found.unwrap_or_else(|| (Values::new(), text.to_owned()))
}

/// `postgresql://…?key=value&…`
fn of_url(text: &str, keys: &[&'static str]) -> Option<(Values, String)> {
    let (address, query) = text.split_once('?')?;
    let mut values = Values::new();
    let mut rest = Vec::new();
    for pair in query.split('&') {
        // A plus sign is itself here.
        let plain = pair.replace('+', "%2B");
        let decoded = url::form_urlencoded::parse(plain.as_bytes()).next();
        let known = decoded.as_ref().and_then(|(key, _)| keys.iter().find(|known| *known == key));
        match (known, &decoded) {
            (Some(key), Some((_, value))) => {
                values.insert(*key, value.clone().into_owned());
            }
            _ => rest.push(pair),
        }
    }
    let mark = if rest.is_empty() { "" } else { "?" };
    Some((values, format!("{address}{mark}{}", rest.join("&"))))
}

/// `key = value key='va\'lue' …`
fn of_words(text: &str, keys: &[&'static str]) -> Option<(Values, String)> {
    let mut values = Values::new();
    let mut rest = String::new();
    let mut letters = text.char_indices().peekable();
    loop {
        while letters.next_if(|(_, letter)| letter.is_whitespace()).is_some() {}
        let Some(&(start, _)) = letters.peek() else { break };
        let mut key = String::new();
        while let Some((_, letter)) = letters.next_if(|(_, it)| *it != '=' && !it.is_whitespace()) {
            key.push(letter);
        }
        while letters.next_if(|(_, letter)| letter.is_whitespace()).is_some() {}
        letters.next_if(|(_, letter)| *letter == '=')?;
        while letters.next_if(|(_, letter)| letter.is_whitespace()).is_some() {}
        let value = value(&mut letters)?;
        let end = letters.peek().map_or(text.len(), |(at, _)| *at);
        match keys.iter().find(|known| **known == key) {
            Some(key) => {
                values.insert(*key, value);
            }
            None => add(&mut rest, text, start..end),
        }
    }
    Some((values, rest))
}

/// A value, with or without quotes; a backslash takes the next letter as it is.
fn value(letters: &mut std::iter::Peekable<std::str::CharIndices<'_>>) -> Option<String> {
    let is_quoted = letters.next_if(|(_, letter)| *letter == '\'').is_some();
    let mut value = String::new();
    loop {
        let is_inside = |(_, letter): &(usize, char)| is_quoted || !letter.is_whitespace();
        match letters.next_if(is_inside) {
            Some((_, '\\')) => value.push(letters.next()?.1),
            Some((_, '\'')) if is_quoted => return Some(value),
            Some((_, letter)) => value.push(letter),
            None if is_quoted => return None,
            None => return Some(value),
        }
    }
}

fn add(rest: &mut String, text: &str, range: Range<usize>) {
    if !rest.is_empty() {
        rest.push(' ');
    }
    rest.push_str(&text[range]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_give_their_keys_and_keep_the_rest() {
        const KEYS: [&str; 2] = ["sslmode", "sslrootcert"];
        for (text, mode, root, rest) in [
            (
                "host=a  sslmode = verify-full sslrootcert='/a b/it\\'s' user='x y'",
                Some("verify-full"),
                Some("/a b/it's"),
                "host=a user='x y'",
            ),
            ("sslmode=require", Some("require"), None, ""),
            ("host='sslmode=require' port=1", None, None, "host='sslmode=require' port=1"),
            ("host=a sslmode", None, None, "host=a sslmode"),
            ("host='a sslmode=require", None, None, "host='a sslmode=require"),
            (
                "postgresql://u@h:1/d?sslmode=verify-ca&application_name=a%20b&sslrootcert=%2Fa+b",
                Some("verify-ca"),
                Some("/a+b"),
                "postgresql://u@h:1/d?application_name=a%20b",
            ),
            ("postgres://h/d?sslmode=disable", Some("disable"), None, "postgres://h/d"),
            ("postgres://h/d", None, None, "postgres://h/d"),
        ] {
            let (values, left) = take(text, &KEYS);
            let get = |key: &str| values.get(key).map(String::as_str);
            assert_eq!((get("sslmode"), get("sslrootcert"), left.as_str()), (mode, root, rest));
        }
    }
}
