//! The command line. Every setting is a flag, then an environment variable, then a default.

mod data;
mod export;
mod memory;

use std::path::PathBuf;

use arrowhop_source::{Filter, Location};
use arrowhop_train::DeviceChoice;
use arrowhop_types::{ModelId, Problems, RunId};
use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::experiment::Bounds;
pub use crate::load::On;

pub use self::data::DataCommand;
pub use self::export::{Export, FormatName};
pub(crate) use self::memory::machine_memory;
pub use self::memory::{Computing, Means, Memory};

/// Find the best neural network for data that lives in a database or a lake.
#[derive(Debug, Parser)]
#[command(name = "arrowhop", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Log lines on standard error: text or json
    #[arg(long, global = true, env = "ARROWHOP_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Instructions of the CPU's kernels, so that another machine's bits come out: portable, avx2,
    /// avx512 [default: the best there are]
    #[arg(long, global = true, value_name = "NAME", env = "ARROWHOP_KERNELS")]
    pub kernels: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train every configuration of an experiment and show which is best
    Fit(Fit),
    /// Prepare data once, and see what is kept
    #[command(subcommand)]
    Data(DataCommand),
    /// List the runs
    Runs(Runs),
    /// Show a run's leaderboard
    Results(Results),
    /// Score a trained model on new rows
    Evaluate(Evaluate),
    /// Apply a trained model to new rows
    Predict(Predict),
    /// Make one model's visits again from its run's record, and compare every one
    Replay(Replay),
    /// Write weights or shards to files
    #[command(subcommand)]
    Export(Export),
    /// List the CPU and the GPUs of this machine
    Devices(Devices),
    /// Show a Keras architecture, or compare what it computes with what Keras computed
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Stop a run on a cluster; it can be resumed
    Stop(StopRun),
    /// Be a supervisor
    Supervisor(Supervisor),
    /// Be a segment host
    Segment(Segment),
}

/// How results are printed; JSON and CSV go to standard output alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One object.
    Json,
    /// One line per model.
    Csv,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors.
    Json,
}

/// Where the catalog and the model store are.
#[derive(Debug, Clone, Args)]
pub struct State {
    /// Folder of the catalog and the model store [default: the platform's data folder]
    #[arg(long, value_name = "DIR", env = "ARROWHOP_STATE")]
    state: Option<PathBuf>,
}

/// `arrowhop fit`
#[derive(Debug, Args)]
pub struct Fit {
    /// The experiment file; see schemas/experiment.toml
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    pub experiment: Option<PathBuf>,
    /// Folder of the data files [default: the experiment's folder]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Go on with a run that stopped or broke off
    #[arg(long, value_name = "RUN", value_parser = run_id, conflicts_with_all = ["data", "same_order_as", "warm_start", "max_rows", "epochs", "configs"])]
    pub resume: Option<RunId>,
    /// Visit shards in the order of an earlier run of the same experiment
    #[arg(long, value_name = "RUN", value_parser = run_id)]
    pub same_order_as: Option<RunId>,
    /// Start from the weights of an earlier run's models, where these have the same networks
    #[arg(long, value_name = "RUN", value_parser = run_id)]
    pub warm_start: Option<RunId>,
    /// How tables of PostgreSQL are read: by COPY, directly from their pages, or directly where every gate passes [default: as the experiment says, else auto]
    #[arg(long, value_parser = ["auto", "copy", "direct"], conflicts_with = "resume")]
    pub access: Option<String>,
    /// Bounds.
    #[command(flatten)]
    pub bounds: Bounds,
    /// Run on a cluster: its supervisor, such as grpc://10.0.0.1:7400
    #[arg(long, value_name = "URL", env = "ARROWHOP_CLUSTER")]
    pub cluster: Option<String>,
    /// Segments that get shards: all, gpus, or numbers such as 0,2
    #[arg(long, value_name = "SEGMENTS", default_value = "all", value_parser = |text: &str| text.parse::<On>())]
    pub on: On,
    /// Segments that have each shard: one goes on with it where another is lost
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub replicas: u32,
    /// Without --cluster: segments in this process
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub segments: u32,
    /// Without --cluster: slots of each segment
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub slots: u32,
    /// Without --cluster: where.
    #[command(flatten)]
    pub computing: Computing,
    /// Memory.
    #[command(flatten)]
    pub memory: Memory,
    /// State.
    #[command(flatten)]
    pub state: State,
    /// How the leaderboard is printed
    #[arg(long, default_value = "table")]
    pub output: Output,
}

/// `arrowhop devices`
#[derive(Debug, Args)]
pub struct Devices {
    /// How the list is printed
    #[arg(long, default_value = "table")]
    pub output: Output,
}

/// `arrowhop runs`
#[derive(Debug, Args)]
pub struct Runs {
    /// State.
    #[command(flatten)]
    pub state: State,
    /// How the list is printed
    #[arg(long, default_value = "table")]
    pub output: Output,
}

/// `arrowhop results`
#[derive(Debug, Args)]
pub struct Results {
    /// The run
    #[arg(value_parser = run_id)]
    pub run: RunId,
    /// Show where the time went, per model and per slot, against the schedule's lower bound
    #[arg(long)]
    pub timing: bool,
    /// Ask a cluster's supervisor instead of the catalog here
    #[arg(long, value_name = "URL", env = "ARROWHOP_CLUSTER")]
    pub cluster: Option<String>,
    /// State.
    #[command(flatten)]
    pub state: State,
    /// How the leaderboard is printed
    #[arg(long, default_value = "table")]
    pub output: Output,
}

/// Which model of which run.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// The run
    #[arg(value_parser = run_id)]
    pub run: RunId,
    /// The model [default: the best]
    #[arg(long, value_name = "MODEL", value_parser = model_id)]
    pub model: Option<ModelId>,
    /// State.
    #[command(flatten)]
    pub state: State,
}

/// Which rows.
#[derive(Debug, Clone, Args)]
pub struct NewData {
    /// A file with the columns of the training data: Parquet, Arrow IPC, CSV, or a folder of images by class
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Only rows that pass, such as "label < 5 AND city IN ('Paris', 'Rome')"; they are numbered anew
    #[arg(long = "where", value_name = "CONDITION", value_parser = condition)]
    pub filter: Option<Filter>,
    /// It is a table that MADlib packed, with its summary beside it
    #[arg(long)]
    pub packed: bool,
    /// Only the first rows
    #[arg(long, value_name = "N")]
    pub max_rows: Option<u64>,
}

impl NewData {
    /// Where they are.
    ///
    /// # Errors
    /// When they are to be packed and cannot be.
    pub fn location(&self) -> Result<Location, Problems> {
        let data = self.data.to_str();
        let location = data.map_or_else(|| Location::File(self.data.clone()), Location::of);
        let location = if self.packed { location.packed()? } else { location };
        Ok(location.filtered(self.filter.clone()))
    }
}

/// `arrowhop evaluate`
#[derive(Debug, Args)]
pub struct Evaluate {
    /// The model.
    #[command(flatten)]
    pub which: Which,
    /// The rows.
    #[command(flatten)]
    pub rows: Option<NewData>,
    /// The test rows that the run's experiment set aside
    #[arg(long, required_unless_present = "data", conflicts_with_all = ["data", "max_rows"])]
    pub test: bool,
    /// How the scores are printed
    #[arg(long, default_value = "table")]
    pub output: Output,
}

/// `arrowhop predict`
#[derive(Debug, Args)]
pub struct Predict {
    /// The model.
    #[command(flatten)]
    pub which: Which,
    /// The rows.
    #[command(flatten)]
    pub rows: NewData,
    /// Only the most probable classes of each row [default: all]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: Option<u32>,
    /// Write a file instead of printing: Parquet, or by its end .csv or .arrow
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// How the predictions are printed
    #[arg(long, default_value = "table")]
    pub output: Output,
}

/// `arrowhop replay`
#[derive(Debug, Args)]
pub struct Replay {
    /// The run
    #[arg(value_parser = run_id)]
    pub run: RunId,
    /// The model
    #[arg(value_parser = model_id)]
    pub model: ModelId,
    /// Folder where the run's data files lie now [default: where they were]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Take the record from a cluster's supervisor instead of the catalog here
    #[arg(long, value_name = "URL", env = "ARROWHOP_CLUSTER")]
    pub cluster: Option<String>,
    /// State.
    #[command(flatten)]
    pub state: State,
    /// How the comparison is printed
    #[arg(long, default_value = "table")]
    pub output: Output,
}

/// `arrowhop network`
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Layers, shapes, weights in Keras's order, parameters and cost
    Show {
        /// The JSON text of a Keras model
        architecture: PathBuf,
        /// How it is printed
        #[arg(long, default_value = "table")]
        output: Output,
    },
    /// Compute again what Keras computed, from files of records; fails where one differs
    Verify {
        /// Predictions, training traces, optimizer runs, or losses and metrics, as JSON
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Where: cpu, gpu, or gpu:1 (see `arrowhop devices`)
        #[arg(long, value_name = "DEVICE", default_value = "cpu")]
        device: DeviceChoice,
        /// How the records are printed
        #[arg(long, default_value = "table")]
        output: Output,
    },
}

/// `arrowhop stop`
#[derive(Debug, Args)]
pub struct StopRun {
    /// The run
    #[arg(value_parser = run_id)]
    pub run: RunId,
    /// Give up the visits that are going on
    #[arg(long)]
    pub now: bool,
    /// The supervisor, such as grpc://10.0.0.1:7400
    #[arg(long, value_name = "URL", env = "ARROWHOP_CLUSTER")]
    pub cluster: String,
}

/// `arrowhop supervisor`
#[derive(Debug, Args)]
pub struct Supervisor {
    /// Where to listen: host:port, or unix:/path for this user of this machine alone
    #[arg(long, value_name = "ADDRESS", env = "ARROWHOP_LISTEN", default_value = "127.0.0.1:7400")]
    pub listen: String,
    /// Where others reach it, as host or host:port [default: where it listens]
    #[arg(long, value_name = "HOST", env = "ARROWHOP_ADVERTISE")]
    pub advertise: Option<String>,
    /// Disk for tables that clients upload, such as 50GiB; 0 takes none
    #[arg(long, value_name = "BYTES", env = "ARROWHOP_UPLOAD_DISK", default_value = "10GiB")]
    pub upload_disk: ByteSize,
    /// State.
    #[command(flatten)]
    pub state: State,
}

/// `arrowhop segment`
#[derive(Debug, Args)]
pub struct Segment {
    /// The supervisor, such as grpc://10.0.0.1:7400
    #[arg(long, value_name = "URL", env = "ARROWHOP_SUPERVISOR")]
    pub supervisor: String,
    /// This segment's number in the cluster, from 0
    #[arg(long, value_name = "N", env = "ARROWHOP_SEGMENT")]
    pub segment: u32,
    /// Models trained at once, each on one core [default: the machine's cores; 4 on a GPU]
    #[arg(long, value_name = "N", env = "ARROWHOP_SLOTS")]
    pub slots: Option<u32>,
    /// Where to listen: host:port, port 0 for any, or unix:/path for this user of this machine alone
    #[arg(long, value_name = "ADDRESS", env = "ARROWHOP_LISTEN", default_value = "127.0.0.1:0")]
    pub listen: String,
    /// Where others reach it, as host or host:port [default: where it listens]
    #[arg(long, value_name = "HOST", env = "ARROWHOP_ADVERTISE")]
    pub advertise: Option<String>,
    /// Where.
    #[command(flatten)]
    pub computing: Computing,
    /// Memory.
    #[command(flatten)]
    pub memory: Memory,
    /// Folder of this segment's own where shards are kept as files, beyond memory and across restarts [default: in memory alone]
    #[arg(long, value_name = "DIR", env = "ARROWHOP_SHARD_FOLDER")]
    pub shard_folder: Option<PathBuf>,
}

impl State {
    /// The folder, as given or the platform's.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        let platform = || dirs::data_local_dir().unwrap_or_else(|| PathBuf::from("."));
        self.state.clone().unwrap_or_else(|| platform().join("arrowhop"))
    }
}

fn condition(text: &str) -> Result<Filter, Problems> {
    Filter::parse("condition", text)
}

fn run_id(text: &str) -> Result<RunId, std::num::ParseIntError> {
    text.parse().map(RunId)
}

fn model_id(text: &str) -> Result<ModelId, std::num::ParseIntError> {
    text.parse().map(ModelId)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn evaluate_needs_rows_of_one_kind() {
        let parse =
            |more: &[&str]| Cli::try_parse_from([&["arrowhop", "evaluate", "1"], more].concat());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--test", "--data", "a.csv"]).is_err());
        assert!(parse(&["--test", "--max-rows", "3"]).is_err());
        let Command::Evaluate(test) = parse(&["--test"]).unwrap().command else { panic!() };
        assert!(test.test && test.rows.is_none());
        let Command::Evaluate(data) = parse(&["--data", "a.csv"]).unwrap().command else {
            panic!()
        };
        assert!(!data.test && data.rows.is_some());
    }

    #[test]
    fn fit_needs_an_experiment_or_a_run() {
        assert!(Cli::try_parse_from(["arrowhop", "fit"]).is_err());
        assert!(Cli::try_parse_from(["arrowhop", "fit", "a.toml", "--resume", "3"]).is_err());
        let cli = Cli::try_parse_from(["arrowhop", "fit", "--resume", "3"]).unwrap();
        let Command::Fit(fit) = cli.command else { panic!("fit") };
        assert_eq!((fit.resume, fit.segments), (Some(RunId(3)), 4));
    }
}
