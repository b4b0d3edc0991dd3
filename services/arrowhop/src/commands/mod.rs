//! The subcommands, one file each.

mod data;
mod devices;
mod evaluate;
mod export;
mod fit;
mod inspect;
mod network;
mod predict;
mod replay;
mod serve;

use crate::cli::Command;
use crate::exit::Exit;

/// Does what the command line says.
pub(crate) async fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Fit(fit) => fit::fit(fit).await,
        Command::Data(command) => data::data(command).await,
        Command::Runs(runs) => inspect::runs(&runs),
        Command::Results(results) => inspect::results(results).await,
        Command::Evaluate(evaluate) => evaluate::evaluate(&evaluate),
        Command::Predict(predict) => predict::predict(&predict),
        Command::Export(export) => export::export(&export),
        Command::Replay(replay) => replay::replay(replay).await,
        Command::Devices(devices) => devices::devices(&devices),
        Command::Network(command) => network::network(&command),
        Command::Stop(stop) => inspect::stop(stop).await,
        Command::Supervisor(supervisor) => serve::supervisor(supervisor).await,
        Command::Segment(segment) => serve::segment(segment).await,
    }
}
