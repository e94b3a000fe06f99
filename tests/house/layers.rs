//! Which module may use which.

use std::collections::BTreeSet;

use syn::visit::{self, Visit};

use super::{read, sources};

/// The modules from top to bottom. A module may use those of lower floors, and itself.
const FLOORS: &[&[&str]] = &[
    &["cli"],
    &["serve", "agent"],
    &["admin"],
    &["engine_api", "delivery"],
    &["collection"],
    &["container"],
    &["image"],
    &["compile"],
    &["runtime"],
    &["registry"],
    &["image_spec", "grant"],
    &["store", "archive"],
    &["telemetry", "listener", "single_flight", "orders", "events"],
    &["config", "inotify_limit"],
    &["names"],
];

/// The agent stands in pods, beside strangers' code: these are all that it may use.
const AGENT_MAY_USE: &[&str] = &["archive", "config", "names"];

/// Crates that only some modules may know.
const CRATES: &[(&str, &[&str])] = &[
    ("kube", &["runtime"]),
    ("k8s_openapi", &["runtime"]),
    ("bollard", &["runtime"]),
    ("runc", &["runtime"]),
    ("inotify", &["listener", "runtime"]),
    ("nix", &["runtime"]),
    ("x509_parser", &["listener"]),
    (
        "axum",
        &["admin", "delivery", "engine_api", "listener", "serve"],
    ),
    ("oci_client", &["registry"]),
    ("reqwest", &["registry", "store"]),
    ("object_store", &["store"]),
    ("clap", &["agent", "cli"]),
    ("anyhow", &["cli", "registry", "serve"]),
];

/// `src/image/layer.rs` is `["image", "layer"]`.
fn module_path(file: &str) -> Vec<String> {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs");
    inner.split('/').map(str::to_owned).collect()
}

/// Collects the first segment below `crate` of every path, and the name of every foreign crate.
struct Uses {
    /// Where the visitor stands.
    module: Vec<String>,
    found: BTreeSet<String>,
}

impl Uses {
    fn of(file: &str) -> BTreeSet<String> {
        let mut uses = Self {
            module: module_path(file),
            found: BTreeSet::new(),
        };
        let parsed = syn::parse_file(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        uses.visit_file(&parsed);
        uses.found
    }

    /// `path` as written, resolved as far as `crate`, `self` and `super` go.
    fn note(&mut self, path: &[String]) {
        let mut base = match path[0].as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.module.clone(),
            foreign => {
                self.found.insert(format!("::{foreign}"));
                return;
            }
        };
        for segment in path {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => drop(base.pop()),
                name => base.push(name.to_owned()),
            }
        }
        self.found.extend(base.first().cloned());
    }

    fn tree(&mut self, mut prefix: Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.tree(prefix, &path.tree);
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(prefix.clone(), tree);
                }
            }
            syn::UseTree::Name(name) => {
                prefix.push(name.ident.to_string());
                self.note(&prefix);
            }
            syn::UseTree::Rename(rename) => {
                prefix.push(rename.ident.to_string());
                self.note(&prefix);
            }
            syn::UseTree::Glob(_) => self.note(&prefix),
        }
    }
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        // Tests may look anywhere.
        let test = item.attrs.iter().any(|attribute| {
            let list = attribute.meta.require_list();
            attribute.path().is_ident("cfg") && list.is_ok_and(|l| l.tokens.to_string() == "test")
        });
        if !test {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if segments.len() > 1 {
            self.note(&segments);
        }
        visit::visit_path(self, path);
    }
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The sources of the library without its root and its tests.
fn modules() -> impl Iterator<Item = (String, String)> {
    sources("src")
        .into_iter()
        .filter(|file| !matches!(file.as_str(), "src/lib.rs" | "src/main.rs"))
        .filter(|file| !file.contains("/tests") && !file.ends_with("/fixtures.rs"))
        .map(|file| (module_path(&file).remove(0), file))
}

#[test]
fn every_module_has_a_floor() {
    for (module, file) in modules() {
        assert!(
            floor(&module).is_some(),
            "{file}: say in FLOORS where {module} stands"
        );
    }
}

#[test]
fn layers_point_downward() {
    let mut wrong = Vec::new();
    for (module, file) in modules() {
        let own = floor(&module).unwrap();
        for used in Uses::of(&file).iter().filter(|used| **used != module) {
            if floor(used).is_some_and(|floor| floor <= own) {
                wrong.push(format!("{file} uses {used}, which is not below {module}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_agent_knows_only_what_a_pod_may() {
    for (_, file) in modules().filter(|(module, _)| module == "agent") {
        for used in Uses::of(&file).iter().filter(|used| floor(used).is_some()) {
            let fits = used == "agent" || AGENT_MAY_USE.contains(&used.as_str());
            assert!(fits, "{file} uses {used}");
        }
    }
}

#[test]
fn crates_stay_where_they_belong() {
    let mut wrong = Vec::new();
    for (module, file) in modules() {
        let uses = Uses::of(&file);
        for (name, allowed) in CRATES {
            if uses.contains(&format!("::{name}")) && !allowed.contains(&module.as_str()) {
                wrong.push(format!(
                    "{file} uses {name}, which only {allowed:?} may know"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn paths_are_resolved_as_the_compiler_does() {
    let uses = |file: &str, code: &str| {
        let mut uses = Uses {
            module: module_path(file),
            found: BTreeSet::new(),
        };
        uses.visit_file(&syn::parse_file(code).unwrap());
        uses.found.into_iter().collect::<Vec<_>>().join(" ")
    };
    let deep = "src/image/layer.rs";
    assert_eq!(
        uses(deep, "use crate::{store, names::Digest};"),
        "names store"
    );
    assert_eq!(uses(deep, "use super::tree;"), "image");
    assert_eq!(
        uses(deep, "fn f() { super::super::container::g() }"),
        "container"
    );
    assert_eq!(
        uses(deep, "mod inner { use super::super::super::serve; }"),
        "serve"
    );
    assert_eq!(uses(deep, "fn f(x: kube::Client) {}"), "::kube");
    assert_eq!(
        uses(deep, "#[cfg(test)] mod tests { use crate::serve; }"),
        ""
    );
}
