//! Names of tables as SQL takes them: `table`, `schema.table`, `"Schema"."Table"`.

use arrowhop_types::Problems;

use super::server::quoted;

/// The same name with every part quoted. As in SQL, letters outside of quotes are made small.
pub(super) fn checked(name: &str) -> Result<String, Problems> {
    let wrong = |text: &str| Problems::one(format!("table {name}"), text);
    let mut parts = Vec::new();
    let mut rest = name.trim();
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                until_quote(quoted).ok_or_else(|| wrong("has a quote that is not closed"))?
            }
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].to_lowercase(), &rest[end..])
            }
        };
        let is_plain = rest.starts_with('"')
            || part.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '$'));
        if part.is_empty() || !is_plain || part.contains('\0') {
            return Err(wrong(
                "is no name of a table; give \"schema\".\"table\", with quotes around \
                              names that have capitals, blanks or signs",
            ));
        }
        parts.push(quoted(&part));
        if after.is_empty() {
            break;
        }
        rest = after.strip_prefix('.').ok_or_else(|| wrong("goes on behind a quoted name"))?;
    }
    match parts.len() {
        1 | 2 => Ok(parts.join(".")),
        _ => Err(wrong("has more parts than schema and table; connect to its database instead")),
    }
}

/// The text up to the closing quote, in which two quotes are one, and what follows it.
fn until_quote(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        part.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                part.push('"');
                rest = after;
            }
            None => return Some((part, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sql_reads_them() {
        assert_eq!(checked("Flights").unwrap(), "\"flights\"");
        assert_eq!(checked(" public.a_1$ ").unwrap(), "\"public\".\"a_1$\"");
        assert_eq!(checked("\"A b\".\"c\"\"d.e\"").unwrap(), "\"A b\".\"c\"\"d.e\"");
        for name in
            ["", "a b", "a;DROP TABLE b", "a.", ".a", "\"a", "\"a\"b", "a.b.c", "a(b)", "\"\""]
        {
            assert!(checked(name).is_err(), "{name}");
        }
    }
}
