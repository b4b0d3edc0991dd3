//! The data set `shapes`: grey images of 16×16 pixels that show a disc, a ring, a square, a cross,
//! a triangle or stripes, at any place, size, rotation and contrast, light on dark or dark on
//! light, under noise. Measured with seed 42, 6,000 training and 1,500 validation rows: logistic
//! regression reaches 28 %, a network of 3×3 convolutions (16 and 32 channels, each pooled, then 64
//! units; Adam 0.001, batches of 32) 90 % after one epoch, 98 % after three, over 99 % after four.
//!
//! Every row has its own run of the random stream, so that any row can be made alone, and only
//! `+ − × ÷ √` are used on floats, so that every machine makes the same bytes.

use std::sync::Mutex;

use arrowhop_types::stream::Stream;
use arrowhop_types::{ClassList, Dtype, InputSpec, Part, Problems};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::classes::LabelType;
use crate::deal::BatchRows;
use crate::encoder::{Encoder, EncoderKind};
use crate::parallel;
use crate::preparation::Preparation;
use crate::shards::{Buffers, slots};
use crate::target::{Labels, Learned, TargetEncoder};
use crate::tensor::TensorEncoder;

/// Pixels along a side.
const SIDE: u8 = 16;
/// Pixels of an image.
const PIXELS: usize = SIDE as usize * SIDE as usize;
/// Points along a side of a pixel at which the shape is sampled.
const SAMPLES: u8 = 3;
/// Words of the random stream set aside for each row.
const ROW_WORDS: u128 = 128;
/// Rows of a part are at most this many: 2³⁰.
const ROWS_MAX: u64 = 1 << 30;
/// Images made at a time.
const CHUNK_ROWS: usize = 256;
/// Noise is uniform, up to this many levels up or down.
const NOISE: f64 = 16.0;
/// A centre is at most this far from the middle along each axis, in pixels.
const SHIFT: f64 = 1.5;
/// Least and largest half extent of a shape, in pixels.
const RADIUS: (f64, f64) = (4.8, 6.5);
/// Least and largest distance of foreground and background from mid-grey, in levels.
const CONTRAST: (f64, f64) = (55.0, 110.0);
/// The classes; a row's is its number modulo their count.
const CLASSES: [&str; 6] = ["disc", "ring", "square", "cross", "triangle", "stripes"];

/// The generator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shapes {
    seed: u64,
}

/// Where and how a shape is drawn.
struct Pose {
    centre: (f64, f64),
    /// Half the shape's extent, in pixels.
    radius: f64,
    /// Cosine and sine of its rotation.
    turn: (f64, f64),
    background: f64,
    foreground: f64,
}

impl Shapes {
    /// The data set of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Checked numbers of training and validation rows.
    pub(crate) fn row_counts(rows: u64, validation_rows: u64) -> Result<(u32, u32), Problems> {
        let mut problems = Problems::new();
        let mut checked = |place: &str, rows: u64, least: u64| {
            if !(least..=ROWS_MAX).contains(&rows) {
                problems.push(place, format!("is {rows}; give {least} to {ROWS_MAX}"));
            }
            u32::try_from(rows).unwrap_or(0)
        };
        let counts = (checked("rows", rows, 1), checked("validation_rows", validation_rows, 0));
        problems.or(counts)
    }

    /// How its rows are prepared.
    pub(crate) fn preparation() -> Preparation {
        let side = usize::from(SIDE);
        let input = InputSpec::numbers(vec![side, side, 1], Dtype::U8, 255.0);
        let image = EncoderKind::Tensor(TensorEncoder::of("image", input));
        Preparation {
            encoders: vec![Encoder { name: "x".into(), kind: image }],
            targets: vec![TargetEncoder {
                name: "y".into(),
                column: "label".into(),
                kind: Learned::Classes {
                    list: ClassList::named(CLASSES),
                    labels: LabelType::Index,
                },
            }],
        }
    }

    /// The labels of the first rows of either part.
    pub(crate) fn labels(rows: u32) -> Labels {
        let classes = (0..).take(CLASSES.len()).cycle();
        Labels::Classes(classes.take(rows as usize).collect())
    }

    /// Draws the rows that `part` has in these batches, as rows of the generator's part `source`.
    pub(crate) fn fill(
        self,
        batches: &[BatchRows],
        buffers: &mut Buffers,
        part: Part,
        source: Part,
    ) {
        let Buffers::U8(buffers) = buffers else { unreachable!("images are bytes") };
        let (rows, mut places) = slots(batches, buffers, PIXELS, &[part]);
        let chunks: Vec<_> =
            rows.chunks(CHUNK_ROWS).zip(places.chunks_mut(CHUNK_ROWS)).map(Mutex::new).collect();
        parallel::map(&chunks, |chunk| {
            let mut chunk = chunk.lock().expect("each chunk is taken once");
            let (rows, places) = &mut *chunk;
            for (row, place) in rows.iter().zip(places.iter_mut()) {
                self.draw(source, *row, place);
            }
        });
    }

    fn draw(self, part: Part, row: u32, pixels: &mut [u8]) {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(Stream::Generate.id());
        let number = u128::from(row) | u128::from(part == Part::Validation) << 32;
        random.set_word_pos(number * ROW_WORDS);
        let pose = Pose::draw(&mut random);
        let mut noise = [0; PIXELS];
        random.fill_bytes(&mut noise);
        let places = (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (x, y)));
        for (((x, y), pixel), noise) in places.zip(pixels).zip(noise) {
            let cover = pose.cover(row as usize % CLASSES.len(), x, y);
            let level = pose.background + (pose.foreground - pose.background) * cover;
            *pixel = to_byte(level + (f64::from(noise) / 127.5 - 1.0) * NOISE);
        }
    }
}

impl Pose {
    fn draw(random: &mut impl Rng) -> Self {
        let mut between = |low: f64, high: f64| {
            low + (high - low) * f64::from(random.next_u32()) / f64::from(u32::MAX)
        };
        let middle = f64::from(SIDE - 1) / 2.0;
        let centre = (middle + between(-SHIFT, SHIFT), middle + between(-SHIFT, SHIFT));
        let radius = between(RADIUS.0, RADIUS.1);
        // Half-angle formulas: a direction without sine or cosine, whose last bits differ between
        // machines. Together with the reflection at zero this covers all quarter turns.
        let half = between(-1.0, 1.0);
        let turn = ((1.0 - half * half) / (1.0 + half * half), 2.0 * half / (1.0 + half * half));
        let upside = if between(-1.0, 1.0) < 0.0 { -1.0 } else { 1.0 };
        let contrast = between(CONTRAST.0, CONTRAST.1);
        let light = if between(-1.0, 1.0) < 0.0 { -contrast } else { contrast };
        Self {
            centre,
            radius,
            turn: (upside * turn.0, upside * turn.1),
            background: 127.5 - light,
            foreground: 127.5 + light,
        }
    }

    /// The share of a pixel that the shape covers.
    fn cover(&self, class: usize, x: u8, y: u8) -> f64 {
        let step = 1.0 / f64::from(SAMPLES);
        let mut covered = 0.0;
        for i in 0..SAMPLES * SAMPLES {
            let dx = (f64::from(i % SAMPLES) + 0.5) * step - 0.5 + f64::from(x) - self.centre.0;
            let dy = (f64::from(i / SAMPLES) + 0.5) * step - 0.5 + f64::from(y) - self.centre.1;
            let u = (dx * self.turn.0 + dy * self.turn.1) / self.radius;
            let v = (dy * self.turn.0 - dx * self.turn.1) / self.radius;
            covered += f64::from(u8::from(is_inside(class, u, v)));
        }
        covered * step * step
    }
}

/// Whether a point lies in a shape of radius 1 about the origin.
fn is_inside(class: usize, u: f64, v: f64) -> bool {
    let from_centre = u * u + v * v;
    let from_axes = u.abs().max(v.abs());
    match class {
        0 => from_centre <= 0.81,
        1 => (0.3..=1.0).contains(&from_centre),
        2 => from_axes <= 0.8,
        3 => from_axes <= 1.0 && u.abs().min(v.abs()) <= 0.28,
        4 => v >= -0.6 && 1.732 * u.abs() + v <= 1.15,
        _ => from_axes <= 0.9 && !(0.24..=0.56).contains(&v.abs()),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is rounded and within a byte")]
#[expect(clippy::cast_sign_loss, reason = "it is not negative")]
fn to_byte(level: f64) -> u8 {
    level.clamp(0.0, 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{generated_spec, train_of, validation_of};
    use crate::{DataSpec, Generator, Origin, prepare};

    fn drawn(seed: u64, part: Part, row: u32) -> [u8; PIXELS] {
        let mut pixels = [0; PIXELS];
        Shapes::new(seed).draw(part, row, &mut pixels);
        pixels
    }

    #[test]
    fn a_row_follows_from_seed_part_and_number_alone() {
        let prepared = prepare(&generated_spec(30, 12)).unwrap();
        let parts =
            [(Part::Train, train_of(&prepared)), (Part::Validation, validation_of(&prepared))];
        for (part, rows) in parts {
            for (row, x, y) in rows {
                let row = u32::try_from(row).unwrap();
                assert_eq!(x, drawn(42, part, row).map(f32::from));
                assert_eq!(y, [f32::from(u8::try_from(row % 6).unwrap())]);
            }
        }
        assert_ne!(drawn(42, Part::Train, 0), drawn(42, Part::Validation, 0));
        assert_ne!(drawn(42, Part::Train, 0), drawn(43, Part::Train, 0));
    }

    #[test]
    fn the_images_stay_as_they_are() {
        let pixels: Vec<u8> = (0..60).flat_map(|row| drawn(42, Part::Train, row)).collect();
        let digest = blake3::hash(&pixels).to_hex();
        assert_eq!(&digest[..16], IMAGES_OF_SEED_42);
    }

    /// A change here changes the data set of every quickstart: never edit it without measuring
    /// again what a linear model and a small network reach.
    const IMAGES_OF_SEED_42: &str = "5d856549a92f6349";

    /// Nearest class mean: the simplest linear rule. Chance is 1 in 6.
    #[test]
    fn means_of_pixels_do_not_tell_the_classes_apart() {
        let mut means = vec![[0.0_f64; PIXELS]; CLASSES.len()];
        for row in 0..1_200 {
            let mean = &mut means[row as usize % CLASSES.len()];
            let pixels = drawn(42, Part::Train, row);
            mean.iter_mut().zip(pixels).for_each(|(m, p)| *m += f64::from(p) / 200.0);
        }
        let nearest = |pixels: [u8; PIXELS]| {
            let distance = |mean: &[f64; PIXELS]| -> f64 {
                mean.iter().zip(pixels).map(|(m, p)| (m - f64::from(p)).powi(2)).sum()
            };
            (0..CLASSES.len()).min_by(|a, b| distance(&means[*a]).total_cmp(&distance(&means[*b])))
        };
        let right = (0..600)
            .filter(|row| {
                nearest(drawn(42, Part::Validation, *row)) == Some(*row as usize % CLASSES.len())
            })
            .count();
        assert!(right < 300, "{right} of 600 by nearest mean");
    }

    #[test]
    fn impossible_counts_are_refused() {
        let generator = Generator::Shapes { rows: 0, validation_rows: u64::MAX };
        let origin = Origin::Generated(generator);
        let error = prepare(&DataSpec { origin, ..generated_spec(0, 0) }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "rows: is 0; give 1 to 1073741824\n\
             validation_rows: is 18446744073709551615; give 0 to 1073741824"
        );
    }
}
