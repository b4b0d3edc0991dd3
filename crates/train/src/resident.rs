//! A shard's inputs in a device's own memory. Batches are gathered there, so that from one visit to the
//! next only row numbers cross over.
//!
//! Bytes stay bytes: four to a word, since devices have no arrays of bytes. A column lies in parts, as
//! devices bound what one operation may see of their memory.

use arrowhop_network::Input;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use crate::device::Device;
use crate::rows::{Gathered, InputChunks, InputColumn, Inputs};

/// WebGPU promises that an operation may see this much of one array.
const PART_BYTES_MAX: usize = 128 << 20;
/// Bytes of a word.
const WORD: usize = 4;

/// The inputs of a shard's rows in a device's memory.
#[derive(Debug)]
pub struct Resident {
    columns: Vec<Parts>,
}

/// A column. Equal numbers of rows each, but for the last.
#[derive(Debug)]
enum Parts {
    /// (rows, words).
    Bytes(Vec<Tensor<2, Int>>),
    /// (rows, elements).
    Numbers(Vec<Tensor<2>>),
}

impl Resident {
    /// The bytes that these inputs will take there.
    #[must_use]
    pub fn bytes(inputs: &Inputs<'_>) -> u64 {
        let words = inputs.columns().iter().map(|column| column.words() as u64).sum::<u64>();
        words * (inputs.rows() * WORD) as u64
    }

    /// Copies inputs into the device's memory.
    #[must_use]
    pub fn load(inputs: &Inputs<'_>, device: &Device) -> Self {
        let device = device.inner();
        let all: Vec<u32> = (0..u32::try_from(inputs.rows()).expect("rows fit u32")).collect();
        let columns = inputs.columns().iter().map(|column| {
            let words = column.words();
            let parts = all.chunks((PART_BYTES_MAX / (words * WORD)).max(1));
            match column.chunks {
                InputChunks::U8(_) => Parts::Bytes(
                    parts
                        .map(|rows| {
                            let data = TensorData::new(
                                column.packed(inputs.layout(), rows),
                                [rows.len(), words],
                            );
                            Tensor::from_data(data, device)
                        })
                        .collect(),
                ),
                InputChunks::I32(_) | InputChunks::F32(_) => Parts::Numbers(
                    parts
                        .map(|rows| {
                            let numbers = column.numbers(inputs.layout(), rows);
                            Tensor::from_data(TensorData::new(numbers, [rows.len(), words]), device)
                        })
                        .collect(),
                ),
            }
        });
        Self { columns: columns.collect() }
    }

    /// The inputs of these rows, as a view of the same columns has them.
    pub(crate) fn batch(&self, columns: &[InputColumn<'_>], rows: &[u32]) -> Vec<Input> {
        self.columns.iter().zip(columns).map(|(parts, column)| parts.batch(column, rows)).collect()
    }
}

impl Parts {
    fn batch(&self, column: &InputColumn<'_>, rows: &[u32]) -> Input {
        let numbers = match self {
            Self::Bytes(parts) => unpack(gather(parts, rows), column.elements),
            Self::Numbers(parts) => gather(parts, rows),
        };
        match column.gathered {
            Gathered::Numbers { normalize } => Input::Values(numbers / normalize),
            Gathered::Tokens => Input::Values(numbers),
            Gathered::Places => Input::OneHot(numbers),
            Gathered::Vector { width } => {
                let ones = numbers.ones_like();
                let vectors = Tensor::zeros([rows.len(), width], &numbers.device());
                Input::Values(vectors.scatter(1, numbers.int(), ones, IndexingUpdateOp::Add))
            }
        }
    }
}

/// Rows of all parts, in the order asked for.
fn gather<K: burn::tensor::kind::Basic>(parts: &[Tensor<2, K>], rows: &[u32]) -> Tensor<2, K> {
    let part_rows = parts[0].dims()[0];
    let device = parts[0].device();
    let numbers = |rows: Vec<usize>| {
        let rows: Vec<i32> =
            rows.into_iter().map(|row| i32::try_from(row).expect("a part has few rows")).collect();
        let count = rows.len();
        Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &device)
    };
    if let [only] = parts {
        let rows = rows.iter().map(|&row| row as usize).collect();
        return only.clone().select(0, numbers(rows));
    }
    let mut places = vec![0; rows.len()];
    let mut found = Vec::new();
    let mut before = 0;
    for (number, part) in parts.iter().enumerate() {
        let here = rows.iter().enumerate().filter(|(_, row)| **row as usize / part_rows == number);
        let (at, within): (Vec<usize>, Vec<usize>) =
            here.map(|(at, &row)| (at, row as usize % part_rows)).unzip();
        if at.is_empty() {
            continue;
        }
        for (i, &at) in at.iter().enumerate() {
            places[at] = before + i;
        }
        before += at.len();
        found.push(part.clone().select(0, numbers(within)));
    }
    Tensor::cat(found, 0).select(0, numbers(places))
}

/// The bytes of words, as numbers (rows, elements).
fn unpack(words: Tensor<2, Int>, elements: usize) -> Tensor<2> {
    let [rows, count] = words.dims();
    let byte = |shift: i32| {
        words.clone().bitwise_right_shift_scalar(shift).bitwise_and_scalar(255).float()
    };
    let bytes: Tensor<3> = Tensor::stack([0, 8, 16, 24].map(byte).into(), 2);
    bytes.reshape([rows, count * WORD]).slice([0..rows, 0..elements])
}
