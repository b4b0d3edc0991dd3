//! The host turns the supervisor's commands into work for models and trainers, and what comes of it
//! into facts. It decides nothing about order: that is the schedule's.
//!
//! **SEG-1**: a slot works on one visit at a time; a second one is refused, not queued.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, Recipient, WrapFuture,
};
use arrowhop_runtime::{ask, tell};
use arrowhop_types::{ModelId, RunId, VisitId};
use arrowhop_wire::{Command, Fact, PROTOCOL, StartVisit, VisitOutcome};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::actors::model::{
    KeepState, Leave, ListStates, Model, Obtain, Obtained, ReleaseBelow, StateOf,
};
use crate::actors::shards::FindShard;
use crate::actors::trainer::{Work, Worked};
use crate::error::SegmentError;
use crate::opened::{OpenedRun, SlotOffer, open};
use crate::peers::Peers;

/// A fetch may take this long; a state of 10 GB at 50 MB/s.
const FETCH_TIMEOUT: Duration = Duration::from_secs(200);

/// Commands of one supervisor, and the way back to it.
pub(crate) struct Host {
    slots: Vec<Slot>,
    /// Makes a slot's trainer; called again after a panic, because only a fresh thread is clean.
    new_trainer: Box<dyn Fn() -> Recipient<Work>>,
    shards: Recipient<FindShard>,
    peers: Peers,
    /// Bytes that one slot's model may take.
    offer: SlotOffer,
    runs: BTreeMap<RunId, OpenedRun>,
    models: BTreeMap<(RunId, ModelId), Addr<Model>>,
    fetched: BTreeMap<(RunId, VisitId), Obtained>,
    attachment: Option<Attachment>,
    attachments: u64,
}

struct Slot {
    trainer: Recipient<Work>,
    busy: Option<(RunId, VisitId)>,
}

struct Attachment {
    id: u64,
    facts: mpsc::Sender<Fact>,
}

/// A supervisor wants to attach; its facts go into this channel. Answers with a number for
/// [`Detach`], or refuses while another supervisor is attached.
#[derive(Message)]
#[rtype(result = "Result<u64, SegmentError>")]
pub(crate) struct Attach(pub(crate) mpsc::Sender<Fact>);

/// The supervisor's stream is gone: its runs end here.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Detach(pub(crate) u64);

/// A command of the supervisor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Obey(pub(crate) Command);

/// Is a supervisor attached?
#[derive(Message)]
#[rtype(result = "bool")]
pub(crate) struct IsAttached;

/// Who holds a model's states, if it is here?
#[derive(Message)]
#[rtype(result = "Option<Recipient<StateOf>>")]
pub(crate) struct FindModel(pub(crate) RunId, pub(crate) ModelId);

/// Which models are here?
#[derive(Message)]
#[rtype(result = "Vec<(RunId, ModelId, Recipient<ListStates>)>")]
pub(crate) struct ListModels;

impl Host {
    pub(crate) fn new(
        slots: u32,
        new_trainer: Box<dyn Fn() -> Recipient<Work>>,
        shards: Recipient<FindShard>,
        peers: Peers,
        offer: SlotOffer,
    ) -> Self {
        let slot = |_| Slot { trainer: new_trainer(), busy: None };
        Self {
            slots: (0..slots).map(slot).collect(),
            new_trainer,
            shards,
            peers,
            offer,
            runs: BTreeMap::new(),
            models: BTreeMap::new(),
            fetched: BTreeMap::new(),
            attachment: None,
            attachments: 0,
        }
    }

    fn report(&mut self, fact: Fact) {
        let Some(attachment) = &self.attachment else { return };
        if let Err(error) = attachment.facts.try_send(fact) {
            warn!(%error, "the supervisor does not take facts any more");
            self.detach();
        }
    }

    fn detach(&mut self) {
        self.attachment = None;
        for run in self.runs.keys().copied().collect::<Vec<_>>() {
            self.close(run);
        }
    }

    fn close(&mut self, run: RunId) {
        if let Some(opened) = self.runs.remove(&run) {
            opened.abort.store(true, Ordering::Relaxed);
        }
        self.fetched.retain(|(of, _), _| *of != run);
        let gone = |(of, _): &(RunId, ModelId)| *of == run;
        for key in self.models.keys().copied().filter(gone).collect::<Vec<_>>() {
            if let Some(model) = self.models.remove(&key)
                && let Err(error) = tell(&model.recipient(), Leave)
            {
                warn!(run = %key.0, model = %key.1, %error, "model did not leave");
            }
        }
    }

    fn model(&mut self, run: RunId, model: ModelId) -> &Addr<Model> {
        let peers = &self.peers;
        let start = || Model::new(run, model, peers.clone()).start();
        self.models.entry((run, model)).or_insert_with(start)
    }

    fn open_run(&mut self, command: Command, ctx: &mut Context<Self>) {
        let Command::OpenRun { run, spec, shards } = command else { return };
        let opening = open(*spec, shards, self.shards.clone(), self.offer);
        ctx.spawn(opening.into_actor(self).map(move |result, host, _| {
            let problem = match result {
                Ok(opened) => {
                    info!(%run, "run opened");
                    host.runs.insert(run, opened);
                    None
                }
                Err(problem) => Some(problem.to_string()),
            };
            host.report(Fact::RunOpened { run, problem });
        }));
    }

    /// The state that a visit starts from: `None` when the trainer is to make it.
    fn obtain(
        &mut self,
        order: &StartVisit,
    ) -> impl Future<Output = Result<Option<Obtained>, String>> + 'static {
        let wanted = order.digest.map(|digest| {
            let obtain =
                Obtain { version: order.version, from_uri: order.from_uri.clone(), digest };
            (self.model(order.run, order.model).clone().recipient(), obtain)
        });
        async move {
            let Some((model, obtain)) = wanted else { return Ok(None) };
            match ask(&model, obtain, FETCH_TIMEOUT).await {
                Ok(Ok(obtained)) => Ok(Some(obtained)),
                Ok(Err(error)) => Err(arrowhop_wire::status::chain(&*error)),
                Err(error) => Err(arrowhop_wire::status::chain(&error)),
            }
        }
    }

    fn prefetch(&mut self, order: StartVisit, ctx: &mut Context<Self>) {
        let obtaining = self.obtain(&order);
        ctx.spawn(obtaining.into_actor(self).map(move |result, host, _| match result {
            Ok(Some(obtained)) => {
                let (run, visit, took) = (order.run, order.visit, obtained.took);
                let bytes = obtained.bytes;
                host.fetched.insert((run, visit), obtained);
                host.report(Fact::StateArrived { run, visit, took, bytes });
            }
            Ok(None) => {}
            // The visit itself will try again, and report.
            Err(reason) => warn!(run = %order.run, visit = %order.visit, reason, "prefetch failed"),
        }));
    }

    fn begin(&mut self, order: StartVisit, ctx: &mut Context<Self>) {
        let key = (order.run, order.visit);
        let slot = self.slots.get_mut(order.slot as usize);
        match slot {
            Some(slot) if slot.busy.is_none() => slot.busy = Some(key),
            Some(slot) => {
                let reason = format!("SEG-1: slot {} is busy with {:?}", order.slot, slot.busy);
                return self.failed(&order, reason);
            }
            None => return self.failed(&order, format!("there is no slot {}", order.slot)),
        }
        let asked_at = Instant::now();
        let obtaining = self.obtain(&order);
        ctx.spawn(obtaining.into_actor(self).map(move |result, host, ctx| match result {
            Ok(obtained) => host.dispatch(order, obtained, asked_at.elapsed(), ctx),
            Err(reason) => {
                host.free(&order);
                host.failed(&order, reason);
            }
        }));
    }

    fn dispatch(
        &mut self,
        order: StartVisit,
        obtained: Option<Obtained>,
        stall: Duration,
        ctx: &mut Context<Self>,
    ) {
        let earlier = self.fetched.remove(&(order.run, order.visit));
        let (facts, opened) = (self.attachment.as_ref(), self.runs.get(&order.run));
        let work = facts.zip(opened).and_then(|(attachment, opened)| {
            Some(Work {
                task: Arc::clone(opened.tasks.get(&order.model)?),
                data: opened.shards.get(&order.shard)?.clone(),
                evaluates_training: opened.evaluates_training,
                abort: Arc::clone(&opened.abort),
                facts: attachment.facts.clone(),
                order: order.clone(),
                fetch: earlier.or_else(|| obtained.clone()).map(|o| (o.took, o.bytes)),
                state: obtained.map(|obtained| obtained.state),
                stall,
                reply: ctx.address().recipient(),
            })
        });
        let Some(work) = work else {
            self.free(&order);
            return self.failed(&order, "its run, model or shard is not open here".to_owned());
        };
        if let Err(error) = tell(&self.slots[order.slot as usize].trainer, work) {
            self.free(&order);
            self.failed(&order, error.to_string());
        }
    }

    fn free(&mut self, order: &StartVisit) {
        if let Some(slot) = self.slots.get_mut(order.slot as usize)
            && slot.busy == Some((order.run, order.visit))
        {
            slot.busy = None;
        }
    }

    fn failed(&mut self, order: &StartVisit, reason: String) {
        self.ended(order, VisitOutcome::Failed(reason));
    }

    fn ended(&mut self, order: &StartVisit, outcome: VisitOutcome) {
        let (run, visit, attempt) = (order.run, order.visit, order.attempt);
        self.report(Fact::VisitEnded { run, visit, attempt, outcome });
    }
}

impl Actor for Host {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // Room for a command and a result per slot, and for the questions of peers.
        ctx.set_mailbox_capacity(256 + 4 * self.slots.len());
    }
}

impl Handler<Attach> for Host {
    type Result = Result<u64, SegmentError>;

    fn handle(&mut self, attach: Attach, _: &mut Context<Self>) -> Self::Result {
        if self.attachment.as_ref().is_some_and(|attachment| !attachment.facts.is_closed()) {
            return Err(SegmentError::Attached);
        }
        self.detach();
        self.attachments += 1;
        self.attachment = Some(Attachment { id: self.attachments, facts: attach.0 });
        Ok(self.attachments)
    }
}

impl Handler<Detach> for Host {
    type Result = ();

    fn handle(&mut self, detach: Detach, _: &mut Context<Self>) {
        if self.attachment.as_ref().is_some_and(|attachment| attachment.id == detach.0) {
            info!("the supervisor has left; its runs end here");
            self.detach();
        }
    }
}

impl Handler<Obey> for Host {
    type Result = ();

    fn handle(&mut self, obey: Obey, ctx: &mut Context<Self>) {
        match obey.0 {
            Command::Hello { protocol } if protocol == PROTOCOL => {}
            Command::Hello { protocol } => {
                warn!(protocol, ours = PROTOCOL, "the supervisor speaks another protocol");
                self.detach();
            }
            command @ Command::OpenRun { .. } => self.open_run(command, ctx),
            Command::Prefetch(order) => self.prefetch(order, ctx),
            Command::Start(order) => self.begin(order, ctx),
            Command::Release { run, model, below } => {
                if let Some(address) = self.models.get(&(run, model))
                    && let Err(error) = tell(&address.clone().recipient(), ReleaseBelow(below))
                {
                    warn!(%run, %model, %error, "states were not released");
                }
            }
            Command::Abort { run } => {
                if let Some(opened) = self.runs.get(&run) {
                    opened.abort.store(true, Ordering::Relaxed);
                }
            }
            Command::CloseRun { run } => self.close(run),
        }
    }
}

impl Handler<Worked> for Host {
    type Result = ();

    fn handle(&mut self, worked: Worked, _: &mut Context<Self>) {
        let Worked { order, outcome, state, panicked } = worked;
        if panicked {
            self.slots[order.slot as usize].trainer = (self.new_trainer)();
        }
        self.free(&order);
        if !self.runs.contains_key(&order.run) {
            return;
        }
        if let (Some(state), VisitOutcome::Done(report)) = (state, &outcome) {
            let keep = KeepState { version: report.version, state };
            let model = self.model(order.run, order.model).clone();
            if let Err(error) = tell(&model.recipient(), keep) {
                return self.failed(&order, error.to_string());
            }
        }
        self.ended(&order, outcome);
    }
}

impl Handler<IsAttached> for Host {
    type Result = bool;

    fn handle(&mut self, _: IsAttached, _: &mut Context<Self>) -> bool {
        self.attachment.is_some()
    }
}

impl Handler<FindModel> for Host {
    type Result = Option<Recipient<StateOf>>;

    fn handle(&mut self, find: FindModel, _: &mut Context<Self>) -> Self::Result {
        self.models.get(&(find.0, find.1)).map(|model| model.clone().recipient())
    }
}

impl Handler<ListModels> for Host {
    type Result = Vec<(RunId, ModelId, Recipient<ListStates>)>;

    fn handle(&mut self, _: ListModels, _: &mut Context<Self>) -> Self::Result {
        let listed = self.models.iter();
        listed.map(|(&(run, model), address)| (run, model, address.clone().recipient())).collect()
    }
}

#[cfg(test)]
mod tests {
    use arrowhop_flight::ByteBudget;
    use arrowhop_types::{ShardId, Version, VisitKind};

    use super::*;
    use crate::actors::shards::Shards;
    use crate::actors::trainer::Trainer;
    use crate::place::Place;

    fn order(visit: u64, slot: u32) -> StartVisit {
        StartVisit {
            run: RunId(1),
            visit: VisitId(visit),
            attempt: 1,
            model: ModelId(1),
            epoch: 0,
            kind: VisitKind::Train,
            shard: ShardId(0),
            slot,
            version: Version(0),
            from_uri: None,
            digest: None,
        }
    }

    /// What the host reports of a visit that it refuses.
    async fn refusal(
        host: &Addr<Host>,
        facts: &mut mpsc::Receiver<Fact>,
        start: StartVisit,
    ) -> String {
        host.send(Obey(Command::Start(start.clone()))).await.unwrap();
        let Some(Fact::VisitEnded { visit, attempt, outcome, .. }) = facts.recv().await else {
            panic!("a visit that is refused is reported");
        };
        assert_eq!((visit, attempt), (start.visit, start.attempt));
        let VisitOutcome::Failed(reason) = outcome else { panic!("it is not done: {outcome:?}") };
        reason
    }

    #[test]
    fn seg_1_a_busy_slot_refuses_a_second_visit() {
        actix::System::new().block_on(async {
            let peers = Peers::new(tokio::runtime::Handle::current(), 1 << 20);
            let place = Arc::new(Place::new(arrowhop_train::Device::cpu(), 0));
            let new_trainer = move || {
                let place = Arc::clone(&place);
                actix::SyncArbiter::start(1, move || Trainer::new(Arc::clone(&place))).recipient()
            };
            let shards = Shards::new(None, ByteBudget::new(u64::MAX)).start().recipient();
            let offer = SlotOffer { memory: 1 << 20, precisions: &[] };
            let mut host = Host::new(1, Box::new(new_trainer), shards, peers, offer);
            host.slots[0].busy = Some((RunId(1), VisitId(7)));
            let host = host.start();
            let (sender, mut facts) = mpsc::channel(8);
            host.send(Attach(sender)).await.unwrap().unwrap();
            let reason = refusal(&host, &mut facts, order(8, 0)).await;
            assert!(reason.contains("SEG-1: slot 0 is busy"), "{reason}");
            assert_eq!(refusal(&host, &mut facts, order(9, 3)).await, "there is no slot 3");
            let (second, _) = mpsc::channel(8);
            let refused = host.send(Attach(second)).await.unwrap();
            assert!(matches!(refused, Err(SegmentError::Attached)));
        });
    }
}
