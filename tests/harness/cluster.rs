//! A cluster of real processes on loopback ports.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::{Program, wait_for};

/// A supervisor and its segments; killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    /// Where the supervisor is reached.
    pub uri: String,
    /// Where each segment is reached.
    pub segments: Vec<String>,
    processes: Vec<Child>,
}

impl Cluster {
    /// Starts a supervisor with the program's state folder, and segments of one slot each.
    ///
    /// # Panics
    /// When one does not start.
    #[must_use]
    pub fn start(program: &Program, segments: u32) -> Self {
        Self::start_with(program, segments, &["--cache-memory", "1GiB"])
    }

    /// The same, with these settings of the segments.
    ///
    /// # Panics
    /// When one does not start.
    #[must_use]
    pub fn start_with(program: &Program, segments: u32, settings: &[&str]) -> Self {
        Self::start_at(program, segments, settings, |_| "127.0.0.1:0".to_owned())
    }

    /// The same, each process listening where `address` says: of the name `supervisor` or the
    /// segment's number.
    ///
    /// # Panics
    /// When one does not start.
    #[must_use]
    pub fn start_at(
        program: &Program,
        segments: u32,
        settings: &[&str],
        address: impl Fn(&str) -> String,
    ) -> Self {
        let mut processes = Vec::new();
        let supervisor = ["supervisor", "--listen", &address("supervisor")];
        let uri = spawn(program, &supervisor, &mut processes);
        let segments = (0..segments)
            .map(|segment| {
                let listen = address(&segment.to_string());
                let settings = [settings, &["--listen", &listen]].concat();
                spawn_segment(program, &uri, segment, &settings, &mut processes)
            })
            .collect();
        Self { uri, segments, processes }
    }

    /// Asks the processes to stop (SIGTERM) and waits for them; panics when one does not end well.
    ///
    /// # Panics
    /// When a process ends with an error, or not at all.
    pub fn stop(mut self) {
        for process in self.processes.iter_mut().rev() {
            let pid = rustix::process::Pid::from_child(process);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .expect("signal a child");
            let status = wait_for("the end of a process", Duration::from_secs(20), || {
                process.try_wait().expect("wait for a child")
            });
            assert!(status.success(), "{status}");
        }
        self.processes.clear();
    }

    /// Starts a segment that was killed again, at another location.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart_segment(&mut self, program: &Program, segment: usize, settings: &[&str]) {
        let number = u32::try_from(segment).expect("a small number");
        let mut processes = Vec::new();
        self.segments[segment] =
            spawn_segment(program, &self.uri, number, settings, &mut processes);
        self.processes[1 + segment] = processes.remove(0);
    }

    /// Kills a segment at once.
    ///
    /// # Panics
    /// When there is no such segment.
    pub fn kill_segment(&mut self, segment: usize) {
        let process = &mut self.processes[1 + segment];
        process.kill().expect("kill a child");
        process.wait().expect("wait for a child");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // It may have ended already.
            drop(process.kill());
            drop(process.wait());
        }
    }
}

fn spawn_segment(
    program: &Program,
    supervisor: &str,
    segment: u32,
    settings: &[&str],
    processes: &mut Vec<Child>,
) -> String {
    let number = segment.to_string();
    let mut arguments = vec!["segment", "--supervisor", supervisor, "--segment", &number];
    arguments.extend(["--slots", "1", "--model-memory", "1GiB"]);
    arguments.extend(settings);
    spawn(program, &arguments, processes)
}

/// Starts a service and reads the location that it prints first.
fn spawn(program: &Program, arguments: &[&str], processes: &mut Vec<Child>) -> String {
    let mut command = program.command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("start a service");
    let mut uri = String::new();
    let stdout = process.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut uri).expect("read its location");
    let mut stderr = process.stderr.take().expect("it is piped");
    if uri.is_empty() {
        let mut text = String::new();
        stderr.read_to_string(&mut text).expect("read its complaint");
        panic!("{arguments:?} did not start: {text}");
    }
    // Nobody reads its log, but it must not block on it.
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    processes.push(process);
    uri.trim().to_owned()
}
