//! Every kernel against the sums that define it, on every set of instructions that this CPU has.

use arrowhop_kernels::{
    Arithmetic, Axis, Convolution, Finish, Isa, Matrix, Moments, Pooling, Precision, Scratch,
    add_to_rows, column_sums, input_gradient, keep_positive, kernel_gradient, moments, multiply,
    multiply_transposed, normalize, normalize_gradient, pool_max, pool_max_gradient, slide,
    sum_rows,
};
use proptest::prelude::*;

/// Numbers from -1 to 1 that differ.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let number = |i: usize| u16::try_from((i * 7919 + seed * 104_729) % 2003).map(f32::from);
    (0..count).map(|i| number(i).expect("below 2003") / 1001.0 - 1.0).collect()
}

fn here() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_here())
}

fn arithmetics(precision: Precision) -> impl Iterator<Item = Arithmetic> {
    here().map(move |isa| Arithmetic { isa, precision })
}

/// Numbers as a product takes them: for halves rounded to 8 bits of mantissa, by definition.
fn operand(precision: Precision, numbers: &[f32]) -> Vec<f32> {
    if precision == Precision::Single {
        return numbers.to_vec();
    }
    let half = |number: &f32| {
        let unit = number.abs().log2().floor().exp2() / 128.0;
        if *number == 0.0 { 0.0 } else { (*number / unit).round_ties_even() * unit }
    };
    numbers.iter().map(half).collect()
}

/// Within the rounding of sums of so many products of numbers up to 1.
fn assert_near(
    what: &str,
    isa: impl std::fmt::Debug,
    found: &[f32],
    expected: &[f64],
    terms: usize,
) {
    assert_eq!(found.len(), expected.len());
    let tolerance = 1e-6 * (terms as f64).max(4.0);
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(*found) - expected).abs();
        assert!(off <= tolerance, "{what} with {isa:?} [{i}]: {found}, not {expected}");
    }
}

/// (rows, depth) · (depth, columns).
fn product(left: &[f32], right: &[f32], depth: usize, columns: usize) -> Vec<f64> {
    let cell = |row: &[f32], column: usize| -> f64 {
        let terms = row.iter().zip(right[column..].iter().step_by(columns));
        terms.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let rows = left.chunks(depth);
    rows.flat_map(|row| (0..columns).map(move |column| cell(row, column))).collect()
}

fn turned(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| matrix[column..].iter().copied().step_by(columns)).collect()
}

fn check_product(rows: usize, depth: usize, columns: usize) {
    let (left, right) = (numbers(rows * depth, 1), numbers(depth * columns, 2));
    let bias = numbers(columns, 3);
    let (left_turned, right_turned) = (turned(&left, depth), turned(&right, columns));
    let views = [
        (Matrix::new(&left, rows, depth), Matrix::new(&right, depth, columns)),
        (
            Matrix::new(&left_turned, depth, rows).transposed(),
            Matrix::new(&right_turned, columns, depth).transposed(),
        ),
    ];
    for precision in [Precision::Single, Precision::Half] {
        let operand = |numbers: &[f32]| operand(precision, numbers);
        let plain = product(&operand(&left), &operand(&right), depth, columns);
        let finished: Vec<f64> = plain
            .iter()
            .zip(bias.iter().cycle())
            .map(|(value, bias)| (value + f64::from(*bias)).max(0.0))
            .collect();
        for with in arithmetics(precision) {
            let mut scratch = Scratch::default();
            for (left, right) in views {
                let mut found = vec![f32::NAN; rows * columns];
                multiply(with, left, right, Finish::default(), &mut found, &mut scratch);
                assert_near("product", with, &found, &plain, depth);
                found.fill(f32::NAN);
                let finish = Finish { bias: Some(&bias), relu: true };
                multiply(with, left, right, finish, &mut found, &mut scratch);
                assert_near("finished product", with, &found, &finished, depth);
                found.fill(f32::NAN);
                multiply_transposed(with, left, right, &mut found, &mut scratch);
                assert_near("turned product", with, &found, &plain, depth);
            }
        }
    }
}

/// Calls `visit` with the places in image, kernel and result of every product that is summed up.
fn each_product(
    convolution: &Convolution,
    batch: usize,
    mut visit: impl FnMut(usize, usize, usize),
) {
    let Convolution { axes: [height, width], inputs, outputs } = *convolution;
    let at = |axis: &Axis, window: usize, cell: usize| {
        let place = window * axis.stride + cell * axis.dilation;
        place.checked_sub(axis.padding).filter(|place| *place < axis.input)
    };
    for image in 0..batch {
        for (y, x) in (0..height.output).flat_map(|y| (0..width.output).map(move |x| (y, x))) {
            for (row, column) in (0..height.size).flat_map(|y| (0..width.size).map(move |x| (y, x)))
            {
                let (Some(from_y), Some(from_x)) = (at(&height, y, row), at(&width, x, column))
                else {
                    continue;
                };
                for (input, output) in (0..inputs).flat_map(|i| (0..outputs).map(move |o| (i, o))) {
                    visit(
                        ((image * height.input + from_y) * width.input + from_x) * inputs + input,
                        ((row * width.size + column) * inputs + input) * outputs + output,
                        ((image * height.output + y) * width.output + x) * outputs + output,
                    );
                }
            }
        }
    }
}

fn check_convolution(convolution: &Convolution, batch: usize) {
    let Convolution { axes: [height, width], inputs, outputs } = *convolution;
    let images = numbers(batch * height.input * width.input * inputs, 1);
    let kernel = numbers(height.size * width.size * inputs * outputs, 2);
    let bias = numbers(outputs, 3);
    let slopes = numbers(batch * height.output * width.output * outputs, 4);
    let wide = |value: f32| f64::from(value);
    let depth = height.size * width.size * inputs.max(outputs);
    for precision in [Precision::Single, Precision::Half] {
        let operand = |numbers: &[f32]| operand(precision, numbers);
        let (x, k, of_result) = (operand(&images), operand(&kernel), operand(&slopes));
        let mut result = vec![0.0; slopes.len()];
        let mut of_images = vec![0.0; images.len()];
        let mut of_kernel = vec![0.0; kernel.len()];
        each_product(convolution, batch, |image, cell, made| {
            result[made] += wide(x[image]) * wide(k[cell]);
            of_images[image] += wide(of_result[made]) * wide(k[cell]);
            of_kernel[cell] += wide(of_result[made]) * wide(x[image]);
        });
        let finished: Vec<f64> = result
            .iter()
            .zip(bias.iter().cycle())
            .map(|(value, bias)| (value + wide(*bias)).max(0.0))
            .collect();
        for with in arithmetics(precision) {
            let mut scratch = Scratch::default();
            let mut found = vec![f32::NAN; result.len()];
            slide(with, convolution, &images, &kernel, Finish::default(), &mut found, &mut scratch);
            assert_near("convolution", with, &found, &result, depth);
            found.fill(f32::NAN);
            let finish = Finish { bias: Some(&bias), relu: true };
            slide(with, convolution, &images, &kernel, finish, &mut found, &mut scratch);
            assert_near("finished convolution", with, &found, &finished, depth);
            let mut found = vec![f32::NAN; images.len()];
            input_gradient(with, convolution, &slopes, &kernel, &mut found, &mut scratch);
            assert_near("gradient of the images", with, &found, &of_images, depth);
            let mut found = vec![f32::NAN; kernel.len()];
            kernel_gradient(with, convolution, &images, &slopes, &mut found, &mut scratch);
            let terms = batch * height.output * width.output;
            assert_near("gradient of the kernel", with, &found, &of_kernel, terms);
        }
    }
}

/// An axis as Keras places windows: `padding` zeros in all where there are any, the odd one behind.
fn axis() -> impl Strategy<Value = Axis> {
    (1_usize..12, 1_usize..5, 1_usize..4, 1_usize..3, any::<bool>()).prop_filter_map(
        "the window fits",
        |(input, size, stride, dilation, is_same)| {
            let reach = (size - 1) * dilation + 1;
            let (padding, output) = if is_same {
                let output = input.div_ceil(stride);
                (((output - 1) * stride + reach).saturating_sub(input) / 2, output)
            } else {
                (0, input.checked_sub(reach)? / stride + 1)
            };
            Some(Axis { input, size, stride, dilation, padding, output })
        },
    )
}

proptest! {
    #[test]
    fn products_are_sums_of_products(rows in 1_usize..40, depth in 1_usize..60, columns in 1_usize..70) {
        check_product(rows, depth, columns);
    }

    #[test]
    fn convolutions_and_their_gradients_are_sums_of_products(
        axes in [axis(), axis()],
        inputs in 1_usize..20,
        outputs in 1_usize..40,
        batch in 1_usize..4,
    ) {
        check_convolution(&Convolution { axes, inputs, outputs }, batch);
    }

    #[test]
    fn pools_find_the_largest_and_where_it_was(
        axes in [axis(), axis()],
        channels in 1_usize..40,
        batch in 1_usize..4,
    ) {
        // Pools have no dilation, so that every window sees something.
        prop_assume!(axes.iter().all(|axis| axis.dilation == 1));
        check_pooling(&Pooling { axes, channels }, batch);
    }

    #[test]
    fn channels_are_normalised_over_rows(rows in 1_usize..400, channels in 1_usize..40) {
        check_normalization(rows, channels);
    }
}

fn check_pooling(pooling: &Pooling, batch: usize) {
    let Pooling { axes: [height, width], channels } = *pooling;
    let images = numbers(batch * height.input * width.input * channels, 1);
    let results = batch * height.output * width.output * channels;
    let slopes = numbers(results, 2);
    // By the windows of a convolution of one channel in and out.
    let windows = Convolution { axes: [height, width], inputs: 1, outputs: 1 };
    let mut largest = vec![(f32::NEG_INFINITY, usize::MAX); results];
    each_product(&windows, batch, |pixel, _, window| {
        for channel in 0..channels {
            let (at, to) = (pixel * channels + channel, window * channels + channel);
            if images[at] > largest[to].0 {
                largest[to] = (images[at], at);
            }
        }
    });
    let mut of_images = vec![0.0; images.len()];
    for ((_, at), slope) in largest.iter().zip(&slopes) {
        of_images[*at] += f64::from(*slope);
    }
    let expected: Vec<f64> = largest.iter().map(|(value, _)| f64::from(*value)).collect();
    for isa in here() {
        let (mut found, mut places) = (vec![0.0; results], vec![0; results]);
        pool_max(isa, pooling, &images, &mut found, &mut places);
        assert_near("pool", isa, &found, &expected, 1);
        let mut found = vec![f32::NAN; images.len()];
        pool_max_gradient(pooling, &slopes, &places, &mut found);
        assert_near("gradient of a pool", isa, &found, &of_images, 4);
    }
}

fn check_normalization(rows: usize, channels: usize) {
    let (x, slopes) = (numbers(rows * channels, 1), numbers(rows * channels, 2));
    let (gamma, beta) = (numbers(channels, 3), numbers(channels, 4));
    let wide = |value: f32| f64::from(value);
    let of_channel = |values: &[f32], c: usize| -> Vec<f64> {
        values[c..].iter().step_by(channels).map(|value| wide(*value)).collect()
    };
    let mean_of = |values: &[f64]| values.iter().sum::<f64>() / rows as f64;
    for isa in here() {
        let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
        moments(isa, &x, &mut mean, &mut variance);
        let scale: Vec<f32> =
            variance.iter().map(|variance| (variance + 1e-3).sqrt().recip()).collect();
        let of = Moments { mean: &mean, scale: &scale };
        let (mut y, mut of_x) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        normalize(isa, &x, of, &gamma, &beta, &mut y);
        let (mut of_gamma, mut of_beta) = (vec![0.0; channels], vec![0.0; channels]);
        let sums = [of_gamma.as_mut_slice(), of_beta.as_mut_slice()];
        normalize_gradient(isa, &x, &slopes, of, &gamma, &mut of_x, sums);
        for c in 0..channels {
            let (x, slopes) = (of_channel(&x, c), of_channel(&slopes, c));
            let middle = mean_of(&x);
            let spread = mean_of(&x.iter().map(|x| (x - middle).powi(2)).collect::<Vec<_>>());
            assert_near("mean", isa, &mean[c..=c], &[middle], 4);
            assert_near("variance", isa, &variance[c..=c], &[spread], 4);
            let scale = (spread + 1e-3).sqrt().recip();
            let hats: Vec<f64> = x.iter().map(|x| (x - middle) * scale).collect();
            let (gamma, beta) = (wide(gamma[c]), wide(beta[c]));
            let made: Vec<f64> = hats.iter().map(|hat| hat * gamma + beta).collect();
            let found = |values: &[f32]| -> Vec<f32> {
                values[c..].iter().copied().step_by(channels).collect()
            };
            assert_near("normalised", isa, &found(&y), &made, 40);
            let sum: f64 = slopes.iter().sum();
            let turned: f64 = slopes.iter().zip(&hats).map(|(slope, hat)| slope * hat).sum();
            assert_near("gradient of beta", isa, &of_beta[c..=c], &[sum], rows);
            assert_near("gradient of gamma", isa, &of_gamma[c..=c], &[turned], 4 * rows);
            let through = |(slope, hat): (&f64, &f64)| {
                scale * gamma * (slope - (sum + hat * turned) / rows as f64)
            };
            let expected: Vec<f64> = slopes.iter().zip(&hats).map(through).collect();
            assert_near("gradient of x", isa, &found(&of_x), &expected, 400);
        }
    }
}

#[test]
fn a_long_common_dimension_is_summed_up_in_parts() {
    for depth in [383, 384, 385, 1000] {
        check_product(13, depth, 33);
    }
}

/// Those that are computed with fewer multiplications.
#[test]
fn convolutions_of_3x3_over_many_channels_are_sums_of_products() {
    let axis =
        |input, padding, output| Axis { input, size: 3, stride: 1, dilation: 1, padding, output };
    for (height, width, inputs, outputs, batch) in [
        (axis(5, 1, 5), axis(8, 1, 8), 32, 48, 3),
        (axis(8, 0, 6), axis(7, 0, 5), 48, 32, 2),
        (axis(4, 2, 6), axis(4, 2, 4), 32, 32, 2),
        (axis(4, 1, 4), axis(4, 1, 4), 400, 32, 1),
        (axis(30, 1, 30), axis(30, 1, 30), 32, 32, 2),
    ] {
        check_convolution(&Convolution { axes: [height, width], inputs, outputs }, batch);
    }
}

#[test]
fn many_pixels_are_summed_up_in_parts() {
    let axis = Axis { input: 33, size: 3, stride: 1, dilation: 1, padding: 1, output: 33 };
    check_convolution(&Convolution { axes: [axis; 2], inputs: 5, outputs: 33 }, 2);
}

#[test]
fn rows_are_summed_up_by_their_places() {
    let matrix = [1.0, 10.0, 2.0, 20.0, 4.0, 40.0];
    let places = [2.0, 0.0, 1.0, 1.0];
    for isa in here() {
        let mut found = [f32::NAN; 4];
        let finish = Finish { bias: Some(&[0.5, -41.0]), relu: false };
        sum_rows(isa, &matrix, &places, 2, finish, &mut found);
        assert_eq!(found, [5.5, 9.0, 4.5, -1.0]);
        sum_rows(isa, &matrix, &places, 2, Finish { relu: true, ..finish }, &mut found);
        assert_eq!(found, [5.5, 9.0, 4.5, 0.0]);
        let mut gradient = [0.0; 6];
        add_to_rows(isa, &[1.0, 2.0, 3.0, 4.0], 2, &places, 2, &mut gradient);
        assert_eq!(gradient, [1.0, 2.0, 6.0, 8.0, 1.0, 2.0]);
    }
}

#[test]
fn a_rectifier_s_gradient_is_that_of_what_is_above_0() {
    let result = [1.0, 0.0, 0.5, f32::NAN];
    assert_eq!(keep_positive(&[1.0, 2.0, -3.0, 4.0], &result), [1.0, 0.0, -3.0, 0.0]);
}

#[test]
fn columns_are_summed_up() {
    let mut sums = [f32::NAN; 3];
    column_sums(&[1.0, 2.0, 3.0, 10.0, 20.0, 30.0], &mut sums);
    assert_eq!(sums, [11.0, 22.0, 33.0]);
}

#[test]
fn what_is_no_number_stays_none_through_a_relu() {
    let both = [Precision::Single, Precision::Half].into_iter();
    for with in both.flat_map(arithmetics) {
        let (left, right) = ([f32::NAN, 1.0], [1.0]);
        let mut found = [0.0; 2];
        let finish = Finish { bias: None, relu: true };
        let (left, right) = (Matrix::new(&left, 2, 1), Matrix::new(&right, 1, 1));
        multiply(with, left, right, finish, &mut found, &mut Scratch::default());
        assert!(found[0].is_nan() && found[1] == 1.0, "{with:?}: {found:?}");
    }
}

#[test]
fn halves_keep_what_is_infinite_and_round_ties_to_even() {
    let tie = |bits| f32::from_bits(bits);
    let table = [
        (f32::INFINITY, f32::INFINITY),
        (f32::MAX, f32::INFINITY),
        (-0.0, 0.0),
        (tie(0x3f80_8000), 1.0),
        (tie(0x3f81_8000), tie(0x3f82_0000)),
        (tie(0x3f80_8001), tie(0x3f81_0000)),
    ];
    for with in arithmetics(Precision::Half) {
        for (value, expected) in table {
            let (left, mut found) = ([value], [f32::NAN]);
            let (left, right) = (Matrix::new(&left, 1, 1), Matrix::new(&[1.0], 1, 1));
            let finish = Finish::default();
            multiply(with, left, right, finish, &mut found, &mut Scratch::default());
            assert_eq!(found, [expected], "{value:e} with {with:?}");
        }
    }
}
