//! The binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    arrowhop::main()
}
