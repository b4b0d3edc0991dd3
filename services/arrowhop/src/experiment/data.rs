//! The `[data]` section.

use arrowhop_source::postgres::{Access, Request, Rows, Server};
use arrowhop_source::{DataSpec, Filter, Generator, Location, Origin};
use arrowhop_types::Problems;
use toml::Table;

use super::columns;
use super::fields::Fields;

/// Ways of reading a table of PostgreSQL, by name.
pub(crate) const ACCESS: [(&str, Access); 3] =
    [("auto", Access::Auto), ("copy", Access::Copy), ("direct", Access::Direct)];
/// Shards where the experiment does not say: as many as the segments of a run in one process.
const SHARDS: u64 = 4;

pub(super) fn read(
    table: Option<Table>,
    name: &str,
    seed: u64,
    problems: &mut Problems,
) -> Option<DataSpec> {
    let Some(table) = table else {
        problems.push(
            "data",
            "is needed: a [data] section with `train`, `table`, `query` or `generate`",
        );
        return None;
    };
    let mut fields = Fields::new(table, "data", problems);
    let shards = fields.count("shards", 65_535).unwrap_or(SHARDS);
    let max_rows = fields.count("max_rows", u64::from(u32::MAX));
    let validation_fraction = fields.number("validation_fraction");
    let test_fraction = fields.number("test_fraction");
    let generate = fields.table("generate");
    let origin = match generate {
        Some(table) => {
            fields.finish();
            generated(table, problems)
        }
        None => tables(fields),
    };
    Some(DataSpec {
        name: name.to_owned(),
        origin: origin?,
        shards: u32::try_from(shards).expect("at most 65,535"),
        seed,
        max_rows,
        validation_fraction,
        test_fraction,
    })
}

fn generated(table: Table, problems: &mut Problems) -> Option<Origin> {
    let mut fields = Fields::new(table, "data.generate", problems);
    let kind = fields.choice("kind", &[("shapes", ())]);
    if kind.is_none() {
        fields.wrong("kind", "is needed: \"shapes\"");
    }
    let rows = fields.count("rows", 10_000_000);
    if rows.is_none() {
        fields.wrong("rows", "is needed: how many training rows to make");
    }
    let validation_rows = fields.count("validation_rows", 10_000_000).unwrap_or(0);
    fields.finish();
    kind?;
    Some(Origin::Generated(Generator::Shapes { rows: rows?, validation_rows }))
}

fn tables(mut fields: Fields<'_>) -> Option<Origin> {
    let train = named(&mut fields, ["train", "table", "query"]);
    let validation = named(&mut fields, ["validation", "validation_table", "validation_query"]);
    let test = named(&mut fields, ["test", "test_table", "test_query"]);
    if train.is_none() {
        let text = "is needed: a file, relative to --data or to this file; or `table` or `query`, of \
                    PostgreSQL";
        fields.wrong("train", text);
    }
    let train_filter = filter(&mut fields, "where");
    let validation_filter = filter(&mut fields, "validation_where");
    if validation_filter.is_some() && validation.is_none() {
        fields.wrong("validation_where", "is of no rows; give `validation`, too, or leave it out");
    }
    let is_used = [&train, &validation, &test].iter().any(|it| matches!(it, Some(Named::Rows(_))));
    let postgres = Postgres::read(&mut fields, is_used);
    let is_packed = fields.flag("packed") == Some(true);
    let mut locate = |named: Named| {
        let location = match named {
            Named::File(text) => Location::of(&text),
            Named::Rows(rows) => postgres.location(rows)?,
        };
        if !is_packed {
            return Some(location);
        }
        location.packed().map_err(|found| fields.all_wrong(&found)).ok()
    };
    let train = train.and_then(&mut locate).map(|train| train.filtered(train_filter));
    let validation = validation.and_then(&mut locate);
    let validation = validation.map(|validation| validation.filtered(validation_filter));
    let test = test.and_then(&mut locate);
    let targets = columns::targets(&mut fields);
    let inputs = columns::inputs(&mut fields);
    fields.finish();
    Some(Origin::Tables { train: train?, validation, test, inputs: inputs?, targets: targets? })
}

/// The condition on rows under a key.
fn filter(fields: &mut Fields<'_>, key: &'static str) -> Option<Filter> {
    let text = fields.text(key)?;
    Filter::parse(key, &text).map_err(|found| fields.all_wrong(&found)).ok()
}

/// What a key names.
enum Named {
    /// A path or a URL.
    File(String),
    Rows(Rows),
}

/// What one of these keys names: of a file, of a table, of a query.
fn named(fields: &mut Fields<'_>, keys: [&'static str; 3]) -> Option<Named> {
    let [file, table, query] = keys.map(|key| fields.text(key));
    let rows = [table.map(Rows::Table), query.map(Rows::Query)].into_iter().flatten();
    let mut found: Vec<Named> = file.map(Named::File).into_iter().collect();
    found.extend(rows.map(Named::Rows));
    if found.len() > 1 {
        fields.wrong(keys[0], format!("is one of several: give one of {}", keys.join(", ")));
    }
    found.pop()
}

/// The keys about PostgreSQL.
struct Postgres {
    /// Nothing where it was wrong, or is not used.
    server: Option<Server>,
    access: Access,
    segments: bool,
    hash_key: Option<String>,
}

impl Postgres {
    /// The environment is looked at only where it `is_used`.
    fn read(fields: &mut Fields<'_>, is_used: bool) -> Self {
        let text = fields.text("server").unwrap_or_default();
        let role = fields.text("role");
        let mut server = None;
        if Server::has_password(&text) {
            let text = "holds a password, which would be kept with the run: put it into PGPASSWORD \
                        or ~/.pgpass";
            fields.wrong("server", text);
        } else if is_used {
            match Server::parse(&text, |name| std::env::var(name).ok()) {
                Ok(found) => server = Some(found.with_role(role)),
                Err(found) => fields.all_wrong(&found),
            }
        }
        let access = fields.choice("access", &ACCESS).unwrap_or_default();
        let segments = fields.flag("segments").unwrap_or(true);
        Self { server, access, segments, hash_key: fields.text("hash_key") }
    }

    fn location(&self, rows: Rows) -> Option<Location> {
        let request = Request {
            access: self.access,
            segments: self.segments,
            hash_key: self.hash_key.clone(),
            ..Request::of(rows)
        };
        Some(Location::Postgres { server: self.server.clone()?, request: Box::new(request) })
    }
}
