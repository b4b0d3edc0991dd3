//! The other side: a Python process for each setting.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use arrowhop_train::Device;
use arrowhop_types::Precision;
use serde::Deserialize;

use crate::{Case, Speed};

/// A network in training under PyTorch.
pub(crate) struct Torch {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    setting: &'static str,
    batch: u32,
    /// That take turns.
    models: u32,
    /// Of a round.
    steps: u32,
}

#[derive(Deserialize)]
struct Took {
    wall: f64,
    cpu: f64,
}

impl Torch {
    /// The setting that is fastest for this network, ready for rounds of about this length.
    pub(crate) fn fastest(
        python: &Path,
        device: &Device,
        case: Case<'_>,
        round: Duration,
    ) -> anyhow::Result<Self> {
        let settings: &[&'static str] = match (case.network, case.precision) {
            _ if !device.is_cpu() => &["cuda", "cuda_tf32"],
            ("mlp", Precision::F32) => &["plain"],
            ("w6", Precision::F32) => &["plain", "bags"],
            (_, Precision::F32) => &["plain", "channels_last"],
            ("mlp", Precision::Bf16) => &["plain_bf16"],
            ("w6", Precision::Bf16) => &["plain_bf16", "bags_bf16"],
            (_, Precision::Bf16) => &["plain_bf16", "channels_last_bf16"],
        };
        let mut best: Option<(f64, Self)> = None;
        for setting in settings {
            let mut torch = Self::start(python, case, setting)?;
            // The first steps prepare what later ones use.
            torch.steps = 2;
            torch.round()?;
            let speed = torch.round()?.wall;
            let rows = f64::from(case.batch * torch.models);
            torch.steps = steps(speed / rows * round.as_secs_f64());
            if best.as_ref().is_none_or(|(fastest, _)| speed > *fastest) {
                best = Some((speed, torch));
            }
        }
        best.map(|(_, torch)| torch).context("a network has a setting")
    }

    fn start(python: &Path, case: Case<'_>, setting: &'static str) -> anyhow::Result<Self> {
        let Case { network, batch, threads, .. } = case;
        let script = arrowhop_tests::workspace().join("tests/python/torch_steps.py");
        let mut child = Command::new(python)
            .arg(script)
            .args([network, &batch.to_string(), &threads.to_string(), setting])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", python.display()))?;
        let commands = child.stdin.take().context("it has an input")?;
        let answers = BufReader::new(child.stdout.take().context("it has an output")?);
        let models = if setting.starts_with("cuda") { threads } else { 1 };
        Ok(Self { child, commands, answers, setting, batch, models, steps: 1 })
    }

    /// One round.
    pub(crate) fn round(&mut self) -> anyhow::Result<Speed> {
        writeln!(self.commands, "{}", self.steps).context("give PyTorch work")?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("PyTorch ended; see what it said above");
        }
        let took: Took = serde_json::from_str(&line).context("read PyTorch's answer")?;
        Ok(Speed::of(self.steps * self.models * self.batch, took.wall, took.cpu))
    }

    /// How it trains.
    pub(crate) fn setting(&self) -> &'static str {
        self.setting
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[expect(clippy::cast_possible_truncation, reason = "steps are few")]
#[expect(clippy::cast_sign_loss, reason = "speeds are positive")]
fn steps(wanted: f64) -> u32 {
    wanted.max(1.0) as u32
}
