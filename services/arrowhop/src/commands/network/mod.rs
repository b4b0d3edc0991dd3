//! `arrowhop network`: what a Keras architecture is, and whether it computes what Keras computes.

mod show;
mod verify;

use crate::cli::NetworkCommand;
use crate::exit::Exit;

pub(super) fn network(command: &NetworkCommand) -> anyhow::Result<Exit> {
    match command {
        NetworkCommand::Show { architecture, output } => show::show(architecture, *output),
        NetworkCommand::Verify { files, device, output } => verify::verify(files, *device, *output),
    }
}
