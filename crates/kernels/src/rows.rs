//! Products with vectors of ones and zeros, given by the places of the ones: sums of a matrix's rows.

use crate::isa::{Isa, Job};
use crate::lanes::Lanes;
use crate::product::Finish;

/// `result` (batch, width) = the sum of the rows of `matrix` (rows, width) at each example's `places`
/// (batch, `count`), whole numbers, finished. A place that comes twice counts twice.
///
/// # Panics
/// When the sizes do not go together, or a place is none of the matrix's rows, or the CPU lacks the
/// instructions.
pub fn sum_rows(
    isa: Isa,
    matrix: &[f32],
    places: &[f32],
    count: usize,
    finish: Finish<'_>,
    result: &mut [f32],
) {
    let batch = examples(places, count).len();
    assert!(result.len().is_multiple_of(batch.max(1)), "a result for each example");
    let width = result.len() / batch.max(1);
    if let Some(bias) = finish.bias {
        assert_eq!(bias.len(), width, "one bias for each column");
    }
    isa.run(SumRows { matrix, places, count, width, finish, result });
}

/// Adds to `gradient`, of the matrix, what comes of the gradient of the result (batch, `width`).
///
/// # Panics
/// As [`sum_rows`].
pub fn add_to_rows(
    isa: Isa,
    of_result: &[f32],
    width: usize,
    places: &[f32],
    count: usize,
    gradient: &mut [f32],
) {
    assert_eq!(of_result.len(), examples(places, count).len() * width, "a row for each example");
    isa.run(AddToRows { of_result, width, places, count, gradient });
}

/// `of_result` where `result` is above 0, else 0: the gradient through a rectifier.
///
/// # Panics
/// When the lengths differ.
#[must_use]
pub fn keep_positive(of_result: &[f32], result: &[f32]) -> Vec<f32> {
    assert_eq!(of_result.len(), result.len(), "a gradient for each number");
    let pairs = of_result.iter().zip(result);
    pairs.map(|(&slope, &value)| if value > 0.0 { slope } else { 0.0 }).collect()
}

struct SumRows<'a> {
    matrix: &'a [f32],
    places: &'a [f32],
    count: usize,
    width: usize,
    finish: Finish<'a>,
    result: &'a mut [f32],
}

impl Job for SumRows<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { matrix, places, count, width, finish, result } = self;
        for (places, result) in examples(places, count).zip(result.chunks_exact_mut(width)) {
            match finish.bias {
                Some(bias) => result.copy_from_slice(bias),
                None => result.fill(0.0),
            }
            for place in places {
                let row = &matrix[first(*place, width)..][..width];
                result.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            if finish.relu {
                // What is no number stays none.
                result.iter_mut().filter(|sum| **sum < 0.0).for_each(|sum| *sum = 0.0);
            }
        }
    }
}

struct AddToRows<'a> {
    of_result: &'a [f32],
    width: usize,
    places: &'a [f32],
    count: usize,
    gradient: &'a mut [f32],
}

impl Job for AddToRows<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { of_result, width, places, count, gradient } = self;
        for (places, slopes) in examples(places, count).zip(of_result.chunks_exact(width)) {
            for place in places {
                let row = &mut gradient[first(*place, width)..][..width];
                row.iter_mut().zip(slopes).for_each(|(sum, slope)| *sum += slope);
            }
        }
    }
}

fn examples(places: &[f32], count: usize) -> std::slice::ChunksExact<'_, f32> {
    let examples = places.chunks_exact(count);
    assert!(examples.remainder().is_empty(), "{} places, {count} of an example", places.len());
    examples
}

/// Where a row begins.
#[expect(clippy::cast_possible_truncation, reason = "places are whole numbers")]
#[expect(clippy::cast_sign_loss, reason = "places are not negative")]
fn first(place: f32, width: usize) -> usize {
    assert!(place >= 0.0, "a place is {place}");
    place as usize * width
}
