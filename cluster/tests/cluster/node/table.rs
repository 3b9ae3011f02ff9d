//! `docs/from-node.md` has a row for each test of Node's that means something here; each row names a test that says whose it is, and that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Those of Node's tests, as of version 25.8.1, that a library for Rust can state too: their files, below the folder `test` there.
const CHECKLIST: &str = include_str!("checklist.txt");

/// The lists of tests with real processes, where a test has to be to run.
const LISTS: [&str; 2] = ["cluster/tests/cluster/main.rs", "examples/tests/examples/main.rs"];

/// Reads the sources from the root of the workspace.
fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files of Node's that a row is about: `send-handle-twice` is one, `disconnect-unshared-tcp / -udp` are two.
fn files(about: &str) -> Vec<String> {
    let mut names = about.split(" / ");
    let first = names.next().unwrap();
    let (stem, _) = first.rsplit_once('-').unwrap_or((first, ""));
    let others = names.map(|ending| format!("{stem}{ending}"));
    let full = |name: String| match name.contains('/') {
        true => format!("{name}.js"),
        false => format!("parallel/test-cluster-{name}.js"),
    };
    std::iter::once(first.to_owned()).chain(others).map(full).collect()
}

/// A test of ours: the file it is in, and its name there.
#[derive(Debug, PartialEq, Eq)]
struct Ours {
    path: String,
    name: String,
}

impl Ours {
    /// What stands above it, each line as it is: its documentation and its attributes.
    fn head(&self) -> Vec<String> {
        let source = read(&self.path);
        let lines: Vec<_> = source.lines().collect();
        let begins = format!("pub(crate) fn {}() {{", self.name);
        let line = lines.iter().position(|line| *line == begins);
        let line = line.unwrap_or_else(|| panic!("{} has no test {}", self.path, self.name));
        let above = lines[..line].iter().rev();
        above
            .take_while(|line| line.starts_with("///") || line.starts_with('#'))
            .map(ToString::to_string)
            .collect()
    }

    /// How it is called in the lists: `node::listening::eaccess`.
    fn in_lists(&self) -> String {
        let (_, module) = self.path.split_once("/tests/").unwrap();
        let (_, module) = module.strip_suffix(".rs").unwrap().split_once('/').unwrap();
        format!("{}::{}", module.replace('/', "::"), self.name)
    }

    /// Under which name it runs, and by which list.
    fn runs_as(&self) -> (String, &'static str) {
        let found = LISTS.into_iter().find_map(|path| Some((listed(path).remove(&self.in_lists())?, path)));
        found.unwrap_or_else(|| panic!("{} is on no list", self.in_lists()))
    }
}

/// What runs by this list in every build: tests by their paths, and the names they run under.
fn listed(path: &str) -> BTreeMap<String, String> {
    let list = read(path);
    let (_, list) = list.split_once("support::run(&[").unwrap();
    let (list, _) = list.split_once("\n    ])").unwrap();
    // Whatever stands there on a condition, or is left out.
    let (mut code, mut conditional) = (String::new(), false);
    for line in list.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        if line.starts_with('#') {
            conditional = true;
        } else if !std::mem::take(&mut conditional) {
            code.extend([line, " "]);
        }
    }
    let entries = code.split('(').skip(1).map(|entry| entry.split(')').next().unwrap());
    let pairs = entries.map(|entry| entry.trim_end_matches([' ', ',']).split_once(',').unwrap());
    pairs.map(|(name, path)| (path.trim().to_owned(), name.trim().trim_matches('"').to_owned())).collect()
}

/// What this program says that it runs, or would with this.
fn trials(argument: &str) -> BTreeSet<String> {
    let me = std::env::current_exe().unwrap();
    let output = Command::new(me).args(["--list", argument]).output().unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    names.lines().filter_map(|line| Some(line.strip_suffix(": test")?.to_owned())).collect()
}

/// The rows of the table below this heading: what it is about, and a test that there is and that is run.
fn rows(heading: &str) -> BTreeMap<String, Ours> {
    let guide = read("docs/from-node.md");
    let (_, rest) = guide.split_once(heading).unwrap();
    let section = rest.split_once("\n## ").map_or(rest, |(section, _)| section);
    let (run, ignored) = (trials("--include-ignored"), trials("--ignored"));
    assert!(!run.is_empty() && ignored.is_empty(), "nothing is left out: {ignored:?}");
    let mut rows = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [about, ours, ..] = cells[..] else { panic!("at least two cells: {row}") };
        let [path, name] = ours.split(' ').map(|word| word.trim_matches('`')).collect::<Vec<_>>()[..] else {
            panic!("a path and a name: {row}")
        };
        let ours = Ours { path: path.to_owned(), name: name.to_owned() };
        let attributes = ours.head().into_iter().filter(|line| line.starts_with('#')).collect::<Vec<_>>();
        assert_eq!(attributes, [""; 0], "{name} depends on something");
        let (trial, list) = ours.runs_as();
        // What others run they say themselves.
        assert!(list != LISTS[0] || run.contains(&trial), "{name} is not run");
        assert!(rows.insert(about.to_owned(), ours).is_none(), "twice: {about}");
    }
    rows
}

/// The files of Node's that are named in a text.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "-.".contains(c)));
    let words = words.map(|word| word.trim_end_matches('.'));
    words.filter(|word| word.starts_with("test-") && word.ends_with(".js")).collect()
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Each file on the checklist has one row, no other has one, and the comment of the test that is named there names the file.
pub(crate) fn no_test_of_nodes_is_missing() {
    assert_eq!(files("a-b / -c"), ["parallel/test-cluster-a-b.js", "parallel/test-cluster-a-c.js"]);
    let mut missing: BTreeSet<_> = CHECKLIST.lines().map(ToOwned::to_owned).collect();
    assert_eq!(missing.len(), CHECKLIST.lines().count(), "each once");
    for (about, ours) in rows("\n## What Node's own tests state\n") {
        let head = ours.head().join("\n");
        for file in files(&about) {
            assert!(missing.remove(&file), "not on the checklist, or twice: {file}");
            let says = named(&head).contains(file_name(&file));
            assert!(says, "the comment of {} doesn't name {}", ours.in_lists(), file_name(&file));
        }
    }
    assert_eq!(missing, BTreeSet::new(), "docs/from-node.md lacks them");
}

/// What comments call a test of Node's is one.
pub(crate) fn what_is_named_there_is_on_the_checklist() {
    let known: BTreeSet<_> = CHECKLIST.lines().map(file_name).collect();
    let folder = "cluster/tests/cluster";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let here = ["", "/node"].map(|below| std::fs::read_dir(root.join(format!("{folder}{below}"))).unwrap());
    let mut seen = 0;
    for file in here.into_iter().flatten().map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "rs") || file.ends_with("table.rs") {
            continue;
        }
        let source = std::fs::read_to_string(&file).unwrap();
        let comments: String =
            source.lines().filter(|line| line.starts_with("///")).map(|line| format!("{line}\n")).collect();
        let names = named(&comments);
        seen += names.len();
        let unknown: Vec<_> = names.difference(&known).collect();
        assert_eq!(unknown, [&""; 0], "{}", file.display());
    }
    assert!(seen >= known.len() - 1, "{seen}: but for one in the examples, all are named here");
}

pub(crate) fn what_goes_wrong_there_is_tested_here() {
    let rows = rows("\n## What goes wrong there\n");
    assert!(rows.len() >= 16, "{rows:?}");
}
