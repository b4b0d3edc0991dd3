//! How fast the kernels are on this CPU: GFLOP/s on one core, of the layers of well-known networks.
//!
//! `cargo run --release --package arrowhop-kernels --example speed [ISA] [bf16]`

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use arrowhop_kernels::{
    Arithmetic, Axis, Convolution, Finish, Isa, Matrix, Precision, Scratch, input_gradient,
    kernel_gradient, multiply, multiply_transposed, slide,
};

/// Repeats until this many seconds have passed, five times; the best of them counts.
const SECONDS: f64 = 0.1;

fn main() {
    let wanted = std::env::args().nth(1);
    let named = Isa::ALL.into_iter().find(|isa| Some(isa.name()) == wanted.as_deref());
    let isa = named.unwrap_or_else(Isa::best);
    let is_half = std::env::args().any(|argument| argument == "bf16");
    let precision = if is_half { Precision::Half } else { Precision::Single };
    let with = Arithmetic { isa, precision };
    println!("{with:?}: GFLOP/s forward, gradient of the input, gradient of the weights");
    let (same, valid) =
        (|input| axis(input, 3, 1, 1, input), |input| axis(input, 3, 1, 0, input - 2));
    let layers = [
        ("3x3 32x32x3 to 32", same(32), 3, 32),
        ("3x3 32x32x32 to 32, valid", valid(32), 32, 32),
        ("3x3 15x15x32 to 64", same(15), 32, 64),
        ("3x3 15x15x64 to 64, valid", valid(15), 64, 64),
        ("3x3 8x8x128 to 128", same(8), 128, 128),
        ("3x3 4x4x512 to 512", same(4), 512, 512),
        ("3x3 16x16x64 to 128, by 2", axis(16, 3, 2, 0, 8), 64, 128),
        ("1x1 16x16x64 to 256", axis(16, 1, 1, 0, 16), 64, 256),
    ];
    for (name, axis, inputs, outputs) in layers {
        convolution(with, name, &Convolution { axes: [axis; 2], inputs, outputs }, 32);
    }
    for (rows, inputs, outputs) in
        [(32, 784, 1000), (32, 2304, 512), (256, 784, 1000), (256, 1000, 500)]
    {
        dense(with, rows, inputs, outputs);
    }
}

fn axis(input: usize, size: usize, stride: usize, padding: usize, output: usize) -> Axis {
    Axis { input, size, stride, dilation: 1, padding, output }
}

fn numbers(count: usize) -> Vec<f32> {
    (0_u16..251).cycle().map(|i| f32::from(i) / 125.0 - 1.0).take(count).collect()
}

fn convolution(with: Arithmetic, name: &str, of: &Convolution, batch: usize) {
    let [height, width] = of.axes;
    let images = numbers(batch * height.input * width.input * of.inputs);
    let kernel = numbers(height.size * width.size * of.inputs * of.outputs);
    let bias = numbers(of.outputs);
    let mut result = vec![0.0; batch * height.output * width.output * of.outputs];
    let (mut of_images, mut of_kernel) = (images.clone(), kernel.clone());
    let mut scratch = Scratch::default();
    let flops = 2 * result.len() * height.size * width.size * of.inputs;
    let finish = Finish { bias: Some(&bias), relu: true };
    let forward = speed(flops, || {
        slide(with, of, &images, &kernel, finish, &mut result, &mut scratch);
    });
    let input = speed(flops, || {
        input_gradient(with, of, &result, &kernel, &mut of_images, &mut scratch);
    });
    let weights = speed(flops, || {
        kernel_gradient(with, of, &images, &result, &mut of_kernel, &mut scratch);
    });
    println!("{name:<28} {forward:>7.1} {input:>7.1} {weights:>7.1}");
}

fn dense(with: Arithmetic, rows: usize, inputs: usize, outputs: usize) {
    let (x, w) = (numbers(rows * inputs), numbers(inputs * outputs));
    let (mut y, mut of_x, mut of_w) = (numbers(rows * outputs), x.clone(), w.clone());
    let mut scratch = Scratch::default();
    let flops = 2 * rows * inputs * outputs;
    let left = Matrix::new(&x, rows, inputs);
    let right = Matrix::new(&w, inputs, outputs);
    let forward = speed(flops, || {
        multiply(with, left, right, Finish::default(), &mut y, &mut scratch);
    });
    let slopes = Matrix::new(&y, rows, outputs);
    let input = speed(flops, || {
        multiply_transposed(with, slopes, right.transposed(), &mut of_x, &mut scratch);
    });
    let weights = speed(flops, || {
        multiply(with, left.transposed(), slopes, Finish::default(), &mut of_w, &mut scratch);
    });
    println!(
        "{:<28} {forward:>7.1} {input:>7.1} {weights:>7.1}",
        format!("{rows} rows of {inputs} to {outputs}")
    );
}

/// The best of five times, in GFLOP/s.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn speed(flops: usize, mut work: impl FnMut()) -> f64 {
    let mut once = || {
        let (begun, mut rounds) = (Instant::now(), 0_u32);
        while begun.elapsed().as_secs_f64() < SECONDS {
            work();
            rounds += 1;
        }
        flops as f64 * f64::from(rounds) / begun.elapsed().as_secs_f64() / 1e9
    };
    (0..5).map(|_| once()).fold(0.0, f64::max)
}
