//! Our own rules, kept by a machine: what no compiler, linter or formatter checks. Each test keeps
//! one rule and lists every violation with its file, its line and what to do about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use arrowhop::experiment::{Bounds, Experiment};
use arrowhop_tests::workspace;
use cargo_metadata::{Dependency, DependencyKind, MetadataCommand, Package};

/// Lines of a file before its tests.
const LINES_MAX: usize = 500;
/// Where a path of this tree begins, in the documents.
const ROOTS: [&str; 7] =
    ["crates/", "services/", "tests/", "schemas/", "deploy/", "examples/", ".ci/"];

/// Parts that are processes: none of them uses another, but for the binary.
const SERVICES: [&str; 3] = ["segment", "supervisor", "arrowhop"];

/// Whether a part may use another of ours: dependencies point down.
fn may_use(part: &str, other: &str) -> bool {
    match part {
        "types" | "kernels" | "npy" | "mapped" => false,
        "source" => matches!(other, "types" | "npy" | "mapped"),
        "weights" => matches!(other, "types" | "npy"),
        "network" => matches!(other, "types" | "kernels"),
        "train" => matches!(other, "types" | "network"),
        "flight" => matches!(other, "types" | "wire" | "mapped"),
        "segment" | "supervisor" => may_use("arrowhop", other) && !SERVICES.contains(&other),
        "arrowhop" => other != "tests",
        "tests" => true,
        _ => other == "types",
    }
}

/// Whether a part's own code may use a package of others. Some are for a few parts alone, and
/// parts that only decide use next to nothing.
fn may_use_theirs(part: &str, package: &str) -> bool {
    let owners: &[&str] = match package {
        "anyhow" | "clap" => &["arrowhop"],
        "arrow-flight" => &["flight"],
        "hdf5-pure" => &["weights"],
        "zip" => &["source", "weights"],
        "nvml-wrapper" => &["train"],
        "memmap2" => &["mapped", "source"],
        "object_store" => &["source"],
        "parquet" => &["source"],
        "prost" => &["wire", "flight"],
        "refinery" | "rusqlite" => &["catalog"],
        "tokio-postgres" => &["source", "catalog"],
        _ if package.starts_with("actix") => &["runtime", "segment", "supervisor"],
        _ if package.starts_with("burn") => &["network", "train"],
        "rand_chacha" => return part != "schedule",
        _ => return !matches!(part, "schedule" | "search" | "kernels"),
    };
    part == "tests" || owners.contains(&part)
}

#[test]
fn dependencies_point_down() {
    let mut violations = Vec::new();
    for part in parts() {
        for dependency in &part.dependencies {
            let other = part_name(&dependency.name);
            let is_test = dependency.kind == DependencyKind::Development;
            let may = match dependency.path {
                Some(_) => may_use(&part.name, other),
                None => is_test || may_use_theirs(&part.name, other),
            };
            if !may {
                let (at, name) = (part.line_of(dependency), &part.name);
                violations.push(format!("{at}: {name} may not use {other}: move what needs it"));
            }
        }
    }
    assert_none(&violations);
}

/// The profile for tests is the dependencies'; ours are its exceptions.
#[test]
fn every_package_of_ours_compiles_fast_for_tests() {
    let manifest = File::read(&workspace().join("Cargo.toml"));
    let mut violations = Vec::new();
    for Part { name, .. } in parts() {
        let package = if name == "arrowhop" { name } else { format!("arrowhop-{name}") };
        let profile = format!("[profile.dev.package.{package}]");
        if !manifest.text.lines().any(|line| line == profile) {
            violations.push(format!("{}: lacks {profile}: add opt-level = 1", manifest.path));
        }
    }
    assert_none(&violations);
}

#[test]
fn every_dependency_is_used() {
    let files = files(".rs");
    let mut violations = Vec::new();
    for part in parts() {
        let folder = part.manifest.path.trim_end_matches("Cargo.toml");
        let of_part = files.iter().filter(|file| file.path.starts_with(folder));
        let code: String = of_part.map(|file| file.text.as_str()).collect();
        for dependency in &part.dependencies {
            let name = dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_");
            // Only the code that is generated from the schemas names it.
            let is_generated = part.name == "wire" && name == "tonic_prost";
            let is_named = around(&code, &name).any(|(_, after)| after.starts_with("::"));
            if !is_named && !is_generated {
                let at = part.line_of(dependency);
                violations.push(format!("{at}: no code here names {name}: remove the line"));
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn versions_and_lints_are_the_workspaces() {
    let mut violations = Vec::new();
    for Part { manifest, .. } in parts() {
        // The places for `unsafe`, which the workspace forbids.
        let has_own = ["kernels", "mapped"]
            .iter()
            .any(|part| manifest.path.ends_with(&format!("{part}/Cargo.toml")));
        if !has_own && !manifest.text.contains("\n[lints]\nworkspace = true\n") {
            violations.push(format!("{}:1: say `[lints] workspace = true`", manifest.path));
        }
        let mut is_dependency = false;
        for (at, line) in manifest.lines() {
            if line.starts_with('[') {
                is_dependency = line.ends_with("dependencies]");
                if line.contains("dependencies.") {
                    violations.push(format!("{at}: write the dependency on one line"));
                }
            } else if is_dependency && line.contains('=') && !line.contains("workspace = true") {
                violations.push(format!("{at}: versions are the workspace's: `workspace = true`"));
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn every_file_opens_with_its_purpose() {
    let silent = files(".rs").into_iter().filter(|file| !file.text.starts_with("//!"));
    let say = |file: File| format!("{}:1: open it with `//!` and what it owns", file.path);
    assert_none(&silent.map(say).collect::<Vec<_>>());
}

#[test]
fn files_stay_short() {
    let mut violations = Vec::new();
    for file in files(".rs") {
        let lines = file.halves().0.lines().count();
        if lines > LINES_MAX {
            violations.push(format!("{}:{LINES_MAX}: {lines} lines: split it", file.path));
        }
    }
    assert_none(&violations);
}

#[test]
fn nothing_is_left_for_later() {
    // In halves, so that this file keeps its own rule.
    let signs = "TO|DO FIX|ME X|XX HA|CK to|do! unimple|mented! db|g! #[|ignore".replace('|', "");
    let endings = [".rs", ".toml", ".proto", ".sql", ".py", ".sh", ".yaml", ".yml", "justfile"];
    let mut violations = Vec::new();
    for file in endings.into_iter().flat_map(files) {
        for (at, line) in file.lines() {
            let ends = |(_, after): (&str, &str)| !after.starts_with(is_of_word);
            let left = signs.split(' ').filter(|sign| around(line, sign).any(ends));
            violations.extend(left.map(|sign| format!("{at}: {sign}: finish it now")));
        }
    }
    assert_none(&violations);
}

#[test]
fn no_path_of_a_machine() {
    let folders = ["home", "root", "work", "Users"].map(|name| format!("/{name}/"));
    let mut violations = Vec::new();
    for file in files("") {
        for (at, line) in file.lines() {
            let starts = |before: &str| !before.ends_with(['-', '.', '}', '/']);
            if folders.iter().any(|folder| around(line, folder).any(|(before, _)| starts(before))) {
                violations.push(format!("{at}: a path of one machine: say it relatively"));
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn documents_name_paths_that_exist() {
    let mut violations = Vec::new();
    for name in ["README.md", "ARCHITECTURE.md"] {
        for (at, line) in File::read(&workspace().join(name)).lines() {
            let is_break = |c: char| c.is_whitespace() || "`\"'()[],;:#".contains(c);
            for path in line.split(is_break).map(|token| token.trim_end_matches('.')) {
                let is_pattern = path.contains(['*', '<', '{', '…']);
                let is_ours = ROOTS.iter().any(|root| path.starts_with(root));
                if is_ours && !is_pattern && !workspace().join(path).exists() {
                    violations.push(format!("{at}: there is no {path}: name what is there"));
                }
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn invariants_are_listed_cited_and_tested() {
    let mut violations = Vec::new();
    let mut listed = BTreeMap::new();
    let architecture = File::read(&workspace().join("ARCHITECTURE.md"));
    let section = architecture.lines().skip_while(|(_, line)| *line != "## 5. Invariants").skip(1);
    for (at, line) in section.take_while(|(_, line)| !line.starts_with("## ")) {
        let id = line.strip_prefix("- **").and_then(|rest| rest.split("**").next());
        let before = id.and_then(|id| listed.insert(id.to_owned(), at));
        violations.extend(before.map(|at| format!("{at}: this id is listed twice: renumber one")));
    }
    assert!(!listed.is_empty(), "ARCHITECTURE.md lists no invariant under `## 5. Invariants`");
    let (mut cited, mut tested) = (BTreeSet::new(), BTreeSet::new());
    for file in files(".rs") {
        for (at, line) in file.lines() {
            let unknown = ids(line).into_iter().filter(|id| !listed.contains_key(id));
            violations
                .extend(unknown.map(|id| format!("{at}: ARCHITECTURE.md lacks {id}: list it")));
        }
        let (code, tests) = file.halves();
        cited.extend(ids(code));
        for line in tests.lines() {
            let name = if line.contains("fn ") { line.to_uppercase() } else { String::new() };
            tested.extend(ids(line).into_iter().chain(ids(&name.replace('_', "-"))));
        }
    }
    for (id, at) in &listed {
        let (no_code, no_test) = (!cited.contains(id), !tested.contains(id));
        violations.extend(no_code.then(|| format!("{at}: no code cites {id}: cite or strike it")));
        violations.extend(no_test.then(|| format!("{at}: no test names {id}: write one")));
    }
    assert_none(&violations);
}

/// Damaged lz4 in an IPC stream can ask for any amount of memory. The lock file holds what all
/// features on all platforms would build.
#[test]
fn arrow_ipc_is_built_without_lz4() {
    let lock = File::read(&workspace().join("Cargo.lock")).text;
    let package = lock.split("[[package]]").find(|text| text.contains("name = \"arrow-ipc\""));
    let has_lz4 = package.expect("arrow-ipc is locked").contains("lz4");
    assert!(!has_lz4, "find what enables it with `cargo tree -e features -i arrow-ipc`: drop that");
}

#[test]
fn experiment_files_parse() {
    let mut paths: Vec<String> = files(".toml").into_iter().map(|file| file.path).collect();
    paths.retain(|path| path.starts_with("examples/"));
    assert!(!paths.is_empty(), "there are examples");
    paths.push("schemas/experiment.toml".to_owned());
    let mut violations = Vec::new();
    for path in paths {
        if let Err(e) = Experiment::read(&workspace().join(&path), None, Bounds::default()) {
            violations.push(format!("{path}:1: make it parse: {e:#}"));
        }
    }
    assert_none(&violations);
}

/// One of our packages.
struct Part {
    name: String,
    manifest: File,
    dependencies: Vec<Dependency>,
}

impl Part {
    fn line_of(&self, dependency: &Dependency) -> String {
        let name = dependency.rename.as_ref().unwrap_or(&dependency.name);
        let names_it = |line: &str| line.split([' ', '.']).next() == Some(name);
        let found = self.manifest.lines().find(|(_, line)| names_it(line));
        found.expect("a manifest names its dependencies").0
    }
}

/// Our packages, as cargo sees them.
fn parts() -> Vec<Part> {
    let mut command = MetadataCommand::new();
    command.cargo_path(env!("CARGO")).manifest_path(workspace().join("Cargo.toml")).no_deps();
    let metadata = command.other_options(["--offline".to_owned()]).exec().expect("cargo metadata");
    let part = |package: Package| Part {
        name: part_name(&package.name).to_owned(),
        manifest: File::read(package.manifest_path.as_std_path()),
        dependencies: package.dependencies,
    };
    metadata.packages.into_iter().map(part).collect()
}

/// What this file calls a package of ours: `arrowhop-types` is `types`.
fn part_name(package: &str) -> &str {
    package.strip_prefix("arrowhop-").unwrap_or(package)
}

/// A file; its path starts at the workspace.
struct File {
    path: String,
    text: String,
}

impl File {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
        let path = path.strip_prefix(workspace()).expect("it lies in the workspace");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Self { path: path.display().to_string(), text }
    }

    /// Its lines, each with where it is.
    fn lines(&self) -> impl Iterator<Item = (String, &str)> {
        (1..).zip(self.text.lines()).map(|(number, line)| (format!("{}:{number}", self.path), line))
    }

    /// Its code and its tests.
    fn halves(&self) -> (&str, &str) {
        let is_test = self.path.contains("tests/") || self.path.ends_with("tests.rs");
        let tests = self.text.find("#[cfg(test)]\nmod tests").unwrap_or(self.text.len());
        self.text.split_at(if is_test { 0 } else { tests })
    }
}

/// Every file of the tree whose name ends so, in order; not what is built or hidden.
fn files(ending: &str) -> Vec<File> {
    let (mut found, mut folders) = (Vec::new(), vec![workspace()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("a folder can be read").path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy();
            let is_built = name == "target" || name == "__pycache__";
            let is_hidden = name.starts_with('.') && name != ".ci";
            // In a linked work tree `.git` is a file.
            let is_git = name == ".git";
            if path.is_dir() && !is_built && !is_hidden {
                folders.push(path);
            } else if path.is_file() && !is_git && name.ends_with(ending) {
                found.push(File::read(&path));
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// What is before and after each `sign` in a text that no word runs into.
fn around<'a>(text: &'a str, sign: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let split = move |(at, _): (usize, _)| (&text[..at], &text[at + sign.len()..]);
    text.match_indices(sign).map(split).filter(|(before, _)| !before.ends_with(is_of_word))
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The ids of invariants in a text.
fn ids(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for prefix in ["HOP-", "RUN-", "SEG-"] {
        for (_, after) in around(text, prefix) {
            let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
            found.extend((!digits.is_empty()).then(|| format!("{prefix}{digits}")));
        }
    }
    found
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "{} to mend:\n{}", violations.len(), violations.join("\n"));
}
