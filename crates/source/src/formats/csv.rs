//! CSV with a line of names: types are those that all rows of a column fit (whole numbers, numbers,
//! booleans, dates, times), else text; an empty field is null.

use std::sync::Arc;

use arrow_csv::ReaderBuilder;
use arrow_csv::reader::Format;
use arrowhop_types::Problems;

use super::Rows;
use crate::error::SourceError;
use crate::table::guarded;
use crate::workspace::Workspace;

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// Reads a file, twice: for its types, then for its rows, which the workspace keeps.
pub(super) fn decode(
    name: &str,
    bytes: &[u8],
    delimiter: u8,
    workspace: &Workspace,
) -> Result<Rows, SourceError> {
    let wrong =
        |text: String| Problems::one(name, format!("is no CSV with a line of names: {text}"));
    let format = Format::default().with_header(true).with_delimiter(delimiter);
    let (schema, _) = guarded(|| format.infer_schema(bytes, None)).map_err(wrong)?;
    let schema = Arc::new(schema);
    let builder = ReaderBuilder::new(schema.clone()).with_format(format);
    let builder = builder.with_batch_size(BATCH_ROWS);
    let mut reader = guarded(|| builder.build(bytes)).map_err(wrong)?;
    let mut batches = Vec::new();
    while let Some(batch) = guarded(|| reader.next().transpose()).map_err(wrong)? {
        batches.push(workspace.keep(batch)?);
    }
    Ok((schema, batches))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    fn decode(text: &[u8], delimiter: u8) -> Result<Rows, SourceError> {
        super::decode("t.csv", text, delimiter, &Workspace::in_memory())
    }

    #[test]
    fn types_are_those_that_all_rows_fit() {
        let text = "a,b,c,d,e\n1,1,x,true,2001-02-03\n2,2.5,\"y, z\",false,2001-02-04\n,,,,\n";
        let (schema, batches) = decode(text.as_bytes(), b',').unwrap();
        let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        use DataType::{Boolean, Date32, Float64, Int64, Utf8};
        assert_eq!(types, [Int64, Float64, Utf8, Boolean, Date32]);
        assert_eq!((batches.len(), batches[0].num_rows()), (1, 3));
        assert!(batches[0].columns().iter().all(|column| column.null_count() == 1));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, delimiter) in [("a,b\n1,2\n3\n", b','), ("a\tb\n1\t2\t3\n", b'\t')] {
            let found = decode(text.as_bytes(), delimiter).unwrap_err().to_string();
            assert!(found.starts_with("t.csv: is no CSV with a line of names: "), "{found}");
            assert!(found.contains("line"), "{found}");
        }
        assert!(decode(b"a,b\n\xff\xfe,2\n", b',').is_err());
    }
}
