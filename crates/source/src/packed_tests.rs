//! Tables packed by SQL as MADlib packs them, read from PostgreSQL and from Parquet: the same rows as the
//! source has, divided. (`array_scalar_mult` by a reciprocal, `array_to_bytea`, and a summary beside it.)

use std::fs::File;
use std::path::Path;

use arrowhop_types::{ClassList, Dtype, Target};
use parquet::arrow::ArrowWriter;

use crate::fixtures::{concat, generated_spec, train_of, validation_of};
use crate::postgres::harness::Postgres;
use crate::postgres::{Access, Request, Rows, Server, read};
use crate::{
    DataSpec, Inputs, Location, NamedInputs, NewOptions, NewOrigin, Origin, Prepared, TargetSpec,
    TargetUse, TensorInputs, prepare, prepare_new,
};

/// 17 rows of two inputs and three targets, in buffers of 4 or 5: bytes, and arrays.
const TABLES: &str = "
    CREATE FUNCTION f32_bytes(REAL[]) RETURNS BYTEA LANGUAGE sql IMMUTABLE AS $$
        SELECT string_agg(substring(b FROM 4) || substring(b FROM 3 FOR 1)
            || substring(b FROM 2 FOR 1) || substring(b FOR 1), ''::BYTEA ORDER BY i)
        FROM (SELECT float4send(v) AS b, i FROM unnest($1) WITH ORDINALITY AS u(v, i)) AS s $$;
    CREATE FUNCTION i16_bytes(INTEGER[]) RETURNS BYTEA LANGUAGE sql IMMUTABLE AS $$
        SELECT string_agg(substring(b FROM 2) || substring(b FOR 1), ''::BYTEA ORDER BY i)
        FROM (SELECT int2send(v::SMALLINT) AS b, i FROM unnest($1) WITH ORDINALITY AS u(v, i)) AS s
        $$;
    CREATE FUNCTION divided(REAL[]) RETURNS REAL[] LANGUAGE sql IMMUTABLE AS $$
        SELECT array_agg(v * (1/5.0)::REAL ORDER BY i)
        FROM unnest($1) WITH ORDINALITY AS u(v, i) $$;
    CREATE TABLE source AS
        SELECT i AS id, ARRAY[[i, i / 3.0, 0.1], [-i, 10.0 ^ i, 0]]::REAL[] AS x, (i / 7.0)::REAL AS z,
            (ARRAY['a', 'b', NULL])[1 + i % 3] AS label, (ARRAY[7, 3, -1])[1 + i % 3] AS grade,
            ARRAY[i % 2, 1 - i % 2] AS pair
        FROM generate_series(1, 17) AS i;
    CREATE TABLE shuffled AS
        SELECT *, row_number() OVER (ORDER BY md5(id::TEXT)) AS row_id FROM source;
    CREATE TABLE packed AS
        SELECT string_agg(f32_bytes(divided(x)), ''::BYTEA ORDER BY row_id) AS x,
            ARRAY[count(*), 2, 3]::INTEGER[] AS x_shape,
            divided(array_agg(z ORDER BY row_id)) AS z, ARRAY[count(*), 1]::INTEGER[] AS z_shape,
            string_agg(i16_bytes(ARRAY[label IS NULL, label IS NOT DISTINCT FROM 'a',
                label IS NOT DISTINCT FROM 'b', false, false]::INTEGER[]), ''::BYTEA
                ORDER BY row_id) AS label, ARRAY[count(*), 5]::INTEGER[] AS label_shape,
            string_agg(i16_bytes(ARRAY[grade = -1, grade = 3, grade = 7]::INTEGER[]), ''::BYTEA
                ORDER BY row_id) AS grade, ARRAY[count(*), 3]::INTEGER[] AS grade_shape,
            string_agg(i16_bytes(pair), ''::BYTEA ORDER BY row_id) AS pair,
            ARRAY[count(*), 2]::INTEGER[] AS pair_shape,
            (row_id % 4)::SMALLINT AS buffer_id
        FROM shuffled GROUP BY row_id % 4 ORDER BY md5((row_id % 4)::TEXT);
    CREATE TABLE packed_summary AS
        SELECT 'source'::TEXT AS source_table, 'packed'::TEXT AS output_table,
            ARRAY['label', 'grade', 'pair']::TEXT[] AS dependent_varname,
            ARRAY['x', 'z']::TEXT[] AS independent_varname,
            ARRAY['text', 'integer', 'integer[]']::TEXT[] AS dependent_vartype,
            ARRAY[NULL, 'a', 'b', NULL, NULL]::TEXT[] AS label_class_values,
            ARRAY[-1, 3, 7]::INTEGER[] AS grade_class_values, NULL::TEXT AS pair_class_values,
            5 AS buffer_size, 5.0 AS normalizing_const, ARRAY[5, NULL, NULL]::INTEGER[] AS num_classes;
    CREATE TABLE held_back AS SELECT * FROM packed WHERE buffer_id = 2;
    CREATE TABLE held_back_summary AS TABLE packed_summary;
";

struct Database {
    postgres: Postgres,
    name: String,
    server: Server,
}

impl Database {
    fn start() -> Option<Self> {
        let postgres = Postgres::start(&[], &[])?;
        let name = postgres.database("packing", &[]);
        postgres.sql(&name, TABLES);
        let server = Server::parse(&postgres.connection(&name), |_| None).unwrap();
        Some(Self { postgres, name, server })
    }

    fn location(&self, rows: Rows, access: Access) -> Location {
        let request = Box::new(Request { access, threads: 2, ..Request::of(rows) });
        Location::Postgres { server: self.server.clone(), request }
    }

    fn table(&self, name: &str, access: Access) -> Location {
        self.location(Rows::Table(name.into()), access)
    }

    fn packed(&self, name: &str) -> Location {
        self.table(name, Access::Copy).packed().unwrap()
    }

    fn export(&self, table: &str, path: &Path) {
        let request = Request { access: Access::Copy, ..Request::of(Rows::Table(table.into())) };
        let reading = read(&self.server, &request).unwrap();
        let file = File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, reading.schema, None).unwrap();
        reading.batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.close().unwrap();
    }

    /// What is wrong with the table after a change to it, which is taken back.
    fn problem_after(&self, change: &str) -> String {
        self.postgres.sql(
            &self.name,
            &format!(
                "CREATE TABLE changed AS TABLE packed;
                 CREATE TABLE changed_summary AS TABLE packed_summary; {change}"
            ),
        );
        let error = prepare(&spec(self.packed("changed"), None)).unwrap_err().to_string();
        self.postgres.sql(&self.name, "DROP TABLE changed, changed_summary");
        error
    }
}

fn spec(train: Location, validation: Option<Location>) -> DataSpec {
    let input = |column: &str| NamedInputs {
        name: Some(column.into()),
        inputs: Inputs::Tensor(TensorInputs::of(column)),
    };
    let target = |column: &str| TargetSpec {
        name: Some(column.into()),
        column: column.into(),
        ..TargetSpec::default()
    };
    let origin = Origin::Tables {
        train,
        validation,
        test: None,
        inputs: vec![input("x"), input("z")],
        targets: ["label", "grade", "pair"].map(target).to_vec(),
    };
    DataSpec { origin, shards: 1, ..generated_spec(0, 0) }
}

/// All training rows by number: their first input, and their first target.
fn rows(prepared: &Prepared) -> Vec<(u64, Vec<f32>, Vec<f32>)> {
    let mut rows = train_of(prepared);
    rows.sort_by_key(|(row, ..)| *row);
    rows
}

#[test]
fn packed_rows_are_the_sources_whichever_way_they_are_read() {
    let Some(database) = Database::start() else { return };
    let one =
        prepare(&spec(database.packed("packed"), Some(database.packed("held_back")))).unwrap();
    let set = &one.data_set;
    let shapes: Vec<_> = set.inputs.iter().map(|of| (of.shape.as_slice(), of.dtype)).collect();
    assert_eq!(shapes, [(&[2, 3][..], Dtype::F32), (&[1][..], Dtype::F32)]);
    let label = [None, Some("a"), Some("b"), None, None].map(|name| name.map(str::to_owned));
    let lists = [
        Target::Classes(ClassList::new(label.to_vec())),
        Target::Classes(ClassList::named(["-1", "3", "7"])),
        Target::Values(2),
    ];
    assert!(set.targets.iter().map(|column| &column.target).eq(&lists));
    assert_eq!((rows(&one).len(), validation_of(&one).len()), (17, 4));

    let direct = database.table("packed", Access::Direct).packed().unwrap();
    let direct = prepare(&spec(direct, Some(database.packed("held_back")))).unwrap();
    assert_eq!((&direct.data_set, &direct.shards), (set, &one.shards));
    let folder = tempfile::tempdir().unwrap();
    for table in ["packed", "packed_summary", "held_back", "held_back_summary"] {
        database.export(table, &folder.path().join(format!("{table}.parquet")));
    }
    let file = |name: &str| Location::File(folder.path().join(name)).packed().unwrap();
    let files = prepare(&spec(file("packed.parquet"), Some(file("held_back.parquet")))).unwrap();
    assert_eq!((&files.data_set, &files.shards), (set, &one.shards));

    // The source's own rows become the same, to the bit.
    let query = "SELECT x, z, label, grade, pair FROM shuffled ORDER BY row_id % 4, row_id";
    let source = NewOrigin::Table(database.location(Rows::Query(query.into()), Access::Copy));
    let options = NewOptions { max_rows: None, target: TargetUse::Required };
    let new = prepare_new(&set.preparation, &source, &options).unwrap();
    assert_eq!(concat(&new.batches), rows(&one));
    let packed = NewOrigin::Table(database.packed("packed"));
    let again = prepare_new(&set.preparation, &packed, &options).unwrap();
    assert_eq!(again.batches, new.batches);

    let sql = "SELECT id, label FROM shuffled ORDER BY row_id % 4, row_id";
    let said = database.postgres.sql(&database.name, sql);
    for ((_, x, _), line) in rows(&one).iter().zip(said.lines()) {
        let id: f32 = line.split('|').next().unwrap().parse().unwrap();
        let wanted = [id, id / 3.0, 0.1, -id, 10_f32.powf(id), 0.0].map(|value| value / 5.0);
        for (found, wanted) in x.iter().zip(wanted) {
            assert!((found - wanted).abs() <= 3e-7 * wanted.abs(), "{found} for {wanted}");
        }
    }
}

#[test]
fn buffers_that_are_wrong_are_named() {
    let Some(database) = Database::start() else { return };
    let cases = [
        (
            "UPDATE changed SET x = substring(x FOR octet_length(x) - 1) WHERE buffer_id = 2",
            "table changed, column `x`, buffer 2: has 95 bytes, where its shape takes 96",
        ),
        (
            "UPDATE changed SET z = z || 1::REAL WHERE buffer_id IN (0, 1)",
            "table changed, column `z`, buffer 1: has 6 elements, where its shape takes 5\n\
             table changed, column `z`, buffer 0: has 5 elements, where its shape takes 4",
        ),
        (
            "UPDATE changed SET label = set_byte(label, 10, 2) WHERE buffer_id = 3",
            "table changed, column `label`, buffer 3: has a vector that is no class, of its row 1",
        ),
        (
            "UPDATE changed SET x_shape = ARRAY[4, 3, 2] WHERE buffer_id = 3",
            "table changed, column `x`, buffer 3: has examples of [3, 2], and the first of [2, 3]",
        ),
        (
            "UPDATE changed SET buffer_id = 1 WHERE buffer_id = 3",
            "table changed, column `buffer_id`: buffer 1 is there twice",
        ),
        (
            "UPDATE changed SET pair = NULL WHERE buffer_id = 0",
            "table changed, column `pair`, buffer 0: is null or holds a null; fill it in or leave \
             the row out",
        ),
        (
            "UPDATE changed_summary SET normalizing_const = 0",
            "table changed_summary, column `normalizing_const`: is 0, and must be above 0",
        ),
        (
            "UPDATE changed_summary SET grade_class_values = ARRAY[1, 2]",
            "table changed_summary, column `grade_class_values`: has 2 classes, but vectors of \
             `grade` are [3]",
        ),
        (
            "INSERT INTO changed_summary TABLE packed_summary",
            "table changed_summary: has 2 rows, where a packed table's summary has one",
        ),
        ("DELETE FROM changed", "table changed: has no rows"),
    ];
    for (change, text) in cases {
        assert_eq!(database.problem_after(change), text, "{change}");
    }
    let found = database.problem_after("ALTER TABLE changed DROP COLUMN z_shape");
    assert!(found.contains("column `z_shape`: there is no such column"), "{found}");
}

#[test]
fn a_summary_lies_beside_its_table() {
    let summary = |location: Location| match location.packed().unwrap() {
        Location::Packed { summary, .. } => match *summary {
            Location::File(path) => path.display().to_string(),
            Location::Object(url) | Location::Upload(url) => url,
            Location::Postgres { request, .. } => request.rows.name(),
            Location::Packed { .. } | Location::Filtered { .. } => {
                panic!("a summary is not packed")
            }
        },
        other => panic!("{other:?} is not packed"),
    };
    assert_eq!(summary(Location::of("data/train.parquet")), "data/train_summary.parquet");
    assert_eq!(summary(Location::of("s3://b/a.b/train.csv")), "s3://b/a.b/train_summary.csv");
    let server = Server::parse("host=h dbname=d user=u", |_| None).unwrap();
    let postgres =
        |rows| Location::Postgres { server: server.clone(), request: Box::new(Request::of(rows)) };
    assert_eq!(summary(postgres(Rows::Table("a.t".into()))), "table a.t_summary");
    assert_eq!(summary(postgres(Rows::Table("\"A\".\"T\"".into()))), "table \"A\".\"T_summary\"");
    let error = postgres(Rows::Query("SELECT 1".into())).packed().unwrap_err();
    assert!(error.to_string().starts_with("packed: goes with a table or a file"), "{error}");
}

/// Whatever way bytes come, they are divided as the packed rows were.
#[test]
fn bytes_are_divided_as_packed_rows_were() {
    use arrow::array::{BinaryArray, FixedSizeBinaryArray, Float64Array, ListArray, StringArray};
    use arrow::datatypes::Int32Type;

    use crate::fixtures::{column, write};

    let dir = tempfile::tempdir().unwrap();
    let floats: Vec<u8> = [0.0_f32, 40.0, 20.0, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let shape = || ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(2), Some(2)])]);
    let text = |text: &str| StringArray::from(vec![text]);
    let packed = [
        column("x", BinaryArray::from(vec![floats.as_slice()])),
        column("x_shape", shape()),
        column("y", BinaryArray::from(vec![&[1, 0, 0, 0, 0, 0, 1, 0][..]])),
        column("y_shape", shape()),
    ];
    let summary = [
        column("independent_varname", text("x")),
        column("dependent_varname", text("y")),
        column("normalizing_const", Float64Array::from(vec![5.0])),
        column("class_values", {
            let mut names = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
            names.append_value([Some("a"), Some("b")]);
            names.finish()
        }),
    ];
    let path = write(dir.path(), "t.parquet", &packed);
    write(dir.path(), "t_summary.parquet", &summary);
    let inputs = |dtype| Inputs::Tensor(TensorInputs { dtype, ..TensorInputs::of("x") });
    let prepared = |dtype| {
        let mut spec = crate::fixtures::file_spec(&path, inputs(dtype));
        let Origin::Tables { train, .. } = &mut spec.origin else { panic!("no files") };
        *train = train.clone().packed().unwrap();
        prepare(&spec)
    };
    let set = prepared(Some(Dtype::F32)).unwrap();
    let rows = rows(&set);
    assert_eq!(rows, [(0, vec![0.0, 40.0], vec![0.0]), (1, vec![20.0, 2.0], vec![1.0])]);
    let raw = FixedSizeBinaryArray::try_from_iter([[0_u8, 200], [100, 10]].iter()).unwrap();
    let raw = write(dir.path(), "raw", &[column("x", raw)]);
    let origin = NewOrigin::Table(Location::File(raw));
    let new = prepare_new(&set.data_set.preparation, &origin, &NewOptions::default()).unwrap();
    let found: Vec<_> = concat(&new.batches).into_iter().map(|(_, x, _)| x).collect();
    assert_eq!(found, [rows[0].1.clone(), rows[1].1.clone()]);
    let error = prepared(Some(Dtype::U8)).unwrap_err().to_string();
    assert!(error.ends_with("was divided when it was packed; leave dtype out"), "{error}");
}
