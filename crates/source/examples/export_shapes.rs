//! Writes the generated data set `shapes` as Parquet: `export_shapes <folder> [rows] [seed]`.

use std::path::Path;

use arrowhop_source::{DataSpec, Generator, Origin, TableFormat, prepare, write_shards};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("name a folder to write into")?;
    let rows = arguments.next().map_or(Ok(6_000), |text| text.parse())?;
    let seed = arguments.next().map_or(Ok(42), |text| text.parse())?;
    let prepared = prepare(&DataSpec {
        name: "shapes".into(),
        origin: Origin::Generated(Generator::Shapes { rows, validation_rows: rows / 4 }),
        shards: 1,
        seed,
        max_rows: None,
        validation_fraction: None,
        test_fraction: None,
    })?;
    write_shards(Path::new(&folder), &prepared.data_set, &prepared.shards, TableFormat::Parquet)?;
    Ok(())
}
