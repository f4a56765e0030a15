//! What cargo says about the crates a program is built from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{process, tree};

/// The parts of `cargo metadata` that are used.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

/// One crate.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) version: String,
    /// Where it comes from; none for the workspace's own.
    pub(crate) source: Option<String>,
    pub(crate) manifest_path: PathBuf,
    /// SPDX expression.
    pub(crate) license: Option<String>,
    #[serde(default)]
    pub(crate) authors: Vec<String>,
    #[serde(default)]
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

impl Metadata {
    /// Asks cargo, for programs built for `target`.
    pub(crate) fn read(target: &str) -> Result<Self> {
        let text = process::capture(Command::new("cargo").current_dir(tree::root()).args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform",
            target,
        ]))?;
        serde_json::from_str(&text).context("reading cargo's list of dependencies")
    }

    /// The package and everything it is built from, in a stable order. Dependencies of
    /// tests are left out.
    pub(crate) fn closure(&self, name: &str) -> Result<Vec<&Package>> {
        self.reached(name, |_, kind| kind != Some("dev"))
    }

    /// The package and the crates whose code ends up in it, in a stable order: neither tests nor what only runs
    /// while it is built.
    pub(crate) fn linked(&self, name: &str) -> Result<Vec<&Package>> {
        self.reached(name, |package, kind| {
            let macros = package
                .targets
                .iter()
                .any(|target| target.kind.iter().any(|kind| kind == "proc-macro"));
            kind.is_none() && !macros
        })
    }

    fn reached(
        &self,
        name: &str,
        follow: impl Fn(&Package, Option<&str>) -> bool,
    ) -> Result<Vec<&Package>> {
        let packages: BTreeMap<&str, &Package> =
            self.packages.iter().map(|p| (p.id.as_str(), p)).collect();
        let nodes: BTreeMap<&str, &Node> = self
            .resolve
            .nodes
            .iter()
            .map(|n| (n.id.as_str(), n))
            .collect();
        let start = self
            .packages
            .iter()
            .find(|p| p.name == name && p.source.is_none());
        let mut todo = vec![
            start
                .with_context(|| format!("the workspace has no package {name}"))?
                .id
                .as_str(),
        ];
        let mut seen = BTreeSet::new();
        while let Some(id) = todo.pop() {
            if seen.insert(id) {
                let edges = nodes
                    .get(id)
                    .map(|node| node.deps.as_slice())
                    .unwrap_or_default();
                let built = |edge: &&Edge| {
                    packages.get(edge.pkg.as_str()).is_some_and(|package| {
                        edge.dep_kinds
                            .iter()
                            .any(|kind| follow(package, kind.kind.as_deref()))
                    })
                };
                todo.extend(edges.iter().filter(built).map(|edge| edge.pkg.as_str()));
            }
        }
        seen.into_iter()
            .map(|id| {
                packages
                    .get(id)
                    .copied()
                    .with_context(|| format!("cargo does not describe {id}"))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closure_follows_builds_and_leaves_tests_out() {
        let text = r#"{
            "packages": [
                {"id": "a", "name": "a", "source": null, "manifest_path": "/r/a/Cargo.toml"},
                {"id": "b", "name": "b", "source": "registry", "manifest_path": "/c/b/Cargo.toml"},
                {"id": "c", "name": "c", "source": "registry", "manifest_path": "/c/c/Cargo.toml"},
                {"id": "d", "name": "d", "source": null, "manifest_path": "/r/d/Cargo.toml"}
            ],
            "resolve": {"nodes": [
                {"id": "a", "deps": [
                    {"pkg": "b", "dep_kinds": [{"kind": "dev"}, {"kind": null}]},
                    {"pkg": "c", "dep_kinds": [{"kind": "dev"}]}
                ]},
                {"id": "b", "deps": [{"pkg": "d", "dep_kinds": [{"kind": "build"}]}, {"pkg": "a", "dep_kinds": [{"kind": null}]}]},
                {"id": "c", "deps": []},
                {"id": "d", "deps": []}
            ]}
        }"#;
        let metadata: Metadata = serde_json::from_str(text).unwrap();
        let ids: Vec<&str> = metadata
            .closure("a")
            .unwrap()
            .iter()
            .map(|p| p.id.as_str())
            .collect();
        assert_eq!(ids, ["a", "b", "d"]);
        let linked: Vec<&str> = metadata
            .linked("a")
            .unwrap()
            .iter()
            .map(|p| p.id.as_str())
            .collect();
        assert_eq!(linked, ["a", "b"], "d only runs while b is built");
        assert!(
            metadata.closure("c").is_err(),
            "a registry crate of that name is not ours"
        );
    }
}
