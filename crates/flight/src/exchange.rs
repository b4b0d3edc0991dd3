//! Predictions while rows stream in. The work blocks, so it is done on a thread of its own; what goes
//! to it and what comes from it goes through short channels:
//!
//! ```text
//!  client ──▶ forward ──▶ [1 message] ──▶ Predictor ──▶ [2 batches] ──▶ client
//! ```
//!
//! A client that does not read fills the channels, and is not read from. One that leaves closes them:
//! the predictor's next batch has nowhere to go, and its work ends.

use std::fmt::Debug;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_flight::FlightData;
use arrowhop_types::Problems;
use arrowhop_wire::tickets::PredictRequest;
use futures::{Stream, StreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tonic::Status;

use crate::FlightError;
use crate::any_rows::AnyRows;
use crate::encode::{Encoder, schema_header};

/// Exchanges at a time, each of which has a model and some rows in memory; the next is refused.
const EXCHANGES_MAX: usize = 8;
/// A client that neither sends nor reads for longer than this has forgotten its exchange.
const SILENCE_MAX: Duration = Duration::from_secs(600);

/// Applies models to rows.
pub trait Predictor: Debug + Send + Sync + 'static {
    /// Applies a model to `rows` as they come, and gives `answers` what it says, in order; an empty
    /// batch first says the columns. Ends early when `answers` breaks. Blocks. A panic, of decoding
    /// the rows too, is the implementor's to contain.
    ///
    /// # Errors
    /// Why the model cannot be had, or what is wrong with the rows.
    fn predict(
        &self,
        request: &PredictRequest,
        rows: &mut dyn Iterator<Item = Result<RecordBatch, FlightError>>,
        answers: &mut dyn FnMut(RecordBatch) -> ControlFlow<()>,
    ) -> Result<(), FlightError>;
}

/// What exchanges are answered with.
#[derive(Debug, Clone)]
pub(crate) struct Exchanges {
    predictor: Arc<dyn Predictor>,
    places: Arc<Semaphore>,
}

/// What goes back to the client.
type Answer = Result<FlightData, Status>;

impl Exchanges {
    pub(crate) fn new(predictor: Arc<dyn Predictor>) -> Self {
        Self { predictor, places: Arc::new(Semaphore::new(EXCHANGES_MAX)) }
    }

    /// Begins an exchange: the first message names the model.
    pub(crate) async fn begin(
        &self,
        mut messages: impl Stream<Item = Answer> + Send + Unpin + 'static,
    ) -> Result<impl Stream<Item = Answer> + Send + 'static, FlightError> {
        let first = next(&mut messages).await;
        let first = first.ok_or_else(|| Problems::one("descriptor", "is absent"))??;
        let request = request_of(&first)?;
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| FlightError::Busy { limit: EXCHANGES_MAX })?;
        let (arrived, arriving) = mpsc::channel(1);
        let (answers, answered) = mpsc::channel(2);
        let predictor = Arc::clone(&self.predictor);
        tokio::spawn(forward(first, messages, arrived));
        tokio::task::spawn_blocking(move || {
            let _place = place;
            if let Err(error) = work(&*predictor, &request, arriving, &answers) {
                // Whoever has left, or does not read, needs no reason.
                drop(answers.try_send(Err(error.into())));
            }
        });
        Ok(stream::unfold(answered, async |mut answered| {
            let answer = answered.recv().await?;
            Some((answer, answered))
        }))
    }
}

fn request_of(first: &FlightData) -> Result<PredictRequest, Problems> {
    let descriptor = first.flight_descriptor.as_ref();
    let descriptor = descriptor.ok_or_else(|| Problems::one("descriptor", "is absent"))?;
    if descriptor.cmd.is_empty() {
        PredictRequest::try_from(descriptor.path.as_slice())
    } else {
        PredictRequest::try_from(&*descriptor.cmd)
    }
}

/// The next message; `None` after the last.
async fn next(
    messages: &mut (impl Stream<Item = Answer> + Unpin),
) -> Option<Result<FlightData, FlightError>> {
    let action = "receive rows";
    match tokio::time::timeout(SILENCE_MAX, messages.next()).await {
        Ok(message) => {
            message.map(|message| message.map_err(|status| FlightError::Peer { action, status }))
        }
        Err(_) => Some(Err(FlightError::TimedOut { action, limit: SILENCE_MAX })),
    }
}

/// Hands on what arrives, no faster than it is taken.
async fn forward(
    first: FlightData,
    mut messages: impl Stream<Item = Answer> + Send + Unpin,
    to: mpsc::Sender<Result<FlightData, FlightError>>,
) {
    let mut message = Some(Ok(first));
    while let Some(arrived) = message {
        let is_last = arrived.is_err();
        if to.send(arrived).await.is_err() || is_last {
            return;
        }
        message = tokio::select! {
            message = next(&mut messages) => message,
            () = to.closed() => None,
        };
    }
}

/// Lets the predictor work until the rows end, or the client has left.
fn work(
    predictor: &dyn Predictor,
    request: &PredictRequest,
    mut arriving: mpsc::Receiver<Result<FlightData, FlightError>>,
    answers: &mpsc::Sender<Answer>,
) -> Result<(), FlightError> {
    let mut reader = AnyRows::default();
    let mut rows = std::iter::from_fn(|| {
        loop {
            let read = arriving.blocking_recv()?;
            match read.and_then(|message| Ok(reader.read(&message)?)) {
                Ok(None) => {}
                Ok(Some(batch)) => return Some(Ok(batch)),
                Err(error) => return Some(Err(error)),
            }
        }
    });
    let mut encoder = None;
    let mut problem = None;
    let mut answer = |batch: RecordBatch| {
        let messages = encode(&mut encoder, &batch);
        match messages.map_err(|error| problem = Some(error)) {
            Ok(messages) => {
                let mut messages = messages.into_iter();
                if messages.all(|message| give(message, answers)) {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            }
            Err(()) => ControlFlow::Break(()),
        }
    };
    predictor.predict(request, &mut rows, &mut answer)?;
    problem.map_or(Ok(()), Err)
}

/// Waits until the client takes a message; says whether it did. On a thread that may block.
fn give(message: FlightData, answers: &mpsc::Sender<Answer>) -> bool {
    let given = tokio::time::timeout(SILENCE_MAX, answers.send(Ok(message)));
    Handle::current().block_on(given).is_ok_and(|sent| sent.is_ok())
}

/// A batch's message; before the first one's, the schema's.
fn encode(
    encoder: &mut Option<Encoder>,
    batch: &RecordBatch,
) -> Result<Vec<FlightData>, FlightError> {
    let mut messages = Vec::new();
    if encoder.is_none() {
        let data_header = schema_header(&batch.schema());
        messages.push(FlightData { data_header, ..FlightData::default() });
        *encoder = Some(Encoder::new(&batch.schema())?);
    }
    if let Some(encoder) = encoder
        && batch.num_rows() > 0
    {
        messages.push(encoder.encode(batch)?.into_message());
    }
    Ok(messages)
}
