//! The vocabulary of Arrowhop: ids, configurations, data sets, records, error classes and the
//! names of random streams. Every other crate speaks in these words; this one does no I/O, holds
//! no policy and depends on nothing of ours.

mod data;
mod error;
mod id;
mod live;
mod loss;
mod metric;
pub mod optimizer;
mod precision;
mod record;
mod score;
mod spec;
pub mod stream;
mod term;
mod time;

pub use data::{
    ClassList, DataSet, Dtype, Encoding, InputSpec, Part, ROW, ShardInfo, SourceRecord, Target,
    TargetColumn, TestRows, shard_file,
};
pub use error::{Classify, ErrorClass, Problem, Problems};
pub use id::{
    DataSetId, Digest, InvalidDigest, ModelId, RunId, SegmentId, ShardId, SlotId, Version, VisitId,
};
pub use live::{LiveModel, LiveRun};
pub use loss::{Crossentropy, Loss};
pub use metric::{Average, Curve, Metric};
pub use optimizer::Optimizer;
pub use precision::Precision;
pub use record::{
    EpochRecord, ModelRecord, ModelStatus, RunRecord, RunStatus, VisitKind, VisitRecord,
    VisitTiming,
};
pub use score::{Measures, MetricSums, Score};
pub use spec::{
    Architecture, CheckpointPolicy, Direction, LOSS, ModelConfig, Objective, OutputConfig, RunSpec,
    TrainMetrics, VisitOrder,
};
pub use term::InvalidTerm;
pub use time::Timestamp;
