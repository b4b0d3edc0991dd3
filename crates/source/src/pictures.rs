//! JPEG and PNG images as bytes, height × width × channels: grey has one channel, colour three.
//! An image with transparency or with more than eight bits per channel is refused.

use std::io::Cursor;

use image::{ColorType, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::spec::ELEMENTS_MAX;
use crate::table::guarded;

/// A side is at most this many pixels long.
const SIDE_MAX: u32 = 1 << 14;

/// Whether bytes begin as a JPEG or PNG image does.
pub(crate) fn is_picture(bytes: &[u8]) -> bool {
    format(bytes).is_some()
}

/// Height, width and channels of an image, from its header.
pub(crate) fn picture_shape(bytes: &[u8]) -> Result<[usize; 3], String> {
    guarded(|| with_decoder(bytes, |_, shape| Ok(shape)))
}

/// Decodes an image that must have this shape into a place of that size.
pub(crate) fn decode(bytes: &[u8], shape: &[usize], place: &mut [u8]) -> Result<(), String> {
    guarded(|| {
        with_decoder(bytes, |decoder, found| {
            if found != *shape {
                return Err(format!(
                    "is an image of shape {found:?}, where {shape:?} is expected; \
                     make all images alike"
                ));
            }
            decoder.read_image_boxed(place).map_err(undecodable)
        })
    })
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

    #[test]
    fn grey_has_one_channel_and_colour_three() {
        let grey = png(&[0, 50, 100, 150, 200, 250], [2, 3, 1]);
        assert_eq!(picture_shape(&grey), Ok([2, 3, 1]));
        let mut pixels = [0; 6];
        decode(&grey, &[2, 3, 1], &mut pixels).unwrap();
        assert_eq!(pixels, [0, 50, 100, 150, 200, 250]);
        assert_eq!(picture_shape(&jpeg(&[128; 12], [2, 2, 3])), Ok([2, 2, 3]));
    }

    #[test]
    fn other_shapes_transparency_and_cut_files_are_refused() {
        let grey = png(&[0; 6], [2, 3, 1]);
        assert_eq!(
            decode(&grey, &[3, 2, 1], &mut [0; 6]).unwrap_err(),
            "is an image of shape [2, 3, 1], where [3, 2, 1] is expected; make all images alike"
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
        let text = decode(&grey[..40], &[2, 3, 1], &mut [0; 6]).unwrap_err();
        assert!(text.starts_with("cannot be decoded: "), "{text}");
        assert!(!is_picture(b"BM"));
    }
}
