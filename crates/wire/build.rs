//! Compiles `schemas/*.proto` without `protoc`.

use std::error::Error;
use std::path::Path;

const SCHEMAS: [&str; 2] = ["control.proto", "tickets.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    for schema in SCHEMAS {
        println!("cargo::rerun-if-changed={}", folder.join(schema).display());
    }
    let descriptors = protox::compile(SCHEMAS, [&folder])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
