//! Conditions on the rows of files: the rows that pass are those of the file, numbered anew, and
//! nothing else of a Parquet file is read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::Int32Type;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::fixtures::{all_columns, column, file_spec, train_of, write};
use crate::table::Table;
use crate::{
    DataSpec, Filter, Location, NewOptions, NewOrigin, Origin, SourceError, Workspace, prepare,
    prepare_new,
};

fn filtered(path: &Path, text: &str) -> Location {
    Location::File(path.to_owned()).filtered(Some(Filter::parse("where", text).unwrap()))
}

fn found(location: &Location) -> Result<(Table, RecordBatch), SourceError> {
    let (table, _) = location.source().open(None, &Workspace::in_memory())?;
    let names: Vec<_> = table.schema().fields().iter().map(|it| it.name().clone()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let rows: Vec<u32> = (0..table.rows()).collect();
    let batches = table.scan(&names, &rows, vec![(); rows.len()], |chunk| Ok(chunk.batch))?;
    let batch = concat_batches(&batches[0].schema(), &batches).unwrap();
    Ok((table, batch))
}

fn ids(location: &Location) -> Vec<i32> {
    found(location).unwrap().1["id"].as_primitive::<Int32Type>().values().to_vec()
}

/// 4,000 rows in 4 groups of 10 pages, ascending by `id` and by `x`, with long texts.
fn sorted(dir: &Path) -> PathBuf {
    let ids = Int32Array::from_iter_values(0..4_000);
    let x = (0..4_000).map(|i| (i % 7 > 0).then_some(f64::from(i) / 4.0));
    let texts = (0..4_000).map(|i| format!("{i:04}{}", "x".repeat(100)));
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(ids)),
        ("x", Arc::new(Float64Array::from_iter(x))),
        ("s", Arc::new(StringArray::from_iter_values(texts))),
    ];
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, it)| (name, it, true)))
            .unwrap();
    let path = dir.join("sorted");
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(1_000))
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(100)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Page)
        .build();
    let file = File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    path
}

/// The same file with noise in every page but those of these rows of each group that is named.
fn spoiled(path: &Path, kept: &[(usize, std::ops::Range<i64>)]) -> (PathBuf, usize) {
    let mut bytes = fs::read(path).unwrap();
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let footer = ArrowReaderMetadata::load(&File::open(path).unwrap(), options).unwrap();
    let mut pages = 0;
    for (group, columns) in footer.metadata().offset_index().unwrap().iter().enumerate() {
        for page in columns.iter().flat_map(|column| column.page_locations()) {
            let is_kept = |(of, rows): &(usize, std::ops::Range<i64>)| {
                *of == group && rows.contains(&page.first_row_index)
            };
            if !kept.iter().any(is_kept) {
                let start = usize::try_from(page.offset).unwrap();
                let size = usize::try_from(page.compressed_page_size).unwrap();
                bytes[start..start + size].fill(0xa5);
                pages += 1;
            }
        }
    }
    let target = path.with_extension("spoiled");
    fs::write(&target, bytes).unwrap();
    (target, pages)
}

#[test]
fn pages_that_cannot_have_a_row_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = sorted(dir.path());
    for (text, wanted, kept) in [
        ("id BETWEEN 1210 AND 1390", 1_210..1_391, vec![(1, 200..400)]),
        ("id = 3999 OR x < 0", 3_999..4_000, vec![(0, 0..1), (3, 900..1_000)]),
        ("s >= '0950' AND s < '1050' AND id < 1000", 950..1_000, vec![(0, 900..1_000)]),
        ("id IN (7, 2.5, 99999999999)", 7..8, vec![(0, 0..1)]),
        ("NOT (id >= 100 OR id < 0)", 0..100, vec![(0, 0..1)]),
        ("x <= 0.25 AND s LIKE '%x'", 1..2, vec![(0, 0..1)]),
    ] {
        let (spoiled, pages) = spoiled(&path, &kept);
        let ids = ids(&filtered(&spoiled, text));
        assert!(pages > 100, "{pages} pages of 120 are noise");
        let passes = |id: &i32| wanted.contains(id);
        assert_eq!(ids, (0..4_000).filter(passes).collect::<Vec<_>>(), "{text}");
    }
    // What has no bounds, or none that say enough, is read.
    for text in ["s LIKE '0000%'", "x IS NULL AND id < 5", "id <> 7", "x > 999.5", "x >= 999.5"] {
        let whole = found(&filtered(&path, text)).unwrap().1;
        assert!(whole.num_rows() > 0, "{text}");
        let (spoiled, _) = spoiled(&path, &[]);
        let error = found(&filtered(&spoiled, text)).err().expect(text);
        assert!(error.to_string().contains("is damaged"), "{text}: {error}");
    }
}

#[test]
fn every_kind_of_file_gives_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = sorted(dir.path());
    let (_, all) = found(&Location::File(path.clone())).unwrap();
    let arrow = dir.path().join("sorted.arrow");
    let mut writer =
        arrow::ipc::writer::FileWriter::try_new(File::create(&arrow).unwrap(), &all.schema())
            .unwrap();
    for start in (0..4_000).step_by(700) {
        writer.write(&all.slice(start, (4_000 - start).min(700))).unwrap();
    }
    writer.finish().unwrap();
    for text in [
        "x > 12 AND x <= 800 OR id = 3500",
        "x IS NULL",
        "s NOT LIKE '%5__xx%' AND id > 17",
        "id NOT IN (1, 2, 3)",
    ] {
        let filter = Filter::parse("where", text).unwrap();
        let of = |path: &Path| Location::File(path.to_owned()).filtered(Some(filter.clone()));
        let (table, rows) = found(&of(&path)).unwrap();
        assert_eq!(rows, found(&of(&arrow)).unwrap().1, "{text}");
        assert_eq!(table.rows() as usize, rows.num_rows());
        // Filters of filters are both.
        let both = of(&path).filtered(Some(Filter::parse("where", "id < 3000").unwrap()));
        let below = ids(&of(&path)).into_iter().filter(|id| *id < 3_000).collect::<Vec<_>>();
        assert_eq!(ids(&both), below, "{text}");
        // Any part of them can be read.
        let some: Vec<u32> = (0..table.rows()).filter(|row| row % 3 == 1).collect();
        let scanned = table.scan(&["id"], &some, some.clone(), |chunk| {
            assert_eq!(chunk.rows, chunk.items);
            Ok(chunk.column("id").as_primitive::<Int32Type>().values().to_vec())
        });
        let wanted: Vec<i32> = ids(&of(&path)).into_iter().skip(1).step_by(3).collect();
        assert_eq!(scanned.unwrap().concat(), wanted, "{text}");
    }
}

#[test]
fn a_data_set_of_some_rows_is_that_of_a_file_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let rows = |ids: Vec<i32>| {
        let y = ids.iter().map(|id| id % 3).collect::<Vec<_>>();
        let x = ids.iter().map(|id| f64::from(*id)).collect::<Vec<_>>();
        [
            column("x", Float64Array::from(x)),
            column("y", Int32Array::from(y)),
            column("age", Int32Array::from(ids)),
        ]
    };
    let all = write(dir.path(), "all", &rows((0..900).collect()));
    let kept = (0..900).filter(|id| *id >= 150 && id % 3 != 1).collect();
    let some = write(dir.path(), "some", &rows(kept));
    let spec = |path: &Path| DataSpec { shards: 3, ..file_spec(path, all_columns()) };
    let mut of_all = spec(&all);
    let Origin::Tables { train, .. } = &mut of_all.origin else { panic!("tables") };
    *train = filtered(&all, "age >= 150 AND y <> 1");
    let (of_all, of_some) = (prepare(&of_all).unwrap(), prepare(&spec(&some)).unwrap());
    assert_eq!(train_of(&of_all), train_of(&of_some));
    assert_eq!(of_all.data_set, of_some.data_set);

    let new = |location| {
        let preparation = &of_some.data_set.preparation;
        prepare_new(preparation, &NewOrigin::Table(location), &NewOptions::default()).unwrap()
    };
    assert_eq!(new(filtered(&all, "age >= 150 AND y <> 1")), new(Location::File(some)));
}

#[test]
fn what_is_wrong_is_said_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = sorted(dir.path());
    let error = |text| found(&filtered(&path, text)).err().unwrap().to_string();
    let name = path.display();
    assert_eq!(
        error("age < 5 AND \"ID\" = 1"),
        format!(
            "{name}, column `age`: there is no such column; there are `id`, `x`, `s`\n\
             {name}, column `ID`: there is no such column; there are `id`, `x`, `s`"
        )
    );
    let none = format!("{name}: has no row that its `where` lets pass; ask for less");
    assert_eq!(error("id < 0"), none);
    assert_eq!(error("id < 50 AND x = 0.3"), none);
    let csv = dir.path().join("t.csv");
    fs::write(&csv, "a,b\n1,x\n2,y\n").unwrap();
    let error = found(&filtered(&csv, "a > 2")).err().unwrap().to_string();
    assert!(
        error.ends_with("t.csv: has no row that its `where` lets pass; ask for less"),
        "{error}"
    );
}
