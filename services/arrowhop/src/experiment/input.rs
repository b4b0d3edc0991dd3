//! One input of `[data]`: a column of tensors, of tokens or of places of ones, or a table of columns.

use arrowhop_source::{Inputs, Pictures, Resampling, Scale, Side, TableInputs, TensorInputs};
use arrowhop_types::Dtype;
use toml::{Table, Value};

use super::fields::{Fields, number, shown};

const OF_TENSORS: [&str; 6] =
    ["shape", "normalize", "dtype", "resize", "resize_method", "channels"];
const OF_TOKENS: [&str; 3] = ["length", "padding", "truncating"];
const OF_COLUMNS: [&str; 2] = ["tokens", "one_hot"];
const OF_TABLES: [&str; 5] = ["scale", "standardise", "categories", "bounds", "hash_buckets"];

/// One input: a column, or a table of them named under `columns_key`.
pub(super) fn one(
    fields: &mut Fields<'_>,
    column: Option<String>,
    columns_key: &'static str,
) -> Option<Inputs> {
    let mut given = [&OF_TENSORS[..], &OF_TOKENS, &OF_COLUMNS, &OF_TABLES, &[columns_key]].concat();
    given.retain(|key| fields.has(key));
    let tensor = tensor(fields);
    let is_tokens = fields.flag("tokens") == Some(true);
    let one_hot = fields.count("one_hot", 1 << 24);
    let length = fields.count("length", 1 << 24);
    let sides = [("pre", Side::Start), ("post", Side::End)];
    let padding = fields.choice("padding", &sides).unwrap_or(Side::Start);
    let truncating = fields.choice("truncating", &sides).unwrap_or(Side::Start);
    let table = table(fields, columns_key);

    let mut fits = true;
    let mut refuse = |keys: &[&str], text: &str| {
        for key in keys.iter().filter(|key| given.contains(key)) {
            fields.wrong(key, text);
            fits = false;
        }
    };
    let Some(column) = column else {
        refuse(&[&OF_TENSORS[..], &OF_TOKENS, &OF_COLUMNS].concat(), "goes with a single column");
        return fits.then_some(Inputs::Table(table));
    };
    let text = "goes with a table of columns, not with a single one";
    refuse(&[&[columns_key][..], &OF_TABLES].concat(), text);
    if is_tokens || one_hot.is_some() {
        refuse(&OF_TENSORS, "goes with a column of numbers");
    }
    if !is_tokens {
        refuse(&OF_TOKENS, "goes with tokens = true");
    }
    if is_tokens && one_hot.is_some() {
        refuse(&OF_COLUMNS[1..], "goes without tokens");
    }
    fits.then(|| match one_hot {
        Some(width) => Inputs::OneHot { column, width: whole(width) },
        None if is_tokens => {
            let length = length.map(|length| whole(length) as usize);
            Inputs::Tokens { column, length, padding, truncating }
        }
        None => Inputs::Tensor(TensorInputs { column, ..tensor }),
    })
}

/// A column of tensors, without its name.
fn tensor(fields: &mut Fields<'_>) -> TensorInputs {
    let shape = fields.counts("shape");
    let normalize = fields.number("normalize");
    #[expect(clippy::cast_possible_truncation, reason = "inputs are single precision")]
    let normalize = normalize.map_or(1.0, |normalize| normalize as f32);
    let dtype = fields.choice("dtype", &[("u8", Dtype::U8), ("f32", Dtype::F32)]);
    let sides = fields.counts("resize");
    let size = sides.as_ref().and_then(|sides| <[u32; 2]>::try_from(sides.as_slice()).ok());
    if let (Some(sides), None) = (&sides, size) {
        fields.wrong("resize", format!("{sides:?} is no height and width: [224, 224]"));
    }
    let methods = [
        ("nearest", Resampling::Nearest),
        ("bilinear", Resampling::Bilinear),
        ("bicubic", Resampling::Bicubic),
    ];
    let method = fields.choice("resize_method", &methods);
    if method.is_some() && sides.is_none() {
        fields.wrong("resize_method", "goes with resize");
    }
    let resize = size.map(|size| (size.map(|side| side as usize), method.unwrap_or_default()));
    let channels = fields.count("channels", 3).map(|channels| whole(channels) as usize);
    let shape = shape.map(|shape| shape.into_iter().map(|extent| extent as usize).collect());
    let pictures = Pictures { resize, channels };
    TensorInputs { shape, normalize, dtype, pictures, ..TensorInputs::of("") }
}

/// A table of columns.
fn table(fields: &mut Fields<'_>, columns_key: &'static str) -> TableInputs {
    let columns = fields.texts(columns_key);
    let scales = [
        ("none", Scale::Unscaled),
        ("standardise", Scale::Standardise),
        ("min-max", Scale::MinMax),
    ];
    let scale = fields.choice("scale", &scales);
    let standardise = fields.flag("standardise");
    if scale.is_some() && standardise.is_some() {
        fields.wrong("standardise", "goes without scale; give one of the two");
    }
    let standard = if standardise == Some(false) { Scale::Unscaled } else { Scale::Standardise };
    let categories = fields.texts("categories").unwrap_or_default();
    let bounds = bounds(fields).unwrap_or_default();
    let hash_buckets = fields.count("hash_buckets", 1 << 24).map(whole);
    let scale = scale.unwrap_or(standard);
    TableInputs { columns, scale, categories, bounds, hash_buckets }
}

pub(super) fn whole(count: u64) -> u32 {
    u32::try_from(count).expect("at most 2^24")
}

/// A list of numbers, or `{ base, offset, count }`: base^j + offset for j from 0.
fn bounds(fields: &mut Fields<'_>) -> Option<Vec<f64>> {
    let key = "bounds";
    let value = fields.value(key)?;
    let found = match &value {
        Value::Array(list) => list.iter().map(number).collect::<Option<Vec<_>>>(),
        Value::Table(table) => powers(table),
        _ => None,
    };
    if found.is_none() {
        let text = "is neither a list of numbers nor { base = …, offset = …, count = … }";
        fields.wrong(key, format!("{} {text}", shown(&value)));
    }
    found
}

fn powers(table: &Table) -> Option<Vec<f64>> {
    let [base, offset] = ["base", "offset"].map(|key| table.get(key).and_then(number));
    let count = table.get("count")?.as_integer().filter(|count| (1..=10_000).contains(count))?;
    let (base, offset) = (base?, offset?);
    let count = i32::try_from(count).ok()?;
    (table.len() == 3).then(|| (0..count).map(|power| base.powi(power) + offset).collect())
}

#[cfg(test)]
mod tests {
    use arrowhop_types::Problems;

    use super::*;

    /// An input of the column `x`, or without it a table.
    fn read(text: &str, column: bool) -> Result<Inputs, String> {
        let mut problems = Problems::new();
        let mut fields = Fields::new(text.parse().unwrap(), "data", &mut problems);
        let found = one(&mut fields, column.then(|| "x".to_owned()), "inputs");
        fields.finish();
        if problems.is_empty() { Ok(found.unwrap()) } else { Err(problems.to_string()) }
    }

    #[test]
    fn images_may_be_resized_by_a_method_and_change_channels_and_type() {
        let text = "resize = [20, 30]\nresize_method = 'bicubic'\nchannels = 1\ndtype = 'f32'";
        let Inputs::Tensor(found) = read(text, true).unwrap() else { panic!("no tensor") };
        let pictures =
            Pictures { resize: Some(([20, 30], Resampling::Bicubic)), channels: Some(1) };
        assert_eq!((found.pictures, found.dtype), (pictures, Some(Dtype::F32)));
        let Inputs::Tensor(found) = read("resize = [2, 3]", true).unwrap() else { panic!() };
        assert_eq!(found.pictures.resize, Some(([2, 3], Resampling::Bilinear)));
        assert_eq!(
            read("resize = [2]\ndtype = 'i8'", true).unwrap_err(),
            "data.dtype: \"i8\" is not one of u8, f32\n\
             data.resize: [2] is no height and width: [224, 224]"
        );
        assert_eq!(
            read("resize_method = 'nearest'", true).unwrap_err(),
            "data.resize_method: goes with resize"
        );
        assert_eq!(
            read("tokens = true\nchannels = 3", true).unwrap_err(),
            "data.channels: goes with a column of numbers"
        );
    }

    #[test]
    fn tables_have_one_scale() {
        let scale = |text: &str| match read(text, false).unwrap() {
            Inputs::Table(table) => table.scale,
            other => panic!("{other:?} is no table"),
        };
        assert_eq!(scale(""), Scale::Standardise);
        assert_eq!(scale("standardise = false"), Scale::Unscaled);
        assert_eq!(scale("scale = 'min-max'"), Scale::MinMax);
        assert_eq!(scale("scale = 'none'"), Scale::Unscaled);
        assert_eq!(
            read("scale = 'min-max'\nstandardise = true", false).unwrap_err(),
            "data.standardise: goes without scale; give one of the two"
        );
        assert_eq!(
            read("scale = 'min-max'", true).unwrap_err(),
            "data.scale: goes with a table of columns, not with a single one"
        );
    }
}
