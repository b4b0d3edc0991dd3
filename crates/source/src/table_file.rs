//! Writes tables out: as Parquet, Arrow IPC or CSV. A file appears under its name only when it is
//! complete.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::SourceError;

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TableFormat {
    /// Parquet, compressed by zstd, with statistics of each row group.
    #[default]
    Parquet,
    /// The file format of Arrow IPC, not compressed.
    Arrow,
    /// CSV with a line of names. A tensor takes a column for each element, `x_0` and so forth; a class
    /// is written by name.
    Csv,
}

impl TableFormat {
    /// The end of a file's name, and the format's own.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Csv => "csv",
        }
    }
}

/// Writes a table of this schema, whose metadata goes into the file where the format has room for it.
///
/// # Errors
/// [`SourceError::Write`] or [`SourceError::Encode`] with the file concerned; then there is none.
pub fn write_table(
    path: &Path,
    schema: &SchemaRef,
    batches: &[RecordBatch],
    format: TableFormat,
) -> Result<(), SourceError> {
    let failed = |source| SourceError::Write { path: path.to_owned(), source };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let file = File::create(&partial).map_err(failed)?;
    let written = match format {
        TableFormat::Parquet => parquet(&file, schema, batches),
        TableFormat::Arrow => arrow(&file, schema, batches),
        TableFormat::Csv => csv(&file, schema, batches),
    };
    let written = written
        .map_err(|source| SourceError::Encode { path: path.to_owned(), source })
        .and_then(|()| file.sync_all().map_err(failed))
        .and_then(|()| fs::rename(&partial, path).map_err(failed));
    if written.is_err() {
        // The partial file is worthless; that it could not be removed matters less than the error.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn parquet(file: &File, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<(), ArrowError> {
    let facts = schema.metadata().iter();
    let mut facts: Vec<KeyValue> =
        facts.map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    facts.sort_by(|a, b| a.key.cmp(&b.key));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        // Elements of tensors have nothing to gain from a dictionary or from page statistics.
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(facts))
        .build();
    let mut writer = ArrowWriter::try_new(file, plain(schema), Some(properties))?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.close()?;
    Ok(())
}

/// The schema without its metadata, which Parquet keeps beside it.
fn plain(schema: &SchemaRef) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().clone()))
}

fn arrow(file: &File, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<(), ArrowError> {
    let mut writer = FileWriter::try_new(BufWriter::new(file), schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    Ok(writer.into_inner()?.flush()?)
}

fn csv(file: &File, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<(), ArrowError> {
    let mut writer = arrow_csv::WriterBuilder::new().with_header(true).build(BufWriter::new(file));
    if batches.is_empty() {
        writer.write(&flat(&RecordBatch::new_empty(schema.clone()))?)?;
    }
    for batch in batches {
        writer.write(&flat(batch)?)?;
    }
    Ok(writer.into_inner().flush()?)
}

/// The same rows without lists, and with classes by name.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if let DataType::FixedSizeList(item, length) = field.data_type() {
            let length = u32::try_from(*length).unwrap_or(0);
            let rows = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
            let values = column.as_fixed_size_list().values();
            for i in 0..length {
                let places = UInt32Array::from_iter_values((0..rows).map(|row| row * length + i));
                fields.push(Field::new(
                    format!("{}_{i}", field.name()),
                    item.data_type().clone(),
                    true,
                ));
                columns.push(take(values, &places, None)?);
            }
            continue;
        }
        let classes = field.metadata().get("classes");
        let classes: Option<Vec<Option<String>>> =
            classes.and_then(|names| serde_json::from_str(names).ok());
        match classes {
            Some(names) if *field.data_type() == DataType::Int32 => {
                let numbers = column.as_primitive::<Int32Type>().iter();
                let name = |number: i32| names.get(usize::try_from(number).ok()?)?.as_deref();
                let named: StringArray = numbers.map(|number| number.and_then(name)).collect();
                fields.push(Field::new(field.name(), DataType::Utf8, true));
                columns.push(Arc::new(named));
            }
            _ => {
                fields.push(field.as_ref().clone());
                columns.push(column.clone());
            }
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}
