//! The picture of installs for the README: what people wait for, on dockerd and on Peitho, one bar each.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;
use testbed::say;

use super::report::Report;

/// What is drawn: words for people, and the name of the figures between `install_` and `_s`.
const GROUPS: [(&str, &str); 4] = [
    ("Nothing known", "cold"),
    ("Builder seen before", "prewarmed"),
    ("One line changed", "changed"),
    ("Second peer", "second_peer"),
];

/// Bars of a group: words, what follows the name of the group, and a colour.
const BARS: [(&str, &str, &str); 2] = [
    ("Peitho, Kubernetes", "", "#2463a8"),
    ("Peitho, without a cluster", "_oci", "#5f9bd4"),
];

const DOCKER: &str = "#8a8f98";

const LEFT: f64 = 190.0;
const WIDTH: f64 = 420.0;
const BAR: f64 = 16.0;
const GROUP: f64 = 74.0;

/// Draws what `report` has of installs; nothing where it has none.
pub(super) fn write(report: &Report, path: &Path) -> Result<()> {
    let seconds = |figure: &str, suffix: &str| report.get(&format!("install_{figure}{suffix}_s"));
    let docker = ["", "_oci"].map(|suffix| seconds("dockerd", suffix));
    let [Some(docker), Some(_)] = docker else {
        return Ok(());
    };
    let longest = GROUPS
        .iter()
        .flat_map(|(_, figure)| BARS.map(|(_, suffix, _)| seconds(figure, suffix)))
        .flatten()
        .fold(docker, f64::max);
    let height = 56.0 + GROUP * GROUPS.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>Seconds of an install on a peer with Docker and on Peitho</title>\n\
         <rect width=\"720\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\"/>\n"
    );
    let legend = BARS.map(|(words, _, colour)| (words, colour));
    let mut x = 20.0;
    for (words, colour) in [("Docker", DOCKER)].into_iter().chain(legend) {
        writeln!(
            svg,
            "<rect x=\"{x}\" y=\"16\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"27\" fill=\"#24292f\">{words}</text>",
            x + 18.0
        )?;
        x += 60.0 + 7.0 * words.len() as f64;
    }
    for (index, (words, figure)) in GROUPS.iter().enumerate() {
        let top = 50.0 + GROUP * index as f64;
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#24292f\">{words}</text>",
            LEFT - 12.0,
            top + 31.0
        )?;
        let ours = BARS.map(|(_, suffix, colour)| (seconds(figure, suffix), colour));
        let bars = [(Some(docker), DOCKER)].into_iter().chain(ours);
        for (number, (seconds, colour)) in bars.enumerate() {
            let Some(seconds) = seconds else { continue };
            let (y, width) = (top + (BAR + 2.0) * number as f64, WIDTH * seconds / longest);
            writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{}\" fill=\"#24292f\">{seconds:.1} s</text>",
                LEFT + width + 6.0,
                y + 12.5
            )?;
        }
    }
    svg.push_str("</svg>\n");
    fs::write(path, svg)?;
    say(format!("drawn in {}", path.display()));
    Ok(())
}
