//! Products with vectors of ones and zeros, given by the places of the ones: sums of a matrix's rows.

/// `result` (batch, width) = the sum of the rows of `matrix` (rows, width) at each example's `places`
/// (batch, `count`), whole numbers, plus the bias. A place that comes twice counts twice.
///
/// # Panics
/// When the sizes do not go together, or a place is none of the matrix's rows.
pub fn sum_rows(matrix: &[f32], places: &[f32], count: usize, bias: &[f32], result: &mut [f32]) {
    let examples = examples(places, count, bias.len(), result.len());
    for (places, result) in examples.zip(result.chunks_exact_mut(bias.len())) {
        result.copy_from_slice(bias);
        for place in places {
            let row = &matrix[first(*place, bias.len())..][..bias.len()];
            result.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    }
}

/// Adds to `gradient`, of the matrix, what comes of the gradient of the result (batch, width).
///
/// # Panics
/// As [`sum_rows`].
pub fn add_to_rows(
    of_result: &[f32],
    width: usize,
    places: &[f32],
    count: usize,
    gradient: &mut [f32],
) {
    let examples = examples(places, count, width, of_result.len());
    for (places, slopes) in examples.zip(of_result.chunks_exact(width)) {
        for place in places {
            let row = &mut gradient[first(*place, width)..][..width];
            row.iter_mut().zip(slopes).for_each(|(sum, slope)| *sum += slope);
        }
    }
}

fn examples(
    places: &[f32],
    count: usize,
    width: usize,
    results: usize,
) -> std::slice::ChunksExact<'_, f32> {
    let examples = places.chunks_exact(count);
    assert!(examples.remainder().is_empty(), "{} places, {count} of an example", places.len());
    assert_eq!(results, examples.len() * width, "a result for each example");
    examples
}

/// Where a row begins.
#[expect(clippy::cast_possible_truncation, reason = "places are whole numbers")]
#[expect(clippy::cast_sign_loss, reason = "places are not negative")]
fn first(place: f32, width: usize) -> usize {
    assert!(place >= 0.0, "a place is {place}");
    place as usize * width
}
