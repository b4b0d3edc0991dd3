//! A Parquet file, on this machine or in an object store: its footer, and readers of its row groups.
//! Sizes that the footer declares are checked before anything is read.

use std::fs::File;
use std::path::Path;

use arrow::datatypes::SchemaRef;
use arrowhop_types::Problems;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::ChunkReader;

use crate::filter::Filter;
use crate::object::Object;
use crate::parquet_filter::Kept;
use crate::shared_file::SharedFile;
use crate::table::{CHUNK_BYTES, CHUNK_ROWS_MAX, check_rows, guarded};

/// A column chunk is at most this large when unpacked: 8 GiB.
const CHUNK_BYTES_MAX: i64 = 8 << 30;
/// A column chunk unpacks to at most this many times the size of the file.
const EXPANSION_MAX: i64 = 10_000;

/// An open file.
pub(crate) struct ParquetFile {
    place: Place,
    footer: ArrowReaderMetadata,
    rows: u32,
    /// The rows that pass a condition, where there is one: then there are no others.
    kept: Option<Kept>,
}

/// Where its bytes are.
enum Place {
    Here(SharedFile),
    Store(Object),
}

impl ParquetFile {
    /// Opens a file of this machine.
    pub(crate) fn open(path: &Path) -> Result<Self, Problems> {
        let wrong = |text: String| Problems::one(path.display().to_string(), text);
        let file = File::open(path).map_err(|error| wrong(format!("cannot be opened: {error}")))?;
        let facts = file.metadata().map_err(|error| wrong(format!("cannot be read: {error}")))?;
        if !facts.is_file() {
            return Err(wrong("is neither a file nor a folder".into()));
        }
        let file = SharedFile::new(file, facts.len());
        let (footer, rows) = footer(&file, facts.len()).map_err(wrong)?;
        Ok(Self { place: Place::Here(file), footer, rows, kept: None })
    }

    /// Opens an object of a store: its footer is fetched.
    pub(crate) fn of_object(object: Object) -> Result<Self, Problems> {
        let wrong = |text: String| Problems::one(object.url.clone(), text);
        let (footer, rows) = footer(&object, object.bytes).map_err(wrong)?;
        Ok(Self { place: Place::Store(object), footer, rows, kept: None })
    }

    /// The same file with none but the rows that pass a condition; `name` is its own in messages.
    pub(crate) fn filtered(mut self, name: &str, filter: &Filter) -> Result<Self, Problems> {
        let read = |file: &dyn Fn(&mut ParquetMetaDataReader) -> Result<(), ParquetError>| {
            let known = self.footer.metadata().as_ref().clone();
            let mut reader = ParquetMetaDataReader::new_with_metadata(known)
                .with_page_index_policy(PageIndexPolicy::Optional);
            file(&mut reader)?;
            ArrowReaderMetadata::try_new(reader.finish()?.into(), ArrowReaderOptions::new())
        };
        let footer = guarded(|| match &self.place {
            Place::Here(file) => read(&|reader| reader.read_page_indexes(file)),
            Place::Store(object) => read(&|reader| reader.read_page_indexes(object)),
        });
        self.footer = footer.map_err(|text| {
            Problems::one(name, format!("has a page index that is damaged: {text}; write it anew"))
        })?;
        self.kept = Some(self.find(name, filter)?);
        Ok(self)
    }

    /// What its footer says.
    pub(crate) fn footer(&self) -> &ParquetMetaData {
        self.footer.metadata()
    }

    /// How many rows it has.
    pub(crate) fn rows(&self) -> u32 {
        self.kept.as_ref().map_or(self.rows, Kept::count)
    }

    /// Its columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.footer.schema()
    }

    /// How many rows each row group has.
    pub(crate) fn group_rows(&self) -> Vec<u32> {
        if let Some(kept) = &self.kept {
            return kept.group_rows();
        }
        let groups = self.footer.metadata().row_groups().iter();
        let count = |rows: i64| u32::try_from(rows).expect("row counts were checked");
        groups.map(|group| count(group.num_rows())).collect()
    }

    /// Reads `rows` of the columns at these places in the schema, of a group whose first row is
    /// `first`.
    pub(crate) fn reader(
        &self,
        columns: &[usize],
        group: usize,
        first: u32,
        rows: &[u32],
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        let places = rows.iter().map(|row| row - first);
        let places: Vec<u32> = match &self.kept {
            Some(kept) => {
                let kept = kept.of_group(group);
                places.map(|place| kept[place as usize]).collect()
            }
            None => places.collect(),
        };
        self.read(columns, group, &places)
    }

    /// Reads these columns of the rows at `places` of a group. Of an object these columns of the group
    /// are fetched now.
    pub(crate) fn read(
        &self,
        columns: &[usize],
        group: usize,
        places: &[u32],
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        let mask = ProjectionMask::roots(self.footer.parquet_schema(), columns.iter().copied());
        match &self.place {
            Place::Here(file) => self.build(file.clone(), mask, group, places),
            Place::Store(object) => {
                let chunks = self.footer.metadata().row_group(group).columns().iter().enumerate();
                let chunks = chunks.filter(|(leaf, _)| mask.leaf_included(*leaf));
                let ranges: Vec<_> = chunks
                    .map(|(_, chunk)| {
                        let (start, length) = chunk.byte_range();
                        start..start.saturating_add(length).min(object.bytes)
                    })
                    .collect();
                if ranges.iter().any(|range| range.start > range.end) {
                    return Err(ParquetError::EOF("a column lies beyond the end".into()));
                }
                self.build(object.fetch(&ranges)?, mask, group, places)
            }
        }
    }

    fn build(
        &self,
        bytes: impl ChunkReader + 'static,
        mask: ProjectionMask,
        group: usize,
        places: &[u32],
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        let chunk_rows = chunk_rows(self.footer.metadata(), &mask, self.rows);
        let count = self.footer.metadata().row_group(group).num_rows();
        let count = usize::try_from(count).expect("row counts were checked");
        let mut builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, self.footer.clone())
                .with_row_groups(vec![group])
                .with_batch_size(chunk_rows)
                .with_projection(mask);
        if places.len() < count {
            let ranges = places.iter().map(|&row| row as usize..row as usize + 1);
            let selection = RowSelection::from_consecutive_ranges(ranges, count);
            builder = builder.with_row_selection(selection);
        }
        builder.build()
    }
}

/// Reads a footer and the number of rows, once it is plausible.
fn footer(file: &impl ChunkReader, bytes: u64) -> Result<(ArrowReaderMetadata, u32), String> {
    let footer = guarded(|| ArrowReaderMetadata::load(file, ArrowReaderOptions::new()))
        .map_err(|text| format!("is not a parquet file, or is damaged: {text}; write it anew"))?;
    let rows = check_footer(footer.metadata(), i64::try_from(bytes).unwrap_or(i64::MAX))?;
    Ok((footer, rows))
}

/// Rows that are handed out at a time.
fn chunk_rows(footer: &ParquetMetaData, mask: &ProjectionMask, rows: u32) -> usize {
    let chunks = footer.row_groups().iter().flat_map(|group| group.columns().iter().enumerate());
    let bytes: i64 = chunks
        .filter(|(leaf, _)| mask.leaf_included(*leaf))
        .fold(0, |sum, (_, chunk)| sum.saturating_add(chunk.uncompressed_size()));
    let row_bytes = (bytes / i64::from(rows.max(1))).max(1);
    usize::try_from(CHUNK_BYTES / row_bytes).unwrap_or(0).clamp(16, CHUNK_ROWS_MAX)
}

/// The number of rows, once the footer's sizes are plausible.
fn check_footer(footer: &ParquetMetaData, file_bytes: i64) -> Result<u32, String> {
    let rows = footer.file_metadata().num_rows();
    let group_rows =
        footer.row_groups().iter().try_fold(0_i64, |sum, group| sum.checked_add(group.num_rows()));
    if rows < 0 || group_rows != Some(rows) {
        return Err("is damaged: its footer's row counts do not add up; write it anew".into());
    }
    if footer.row_groups().iter().any(|group| group.num_rows() < 0) {
        return Err("is damaged: a row group has less than no rows; write it anew".into());
    }
    let count = check_rows(rows)?;
    let limit = file_bytes.saturating_mul(EXPANSION_MAX).min(CHUNK_BYTES_MAX);
    for chunk in footer.row_groups().iter().flat_map(|group| group.columns()) {
        let bytes = chunk.uncompressed_size();
        if !(0..=limit).contains(&bytes) {
            let column = chunk.column_path().string();
            return Err(format!(
                "declares {bytes} bytes in one chunk of column `{column}`, where {limit} are \
                 plausible; it is damaged, or needs smaller row groups"
            ));
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;

    use super::*;
    use crate::fixtures::{column, write};

    #[test]
    fn implausible_sizes_are_refused_before_anything_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let x = Float64Array::from_iter_values((0..500).map(f64::from));
        let file = ParquetFile::open(&write(dir.path(), "t", &[column("x", x)])).unwrap();
        let footer = file.footer.metadata();
        assert_eq!(check_footer(footer, 4_000), Ok(500));
        let bytes = footer.row_group(0).column(0).uncompressed_size();
        assert_eq!(
            check_footer(footer, 0).unwrap_err(),
            format!(
                "declares {bytes} bytes in one chunk of column `x`, where 0 are plausible; it is \
                 damaged, or needs smaller row groups"
            )
        );
    }
}
