//! What was measured: a table for the terminal and JSON for whoever compares.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use testbed::say;

/// Figures in the order in which they were taken.
#[derive(Default)]
pub(super) struct Report {
    values: Map<String, Value>,
    rows: Vec<Row>,
}

struct Row {
    figure: String,
    value: String,
    /// The least and the most of several runs.
    spread: String,
    budget: String,
}

impl Report {
    /// A figure of one run, with its budget.
    pub(super) fn figure(&mut self, name: &str, value: f64, unit: &str, budget: &str) {
        self.values.insert(name.to_owned(), json!(value));
        self.rows.push(Row {
            figure: name.to_owned(),
            value: format!("{value:.2}{unit}"),
            spread: String::new(),
            budget: budget.to_owned(),
        });
    }

    /// A figure of several runs: their median, and each of them in the file as `<name>_each`.
    pub(super) fn series(&mut self, name: &str, values: Vec<f64>, unit: &str, budget: &str) {
        self.figure(name, median(&values), unit, budget);
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if let Some(row) = self.rows.last_mut() {
            row.spread = format!("{least:.2}–{most:.2}");
        }
        self.values.insert(format!("{name}_each"), values.into());
    }

    /// As [`Report::series`], for the file alone: the table would be too long for it.
    pub(super) fn detail(&mut self, name: &str, values: Vec<f64>) {
        self.values.insert(name.to_owned(), json!(median(&values)));
        self.values.insert(format!("{name}_each"), values.into());
    }

    /// The quotients of pairs, as [`Report::series`]; those of the pairs themselves, so that the machine's own speed cancels out.
    pub(super) fn ratio(&mut self, name: &str, ours: &[f64], theirs: &[f64], budget: &str) {
        let pairs = ours.iter().zip(theirs);
        let ratios = pairs.map(|(ours, theirs)| ours / theirs).collect();
        self.series(name, ratios, "", budget);
    }

    /// A figure, or the median of several runs.
    pub(super) fn get(&self, name: &str) -> Option<f64> {
        self.values.get(name)?.as_f64()
    }

    /// The figures in the tables of `page` that were not measured.
    pub(super) fn unmeasured<'a>(&self, page: &'a str) -> Vec<&'a str> {
        let cells = page.lines().filter_map(|line| {
            let (cell, _) = line.strip_prefix("| ")?.split_once(" |")?;
            Some(cell)
        });
        let quoted = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
        let is_figure = |name: &&str| !name.starts_with('_') && !name.contains('/');
        let named = quoted.filter(is_figure);
        named
            .filter(|name| !self.values.contains_key(*name))
            .collect()
    }

    pub(super) fn show(&self) {
        let line = |row: [&str; 4]| {
            let [figure, value, spread, budget] = row;
            say(format!("{figure:<36} {value:>10}   {spread:<15} {budget}"));
        };
        line(["figure (median)", "value", "least–most", "budget"]);
        for row in &self.rows {
            line([&row.figure, &row.value, &row.spread, &row.budget]);
        }
    }

    /// Writes the file.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(path, serde_json::to_string_pretty(&self.values)?)?;
        say(format!("written to {}", path.display()));
        Ok(())
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_names_what_is_not_measured_is_found_out() {
        let mut report = Report::default();
        report.figure("rss_idle_mb", 13.0, "", "-");
        report.series("launch_oci_s", vec![0.1, 0.3, 0.2], " s", "-");
        let page = "| figure | value |\n|---|---|\n| `rss_idle_mb`, `launch_oci_s` | 1 |\n\
            | `first_invoke_s`, each also `_dockerd_s` | `not_here` |\n| `tar/check` | 2 |\n";
        assert_eq!(report.unmeasured(page), ["first_invoke_s"]);
        assert_eq!(report.get("launch_oci_s"), Some(0.2));
    }
}
