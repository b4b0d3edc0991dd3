//! The hopper turns facts into effects. All policy is in `arrowhop_schedule` and `crate::run`; this
//! file queues runs, keeps time and moves messages.

mod messages;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, Recipient, SpawnHandle};
use arrowhop_catalog::Catalog;
use arrowhop_flight::ModelTicket;
use arrowhop_runtime::tell;
use arrowhop_types::{
    LiveModel, LiveRun, ModelStatus, RunId, RunRecord, RunStatus, SegmentId, SlotId, Timestamp,
    VisitKind,
};
use arrowhop_wire::control::SegmentInfo;
use arrowhop_wire::{Command, Fact};
use tokio::sync::watch;
use tracing::{error, info, warn};

pub(crate) use self::messages::{
    Attached, Join, Kept, ListSegments, Lost, Reported, Resume, StopRun, Submit, UseArchive, Watch,
};
use crate::SupervisorError;
use crate::actors::archive::{Discard, Keep, Store};
use crate::actors::segment_link::{Listener, SegmentLink, Tell};
use crate::lock::RunLock;
use crate::run::{ActiveRun, Effect, Opening, adopt, check_initial, open};

/// How often progress is published.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(250);
/// Runs that may wait.
const QUEUE_MAX: usize = 64;

/// Owns the queue of runs, the active one, and the links to the segments.
pub(crate) struct Hopper {
    catalog: Catalog,
    links: BTreeMap<SegmentId, Link>,
    queue: VecDeque<Waiting>,
    active: Option<Active>,
    archive: Option<Recipient<Keep>>,
    discard: Option<Recipient<Discard>>,
    store: Store,
    store_uri: String,
    runtime: tokio::runtime::Handle,
}

struct Link {
    info: SegmentInfo,
    tell: Recipient<Tell>,
    is_attached: bool,
}

struct Waiting {
    run: RunId,
    placement: Vec<SegmentId>,
    live: watch::Sender<LiveRun>,
    lock: RunLock,
}

struct Active {
    run: ActiveRun,
    began_at: Instant,
    /// Time that it ran before it was resumed.
    before: Duration,
    live: watch::Sender<LiveRun>,
    wake: Option<SpawnHandle>,
    _lock: RunLock,
}

impl Active {
    /// Time spent running, over all its resumptions.
    fn elapsed(&self) -> Duration {
        self.before + self.began_at.elapsed()
    }
}

impl Hopper {
    pub(crate) fn new(
        catalog: Catalog,
        store: Store,
        store_uri: String,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self {
            catalog,
            links: BTreeMap::new(),
            queue: VecDeque::new(),
            active: None,
            archive: None,
            discard: None,
            store,
            store_uri,
            runtime,
        }
    }

    /// Queues a run that the catalog knows.
    fn enqueue(
        &mut self,
        run: RunId,
        placement: Vec<SegmentId>,
        ctx: &mut Context<Self>,
    ) -> Result<(), SupervisorError> {
        if self.queue.len() >= QUEUE_MAX {
            return Err(SupervisorError::QueueFull { limit: QUEUE_MAX });
        }
        let lock = RunLock::take(self.catalog.path(), run)?;
        self.catalog.set_run_status(run, &RunStatus::Queued)?;
        let (live, _) = watch::channel(live(&self.catalog.run(run)?));
        self.queue.push_back(Waiting { run, placement, live, lock });
        self.next(ctx);
        Ok(())
    }

    /// Begins the next run if none is active.
    fn next(&mut self, ctx: &mut Context<Self>) {
        while self.active.is_none() {
            let Some(waiting) = self.queue.pop_front() else { return };
            let run = waiting.run;
            if let Err(error) = self.begin(waiting, ctx) {
                let reason = arrowhop_wire::status::status_of(&error).message().to_owned();
                error!(%run, reason, "run cannot begin");
                self.fail(run, reason);
            }
        }
    }

    fn begin(&mut self, waiting: Waiting, ctx: &mut Context<Self>) -> Result<(), SupervisorError> {
        let Waiting { run, placement, live, lock } = waiting;
        let opened =
            self.opening(run, &placement).and_then(|opening| open(&mut self.catalog, &opening));
        let active = match opened {
            Ok(active) => active,
            Err(error) => {
                let reason = arrowhop_wire::status::status_of(&error).message().to_owned();
                live.send_modify(|live| live.status = RunStatus::Failed { reason });
                return Err(error);
            }
        };
        self.catalog.set_run_status(run, &RunStatus::Running)?;
        let before = self.catalog.run(run)?.elapsed;
        info!(%run, "run begins");
        let effects = active.begin(&placement);
        let began_at = Instant::now();
        self.active = Some(Active { run: active, began_at, before, live, wake: None, _lock: lock });
        self.carry_out(effects, ctx);
        Ok(())
    }

    fn opening(&self, run: RunId, placement: &[SegmentId]) -> Result<Opening, SupervisorError> {
        let mut problems = arrowhop_types::Problems::new();
        let (mut slots, mut uris) = (Vec::new(), BTreeMap::new());
        for &segment in placement {
            let Some(link) = self.links.get(&segment).filter(|link| link.is_attached) else {
                problems.push(format!("segment {segment}"), "is not attached; start it");
                continue;
            };
            if uris.insert(segment, link.info.uri.clone()).is_none() {
                slots.extend((0..link.info.slots).map(|index| SlotId { segment, index }));
            }
        }
        slots.sort_unstable();
        let store_uri = self.store_uri.clone();
        Ok(problems.or(Opening { run, placement: placement.to_vec(), slots, uris, store_uri })?)
    }

    /// Applies something to the active run, if it is `run`, and carries out what follows.
    fn with_active(
        &mut self,
        run: Option<RunId>,
        ctx: &mut Context<Self>,
        apply: impl FnOnce(
            &mut ActiveRun,
            &mut Catalog,
            Timestamp,
        ) -> Result<Vec<Effect>, SupervisorError>,
    ) {
        let Some(active) = &mut self.active else { return };
        if run.is_some_and(|run| run != active.run.id()) {
            return;
        }
        let now = Timestamp::default() + active.elapsed();
        match apply(&mut active.run, &mut self.catalog, now) {
            Ok(effects) => self.carry_out(effects, ctx),
            Err(error) => {
                // The catalog cannot be written: going on would act without a hop log (RUN-1).
                let reason = arrowhop_wire::status::status_of(&error).message().to_owned();
                error!(reason, "the run cannot go on");
                self.end(RunStatus::Failed { reason }, ctx);
            }
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Tell(segment, command) => self.tell(segment, command),
                Effect::Keep { model, version, digest, from } => {
                    let Some(active) = &self.active else { continue };
                    let ticket = ModelTicket { run: active.run.id(), model, version };
                    let from_uri = self.links.get(&from).map(|link| link.info.uri.clone());
                    let keep = Keep { ticket, digest, from_uri: from_uri.unwrap_or_default() };
                    let archive = self.archive.as_ref().expect("UseArchive comes first");
                    if let Err(error) = tell(archive, keep) {
                        let result = Err(error.to_string());
                        ctx.notify(Kept { ticket, result });
                    }
                }
                Effect::Wake(at) => self.wake_at(at, ctx),
            }
        }
        if let Some(status) = self.active.as_ref().and_then(|active| active.run.ended()) {
            self.end(status, ctx);
        }
    }

    fn tell(&self, segment: SegmentId, command: Command) {
        let Some(link) = self.links.get(&segment) else { return };
        if let Err(error) = tell(&link.tell, Tell(command)) {
            // The link reports its own loss; the run hears of it then.
            warn!(%segment, %error, "a segment's link takes no command");
        }
    }

    fn wake_at(&mut self, at: Timestamp, ctx: &mut Context<Self>) {
        let Some(active) = &mut self.active else { return };
        if let Some(earlier) = active.wake.take() {
            ctx.cancel_future(earlier);
        }
        let now = Timestamp::default() + active.elapsed();
        let run = active.run.id();
        active.wake = Some(ctx.run_later(at.since(now), move |hopper, ctx| {
            hopper.with_active(Some(run), ctx, |run, catalog, now| run.wake(catalog, now));
        }));
    }

    /// Ends the active run and begins the next.
    fn end(&mut self, status: RunStatus, ctx: &mut Context<Self>) {
        let Some(mut active) = self.active.take() else { return };
        if let Some(wake) = active.wake {
            ctx.cancel_future(wake);
        }
        let run = active.run.id();
        match active.run.close(&mut self.catalog) {
            Ok(effects) => self.carry_out(effects, ctx),
            Err(error) => error!(%run, %error, "the run's models were not closed"),
        }
        let elapsed = active.began_at.elapsed();
        let written = self
            .catalog
            .add_elapsed(run, elapsed)
            .and_then(|()| self.catalog.set_run_status(run, &status));
        if let Err(error) = written {
            error!(%run, %error, "the run's end was not recorded");
        }
        info!(%run, status = status.name(), "run ended");
        active.live.send_replace(active.run.live(status, active.before + elapsed));
        self.next(ctx);
    }

    fn fail(&mut self, run: RunId, reason: String) {
        if let Err(error) = self.catalog.set_run_status(run, &RunStatus::Failed { reason }) {
            error!(%run, %error, "the run's end was not recorded");
        }
    }

    fn publish(&mut self) {
        if let Some(active) = &self.active {
            active.live.send_replace(active.run.live(RunStatus::Running, active.elapsed()));
        }
    }
}

/// A run that is not active, as it stands in the catalog.
fn live(record: &RunRecord) -> LiveRun {
    let model = |model: &arrowhop_types::ModelRecord| LiveModel {
        model: model.model,
        status: model.status.clone(),
        epoch: model.epochs.last().map_or(0, |epoch| epoch.epoch + 1),
        phase: VisitKind::Train,
        shards_visited: 0,
        visiting: None,
        visit_loss: None,
        last_epoch: model.epochs.last().cloned(),
    };
    LiveRun {
        run: record.run,
        status: record.status.clone(),
        models: record.models.iter().map(model).collect(),
        elapsed: record.elapsed,
        remaining: None,
    }
}

impl Actor for Hopper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(4_096);
        ctx.run_interval(PUBLISH_INTERVAL, |hopper, _| hopper.publish());
    }
}

impl Handler<UseArchive> for Hopper {
    type Result = ();

    fn handle(&mut self, archive: UseArchive, _: &mut Context<Self>) {
        self.archive = Some(archive.0);
        self.discard = Some(archive.1);
    }
}

impl Handler<Join> for Hopper {
    type Result = Result<(), SupervisorError>;

    fn handle(&mut self, join: Join, ctx: &mut Context<Self>) -> Self::Result {
        let segment = SegmentId(join.0.segment);
        if let Some(link) = self.links.get(&segment) {
            if link.info.uri == join.0.uri {
                return Ok(());
            }
            let uri = link.info.uri.clone();
            return Err(SupervisorError::Duplicate { segment, uri });
        }
        let listener = Listener {
            attached: ctx.address().recipient(),
            reported: ctx.address().recipient(),
            lost: ctx.address().recipient(),
        };
        let tell = SegmentLink::open(&join.0, listener, &self.runtime);
        self.links.insert(segment, Link { info: join.0, tell, is_attached: false });
        Ok(())
    }
}

impl Handler<Attached> for Hopper {
    type Result = ();

    fn handle(&mut self, attached: Attached, _: &mut Context<Self>) {
        if let Some(link) = self.links.get_mut(&attached.segment) {
            link.is_attached = true;
        }
    }
}

impl Handler<Reported> for Hopper {
    type Result = ();

    fn handle(&mut self, reported: Reported, ctx: &mut Context<Self>) {
        let Reported { segment, fact } = reported;
        let run = match &fact {
            Fact::Heartbeat => return,
            Fact::RunOpened { run, .. }
            | Fact::StateArrived { run, .. }
            | Fact::VisitProgress { run, .. }
            | Fact::VisitEnded { run, .. } => *run,
        };
        self.with_active(Some(run), ctx, |run, catalog, now| run.fact(catalog, segment, fact, now));
    }
}

impl Handler<Lost> for Hopper {
    type Result = ();

    fn handle(&mut self, lost: Lost, ctx: &mut Context<Self>) {
        let Lost { segment, reason } = lost;
        let Some(link) = self.links.remove(&segment) else { return };
        if self.active.is_some() {
            warn!(%segment, uri = link.info.uri, reason, "segment lost");
        } else {
            info!(%segment, uri = link.info.uri, reason, "segment left");
        }
        self.with_active(None, ctx, |run, catalog, now| run.segment_lost(catalog, segment, now));
    }
}

impl Handler<Kept> for Hopper {
    type Result = ();

    fn handle(&mut self, kept: Kept, ctx: &mut Context<Self>) {
        let Kept { ticket, result } = kept;
        let (model, version) = (ticket.model, ticket.version);
        let is_kept = result.is_ok();
        self.with_active(Some(ticket.run), ctx, |run, catalog, now| {
            run.kept(catalog, model, version, result, now)
        });
        if !is_kept {
            return;
        }
        match self.catalog.forget_checkpoints(ticket.run, model, version) {
            Ok(paths) if paths.is_empty() => {}
            Ok(paths) => {
                let paths = paths.into_iter().map(Into::into).collect();
                let discard = self.discard.as_ref().expect("UseArchive comes first");
                if let Err(error) = tell(discard, Discard(paths)) {
                    warn!(%error, "old checkpoints were not removed");
                }
            }
            Err(error) => warn!(%error, "old checkpoints were not removed"),
        }
    }
}

impl Handler<ListSegments> for Hopper {
    type Result = Vec<SegmentInfo>;

    fn handle(&mut self, _: ListSegments, _: &mut Context<Self>) -> Self::Result {
        let attached = self.links.values().filter(|link| link.is_attached);
        attached.map(|link| link.info.clone()).collect()
    }
}

impl Handler<Submit> for Hopper {
    type Result = Result<RunId, SupervisorError>;

    fn handle(&mut self, submit: Submit, ctx: &mut Context<Self>) -> Self::Result {
        if self.queue.len() >= QUEUE_MAX {
            return Err(SupervisorError::QueueFull { limit: QUEUE_MAX });
        }
        check_initial(&submit.spec, &submit.initial, &self.store)?;
        let run = self.catalog.submit(&submit.spec, submit.now)?;
        if let Err(error) = adopt(&mut self.catalog, run, &submit.initial, &self.store) {
            self.fail(run, arrowhop_wire::status::status_of(&error).message().to_owned());
            return Err(error);
        }
        self.enqueue(run, submit.placement, ctx)?;
        Ok(run)
    }
}

impl Handler<Resume> for Hopper {
    type Result = Result<(), SupervisorError>;

    fn handle(&mut self, resume: Resume, ctx: &mut Context<Self>) -> Self::Result {
        let run = resume.run;
        let record = self.catalog.run(run)?;
        let unfinished = |model: &arrowhop_types::ModelRecord| {
            matches!(model.status, ModelStatus::Running | ModelStatus::Stopped)
        };
        if !record.models.iter().any(unfinished) {
            return Err(SupervisorError::Over { run, status: record.status.name() });
        }
        self.enqueue(run, resume.placement, ctx)
    }
}

impl Handler<Watch> for Hopper {
    type Result = Result<watch::Receiver<LiveRun>, SupervisorError>;

    fn handle(&mut self, watch: Watch, _: &mut Context<Self>) -> Self::Result {
        let run = watch.0;
        if let Some(active) = self.active.as_ref().filter(|active| active.run.id() == run) {
            return Ok(active.live.subscribe());
        }
        if let Some(waiting) = self.queue.iter().find(|waiting| waiting.run == run) {
            return Ok(waiting.live.subscribe());
        }
        let (_, ended) = watch::channel(live(&self.catalog.run(run)?));
        Ok(ended)
    }
}

impl Handler<StopRun> for Hopper {
    type Result = Result<(), SupervisorError>;

    fn handle(&mut self, stop: StopRun, ctx: &mut Context<Self>) -> Self::Result {
        let run = stop.run;
        if self.active.as_ref().is_some_and(|active| active.run.id() == run) {
            self.with_active(Some(run), ctx, |run, catalog, now| {
                run.stop(catalog, RunStatus::Stopped, stop.now, now)
            });
            return Ok(());
        }
        let at = self.queue.iter().position(|waiting| waiting.run == run);
        let at = at.ok_or(SupervisorError::NotRunning { run })?;
        let waiting = self.queue.remove(at).expect("it was just found");
        self.catalog.set_run_status(run, &RunStatus::Stopped)?;
        waiting.live.send_modify(|live| live.status = RunStatus::Stopped);
        Ok(())
    }
}
