//! Arrays of numpy, along whose first axis rows lie: one of them (`.npy`) as column `x`, or an archive
//! of them (`.npz`), a column each by its name.

use std::io::{Cursor, Read};
use std::sync::Arc;

use arrow::array::{
    ArrayDataBuilder, ArrayRef, BooleanArray, FixedSizeListArray, RecordBatch, StringArray,
    make_array,
};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema};
use arrowhop_npy::{HEADER_BYTES_MAX, header};
use arrowhop_types::Problems;
use bytes::Bytes;
use zip::ZipArchive;

use super::Rows;
use crate::shards::tensor_metadata;
use crate::spec::ELEMENTS_MAX;
use crate::table::guarded;

/// An archive's array unpacks to at most this many times the archive, and this much more.
const EXPANSION_MAX: u64 = 256;
const SLACK_BYTES: u64 = 64 << 20;

/// Reads one array.
pub(super) fn decode_array(name: &str, bytes: &Bytes) -> Result<Rows, Problems> {
    let (field, column) = column("x", bytes).map_err(|text| Problems::one(name, text))?;
    Ok(rows(vec![field], vec![column]))
}

/// Reads the arrays of these names, else all, of an archive.
pub(super) fn decode_archive(
    name: &str,
    bytes: &Bytes,
    wanted: Option<&[String]>,
) -> Result<Rows, Problems> {
    let limit = bytes.len() as u64 * EXPANSION_MAX + SLACK_BYTES;
    let mut archive = guarded(|| ZipArchive::new(Cursor::new(bytes.clone())))
        .map_err(|text| Problems::one(name, format!("is no archive of numpy's: {text}")))?;
    let mut problems = Problems::new();
    let (mut fields, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
    for i in 0..archive.len() {
        let read = guarded(|| -> Result<_, String> {
            let mut file = archive.by_index(i).map_err(|error| error.to_string())?;
            let own = file.name().map_err(|error| error.to_string())?.to_string();
            let own = own.strip_suffix(".npy").unwrap_or(&own).to_owned();
            if wanted.is_some_and(|wanted| !wanted.contains(&own)) {
                return Ok(None);
            }
            let mut array = Vec::new();
            let read = (&mut file).take(limit + 1).read_to_end(&mut array);
            read.map_err(|error| format!("`{own}`: {error}"))?;
            if array.len() as u64 > limit {
                return Err(format!(
                    "`{own}` unpacks to more than {limit} bytes; save it unpacked"
                ));
            }
            column(&own, &array.into()).map(Some).map_err(|text| format!("`{own}` {text}"))
        });
        match read {
            Ok(found) => {
                if let Some((field, column)) = found {
                    fields.push(field);
                    columns.push(column);
                }
            }
            Err(text) => problems.push(format!("{name}, array {i}"), text),
        }
    }
    problems.or(())?;
    if columns.windows(2).any(|pair| pair[0].len() != pair[1].len()) {
        let lengths = fields.iter().zip(&columns);
        let lengths: Vec<_> = lengths
            .map(|(field, column)| format!("{} of `{}`", column.len(), field.name()))
            .collect();
        let text =
            format!("has arrays of several lengths ({}); name those of one", lengths.join(", "));
        return Err(Problems::one(name, text));
    }
    if columns.is_empty() {
        return Err(Problems::one(name, "has none of the arrays that are asked for"));
    }
    Ok(rows(fields, columns))
}

fn rows(fields: Vec<Field>, columns: Vec<ArrayRef>) -> Rows {
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns);
    (schema, vec![batch.expect("arrays of one length are columns")])
}

/// A file's array as a column: of several axes, a tensor for each row.
fn column(name: &str, file: &Bytes) -> Result<(Field, ArrayRef), String> {
    let header = header(&file[..file.len().min(HEADER_BYTES_MAX)])?;
    let [rows, shape @ ..] = header.shape.as_slice() else {
        return Err("is a single number; its rows lie along a first axis".into());
    };
    if header.fortran_order && !shape.is_empty() {
        return Err("is in Fortran's order; save np.ascontiguousarray of it".into());
    }
    let elements = shape.iter().try_fold(1_usize, |count, axis| count.checked_mul(*axis));
    let elements =
        elements.filter(|count| (1..=ELEMENTS_MAX).contains(count)).ok_or_else(|| {
            format!("has rows of shape {shape:?}; rows of 1 to {ELEMENTS_MAX} elements are read")
        })?;
    let (kind, width) = header.descr.split_at_checked(2).unwrap_or((&header.descr, ""));
    let width: usize = width.parse().map_err(|_| unknown(&header.descr))?;
    let width = if kind == "<U" { width.saturating_mul(4) } else { width };
    let count = rows.checked_mul(elements);
    let data = file.slice(header.data.min(file.len())..);
    if count.and_then(|count| count.checked_mul(width)) != Some(data.len()) {
        return Err(format!("has {} bytes of data for shape {:?}", data.len(), header.shape));
    }
    let count = rows * elements;
    let values = values(&header.descr, kind, width, count, data)?;
    if shape.is_empty() {
        return Ok((Field::new(name, values.data_type().clone(), false), values));
    }
    let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let length = i32::try_from(elements).expect("at most 2^24");
    let list = FixedSizeListArray::new(item, length, values, None);
    let field = Field::new(name, arrow::array::Array::data_type(&list).clone(), false);
    Ok((field.with_metadata(tensor_metadata(shape)), Arc::new(list)))
}

/// So many elements, each of `width` bytes.
fn values(
    descr: &str,
    kind: &str,
    width: usize,
    count: usize,
    data: Bytes,
) -> Result<ArrayRef, String> {
    let data_type = match (kind, width) {
        ("|b", 1) => {
            let bits: Vec<bool> = data.iter().map(|&byte| byte != 0).collect();
            return Ok(Arc::new(BooleanArray::from(bits)));
        }
        ("<U", 4..) => {
            let texts: Option<Vec<String>> = data.chunks_exact(width).map(text).collect();
            let texts = texts.ok_or("holds text that is not Unicode")?;
            return Ok(Arc::new(StringArray::from(texts)));
        }
        ("|u", 1) => DataType::UInt8,
        ("|i", 1) => DataType::Int8,
        ("<u", 2) => DataType::UInt16,
        ("<i", 2) => DataType::Int16,
        ("<u", 4) => DataType::UInt32,
        ("<i", 4) => DataType::Int32,
        ("<u", 8) => DataType::UInt64,
        ("<i", 8) => DataType::Int64,
        ("<f", 4) => DataType::Float32,
        ("<f", 8) => DataType::Float64,
        _ => return Err(unknown(descr)),
    };
    let array = ArrayDataBuilder::new(data_type).len(count).add_buffer(Buffer::from(data));
    let array = array.align_buffers(true).build().map_err(|error| error.to_string())?;
    Ok(make_array(array))
}

fn unknown(descr: &str) -> String {
    format!(
        "holds '{descr}'; save it as little-endian integers, float32, float64, booleans or text"
    )
}

/// A text of four bytes a letter, filled up with zeros.
fn text(bytes: &[u8]) -> Option<String> {
    let (letters, _) = bytes.as_chunks::<4>();
    let letters = letters.iter().map(|letter| u32::from_le_bytes(*letter));
    letters.take_while(|&letter| letter != 0).map(char::from_u32).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use arrow::array::AsArray;
    use arrow::datatypes::{Float32Type, Int64Type};
    use arrowhop_npy::header_of;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::super::Format;
    use super::*;

    fn array(descr: &str, shape: &[usize], data: &[u8]) -> Bytes {
        [header_of(descr, shape), data.to_vec()].concat().into()
    }

    fn archive(members: &[(&str, Bytes)]) -> Bytes {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            archive.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap().into_inner().into()
    }

    fn floats(count: u8) -> Vec<u8> {
        (0..count).flat_map(|i| f32::from(i).to_le_bytes()).collect()
    }

    #[test]
    fn arrays_are_columns_along_their_first_axis() {
        let x = array("<f4", &[3, 2, 2], &floats(12));
        assert_eq!(Format::of(&x[..6], ""), Format::NumpyArray);
        let (schema, batches) = decode_array("x.npy", &x).unwrap();
        assert_eq!(schema.field(0).metadata()["ARROW:extension:metadata"], "{\"shape\":[2,2]}");
        let row = batches[0].column(0).as_fixed_size_list().value(1);
        assert_eq!(row.as_primitive::<Float32Type>().values().as_ref(), [4.0, 5.0, 6.0, 7.0]);

        let y: Vec<u8> = (0_i64..3).flat_map(i64::to_le_bytes).collect();
        let names = "ab\0é\0\0ccc".chars().flat_map(|letter| u32::from(letter).to_le_bytes());
        let all = archive(&[
            ("x", x),
            ("y", array("<i8", &[3], &y)),
            ("name", array("<U3", &[3], &names.collect::<Vec<_>>())),
            ("longer", array("|u1", &[4], &[1, 2, 3, 4])),
        ]);
        assert_eq!(Format::of(&all[..6], "npz"), Format::NumpyArchive);
        let found = decode_archive("all.npz", &all, None).unwrap_err().to_string();
        assert_eq!(
            found,
            "all.npz: has arrays of several lengths (3 of `x`, 3 of `y`, 3 of `name`, 4 of `longer`); \
             name those of one"
        );
        let wanted = ["y", "name"].map(str::to_owned);
        let (_, batches) = decode_archive("all.npz", &all, Some(&wanted)).unwrap();
        assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().values().as_ref(), [0, 1, 2]);
        let names: Vec<_> = batches[0].column(1).as_string::<i32>().iter().flatten().collect();
        assert_eq!(names, ["ab", "é", "ccc"]);
    }

    #[test]
    fn what_is_no_plain_array_says_so() {
        let error = |bytes: Bytes| decode_array("t", &bytes).unwrap_err().to_string();
        assert!(
            error(array(">f4", &[1], &[0; 4])).starts_with("t: holds '>f4'; save it as little")
        );
        assert!(error(array("<f4", &[], &[0; 4])).starts_with("t: is a single number"));
        assert_eq!(error(array("<f4", &[2], &[0; 4])), "t: has 4 bytes of data for shape [2]");
        assert!(error(array("<f4", &[2, 0], &[])).starts_with("t: has rows of shape [0]"));
        let huge = error(array("<f8", &[1 << 62, 3], &[0; 8]));
        assert!(huge.starts_with("t: has 8 bytes of data for shape"), "{huge}");
        let whole = archive(&[("x", array("<f4", &[3], &floats(3)))]);
        for at in 0..whole.len() {
            let _ = decode_archive("t", &whole.slice(..at), None);
            let mut bytes = whole.to_vec();
            bytes[at] ^= 0x55;
            let _ = decode_archive("t", &bytes.into(), None);
        }
        let bomb = archive(&[("x", vec![0; 160 << 20].into())]);
        let found = decode_archive("t", &bomb, None).unwrap_err().to_string();
        assert!(found.contains("unpacks to more than"), "{found}");
    }
}
