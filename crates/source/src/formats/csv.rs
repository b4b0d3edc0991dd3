//! CSV with a line of names: types are those that all rows of a column fit (whole numbers, numbers,
//! booleans, dates, times), else text; an empty field is null.

use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::Path;
use std::sync::Arc;

use arrow::error::ArrowError;
use arrow_csv::ReaderBuilder;
use arrow_csv::reader::Format;
use arrowhop_types::Problems;

use super::Rows;
use crate::table::guarded;

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// Reads a file, twice: for its types, then for its rows.
pub(super) fn read(path: &Path, delimiter: u8) -> Result<Rows, Problems> {
    let wrong = |text: String| Problems::one(path.display().to_string(), text);
    guarded(|| {
        let mut file = File::open(path)?;
        let format = Format::default().with_header(true).with_delimiter(delimiter);
        let (schema, _) = format.infer_schema(BufReader::new(&file), None)?;
        let schema = Arc::new(schema);
        file.rewind()?;
        let builder = ReaderBuilder::new(schema.clone()).with_format(format);
        let reader = builder.with_batch_size(BATCH_ROWS).build(file)?;
        let batches = reader.collect::<Result<Vec<_>, _>>()?;
        Ok::<_, ArrowError>((schema, batches))
    })
    .map_err(|text| wrong(format!("is no CSV with a line of names: {text}")))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::super::Format;

    #[test]
    fn types_are_those_that_all_rows_fit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        let text = "a,b,c,d,e\n1,1,x,true,2001-02-03\n2,2.5,\"y, z\",false,2001-02-04\n,,,,\n";
        std::fs::write(&path, text).unwrap();
        let (schema, batches) = Format::of(&path).unwrap().read(&path).unwrap().unwrap();
        let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        use DataType::{Boolean, Date32, Float64, Int64, Utf8};
        assert_eq!(types, [Int64, Float64, Utf8, Boolean, Date32]);
        assert_eq!((batches.len(), batches[0].num_rows()), (1, 3));
        assert!(batches[0].columns().iter().all(|column| column.null_count() == 1));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text, said) in
            [("short.csv", "a,b\n1,2\n3\n", "line"), ("twisted.tsv", "a\tb\n1\t2\t3\n", "line")]
        {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let found = Format::of(&path).unwrap().read(&path).unwrap_err().to_string();
            assert!(
                found.contains("is no CSV with a line of names") && found.contains(said),
                "{found}"
            );
        }
        let path = dir.path().join("bytes.csv");
        std::fs::write(&path, b"a,b\n\xff\xfe,2\n").unwrap();
        assert!(Format::of(&path).unwrap().read(&path).is_err());
    }
}
