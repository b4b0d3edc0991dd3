//! One column that holds a whole input of a network: raw bytes, encoded images, or numbers in
//! lists. How a file stores it is found out file by file; type and shape are the training file's.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use arrowhop_types::{Dtype, InputSpec, Problems};

use crate::numbers::{Fault, Numbers, number_type};
use crate::packed;
use crate::pictures;
use crate::spec::{Pictures, TensorInputs, elements, shape_text};
use crate::storage::{Bytes, Storage, declared_shape, inspect};
use crate::table::{Chunk, Table};

/// How a column becomes `x`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TensorEncoder {
    /// The column.
    pub(crate) column: String,
    /// What it becomes.
    pub(crate) input: InputSpec,
    /// The type of its elements was asked for, so that others are converted.
    pub(crate) is_converted: bool,
    /// What images are converted to.
    pub(crate) pictures: Pictures,
    /// Rows of the training table came divided by this (`crate::packed`); others are divided here.
    pub(crate) divided_by: Option<f64>,
}

impl TensorEncoder {
    /// A column that already is what it becomes.
    pub(crate) fn of(column: &str, input: InputSpec) -> Self {
        let (column, pictures) = (column.to_owned(), Pictures::default());
        Self { column, input, is_converted: false, pictures, divided_by: None }
    }

    /// Finds out what a training file's column holds, from its type and the first row used.
    pub(crate) fn resolve(
        table: &Table,
        inputs: &TensorInputs,
        row: u32,
    ) -> Result<Self, Problems> {
        let column = inputs.column.as_str();
        let wrong = |text: String| Problems::one(table.column_place(column), text);
        let declared = match &inputs.shape {
            Some(shape) => Some(shape.clone()),
            None => declared_shape(table.field(column)?).map_err(wrong)?,
        };
        let (storage, dtype, mut stored) = inspect(table, column, row, declared.as_deref())?;
        let pictures = inputs.pictures;
        if storage == Storage::Pictures {
            let found = <[usize; 3]>::try_from(stored).expect("an image has three axes");
            stored = pictures.shape(found).to_vec();
        } else if pictures != Pictures::default() {
            return Err(wrong("holds no images, which resize and channels are for".into()));
        }
        let shape = declared.unwrap_or_else(|| stored.clone());
        check_shape(&storage, &shape, &stored).map_err(wrong)?;
        let divided_by = packed::divided_by(table.field(column)?);
        if divided_by.is_some_and(|by| by != 1.0) && inputs.dtype == Some(Dtype::U8) {
            return Err(wrong("was divided when it was packed; leave dtype out".into()));
        }
        let dtype = inputs.dtype.unwrap_or(dtype);
        Ok(Self {
            column: column.to_owned(),
            input: InputSpec::numbers(shape, dtype, inputs.normalize),
            is_converted: inputs.dtype.is_some(),
            pictures,
            divided_by,
        })
    }

    /// How a file stores the column; whether it can become the same input is checked.
    pub(crate) fn storage(&self, table: &Table, row: u32) -> Result<Storage, Problems> {
        let wrong = |text: String| Problems::one(table.column_place(&self.column), text);
        let (storage, dtype, stored) = inspect(table, &self.column, row, Some(&self.input.shape))?;
        if storage != Storage::Pictures {
            check_shape(&storage, &self.input.shape, &stored).map_err(wrong)?;
        }
        let is_widened = dtype == Dtype::U8 && matches!(storage, Storage::Numbers(_));
        match (self.input.dtype, dtype) {
            _ if self.is_converted => Ok(storage),
            (Dtype::U8, Dtype::F32) => Err(wrong(
                "holds numbers other than bytes, where the training file has bytes; cast it to \
                 uint8"
                    .into(),
            )),
            (Dtype::F32, Dtype::U8) if !is_widened => {
                Err(wrong("holds bytes, where the training file has numbers".into()))
            }
            _ => Ok(storage),
        }
    }

    /// Writes rows of bytes into their places.
    pub(crate) fn encode_u8(
        &self,
        table: &Table,
        storage: &Storage,
        chunk: Chunk<'_, &mut [u8]>,
    ) -> Result<(), Problems> {
        let column = chunk.column(&self.column);
        if let Storage::Numbers(lengths) = storage {
            if number_type(column.data_type()) == Some(&DataType::UInt8) {
                let numbers = self.numbers(table, &column, Dtype::U8)?;
                return self.each(table, chunk, |i, place| {
                    place.copy_from_slice(numbers.row_u8(i, lengths).map_err(|f| f.to_string())?);
                    Ok(())
                });
            }
            let numbers = self.numbers(table, &column, Dtype::F32)?;
            return self.each(table, chunk, |i, place| {
                let values = numbers.row_f32(i, lengths).map_err(|fault| fault.to_string())?;
                as_bytes(values, place)
            });
        }
        let bytes = Bytes::new(&column);
        self.each(table, chunk, |i, place| {
            let bytes = bytes.value(i).ok_or_else(|| Fault::Null.to_string())?;
            if *storage == Storage::Pictures {
                return pictures::decode(bytes, &self.pictures, &self.input.shape, place);
            }
            self.check_length(bytes, place.len())?;
            place.copy_from_slice(bytes);
            Ok(())
        })
    }

    /// Writes rows of floats into their places.
    pub(crate) fn encode_f32(
        &self,
        table: &Table,
        storage: &Storage,
        chunk: Chunk<'_, &mut [f32]>,
    ) -> Result<(), Problems> {
        let column = chunk.column(&self.column);
        let factor = match self.divided_by {
            Some(by) if packed::divided_by(table.field(&self.column)?).is_none() => {
                packed::factor(by)
            }
            _ => 1.0,
        };
        let Storage::Numbers(lengths) = storage else {
            let bytes = Bytes::new(&column);
            return self.each(table, chunk, |i, place| {
                let bytes = bytes.value(i).ok_or_else(|| Fault::Null.to_string())?;
                if *storage == Storage::Pictures {
                    pictures::decode_f32(bytes, &self.pictures, &self.input.shape, place)?;
                } else {
                    self.check_length(bytes, place.len())?;
                    place.iter_mut().zip(bytes).for_each(|(place, &byte)| *place = byte.into());
                }
                scale(place, factor)
            });
        };
        let numbers = self.numbers(table, &column, Dtype::F32)?;
        self.each(table, chunk, |i, place| {
            let values = numbers.row_f32(i, lengths).map_err(|fault| fault.to_string())?;
            place.copy_from_slice(values);
            scale(place, factor)
        })
    }

    fn check_length(&self, bytes: &[u8], wanted: usize) -> Result<(), String> {
        let (found, shape) = (bytes.len(), &self.input.shape);
        if found != wanted {
            return Err(format!("has {found} bytes, where shape {shape:?} takes {wanted}"));
        }
        Ok(())
    }

    fn numbers(&self, table: &Table, column: &ArrayRef, dtype: Dtype) -> Result<Numbers, Problems> {
        Numbers::new(column, dtype)
            .map_err(|error| Problems::one(table.column_place(&self.column), error.to_string()))
    }

    fn each<T>(
        &self,
        table: &Table,
        chunk: Chunk<'_, &mut [T]>,
        write: impl Fn(usize, &mut [T]) -> Result<(), String>,
    ) -> Result<(), Problems> {
        let mut problems = Problems::new();
        for (i, (row, place)) in chunk.rows.iter().zip(chunk.items).enumerate() {
            if let Err(text) = write(i, place) {
                problems.push(table.row_place(&self.column, *row), text);
            }
        }
        problems.or(())
    }
}

/// Multiplies elements, which must be finite then.
fn scale(elements: &mut [f32], factor: f32) -> Result<(), String> {
    for (at, element) in elements.iter_mut().enumerate() {
        *element *= factor;
        if !element.is_finite() {
            return Err(format!("is not finite: element {at} is {element} as f32"));
        }
    }
    Ok(())
}

/// Whole numbers from 0 to 255 as bytes.
#[expect(clippy::cast_possible_truncation, reason = "it is compared with what it was")]
#[expect(clippy::cast_sign_loss, reason = "it is compared with what it was")]
fn as_bytes(values: &[f32], place: &mut [u8]) -> Result<(), String> {
    for (at, (place, &value)) in place.iter_mut().zip(values).enumerate() {
        *place = value as u8;
        if f32::from(*place) != value {
            return Err(format!("is no byte: element {at} is {value}; leave out dtype = \"u8\""));
        }
    }
    Ok(())
}

/// Whether what is stored has as many elements as the shape; an image must have that very shape.
fn check_shape(storage: &Storage, shape: &[usize], stored: &[usize]) -> Result<(), String> {
    if elements(stored).is_none() {
        return Err(format!("has a shape that {}", shape_text(stored)));
    }
    let Some(wanted) = elements(shape) else {
        return Err(format!("has a shape that {}", shape_text(shape)));
    };
    let found: usize = stored.iter().product();
    if *storage == Storage::Pictures && shape != stored {
        return Err(format!(
            "holds images that become {stored:?}, where shape {shape:?} is given; give that, or \
             leave it out"
        ));
    }
    if found != wanted {
        return Err(format!(
            "holds {found} elements per row, where shape {shape:?} takes {wanted}; give a shape \
             whose product is {found}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use arrow::array::{
        Array, BinaryArray, FixedSizeBinaryArray, Float64Array, Int32Array, ListArray, StringArray,
        StructArray,
    };
    use arrow::datatypes::{DataType, Field, Float64Type, UInt8Type};

    use super::*;
    use crate::fixtures::{
        Row, column, column_with, file_spec, jpeg, png, problems, tensor, train_of,
        with_validation, write,
    };
    use crate::{Inputs, Resampling, prepare};

    fn file(dir: &Path, name: &str, x: impl Array + 'static) -> PathBuf {
        let y = Int32Array::from_iter_values((0..).take(x.len()));
        write(dir, name, &[column("x", x), column("y", y)])
    }

    fn shaped(shape: &[usize]) -> Inputs {
        Inputs::Tensor(TensorInputs { shape: Some(shape.to_vec()), ..TensorInputs::of("x") })
    }

    fn prepared(path: &Path, inputs: Inputs) -> (InputSpec, Vec<Row>) {
        let prepared = prepare(&file_spec(path, inputs)).unwrap();
        let mut rows = train_of(&prepared);
        rows.sort_by_key(|(row, ..)| *row);
        (prepared.data_set.inputs[0].clone(), rows)
    }

    #[test]
    fn bytes_stay_bytes_in_the_shape_declared_given_or_found() {
        let dir = tempfile::tempdir().unwrap();
        let bytes =
            || FixedSizeBinaryArray::try_from_iter([[1_u8, 2, 3, 4], [5, 6, 7, 8]].iter()).unwrap();
        let y = column("y", Int32Array::from(vec![0, 1]));
        let declared = column_with("x", bytes(), "shape", "[2,2,1]");
        let path = write(dir.path(), "declared", &[declared, y]);
        let (input, rows) = prepared(&path, tensor());
        assert_eq!((input.shape, input.dtype), (vec![2, 2, 1], Dtype::U8));
        assert_eq!(rows[1].1, [5.0, 6.0, 7.0, 8.0]);
        assert_eq!(prepared(&path, shaped(&[1, 4])).0.shape, [1, 4]);
        assert_eq!(prepared(&file(dir.path(), "bare", bytes()), tensor()).0.shape, [4]);
        assert_eq!(
            problems(dir.path(), &file_spec(&path, shaped(&[3]))),
            "declared, column `x`: holds 4 elements per row, where shape [3] takes 3; \
             give a shape whose product is 4"
        );
    }

    #[test]
    fn raw_bytes_of_differing_lengths_need_a_shape_and_keep_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "raw", BinaryArray::from(vec![&b"abc"[..], b"de", b"fgh"]));
        assert!(problems(dir.path(), &file_spec(&path, tensor())).contains(
            "is neither a JPEG nor a PNG image, and its shape is unknown; give `shape` if these \
             are the elements"
        ));
        assert_eq!(
            problems(dir.path(), &file_spec(&path, shaped(&[3]))),
            "raw, column `x`, row 1: has 2 bytes, where shape [3] takes 3"
        );
    }

    #[test]
    fn a_first_row_that_is_nothing_known_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "raw", BinaryArray::from(vec![&b"abcd"[..], b"ef"]));
        assert!(problems(dir.path(), &file_spec(&path, shaped(&[3]))).contains(
            "is neither a JPEG nor a PNG image, and has 4 bytes, where shape [3] takes 3"
        ));
    }

    #[test]
    fn images_are_decoded_once_as_height_width_channels() {
        let dir = tempfile::tempdir().unwrap();
        let (dark, light) = (png(&[10; 6], [2, 3, 1]), jpeg(&[200; 6], [2, 3, 1]));
        let images = BinaryArray::from(vec![dark.as_slice(), light.as_slice()]);
        let (input, rows) = prepared(&file(dir.path(), "images", images), tensor());
        assert_eq!((input.shape, input.dtype), (vec![2, 3, 1], Dtype::U8));
        assert_eq!(rows[0].1, [10.0; 6]);
        assert!(rows[1].1.iter().all(|level| (level - 200.0).abs() <= 2.0), "{:?}", rows[1]);
    }

    #[test]
    fn images_in_hugging_face_structs_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let image = png(&[1, 2, 3, 4, 5, 6], [1, 2, 3]);
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![image.as_slice(); 2]));
        let path: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>; 2]));
        let pairs = StructArray::from(vec![
            (Arc::new(Field::new("bytes", DataType::Binary, true)), bytes),
            (Arc::new(Field::new("path", DataType::Utf8, true)), path),
        ]);
        let (input, rows) = prepared(&file(dir.path(), "pairs", pairs), tensor());
        assert_eq!(input.shape, [1, 2, 3]);
        assert_eq!(rows[1].1, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn every_image_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let good = png(&[10; 6], [2, 3, 1]);
        let images = BinaryArray::from(vec![
            Some(good.as_slice()),
            Some(&png(&[10; 6], [3, 2, 1])),
            Some(b"GIF89a"),
            None,
            Some(&good[..50]),
        ]);
        let spec = file_spec(&file(dir.path(), "images", images), tensor());
        let found = problems(dir.path(), &spec);
        let lines: Vec<_> = found.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "images, column `x`, row 1: is an image of shape [3, 2, 1], where [2, 3, 1] is \
                 expected; make all images alike, or give resize or channels",
                "images, column `x`, row 2: is neither a JPEG nor a PNG image",
                "images, column `x`, row 3: is null or holds a null; fill it in or leave the row \
                 out",
            ]
        );
        assert!(lines[3].starts_with("images, column `x`, row 4: cannot be decoded: "), "{found}");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn lists_become_floats_unless_they_are_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let floats = ListArray::from_iter_primitive::<Float64Type, _, _>([
            Some(vec![Some(0.5), Some(1.5)]),
            Some(vec![Some(2.5), Some(3.5)]),
        ]);
        let (input, rows) = prepared(&file(dir.path(), "floats", floats), tensor());
        assert_eq!((input.shape, input.dtype), (vec![2], Dtype::F32));
        assert_eq!(rows[1].1, [2.5, 3.5]);
        let bytes = ListArray::from_iter_primitive::<UInt8Type, _, _>([
            Some(vec![Some(1), Some(2)]),
            Some(vec![Some(3), Some(4)]),
        ]);
        let (input, rows) = prepared(&file(dir.path(), "bytes", bytes), shaped(&[2, 1]));
        assert_eq!((input.shape, input.dtype), (vec![2, 1], Dtype::U8));
        assert_eq!(rows[0].1, [1.0, 2.0]);
    }

    #[test]
    fn rows_that_are_ragged_missing_or_not_finite_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let lists = ListArray::from_iter_primitive::<Float64Type, _, _>([
            Some(vec![Some(0.0), Some(1.0)]),
            Some(vec![Some(0.0), Some(1.0), Some(2.0)]),
            None,
            Some(vec![Some(0.0), Some(f64::INFINITY)]),
            Some(vec![Some(1e39), Some(0.0)]),
        ]);
        let path = file(dir.path(), "lists", lists);
        assert_eq!(
            problems(dir.path(), &file_spec(&path, shaped(&[2]))),
            "lists, column `x`, row 1: is ragged: a list of 3 along axis 0, where 2 are expected\n\
             lists, column `x`, row 2: is null or holds a null; fill it in or leave the row out\n\
             lists, column `x`, row 3: is not finite: element 1 is inf as f32\n\
             lists, column `x`, row 4: is not finite: element 0 is inf as f32"
        );
    }

    #[test]
    fn a_validation_file_must_hold_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = FixedSizeBinaryArray::try_from_iter([[1_u8; 4]].iter()).unwrap();
        let train = file(dir.path(), "train", bytes);
        let floats = file(dir.path(), "floats", Float64Array::from(vec![1.0]));
        assert_eq!(
            problems(dir.path(), &with_validation(file_spec(&train, tensor()), &floats)),
            "floats, column `x`: holds 1 elements per row, where shape [4] takes 4; \
             give a shape whose product is 1"
        );
        assert_eq!(
            problems(dir.path(), &with_validation(file_spec(&floats, tensor()), &train)),
            "train, column `x`: holds 4 elements per row, where shape [1] takes 1; \
             give a shape whose product is 4"
        );
        let texts = file(dir.path(), "texts", StringArray::from(vec!["a"]));
        assert_eq!(
            problems(dir.path(), &file_spec(&texts, tensor())),
            "texts, column `x`: holds Utf8; an input column is of bytes, of images, or of numbers \
             in lists"
        );
    }

    fn converted(pictures: Pictures, dtype: Option<Dtype>) -> Inputs {
        Inputs::Tensor(TensorInputs { pictures, dtype, ..TensorInputs::of("x") })
    }

    #[test]
    fn images_of_differing_sizes_and_colours_become_alike() {
        let dir = tempfile::tempdir().unwrap();
        let images =
            [png(&[50; 8], [2, 4, 1]), png(&[90; 36], [3, 4, 3]), png(&[70; 2], [2, 1, 1])];
        let images = BinaryArray::from_iter_values(images);
        let path = file(dir.path(), "images", images);
        let resize = Some(([2, 2], Resampling::Bilinear));
        let pictures = Pictures { resize, channels: Some(3) };
        let (input, rows) = prepared(&path, converted(pictures, None));
        assert_eq!((input.shape, input.dtype), (vec![2, 2, 3], Dtype::U8));
        let levels: Vec<_> = rows.iter().map(|(_, x, _)| x.as_slice()).collect();
        assert_eq!(levels, [[50.0; 12], [90.0; 12], [70.0; 12]]);
        let grey = Pictures { resize, channels: Some(1) };
        let (input, rows) = prepared(&path, converted(grey, Some(Dtype::F32)));
        assert_eq!((input.shape, input.dtype), (vec![2, 2, 1], Dtype::F32));
        assert_eq!(rows[1].1, [90.0; 4]);
        let only_size = Pictures { channels: None, ..pictures };
        assert_eq!(
            problems(dir.path(), &file_spec(&path, converted(only_size, None))),
            "images, column `x`, row 1: is an image of shape [3, 4, 3], where [2, 2, 1] is \
             expected; make all images alike, or give resize or channels"
        );
        let numbers = file(dir.path(), "numbers", Float64Array::from(vec![1.0]));
        assert_eq!(
            problems(dir.path(), &file_spec(&numbers, converted(grey, None))),
            "numbers, column `x`: holds no images, which resize and channels are for"
        );
    }

    /// New rows are prepared by the preparation's text alone.
    #[test]
    fn new_images_are_resized_as_those_of_training_were() {
        let dir = tempfile::tempdir().unwrap();
        let pixels: Vec<u8> = (0..48).map(|i| i * 5).collect();
        let image = || BinaryArray::from_iter_values([png(&pixels, [4, 4, 3])]);
        let path = file(dir.path(), "images", image());
        let pictures = Pictures { resize: Some(([3, 2], Resampling::Bicubic)), channels: Some(1) };
        let train = prepare(&file_spec(&path, converted(pictures, Some(Dtype::F32)))).unwrap();
        let origin = crate::NewOrigin::Table(crate::Location::File(path));
        let options = crate::NewOptions::default();
        let new = crate::prepare_new(&train.data_set.preparation, &origin, &options).unwrap();
        assert_eq!(crate::fixtures::concat(&new.batches), train_of(&train));
    }

    #[test]
    fn elements_become_the_type_that_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let as_is = Pictures::default();
        let lists = |last: f64| {
            ListArray::from_iter_primitive::<Float64Type, _, _>([
                Some(vec![Some(0.0), Some(255.0)]),
                Some(vec![Some(7.0), Some(last)]),
            ])
        };
        let whole = file(dir.path(), "whole", lists(8.0));
        let (input, rows) = prepared(&whole, converted(as_is, Some(Dtype::U8)));
        assert_eq!((input.dtype, rows[1].1.as_slice()), (Dtype::U8, &[7.0, 8.0][..]));
        for (last, shown) in [(8.5, "8.5"), (-1.0, "-1"), (256.0, "256")] {
            let path = file(dir.path(), "other", lists(last));
            assert_eq!(
                problems(dir.path(), &file_spec(&path, converted(as_is, Some(Dtype::U8)))),
                format!(
                    "other, column `x`, row 1: is no byte: element 1 is {shown}; leave out dtype = \
                     \"u8\""
                )
            );
        }
        let bytes = FixedSizeBinaryArray::try_from_iter([[1_u8, 200]].iter()).unwrap();
        let bytes = file(dir.path(), "bytes", bytes);
        let (input, rows) = prepared(&bytes, converted(as_is, Some(Dtype::F32)));
        assert_eq!((input.dtype, rows[0].1.as_slice()), (Dtype::F32, &[1.0, 200.0][..]));
    }
}
