//! How busy an NVIDIA GPU is, as `nvidia-smi` tells it once a second.

use std::io::Read;
use std::process::{Child, Command, Stdio};

/// A watch that is going on.
pub(crate) struct Busy(Child);

impl Busy {
    /// Begins; `None` comes of it where there is no `nvidia-smi`.
    pub(crate) fn watch() -> Option<Self> {
        let query =
            ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=200"];
        let child = Command::new("nvidia-smi").args(query).stdout(Stdio::piped()).spawn();
        child.ok().map(Self)
    }

    /// The mean share of the time in which kernels ran.
    pub(crate) fn end(this: Option<Self>) -> Option<f64> {
        let Self(mut child) = this?;
        child.kill().ok()?;
        let mut told = String::new();
        child.stdout.take()?.read_to_string(&mut told).ok()?;
        child.wait().ok()?;
        let shares: Vec<f64> = told.lines().filter_map(|line| line.trim().parse().ok()).collect();
        let count = u32::try_from(shares.len()).ok().filter(|count| *count > 0)?;
        Some(shares.iter().sum::<f64>() / f64::from(count) / 100.0)
    }
}
