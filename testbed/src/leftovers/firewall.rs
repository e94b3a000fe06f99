//! Owns the firewall's part of the clean-up: rules that carry the testbed's name, and the chains that kubelet and kube-proxy made,
//! as long as a run claims them.

use std::fs;

use anyhow::{Context, Result};

use crate::assets::Assets;
use crate::places::{NETWORK_NAME, Places};
use crate::program;

/// The two families, each with its pair of programs.
const FAMILIES: [(&str, &str); 2] = [
    ("iptables-save", "iptables-restore"),
    ("ip6tables-save", "ip6tables-restore"),
];

/// What is to be undone in one table.
#[derive(Debug, Default, PartialEq)]
struct Table {
    name: String,
    /// Rules in chains that stay, as they were added.
    rules: Vec<String>,
    chains: Vec<String>,
}

impl Table {
    fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.chains.is_empty()
    }
}

/// The rules and chains of a run, one line each.
pub(super) fn find(places: &Places) -> Vec<String> {
    let claimed = places.firewall_claim().exists();
    let saves = FAMILIES.iter().filter_map(|(save, _)| saved(save).ok());
    saves
        .flat_map(|text| tables(&text, claimed))
        .flat_map(|table| {
            let Table {
                name,
                rules,
                chains,
            } = table;
            rules
                .into_iter()
                .chain(chains)
                .map(move |what| format!("firewall {name}: {what}"))
        })
        .collect()
}

pub(super) fn has_kube_chains() -> Result<bool> {
    for (save, _) in FAMILIES {
        let text = saved(save)?;
        if tables(&text, true)
            .iter()
            .any(|table| !table.chains.is_empty())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn remove(places: &Places) -> Result<()> {
    let claim = places.firewall_claim();
    for (save, restore) in FAMILIES {
        let tables = tables(&saved(save)?, claim.exists());
        if !tables.is_empty() {
            let orders = orders(&tables);
            program::output_with_input(
                Assets::command(restore).arg("--noflush"),
                orders.as_bytes(),
            )
            .context("cannot remove firewall rules")?;
        }
    }
    if claim.exists() {
        fs::remove_file(claim)?;
    }
    Ok(())
}

/// Empty when the program is not there: then a run cannot have added anything.
fn saved(save: &str) -> Result<String> {
    if crate::packages::find(save).is_none() {
        return Ok(String::new());
    }
    program::output(&mut Assets::command(save))
}

fn tables(text: &str, claimed: bool) -> Vec<Table> {
    let ours = |chain: &str| claimed && chain.starts_with("KUBE-");
    let mut tables: Vec<Table> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            let name = name.to_owned();
            tables.push(Table {
                name,
                ..Table::default()
            });
        }
        let Some(table) = tables.last_mut() else {
            continue;
        };
        if let Some(chain) = line
            .strip_prefix(':')
            .and_then(|rest| rest.split(' ').next())
        {
            if ours(chain) {
                table.chains.push(chain.to_owned());
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let chain = rule.split(' ').next().unwrap_or_default();
            let target = rule.split(" -j ").nth(1).unwrap_or_default();
            let named = rule.contains(&format!("--comment {NETWORK_NAME}"));
            if !ours(chain) && (named || ours(target)) {
                table.rules.push(rule.to_owned());
            }
        }
    }
    tables.retain(|table| !table.is_empty());
    tables
}

/// Rules go first and every chain is emptied before the first is deleted, since chains refer to each other.
fn orders(tables: &[Table]) -> String {
    let mut text = String::new();
    for table in tables {
        text.push_str(&format!("*{}\n", table.name));
        for rule in &table.rules {
            text.push_str(&format!("-D {rule}\n"));
        }
        for order in ["-F", "-X"] {
            for chain in &table.chains {
                text.push_str(&format!("{order} {chain}\n"));
            }
        }
        text.push_str("COMMIT\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 10.88.0.0/16 -m comment --comment peitho-testbed -j MASQUERADE
-A KUBE-SERVICES -d 10.96.0.1/32 -j KUBE-SVC-X
COMMIT
*filter
:DOCKER - [0:0]
COMMIT
";

    #[test]
    fn only_what_a_run_made_is_undone() {
        let orders = orders(&tables(SAVED, true));
        let expected = "\
*nat
-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-D POSTROUTING -s 10.88.0.0/16 -m comment --comment peitho-testbed -j MASQUERADE
-F KUBE-SERVICES
-X KUBE-SERVICES
COMMIT
";
        assert_eq!(orders, expected);
    }

    #[test]
    fn chains_of_another_kubernetes_stay() {
        let orders = orders(&tables(SAVED, false));
        assert!(!orders.contains("KUBE-"), "{orders}");
        assert!(orders.contains("MASQUERADE"));
    }
}
