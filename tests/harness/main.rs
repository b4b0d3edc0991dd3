//! The program under test: the same as the real one.

use std::process::ExitCode;

fn main() -> ExitCode {
    arrowhop::main()
}
