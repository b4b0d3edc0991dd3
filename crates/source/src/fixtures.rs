//! What tests of several modules share: small Parquet files, images and data sets.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Field, Float32Type, Int32Type, Schema, UInt8Type, UInt64Type};
use image::{ExtendedColorType, ImageEncoder};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use crate::{DataSpec, Generator, Origin, Prepared};

/// One row of a shard: its number, its elements as floats, its class or values as floats.
pub(crate) type Row = (u64, Vec<f32>, Vec<f32>);

pub(crate) fn generated_spec(rows: u64, validation_rows: u64) -> DataSpec {
    DataSpec {
        name: "shapes".into(),
        origin: Origin::Generated(Generator::Shapes {
            rows,
            validation_rows,
        }),
        shards: 4,
        seed: 42,
        max_rows: None,
        validation_fraction: None,
    }
}

/// Writes a file of these columns, with row groups of 100 rows.
pub(crate) fn write(dir: &Path, name: &str, columns: &[(Field, ArrayRef)]) -> PathBuf {
    let schema = Arc::new(Schema::new(
        columns.iter().map(|(f, _)| f.clone()).collect::<Vec<_>>(),
    ));
    let arrays = columns.iter().map(|(_, array)| array.clone()).collect();
    let batch = RecordBatch::try_new(schema.clone(), arrays).unwrap();
    let path = dir.join(name);
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(100))
        .build();
    let mut writer =
        ArrowWriter::try_new(File::create(&path).unwrap(), schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    path
}

/// A nullable column.
pub(crate) fn column(name: &str, array: impl Array + 'static) -> (Field, ArrayRef) {
    (
        Field::new(name, array.data_type().clone(), true),
        Arc::new(array),
    )
}

/// A column with one entry of metadata.
pub(crate) fn column_with(
    name: &str,
    array: impl Array + 'static,
    key: &str,
    value: &str,
) -> (Field, ArrayRef) {
    let (field, array) = column(name, array);
    (
        field.with_metadata([(key.to_owned(), value.to_owned())].into()),
        array,
    )
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
    prepared
        .shards
        .iter()
        .flat_map(|shard| concat(&shard.train))
        .collect()
}

/// All validation rows of a data set, shard by shard.
pub(crate) fn validation_of(prepared: &Prepared) -> Vec<Row> {
    prepared
        .shards
        .iter()
        .flat_map(|shard| concat(&shard.validation))
        .collect()
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
    match list.as_primitive_opt::<UInt8Type>() {
        Some(bytes) => bytes.values().iter().copied().map(f32::from).collect(),
        None => list.as_primitive::<Float32Type>().values().to_vec(),
    }
}
