//! `arrowhop fit`: prepare the data, put it on the segments, submit the run, show how it goes.

use anyhow::Context;
use arrowhop_catalog::Catalog;
use arrowhop_runtime::{Stop, StopSignal};
use arrowhop_source::Prepared;
use arrowhop_types::{
    ModelId, Problems, RunId, RunRecord, RunSpec, RunStatus, ShardId, VisitKind, VisitOrder,
    VisitRecord,
};
use arrowhop_wire::control::SegmentInfo;

use crate::cli::{Fit, Means};
use crate::client::Client;
use crate::embedded::{Embedded, Size};
use crate::exit::Exit;
use crate::experiment::Experiment;
use crate::forecast::Forecast;
use crate::initial::FirstWeights;
use crate::load::{Distribution, put_shards};
use crate::loading::{Loaded, Place, is_stopped, load};
use crate::networks::{Network, read_networks};
use crate::progress::Display;
use crate::report;
use crate::specify::specify;

/// What is to be run.
enum Order {
    New(Box<RunSpec>, Box<FirstWeights>),
    Resumed(RunId, Box<RunSpec>),
}

impl Order {
    fn spec(&self) -> &RunSpec {
        match self {
            Self::New(spec, _) | Self::Resumed(_, spec) => spec,
        }
    }
}

pub(super) async fn fit(options: Fit) -> anyhow::Result<Exit> {
    let interrupts = StopSignal::new();
    interrupts.listen()?;
    let (order, prepared) = match prepare_run(&options, &interrupts).await {
        Err(error) if is_stopped(&error) => return Ok(Exit::Interrupted),
        prepared => prepared?,
    };
    let (embedded, mut client) = match &options.cluster {
        Some(uri) => (None, Client::connect(uri).await?),
        None => {
            let (cluster, client) =
                Embedded::start(&options.state.folder(), size(&options)?).await?;
            (Some(cluster), client)
        }
    };
    let slots = embedded.as_ref().map(|_| (options.segments * options.slots) as usize);
    let distribution = Distribution { on: options.on.clone(), copies: options.replicas };
    let loading = (prepared, &distribution);
    let ended = run(&mut client, order, loading, slots, interrupts.clone()).await;
    // A run that broke off still leaves its state to be closed properly.
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    let record = ended?;
    report::leaderboard(&record, options.output)?;
    if let RunStatus::Failed { reason } = &record.status {
        anyhow::bail!("run {} failed: {reason}", record.run);
    }
    let interrupted = record.status == RunStatus::Stopped && interrupts.requested().is_some();
    Ok(if interrupted { Exit::Interrupted } else { report::exit(&record) })
}

fn size(options: &Fit) -> anyhow::Result<Size> {
    let means = Means::find(options.memory, options.computing)?;
    let kept = options.memory.place(&options.state.folder())?.kept;
    let folder = options.memory.shard_folder(kept.folder().root());
    Ok(Size { segments: options.segments, slots: options.slots, means, folder })
}

/// The run and its data, checked together.
async fn prepare_run(options: &Fit, interrupts: &StopSignal) -> anyhow::Result<(Order, Prepared)> {
    let place = options.memory.place(&options.state.folder())?;
    if let Some(run) = options.resume {
        let (record, _) = earlier(options, run).await?;
        if let Some(prepared) = place.kept.open(&record.spec.data)? {
            return Ok((Order::Resumed(run, Box::new(record.spec)), prepared));
        }
        let experiment =
            Experiment::recorded(&record.spec.experiment, None, record.spec.bounds.clone())?;
        let (_, loaded) = read(&experiment, &place, interrupts).await?;
        let now = loaded.prepared.data_set.id;
        if now != record.spec.data.id {
            let text = format!(
                "run {run} was trained on data set {}, but its files now make {}; put the old \
                 files back, or start a new run",
                record.spec.data.id.0.short(),
                now.0.short()
            );
            return Err(Problems::one("data", text).into());
        }
        return Ok((Order::Resumed(run, Box::new(record.spec)), loaded.keep()?));
    }
    let file = options.experiment.as_deref().context("name an experiment file")?;
    let mut experiment = Experiment::read(file, options.data.as_deref(), options.bounds)?;
    if let Some(access) = &options.access {
        experiment.access_by(access);
    }
    if let Some(run) = options.warm_start {
        experiment.start_from(run)?;
    }
    let warm_start = match experiment.warm_start {
        Some(run) => Some(earlier(options, run).await?.0),
        None => None,
    };
    let (networks, loaded) = read(&experiment, &place, interrupts).await?;
    let slot_memory = slot_memory(options).await?;
    let mut spec = specify(experiment, &networks, &loaded.prepared, slot_memory)?;
    if let Some(run) = options.same_order_as {
        let (record, visits) = earlier(options, run).await?;
        spec.prescribed = same_order(&spec, &record, &visits)?;
        spec.order = VisitOrder::As(run);
    }
    let first = FirstWeights::new(&spec, networks, warm_start)?;
    Ok((Order::New(Box::new(spec), Box::new(first)), loaded.keep()?))
}

/// Reads networks and data; the problems of both are reported together.
async fn read(
    experiment: &Experiment,
    place: &Place,
    interrupts: &StopSignal,
) -> anyhow::Result<(Vec<Network>, Loaded)> {
    let networks = read_networks(&experiment.search.networks);
    match (networks, load(&experiment.data, place, interrupts).await) {
        (Ok(networks), Ok(loaded)) => Ok((networks, loaded)),
        (Ok(_), Err(error)) => Err(error).context("prepare the data"),
        (Err(problems), Ok(_)) => Err(problems.into()),
        (Err(mut problems), Err(error)) => {
            problems.push("data", format!("{error:#}"));
            Err(problems.into())
        }
    }
}

/// Bytes that one model may take where it will run.
async fn slot_memory(options: &Fit) -> anyhow::Result<u64> {
    let of = |bytes: u64, slots: u32| bytes / u64::from(slots.max(1));
    match &options.cluster {
        None => {
            let means = Means::find(options.memory, options.computing)?;
            Ok(of(means.model_memory, options.segments * options.slots))
        }
        Some(uri) => {
            let segments = attached(&mut Client::connect(uri).await?).await?;
            let memory = segments.iter().map(|info| of(info.model_memory_bytes, info.slots));
            Ok(memory.min().unwrap_or_default())
        }
    }
}

async fn attached(client: &mut Client) -> anyhow::Result<Vec<SegmentInfo>> {
    let segments = client.segments().await?;
    if segments.is_empty() {
        let text = "no segment is attached to the supervisor; start one with `arrowhop segment`";
        return Err(tonic::Status::unavailable(text)).context("find segments");
    }
    Ok(segments)
}

async fn earlier(options: &Fit, run: RunId) -> anyhow::Result<(RunRecord, Vec<VisitRecord>)> {
    match &options.cluster {
        Some(uri) => Client::connect(uri).await?.history(run).await,
        None => {
            let catalog = Catalog::open_existing(&options.state.folder())?;
            Ok((catalog.run(run)?, catalog.visits(run)?))
        }
    }
}

/// Each model's training visits in the order of an earlier run's hop log.
fn same_order(
    spec: &RunSpec,
    record: &RunRecord,
    visits: &[VisitRecord],
) -> Result<Vec<Vec<ShardId>>, Problems> {
    let mut problems = Problems::new();
    for (what, theirs, ours) in [
        ("models", record.spec.configs.len(), spec.configs.len()),
        ("shards", record.spec.data.shards.len(), spec.data.shards.len()),
        ("epochs", record.spec.epochs as usize, spec.epochs as usize),
    ] {
        if theirs != ours {
            let text = format!("run {} has {theirs}, this one {ours}", record.run);
            problems.push(format!("--same-order-as: {what}"), text);
        }
    }
    let order = |(model, _): (ModelId, _)| {
        let trained = visits.iter().filter(|v| v.model == model && v.kind == VisitKind::Train);
        trained.map(|visit| visit.shard).collect()
    };
    problems.or(spec.models().map(order).collect())
}

/// Runs it to its end; `slots` are those in this process.
async fn run(
    client: &mut Client,
    order: Order,
    (prepared, distribution): (Prepared, &Distribution),
    slots: Option<usize>,
    interrupts: StopSignal,
) -> anyhow::Result<RunRecord> {
    let segments = attached(client).await?;
    let forecast = slots.map(|slots| Forecast::of(order.spec(), &prepared, slots)).transpose()?;
    let placement = put_shards(prepared, &segments, distribution).await?;
    let (run, spec, first) = match order {
        Order::New(spec, first) => {
            let initial = first.put(&spec, client.uri()).await?;
            (client.submit((*spec).clone(), &placement, initial).await?, spec, first.lines())
        }
        Order::Resumed(run, spec) => {
            client.resume(run, &placement).await?;
            (run, spec, Vec::new())
        }
    };
    let mut display = Display::new(&spec);
    display.say(&format!(
        "run {run} ({}): {} models, {} epochs, {} rows in {} shards on {} segments",
        spec.name,
        spec.configs.len(),
        spec.epochs,
        spec.data.rows(arrowhop_types::Part::Train),
        spec.data.shards.len(),
        segments.len(),
    ));
    first.iter().for_each(|line| display.say(line));
    if let Some(forecast) = &forecast {
        display.say(&forecast.line());
    }
    let watched = watch(client, run, &mut display, interrupts).await;
    if let Some(line) = forecast.and_then(|forecast| forecast.end_line()) {
        display.say(&line);
    }
    display.finish();
    watched?;
    client.describe(run).await
}

/// Shows the run until it is over. The first interrupt stops it after its visits, the second at
/// once.
async fn watch(
    client: &mut Client,
    run: RunId,
    display: &mut Display,
    interrupts: StopSignal,
) -> anyhow::Result<()> {
    let mut watched = client.watch(run).await?;
    let mut awaited = Some(Stop::AfterVisit);
    loop {
        tokio::select! {
            live = watched.next() => {
                let Some(live) = live? else { return Ok(()) };
                display.show(&live);
                if live.status.is_over() {
                    return Ok(());
                }
            }
            stop = next_interrupt(&interrupts, awaited) => {
                let now = stop == Stop::Now;
                display.say(if now {
                    "stopping at once"
                } else {
                    "stopping after the visits that are going on; interrupt again to stop at once"
                });
                client.stop(run, now).await?;
                awaited = if now { None } else { Some(Stop::Now) };
            }
        }
    }
}

async fn next_interrupt(interrupts: &StopSignal, awaited: Option<Stop>) -> Stop {
    match awaited {
        Some(stop) => interrupts.reached(stop).await,
        None => std::future::pending().await,
    }
}
