//! JPEG and PNG images as bytes, height × width × channels: grey has one channel, colour three.
//! An image with transparency or with more than eight bits per channel is refused. On the way the channels
//! may be changed, and then the size; only `+ − × ÷` are used, so that every machine makes the same bytes.

use std::io::Cursor;

use image::imageops::{FilterType, resize};
use image::{
    ColorType, ImageBuffer, ImageDecoder, ImageFormat, ImageReader, Limits, Luma, Pixel, Rgb,
};

use crate::spec::{ELEMENTS_MAX, Pictures, Resampling};
use crate::table::guarded;

/// A side is at most this many pixels long.
pub(crate) const SIDE_MAX: u32 = 1 << 14;

/// Whether bytes begin as a JPEG or PNG image does.
pub(crate) fn is_picture(bytes: &[u8]) -> bool {
    format(bytes).is_some()
}

/// Height, width and channels of an image, from its header.
pub(crate) fn picture_shape(bytes: &[u8]) -> Result<[usize; 3], String> {
    guarded(|| with_decoder(bytes, |_, shape| Ok(shape)))
}

/// Decodes an image that must become one of this shape into a place of that size.
pub(crate) fn decode(
    bytes: &[u8],
    pictures: &Pictures,
    shape: &[usize],
    place: &mut [u8],
) -> Result<(), String> {
    guarded(|| {
        with_decoder(bytes, |decoder, found| {
            check_shape(found, pictures, shape)?;
            if pictures.shape(found) == found {
                return decoder.read_image_boxed(place).map_err(undecodable);
            }
            let pixels = with_channels(read(decoder, found)?, found[2], shape[2]);
            place.copy_from_slice(&resized(pixels, found, pictures, shape[2]));
            Ok(())
        })
    })
}

/// The same as floats, levels from 0 to 255, which resizing does not round.
pub(crate) fn decode_f32(
    bytes: &[u8],
    pictures: &Pictures,
    shape: &[usize],
    place: &mut [f32],
) -> Result<(), String> {
    guarded(|| {
        with_decoder(bytes, |decoder, found| {
            check_shape(found, pictures, shape)?;
            let pixels = with_channels(read(decoder, found)?, found[2], shape[2]);
            // Floats are cut at 1; a power of two keeps every bit.
            let pixels = pixels.into_iter().map(|level| f32::from(level) / 256.0).collect();
            let pixels = resized::<f32>(pixels, found, pictures, shape[2]);
            for (place, level) in place.iter_mut().zip(pixels) {
                *place = (level * 256.0).min(255.0);
            }
            Ok(())
        })
    })
}

impl Pictures {
    /// What an image of a shape becomes.
    pub(crate) fn shape(&self, [height, width, channels]: [usize; 3]) -> [usize; 3] {
        let [height, width] = self.resize.map_or([height, width], |(size, _)| size);
        [height, width, self.channels.unwrap_or(channels)]
    }
}

fn check_shape(found: [usize; 3], pictures: &Pictures, shape: &[usize]) -> Result<(), String> {
    if pictures.shape(found) != *shape {
        return Err(format!(
            "is an image of shape {found:?}, where {shape:?} is expected; make all images alike, or \
             give resize or channels"
        ));
    }
    // Resizing works on rows of the image's width and the new height.
    if shape[0] * found[1] > ELEMENTS_MAX {
        return Err(format!(
            "is an image of shape {found:?}, too wide to be made {} pixels high",
            shape[0]
        ));
    }
    Ok(())
}

fn read(decoder: Box<dyn ImageDecoder + '_>, shape: [usize; 3]) -> Result<Vec<u8>, String> {
    let mut pixels = vec![0; shape.iter().product()];
    decoder.read_image_boxed(&mut pixels).map_err(undecodable)?;
    Ok(pixels)
}

fn with_channels(pixels: Vec<u8>, found: usize, wanted: usize) -> Vec<u8> {
    match (found, wanted) {
        (1, 3) => pixels.into_iter().flat_map(|level| [level; 3]).collect(),
        (3, 1) => pixels.chunks_exact(3).map(luma).collect(),
        _ => pixels,
    }
}

/// ITU-R BT.601, in Pillow's fixed point: the weights add up to 2¹⁶.
fn luma(pixel: &[u8]) -> u8 {
    let weighted = pixel.iter().zip([19_595, 38_470, 7_471]);
    let sum: u32 = weighted.map(|(&level, weight)| u32::from(level) * weight).sum();
    u8::try_from((sum + (1 << 15)) >> 16).expect("a mean of bytes is a byte")
}

/// Pixels of an image of this size, made as large as `pictures` say.
fn resized<T: image::Primitive + 'static>(
    pixels: Vec<T>,
    [height, width, _]: [usize; 3],
    pictures: &Pictures,
    channels: usize,
) -> Vec<T>
where
    Luma<T>: Pixel<Subpixel = T>,
    Rgb<T>: Pixel<Subpixel = T>,
{
    let Some((size, resampling)) = pictures.resize else { return pixels };
    let (from, to) = ([height, width].map(side), size.map(side));
    let filter = match resampling {
        Resampling::Nearest => FilterType::Nearest,
        Resampling::Bilinear => FilterType::Triangle,
        Resampling::Bicubic => FilterType::CatmullRom,
    };
    if channels == 1 {
        sampled::<Luma<T>, T>(pixels, from, to, filter)
    } else {
        sampled::<Rgb<T>, T>(pixels, from, to, filter)
    }
}

fn sampled<P, T>(pixels: Vec<T>, from: [u32; 2], to: [u32; 2], filter: FilterType) -> Vec<T>
where
    T: image::Primitive + 'static,
    P: Pixel<Subpixel = T> + 'static,
{
    let image = ImageBuffer::<P, Vec<T>>::from_raw(from[1], from[0], pixels);
    let image = image.expect("the pixels are those of an image of this size");
    resize(&image, to[1], to[0], filter).into_raw()
}

fn side(length: usize) -> u32 {
    u32::try_from(length).expect("sides are at most 2^14")
}

fn with_decoder<R>(
    bytes: &[u8],
    work: impl FnOnce(Box<dyn ImageDecoder + '_>, [usize; 3]) -> Result<R, String>,
) -> Result<R, String> {
    let format = format(bytes).ok_or("is neither a JPEG nor a PNG image")?;
    if format == ImageFormat::Jpeg && !bytes.windows(2).rev().any(|pair| pair == [0xff, 0xd9]) {
        return Err("is a JPEG image that is cut short: it has no end marker".into());
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(16 * ELEMENTS_MAX as u64);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(undecodable)?;
    let channels = match decoder.color_type() {
        ColorType::L8 => 1,
        ColorType::Rgb8 => 3,
        other => {
            return Err(format!(
                "is an image of type {other:?}; save it as 8-bit grey or RGB, without transparency"
            ));
        }
    };
    let (width, height) = decoder.dimensions();
    let shape = [height as usize, width as usize, channels];
    if shape.iter().product::<usize>() > ELEMENTS_MAX {
        return Err(format!("is an image of shape {shape:?}, over {ELEMENTS_MAX} elements"));
    }
    work(Box::new(decoder), shape)
}

fn undecodable(error: image::ImageError) -> String {
    format!("cannot be decoded: {error}")
}

/// Source: ISO/IEC 10918-1 B.1.1.3 (start of image, then a marker); W3C PNG, 5.2.
fn format(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        Some(ImageFormat::Jpeg)
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(ImageFormat::Png)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{jpeg, png};

    const AS_IT_IS: Pictures = Pictures { resize: None, channels: None };

    #[test]
    fn grey_has_one_channel_and_colour_three() {
        let grey = png(&[0, 50, 100, 150, 200, 250], [2, 3, 1]);
        assert_eq!(picture_shape(&grey), Ok([2, 3, 1]));
        let mut pixels = [0; 6];
        decode(&grey, &AS_IT_IS, &[2, 3, 1], &mut pixels).unwrap();
        assert_eq!(pixels, [0, 50, 100, 150, 200, 250]);
        assert_eq!(picture_shape(&jpeg(&[128; 12], [2, 2, 3])), Ok([2, 2, 3]));
    }

    #[test]
    fn other_shapes_transparency_and_cut_files_are_refused() {
        let grey = png(&[0; 6], [2, 3, 1]);
        assert_eq!(
            decode(&grey, &AS_IT_IS, &[3, 2, 1], &mut [0; 6]).unwrap_err(),
            "is an image of shape [2, 3, 1], where [3, 2, 1] is expected; make all images alike, or \
             give resize or channels"
        );
        assert_eq!(
            picture_shape(&png(&[0; 24], [2, 3, 4])).unwrap_err(),
            "is an image of type Rgba8; save it as 8-bit grey or RGB, without transparency"
        );
        let whole = jpeg(&[128; 12], [2, 2, 3]);
        assert_eq!(
            picture_shape(&whole[..whole.len() - 2]).unwrap_err(),
            "is a JPEG image that is cut short: it has no end marker"
        );
        let text = decode(&grey[..40], &AS_IT_IS, &[2, 3, 1], &mut [0; 6]).unwrap_err();
        assert!(text.starts_with("cannot be decoded: "), "{text}");
        assert!(!is_picture(b"BM"));
    }

    fn made(image: &[u8], pictures: &Pictures, shape: &[usize]) -> (Vec<u8>, Vec<f32>) {
        let elements = shape.iter().product();
        let (mut bytes, mut floats) = (vec![0; elements], vec![0.0; elements]);
        decode(image, pictures, shape, &mut bytes).unwrap();
        decode_f32(image, pictures, shape, &mut floats).unwrap();
        (bytes, floats)
    }

    /// The three primaries and white: Pillow has the same levels.
    #[test]
    fn colours_become_their_luma_and_grey_three_equal_channels() {
        let colours = png(&[255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255], [2, 2, 3]);
        let grey = Pictures { channels: Some(1), ..AS_IT_IS };
        assert_eq!(made(&colours, &grey, &[2, 2, 1]).0, [76, 150, 29, 255]);
        let colour = Pictures { channels: Some(3), ..AS_IT_IS };
        let image = png(&[7, 9], [1, 2, 1]);
        let (bytes, floats) = made(&image, &colour, &[1, 2, 3]);
        assert_eq!((bytes, floats[3]), (vec![7, 7, 7, 9, 9, 9], 9.0));
    }

    /// By hand. Halving: a triangle two source pixels wide on each side, so weights 3, 3, 1 of 7 at the
    /// left end. Doubling: 0 and 100 give 0, 25, 75 and 100.
    #[test]
    fn sizes_change_by_the_method_that_is_named() {
        let by = |resampling| Pictures { resize: Some(([1, 2], resampling)), channels: None };
        let image = png(&[10, 20, 60, 100], [1, 4, 1]);
        let (bytes, floats) = made(&image, &by(Resampling::Bilinear), &[1, 2, 1]);
        let exact = [(3.0 * 10.0 + 3.0 * 20.0 + 60.0) / 7.0, (20.0 + 3.0 * 60.0 + 300.0) / 7.0];
        assert_eq!(bytes, [21, 71]);
        for (found, exact) in floats.iter().zip(exact) {
            assert!((found - exact).abs() < 1e-4, "{floats:?}");
        }
        let larger = Pictures { resize: Some(([1, 4], Resampling::Bilinear)), channels: None };
        assert_eq!(made(&png(&[0, 100], [1, 2, 1]), &larger, &[1, 4, 1]).0, [0, 25, 75, 100]);
        let nearest = made(&image, &by(Resampling::Nearest), &[1, 2, 1]).0;
        assert!(nearest.iter().all(|level| [10, 20, 60, 100].contains(level)), "{nearest:?}");
        let even = png(&[200; 48], [4, 4, 3]);
        let bicubic = Pictures { resize: Some(([3, 5], Resampling::Bicubic)), channels: Some(1) };
        assert_eq!(made(&even, &bicubic, &[3, 5, 1]).0, [200; 15]);
        assert_eq!(made(&even, &by(Resampling::Bicubic), &[1, 2, 3]).1, [200.0; 6]);
    }

    #[test]
    fn an_image_that_would_take_too_much_memory_is_refused() {
        let wide = png(&vec![0; 1 << 14], [1, 1 << 14, 1]);
        let high = Pictures { resize: Some(([1 << 14, 1], Resampling::Bilinear)), channels: None };
        let text = decode(&wide, &high, &[1 << 14, 1, 1], &mut vec![0; 1 << 14]).unwrap_err();
        assert_eq!(
            text,
            "is an image of shape [1, 16384, 1], too wide to be made 16384 pixels high"
        );
    }
}
