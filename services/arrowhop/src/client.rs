//! A client of one supervisor.

use std::time::Duration;

use anyhow::Context;
use arrowhop_flight::{MESSAGE_BYTES_MAX, connect};
use arrowhop_types::{Digest, LiveRun, ModelId, RunId, RunRecord, RunSpec, SegmentId, VisitRecord};
use arrowhop_wire::control::supervisor_client::SupervisorClient;
use arrowhop_wire::control::{self as proto, SegmentInfo};
use tonic::Streaming;
use tonic::transport::Channel;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A supervisor, as a client sees it.
#[derive(Clone)]
pub(crate) struct Client {
    supervisor: SupervisorClient<Channel>,
    uri: String,
}

/// A run's progress, as it comes.
pub(crate) struct Watched(Streaming<proto::RunProgress>);

impl Client {
    pub(crate) async fn connect(uri: &str) -> anyhow::Result<Self> {
        let channel = connect(uri, CONNECT_TIMEOUT)
            .await
            .with_context(|| format!("reach the supervisor at {uri}"))?;
        let supervisor = SupervisorClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { supervisor, uri: uri.to_owned() })
    }

    /// Where the supervisor is reached.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// The segments that are attached, by number.
    pub(crate) async fn segments(&mut self) -> anyhow::Result<Vec<SegmentInfo>> {
        let list = self.supervisor.segments(proto::SegmentsRequest {}).await;
        Ok(list.context("list the segments")?.into_inner().segments)
    }

    pub(crate) async fn submit(
        &mut self,
        spec: RunSpec,
        placement: &[SegmentId],
        initial: Vec<(ModelId, Digest)>,
    ) -> anyhow::Result<RunId> {
        let placement = placement.iter().map(|segment| segment.0).collect();
        let initial = initial.into_iter().map(Into::into).collect();
        let submit = proto::SubmitRun { run: Some(spec.into()), placement, initial };
        let run = self.supervisor.submit(submit).await.context("submit the run")?;
        Ok(run.into_inner().into())
    }

    pub(crate) async fn resume(
        &mut self,
        run: RunId,
        placement: &[SegmentId],
    ) -> anyhow::Result<()> {
        let placement = placement.iter().map(|segment| segment.0).collect();
        let resume = proto::ResumeRun { run: run.0, placement };
        self.supervisor.resume(resume).await.context("resume the run")?;
        Ok(())
    }

    pub(crate) async fn describe(&mut self, run: RunId) -> anyhow::Result<RunRecord> {
        let record = self.supervisor.describe(proto::RunRef::from(run)).await;
        Ok(record.with_context(|| format!("read run {run}"))?.into_inner().try_into()?)
    }

    /// A run's record and its hop log.
    pub(crate) async fn history(
        &mut self,
        run: RunId,
    ) -> anyhow::Result<(RunRecord, Vec<VisitRecord>)> {
        let record = self.describe(run).await?;
        let reading = || format!("read the visits of run {run}");
        let visits = self.supervisor.visits(proto::RunRef::from(run)).await;
        let mut stream = visits.with_context(reading)?.into_inner();
        let mut visits = Vec::new();
        while let Some(visit) = stream.message().await.with_context(reading)? {
            visits.push(visit.try_into()?);
        }
        Ok((record, visits))
    }

    pub(crate) async fn watch(&mut self, run: RunId) -> anyhow::Result<Watched> {
        let progress = self.supervisor.watch(proto::RunRef::from(run)).await;
        Ok(Watched(progress.context("watch the run")?.into_inner()))
    }

    pub(crate) async fn stop(&mut self, run: RunId, now: bool) -> anyhow::Result<()> {
        let stop = proto::StopRun { run: run.0, now };
        self.supervisor.stop(stop).await.with_context(|| format!("stop run {run}"))?;
        Ok(())
    }
}

impl Watched {
    /// How the run stands next; `None` when nothing more will be said.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<LiveRun>> {
        let progress = self.0.message().await.context("watch the run")?;
        Ok(progress.map(TryInto::try_into).transpose()?)
    }
}
