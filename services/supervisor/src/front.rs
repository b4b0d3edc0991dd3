//! The supervisor's gRPC service: it translates and asks; it decides nothing.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::Recipient;
use arrowhop_catalog::{Catalog, CatalogError};
use arrowhop_runtime::{AskError, ask};
use arrowhop_types::{RunId, RunSpec, SegmentId, Timestamp};
use arrowhop_wire::control::supervisor_server::Supervisor;
use arrowhop_wire::status::status_of;
use arrowhop_wire::{PROTOCOL, WireError, control as proto};
use futures::Stream;
use tonic::{Request, Response, Status};

use crate::SupervisorError;
use crate::actors::hopper::{Join, ListSegments, Resume, StopRun, Submit, Watch};

const TIMEOUT: Duration = Duration::from_secs(30);

/// The supervisor as segments and clients see it.
pub(crate) struct Front {
    pub(crate) state: PathBuf,
    pub(crate) join: Recipient<Join>,
    pub(crate) segments: Recipient<ListSegments>,
    pub(crate) submit: Recipient<Submit>,
    pub(crate) resume: Recipient<Resume>,
    pub(crate) watch: Recipient<Watch>,
    pub(crate) stop: Recipient<StopRun>,
}

#[tonic::async_trait]
impl Supervisor for Front {
    type VisitsStream = Pin<Box<dyn Stream<Item = Result<proto::VisitRecord, Status>> + Send>>;
    type WatchStream = Pin<Box<dyn Stream<Item = Result<proto::RunProgress, Status>> + Send>>;

    async fn join(
        &self,
        request: Request<proto::SegmentInfo>,
    ) -> Result<Response<proto::Joined>, Status> {
        let info = request.into_inner();
        if info.protocol != PROTOCOL {
            let (theirs, ours) = (info.protocol, PROTOCOL);
            return Err(status_of(&SupervisorError::Protocol { theirs, ours }));
        }
        flat(ask(&self.join, Join(info), TIMEOUT).await)?;
        Ok(Response::new(proto::Joined {}))
    }

    async fn segments(
        &self,
        _: Request<proto::SegmentsRequest>,
    ) -> Result<Response<proto::SegmentList>, Status> {
        let asked = ask(&self.segments, ListSegments, TIMEOUT).await;
        let segments = asked.map_err(|error| status_of(&error))?;
        Ok(Response::new(proto::SegmentList { segments }))
    }

    async fn submit(
        &self,
        request: Request<proto::SubmitRun>,
    ) -> Result<Response<proto::RunRef>, Status> {
        let submit = request.into_inner();
        let spec = submit.run.ok_or(WireError::Absent { field: "submit.run" });
        let spec = spec.and_then(RunSpec::try_from).map_err(|error| status_of(&error))?;
        let placement = submit.placement.into_iter().map(SegmentId).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let initial: Result<_, _> = submit.initial.into_iter().map(TryInto::try_into).collect();
        let initial = initial.map_err(|error: WireError| status_of(&error))?;
        let (spec, now) = (Box::new(spec), Timestamp::default() + now);
        let submit = Submit { spec, placement, initial, now };
        let run = flat(ask(&self.submit, submit, TIMEOUT).await)?;
        Ok(Response::new(run.into()))
    }

    async fn resume(
        &self,
        request: Request<proto::ResumeRun>,
    ) -> Result<Response<proto::RunRef>, Status> {
        let resume = request.into_inner();
        let run = RunId(resume.run);
        let placement = resume.placement.into_iter().map(SegmentId).collect();
        flat(ask(&self.resume, Resume { run, placement }, TIMEOUT).await)?;
        Ok(Response::new(run.into()))
    }

    async fn describe(
        &self,
        request: Request<proto::RunRef>,
    ) -> Result<Response<proto::RunRecord>, Status> {
        let run = request.into_inner().into();
        let record = self.read(move |catalog| catalog.run(run)).await?;
        Ok(Response::new(record.into()))
    }

    async fn visits(
        &self,
        request: Request<proto::RunRef>,
    ) -> Result<Response<Self::VisitsStream>, Status> {
        let run = request.into_inner().into();
        let visits = self.read(move |catalog| catalog.visits(run)).await?;
        let visits = visits.into_iter().map(|visit| Ok(proto::VisitRecord::from(visit)));
        Ok(Response::new(Box::pin(futures::stream::iter(visits))))
    }

    async fn watch(
        &self,
        request: Request<proto::RunRef>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let run = request.into_inner().into();
        let live = flat(ask(&self.watch, Watch(run), TIMEOUT).await)?;
        let progress = futures::stream::unfold((live, false), |(mut live, said)| async move {
            if said && (live.borrow().status.is_over() || live.changed().await.is_err()) {
                return None;
            }
            let now = live.borrow_and_update().clone();
            Some((Ok(proto::RunProgress::from(now)), (live, true)))
        });
        Ok(Response::new(Box::pin(progress)))
    }

    async fn stop(
        &self,
        request: Request<proto::StopRun>,
    ) -> Result<Response<proto::StopAccepted>, Status> {
        let stop = request.into_inner();
        let stop = StopRun { run: RunId(stop.run), now: stop.now };
        flat(ask(&self.stop, stop, TIMEOUT).await)?;
        Ok(Response::new(proto::StopAccepted {}))
    }
}

impl Front {
    /// Reads the catalog beside the Hopper, which writes it.
    async fn read<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Catalog) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, Status> {
        let state = self.state.clone();
        let read = tokio::task::spawn_blocking(move || body(&Catalog::open_read_only(&state)?));
        let read = read.await.expect("reading the catalog does not panic");
        read.map_err(|error| status_of(&error))
    }
}

/// The answer of an actor that may fail, or fail to answer.
fn flat<T>(asked: Result<Result<T, SupervisorError>, AskError>) -> Result<T, Status> {
    asked.map_err(SupervisorError::Ask).flatten().map_err(|error| status_of(&error))
}
