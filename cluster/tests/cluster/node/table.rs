//! `docs/from-node.md` has a row for each test of Node's that means something here, and each row names a test that there is.

use std::collections::BTreeMap;
use std::path::Path;

/// Those of Node's tests, as of version 25.8.1, that a library for Rust can state too; by their names, without `test-cluster-`.
const CHECKLIST: &str = include_str!("checklist.txt");

/// The lists of tests with real processes, where a test has to be to run.
const LISTS: [&str; 2] = ["cluster/tests/cluster/main.rs", "examples/tests/examples/main.rs"];

/// Reads the sources from the root of the workspace.
fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rows of the table below this heading: what it is about, and the name of a test that there is and that is run.
fn rows(heading: &str) -> BTreeMap<String, String> {
    let guide = read("docs/from-node.md");
    let (_, rest) = guide.split_once(heading).unwrap();
    let section = rest.split_once("\n## ").map_or(rest, |(section, _)| section);
    let lists = LISTS.map(read);
    let mut rows = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [about, ours, ..] = cells[..] else { panic!("at least two cells: {row}") };
        let [path, test] = ours.split(' ').map(|word| word.trim_matches('`')).collect::<Vec<_>>()[..] else {
            panic!("a path and a name: {row}")
        };
        assert!(read(path).contains(&format!("fn {test}(")), "{path} has no {test}");
        assert!(lists.iter().any(|list| list.contains(&format!("::{test}"))), "{test} is not run");
        assert!(rows.insert(about.to_owned(), test.to_owned()).is_none(), "twice: {about}");
    }
    rows
}

pub(crate) fn no_test_of_nodes_is_missing() {
    let mut rows = rows("\n## What Node's own tests state\n");
    for name in CHECKLIST.lines() {
        assert!(rows.remove(name).is_some(), "docs/from-node.md lacks {name}");
    }
    assert!(rows.is_empty(), "not on the checklist: {rows:?}");
}

pub(crate) fn what_goes_wrong_there_is_tested_here() {
    let rows = rows("\n## What goes wrong there\n");
    assert!(rows.len() >= 16, "{rows:?}");
}
