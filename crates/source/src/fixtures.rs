//! What tests of several modules share: small Parquet files, images and data sets.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Int32Type, Schema, UInt64Type};
use image::{ExtendedColorType, ImageEncoder};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

use crate::{
    DataSpec, Generator, Inputs, Location, NamedInputs, Origin, Prepared, Scale, TableInputs,
    TargetSpec, TensorInputs, prepare,
};

/// One row of a shard: its number, its elements as floats, its class or values as floats.
pub(crate) type Row = (u64, Vec<f32>, Vec<f32>);

pub(crate) fn generated_spec(rows: u64, validation_rows: u64) -> DataSpec {
    DataSpec {
        name: "shapes".into(),
        origin: Origin::Generated(Generator::Shapes { rows, validation_rows }),
        shards: 4,
        seed: 42,
        max_rows: None,
        validation_fraction: None,
        test_fraction: None,
    }
}

/// One shard of a file whose target is the column `y`.
pub(crate) fn file_spec(train: &Path, inputs: Inputs) -> DataSpec {
    let target = TargetSpec { column: "y".into(), ..TargetSpec::default() };
    let train = Location::File(train.to_owned());
    let (inputs, targets) = (vec![NamedInputs { name: None, inputs }], vec![target]);
    let origin = Origin::Tables { train, validation: None, test: None, inputs, targets };
    DataSpec { origin, shards: 1, ..generated_spec(0, 0) }
}

/// The input column `x`, as it is.
pub(crate) fn tensor() -> Inputs {
    Inputs::Tensor(TensorInputs::of("x"))
}

/// All columns, standardised.
pub(crate) fn all_columns() -> Inputs {
    Inputs::Table(TableInputs { scale: Scale::Standardise, ..TableInputs::default() })
}

/// The same data set with a validation file.
pub(crate) fn with_validation(mut spec: DataSpec, path: &Path) -> DataSpec {
    let Origin::Tables { validation, .. } = &mut spec.origin else { panic!("no files") };
    *validation = Some(Location::File(path.to_owned()));
    spec
}

/// What is wrong with a data set, with files named relative to `dir`.
pub(crate) fn problems(dir: &Path, spec: &DataSpec) -> String {
    let text = prepare(spec).unwrap_err().to_string();
    text.replace(&format!("{}/", dir.display()), "")
}

/// Writes a file of these columns, with row groups of 100 rows.
pub(crate) fn write(dir: &Path, name: &str, columns: &[(Field, ArrayRef)]) -> PathBuf {
    let schema = Arc::new(Schema::new(columns.iter().map(|(f, _)| f.clone()).collect::<Vec<_>>()));
    let arrays = columns.iter().map(|(_, array)| array.clone()).collect();
    let batch = RecordBatch::try_new(schema.clone(), arrays).unwrap();
    let path = dir.join(name);
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    let mut writer =
        ArrowWriter::try_new(File::create(&path).unwrap(), schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    path
}

/// The same file with an entry in its own metadata.
pub(crate) fn with_file_metadata(path: &Path, key: &str, value: &str) -> PathBuf {
    let file = File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let schema = reader.schema().as_ref().clone();
    let schema = Arc::new(schema.with_metadata([(key.to_owned(), value.to_owned())].into()));
    let target = path.with_extension("with-metadata");
    let mut writer =
        ArrowWriter::try_new(File::create(&target).unwrap(), schema.clone(), None).unwrap();
    for batch in reader.build().unwrap() {
        writer.write(&batch.unwrap().with_schema(schema.clone()).unwrap()).unwrap();
    }
    writer.close().unwrap();
    target
}

/// A nullable column.
pub(crate) fn column(name: &str, array: impl Array + 'static) -> (Field, ArrayRef) {
    (Field::new(name, array.data_type().clone(), true), Arc::new(array))
}

/// A column with one entry of metadata.
pub(crate) fn column_with(
    name: &str,
    array: impl Array + 'static,
    key: &str,
    value: &str,
) -> (Field, ArrayRef) {
    let (field, array) = column(name, array);
    (field.with_metadata([(key.to_owned(), value.to_owned())].into()), array)
}

pub(crate) fn png(pixels: &[u8], shape: [u32; 3]) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(pixels, shape[1], shape[0], colour(shape[2]))
        .unwrap();
    bytes
}

pub(crate) fn jpeg(pixels: &[u8], shape: [u32; 3]) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut bytes)
        .write_image(pixels, shape[1], shape[0], colour(shape[2]))
        .unwrap();
    bytes
}

fn colour(channels: u32) -> ExtendedColorType {
    match channels {
        1 => ExtendedColorType::L8,
        3 => ExtendedColorType::Rgb8,
        _ => ExtendedColorType::Rgba8,
    }
}

/// All rows of a shard's part, in order.
pub(crate) fn concat(batches: &[RecordBatch]) -> Vec<Row> {
    batches.iter().flat_map(rows).collect()
}

/// All training rows of a data set, shard by shard.
pub(crate) fn train_of(prepared: &Prepared) -> Vec<Row> {
    prepared.shards.iter().flat_map(|shard| concat(&shard.train)).collect()
}

/// All validation rows of a data set, shard by shard.
pub(crate) fn validation_of(prepared: &Prepared) -> Vec<Row> {
    prepared.shards.iter().flat_map(|shard| concat(&shard.validation)).collect()
}

fn rows(batch: &RecordBatch) -> Vec<Row> {
    let numbers = batch.column(0).as_primitive::<UInt64Type>();
    (0..batch.num_rows())
        .map(|i| {
            let y = batch.columns().get(2).map_or(vec![], |y| floats(y, i));
            (numbers.value(i), floats(batch.column(1), i), y)
        })
        .collect()
}

fn floats(column: &ArrayRef, i: usize) -> Vec<f32> {
    if let Some(classes) = column.as_primitive_opt::<Int32Type>() {
        return vec![f32::from(u16::try_from(classes.value(i)).unwrap())];
    }
    let list = column.as_fixed_size_list().value(i);
    let floats = arrow::compute::cast(&list, &DataType::Float32).unwrap();
    floats.as_primitive::<Float32Type>().values().to_vec()
}
