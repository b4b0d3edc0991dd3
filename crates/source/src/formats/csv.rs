//! CSV with a line of names: types are those that all rows of a column fit (whole numbers, numbers,
//! booleans, dates, times), else text; an empty field is null.

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
pub(super) fn decode(name: &str, bytes: &[u8], delimiter: u8) -> Result<Rows, Problems> {
    let wrong = |text: String| Problems::one(name, text);
    guarded(|| {
        let format = Format::default().with_header(true).with_delimiter(delimiter);
        let (schema, _) = format.infer_schema(bytes, None)?;
        let schema = Arc::new(schema);
        let builder = ReaderBuilder::new(schema.clone()).with_format(format);
        let reader = builder.with_batch_size(BATCH_ROWS).build(bytes)?;
        let batches = reader.collect::<Result<Vec<_>, _>>()?;
        Ok::<_, ArrowError>((schema, batches))
    })
    .map_err(|text| wrong(format!("is no CSV with a line of names: {text}")))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    #[test]
    fn types_are_those_that_all_rows_fit() {
        let text = "a,b,c,d,e\n1,1,x,true,2001-02-03\n2,2.5,\"y, z\",false,2001-02-04\n,,,,\n";
        let (schema, batches) = decode("t.csv", text.as_bytes(), b',').unwrap();
        let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        use DataType::{Boolean, Date32, Float64, Int64, Utf8};
        assert_eq!(types, [Int64, Float64, Utf8, Boolean, Date32]);
        assert_eq!((batches.len(), batches[0].num_rows()), (1, 3));
        assert!(batches[0].columns().iter().all(|column| column.null_count() == 1));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, delimiter) in [("a,b\n1,2\n3\n", b','), ("a\tb\n1\t2\t3\n", b'\t')] {
            let found = decode("t.csv", text.as_bytes(), delimiter).unwrap_err().to_string();
            assert!(found.starts_with("t.csv: is no CSV with a line of names: "), "{found}");
            assert!(found.contains("line"), "{found}");
        }
        assert!(decode("t.csv", b"a,b\n\xff\xfe,2\n", b',').is_err());
    }
}
