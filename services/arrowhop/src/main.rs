//! Parses the command line, runs it, prints what stood in the way.

use std::process::ExitCode;

use arrowhop::cli::Cli;
use clap::Parser;

fn main() -> ExitCode {
    match arrowhop::run(Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "errors go to standard error, once")]
            {
                eprintln!("error: {error:#}");
            }
            arrowhop::exit_of(&error).into()
        }
    }
}
