//! The pages name what exists.

use std::fs;

use peitho::config;

use super::{read, root};

/// What stands between backticks and looks like a file of the project.
fn named_files(page: &str) -> Vec<&str> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted
        .filter(|text| text.ends_with(".rs") && !text.contains([' ', '*', '<', '{']))
        .collect()
}

#[test]
fn the_pages_name_files_that_exist() {
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"] {
        let text = read(page);
        let named = named_files(&text);
        for file in &named {
            let exists = root().join(file).is_file() || root().join("src").join(file).is_file();
            assert!(exists, "{page} names {file}, which does not exist");
        }
        assert!(
            page != "ARCHITECTURE.md" || named.len() > 40,
            "the table of {page} is not found"
        );
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let decisions = fs::read_dir(root().join("docs/adr")).unwrap();
    let decisions =
        decisions.map(|entry| format!("docs/adr/{}", entry.unwrap().file_name().display()));
    let pages = [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "README.md",
        "docs/benchmarks.md",
        "docs/compile-caches.md",
        "docs/config.md",
        "docs/docker-command.md",
        "docs/docker.md",
        "docs/faults.md",
        "docs/images.md",
        "docs/languages.md",
        "docs/listeners.md",
        "docs/metrics.md",
        "docs/pod-templates.md",
        "docs/protocol.md",
        "docs/store.md",
        "docs/tenants.md",
        "docs/warm-pods.md",
    ];
    for page in pages.into_iter().map(str::to_owned).chain(decisions) {
        let text = read(&page);
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for target in
            targets.filter(|target| !target.starts_with("http") && !target.starts_with('#'))
        {
            let file = target.split('#').next().unwrap();
            let path = root().join(&page).parent().unwrap().join(file);
            assert!(
                path.exists(),
                "{page} leads to {target}, which does not exist"
            );
        }
    }
}

#[test]
fn every_decision_says_what_would_change_it() {
    for entry in fs::read_dir(root().join("docs/adr")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for heading in [
            "## Context",
            "## Decision",
            "## Consequences",
            "## What would change our mind",
        ] {
            assert!(
                text.contains(heading),
                "{} has no {heading:?}",
                path.display()
            );
        }
    }
}

#[test]
fn the_configuration_page_is_fresh() {
    let page = root().join("docs/config.md");
    let fresh = config::reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, &fresh).unwrap();
    }
    let stands = fs::read_to_string(&page).unwrap_or_default();
    assert!(stands == fresh, "docs/config.md is stale: make docs");
}
