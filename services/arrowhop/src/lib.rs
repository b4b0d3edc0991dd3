//! The one binary: subcommands, and nothing that another crate could do.

mod class_weight;
pub mod cli;
mod client;
mod commands;
mod embedded;
mod exit;
pub mod experiment;
mod forecast;
mod freeze;
mod initial;
mod kept;
mod load;
mod loading;
mod networks;
mod outputs;
mod predictions;
mod predictor;
mod progress;
mod report;
mod specify;
mod timing;
mod trained;
mod uploads;

use std::process::ExitCode;

use anyhow::Context;
use arrowhop_runtime::telemetry::{self, Format};
use arrowhop_types::Problems;
use clap::Parser;

use crate::cli::{Cli, Command, LogFormat};
pub use crate::exit::{Exit, exit_of};

/// Training takes and frees the same large buffers at every step; this one keeps them for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Parses the command line, does what it says, and prints what stood in the way.
#[must_use]
#[expect(clippy::print_stderr, reason = "errors go to standard error, once")]
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            exit_of(&error).into()
        }
    }
}

/// Does what the command line says.
///
/// # Errors
/// Whatever stood in the way; [`exit_of`] turns it into an exit code.
pub fn run(cli: Cli) -> anyhow::Result<Exit> {
    let format = match cli.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    if let Some(name) = &cli.kernels {
        let chosen = arrowhop_network::choose_isa(name);
        chosen.map_err(|problem| Problems::one("--kernels", problem))?;
    }
    let serves = matches!(cli.command, Command::Supervisor(_) | Command::Segment(_));
    let level = if serves { tracing::Level::INFO } else { tracing::Level::WARN };
    telemetry::init(format, level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the asynchronous runtime")?;
    let exit = runtime.block_on(Box::pin(commands::run(cli.command)));
    runtime.shutdown_background();
    exit
}
