//! The vocabulary of Arrowhop: ids, configurations, data sets, records, error classes and the
//! names of random streams. Every other crate speaks in these words; this one does no I/O, holds
//! no policy and depends on nothing of ours.

mod data;
mod error;
mod id;
mod live;
pub mod optimizer;
mod record;
mod spec;
pub mod stream;
mod time;

pub use data::{DataSet, Dtype, InputSpec, Part, ShardInfo, Target};
pub use error::{Classify, ErrorClass, Problem, Problems};
pub use id::{
    DataSetId, Digest, InvalidDigest, ModelId, RunId, SegmentId, ShardId, SlotId, Version, VisitId,
};
pub use live::{LiveModel, LiveRun};
pub use optimizer::Optimizer;
pub use record::{
    EpochRecord, ModelRecord, ModelStatus, RunRecord, RunStatus, Score, VisitKind, VisitRecord,
    VisitTiming,
};
pub use spec::{
    Architecture, CheckpointPolicy, Direction, Loss, Metric, ModelConfig, Objective, RunSpec,
    TrainMetrics, VisitOrder,
};
pub use time::Timestamp;
