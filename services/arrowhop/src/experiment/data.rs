//! The `[data]` section.

use arrowhop_source::postgres::{Access, Request, Rows, Server};
use arrowhop_source::{DataSpec, Generator, Location, Origin};
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
    let postgres = Postgres::read(&mut fields);
    let mut one = |keys: [&'static str; 3]| {
        let [file, table, query] = keys.map(|key| fields.text(key));
        let rows = [table.map(Rows::Table), query.map(Rows::Query)];
        let rows = rows.into_iter().flatten().map(|rows| postgres.location(rows));
        let mut found: Vec<Location> = file.iter().map(|file| Location::of(file)).collect();
        found.extend(rows.flatten());
        if found.len() > 1 {
            let text = format!("is one of several: give one of {}", keys.join(", "));
            fields.wrong(keys[0], text);
        }
        found.pop()
    };
    let train = one(["train", "table", "query"]);
    let validation = one(["validation", "validation_table", "validation_query"]);
    if train.is_none() && postgres.server.is_some() {
        let text = "is needed: a Parquet file, relative to --data or to this file; or `table` or \
                    `query`, of PostgreSQL";
        fields.wrong("train", text);
    }
    let targets = columns::targets(&mut fields);
    let inputs = columns::inputs(&mut fields);
    fields.finish();
    Some(Origin::Tables { train: train?, validation, inputs: inputs?, targets: targets? })
}

/// The keys about PostgreSQL.
struct Postgres {
    /// Nothing where it was wrong.
    server: Option<Server>,
    access: Access,
    segments: bool,
    hash_key: Option<String>,
}

impl Postgres {
    fn read(fields: &mut Fields<'_>) -> Self {
        let text = fields.text("server").unwrap_or_default();
        let role = fields.text("role");
        let server = match Server::parse(&text, |name| std::env::var(name).ok()) {
            Ok(server) if Server::has_password(&text) => {
                let text = "holds a password, which would be kept with the run: put it into \
                            PGPASSWORD or ~/.pgpass";
                fields.wrong("server", text);
                drop(server);
                None
            }
            Ok(server) => Some(server.with_role(role)),
            Err(found) => {
                fields.all_wrong(&found);
                None
            }
        };
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
