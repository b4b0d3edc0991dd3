//! `arrowhop runs`, `arrowhop results` and `arrowhop stop`.

use arrowhop_catalog::Catalog;

use crate::cli::{Output, Results, Runs, StopRun};
use crate::client::Client;
use crate::exit::Exit;
use crate::report;
use crate::timing::Timing;

pub(super) fn runs(options: &Runs) -> anyhow::Result<Exit> {
    let catalog = Catalog::open_read_only(&options.state.folder())?;
    report::runs(&catalog.runs()?, options.output)?;
    Ok(Exit::Done)
}

pub(super) async fn results(options: Results) -> anyhow::Result<Exit> {
    let (record, visits) = match &options.cluster {
        Some(uri) => Client::connect(uri).await?.history(options.run).await?,
        None => {
            let catalog = Catalog::open_read_only(&options.state.folder())?;
            (catalog.run(options.run)?, catalog.visits(options.run)?)
        }
    };
    if !options.timing {
        report::leaderboard(&record, options.output)?;
        return Ok(report::exit(&record));
    }
    let timing = Timing::of(&record, &visits)?;
    if options.output == Output::Json {
        let mut object = report::leaderboard_json(&record);
        object["timing"] = timing.json();
        report::print(&format!("{object:#}\n"))?;
    } else {
        report::leaderboard(&record, options.output)?;
        timing.print()?;
    }
    Ok(report::exit(&record))
}

pub(super) async fn stop(options: StopRun) -> anyhow::Result<Exit> {
    Client::connect(&options.cluster).await?.stop(options.run, options.now).await?;
    Ok(Exit::Done)
}
