//! A PostgreSQL server of one's own, for as long as a value lives: made with the machine's binaries,
//! in a folder of its own, reachable by a socket in it alone. It ends with its process, however
//! that ends. PostgreSQL refuses to run as root; then it runs as the user `postgres`.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

/// A server is ready within this time.
const START: Duration = Duration::from_secs(60);
/// Nothing here is worth a disk's patience; the rest is as a server has it.
const SETTINGS: &str = "listen_addresses = ''\nfsync = off\nsynchronous_commit = off\n\
                        wal_level = minimal\nmax_wal_senders = 0\nmax_connections = 50\n";
/// Waits until its input ends, which it does with the process that holds the other end.
const GUARD: &str = "\"$@\" & server=$!; cat >/dev/null; kill -INT $server; wait $server";

/// A running server.
pub struct Postgres {
    binaries: PathBuf,
    port: u16,
    folder: PathBuf,
    server: Child,
    input: Option<ChildStdin>,
}

impl Postgres {
    /// Starts a server with these options of `initdb` and lines of `postgresql.conf`; nothing, and
    /// a printed reason, where there are no binaries; but not where `CI` is true.
    pub fn start(options: &[&str], settings: &[&str]) -> Option<Self> {
        let Some(binaries) = binaries() else {
            let problem = "PostgreSQL is not installed (pg_config, /usr/lib/postgresql)";
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{problem}");
            eprintln!("skipped: {problem}");
            return None;
        };
        let made = said(as_owner("mktemp").args(["-d", "/tmp/arrowhop-postgres-XXXXXX"]));
        let folder = PathBuf::from(made.trim());
        let data = folder.join("data");
        let fixed =
            ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-N"];
        said(as_owner(binaries.join("initdb")).arg("-D").arg(&data).args(fixed).args(options));
        let free = TcpListener::bind("127.0.0.1:0").expect("find a free port");
        let port = free.local_addr().expect("a bound socket has an address").port();
        drop(free);
        let mut text =
            format!("{SETTINGS}port = {port}\nunix_socket_directories = '{}'\n", folder.display());
        settings.iter().for_each(|line| text.extend([line, "\n"]));
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.conf"))
            .expect("open postgresql.conf");
        file.write_all(text.as_bytes()).expect("write postgresql.conf");
        let (server, input) = serve(&binaries, &folder);
        let cluster = Self { binaries, port, folder, server, input: Some(input) };
        cluster.wait();
        Some(cluster)
    }

    /// Its connection string for a database.
    pub fn connection(&self, database: &str) -> String {
        format!("host={} port={} user=postgres dbname={database}", self.folder.display(), self.port)
    }

    /// Its port, where it listens on any.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its files are.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where its socket is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs SQL in a database, as the superuser; what it prints, unaligned and without headings.
    pub fn sql(&self, database: &str, text: &str) -> String {
        let mut psql = self.psql(database).spawn().expect("start psql");
        let mut input = psql.stdin.take().expect("psql has an input");
        input.write_all(text.as_bytes()).expect("feed psql");
        drop(input);
        let output = psql.wait_with_output().expect("wait for psql");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}\n{text}");
        String::from_utf8(output.stdout).expect("it says UTF-8")
    }

    /// A session to feed, ready to be spawned.
    pub fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new(self.binaries.join("psql"));
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &self.connection(database),
        ]);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        psql
    }

    /// Runs a script of the shell as the server's owner, in its folder.
    pub fn shell(&self, script: &str) {
        let script = format!("cd '{}'\n{script}", self.folder.display());
        said(as_owner("sh").args(["-c", &script]));
    }

    /// A new database, with the extensions that are named.
    pub fn database(&self, name: &str, extensions: &[&str]) -> String {
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        for extension in extensions {
            self.sql(name, &format!("CREATE EXTENSION {extension}"));
        }
        name.to_owned()
    }

    /// Kills all its processes as a power cut does, and starts it again.
    pub fn crash_and_restart(&mut self) {
        let file = fs::read_to_string(self.data().join("postmaster.pid"));
        let file = file.expect("a running server has a file with its number");
        let leader = file.lines().next().expect("its number is on the first line");
        // Backends see that the first process is gone and end, too.
        said(Command::new("kill").args(["-KILL", leader]));
        drop(self.input.take());
        self.server.wait().expect("wait for the server");
        let begun = Instant::now();
        while self.has_processes() {
            assert!(begun.elapsed() < START, "backends are still there");
            park_timeout(Duration::from_millis(20));
        }
        let (server, input) = serve(&self.binaries, &self.folder);
        (self.server, self.input) = (server, Some(input));
        self.wait();
    }

    /// Stops it, changes its files, and starts it again.
    pub fn restart_after(&mut self, change: impl FnOnce(&Path)) {
        drop(self.input.take());
        self.server.wait().expect("wait for the server");
        change(&self.data());
        let (server, input) = serve(&self.binaries, &self.folder);
        (self.server, self.input) = (server, Some(input));
        self.wait();
    }

    /// Whether any process works in its data folder.
    fn has_processes(&self) -> bool {
        let processes = fs::read_dir("/proc").expect("a Linux machine").flatten();
        let mut folders =
            processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok());
        folders.any(|folder| folder == self.data())
    }

    fn wait(&self) {
        let begun = Instant::now();
        let is_ready = || {
            let mut ready = Command::new(self.binaries.join("pg_isready"));
            let port = self.port.to_string();
            ready
                .args(["-q", "-p", &port])
                .arg("-h")
                .arg(&self.folder)
                .status()
                .expect("start pg_isready")
                .success()
        };
        while !is_ready() {
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < START, "PostgreSQL does not start: {}", log());
            park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Starts the server behind a guard.
fn serve(binaries: &Path, folder: &Path) -> (Child, ChildStdin) {
    let log = folder.join("log");
    let mut guard = as_owner("sh");
    guard.args(["-c", &format!("exec >>'{}' 2>&1; {GUARD}", log.display()), "guard"]);
    guard.arg(binaries.join("postgres")).arg("-D").arg(folder.join("data"));
    let mut server = guard.stdin(Stdio::piped()).spawn().expect("start PostgreSQL");
    let input = server.stdin.take().expect("its guard has an input");
    (server, input)
}

/// A command that PostgreSQL's owner runs.
fn as_owner(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let is_root = said(Command::new("id").arg("-u")).trim() == "0";
    let mut command = if is_root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/tmp");
    command
}

/// Where `initdb` and its like are.
fn binaries() -> Option<PathBuf> {
    let asked = Command::new("pg_config").arg("--bindir").output();
    let said = asked.ok().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    found.extend(said.map(PathBuf::from));
    found.into_iter().rev().find(|folder| folder.join("initdb").exists())
}

/// What a command prints; it must succeed.
fn said(command: &mut Command) -> String {
    let output = command.output().expect("start a command");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("it says UTF-8")
}
