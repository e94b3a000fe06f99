//! The picture of installs for the README: what people wait for, on dockerd and on Peitho, one bar each. On a card of its own, so that it can be
//! read on a dark page too.

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
    ("Peitho, Kubernetes", "", "#1f5fa6"),
    ("Peitho, without a cluster", "_oci", "#6aa3dc"),
];

const DOCKER: (&str, &str) = ("Docker", "#8a94a3");

/// Of the pictures in `docs/images`.
const FONT: &str = "-apple-system, Segoe UI, Helvetica, Arial, sans-serif";
const INK: &str = "#1f2933";
const PALE: &str = "#52606d";

const WHOLE: f64 = 760.0;
const LEFT: f64 = 180.0;
const WIDTH: f64 = 500.0;
const TOP: f64 = 84.0;
const BAR: f64 = 16.0;
/// From one bar to the next, and from one group to the next.
const STEP: f64 = BAR + 3.0;
const GROUP: f64 = 76.0;

/// Writes what [`draw`] draws to each of `paths`.
pub(super) fn write(report: &Report, paths: &[&Path]) -> Result<()> {
    let Some(picture) = draw(report)? else {
        say("no picture is drawn: not all installs were measured");
        return Ok(());
    };
    for path in paths {
        fs::write(path, &picture)?;
        say(format!("drawn in {}", path.display()));
    }
    Ok(())
}

/// What `report` has of installs; `None` where something of it is missing.
fn draw(report: &Report) -> Result<Option<String>> {
    let seconds = |figure: &str, suffix: &str| report.get(&format!("install_{figure}{suffix}_s"));
    let ours = GROUPS.map(|(_, figure)| BARS.map(|(_, suffix, _)| seconds(figure, suffix)));
    let docker = BARS.map(|(_, suffix, _)| seconds("dockerd", suffix));
    let floor = seconds("floor", "");
    let ([Some(docker), Some(_)], Some(floor)) = (docker, floor) else {
        return Ok(None);
    };
    if ours.iter().flatten().any(Option::is_none) {
        return Ok(None);
    }
    let longest = ours.iter().flatten().flatten().copied();
    let longest = longest.fold(docker, f64::max);
    let at = |seconds: f64| LEFT + WIDTH * seconds / longest;
    let end = TOP + GROUP * GROUPS.len() as f64;
    let mut svg = begun(end)?;
    for ((words, _), (index, bars)) in GROUPS.iter().zip(ours.iter().enumerate()) {
        let top = TOP + GROUP * index as f64;
        let (x, y) = (LEFT - 12.0, top + STEP + 12.5);
        writeln!(
            svg,
            r#"<text x="{x}" y="{y}" text-anchor="end" fill="{INK}">{words}</text>"#
        )?;
        let colours = BARS.map(|(_, _, colour)| colour);
        let bars = bars.iter().copied().zip(colours);
        let bars = [(Some(docker), DOCKER.1)].into_iter().chain(bars);
        for (number, (seconds, colour)) in bars.enumerate() {
            let seconds = seconds.unwrap_or_default();
            let (y, width) = (top + STEP * number as f64, at(seconds) - LEFT);
            writeln!(
                svg,
                r#"<rect x="{LEFT}" y="{y}" width="{width:.1}" height="{BAR}" rx="2" fill="{colour}"/><text x="{:.1}" y="{}" font-size="12" fill="{INK}">{seconds:.1} s</text>"#,
                at(seconds) + 6.0,
                y + 12.5
            )?;
        }
    }
    let (x, top) = (at(floor), TOP - 6.0);
    writeln!(
        svg,
        r#"<line x1="{x:.1}" y1="{top}" x2="{x:.1}" y2="{}" stroke="{PALE}" stroke-width="1" stroke-dasharray="3 3"/>"#,
        end - 14.0
    )?;
    writeln!(
        svg,
        r#"<text x="{:.1}" y="{}" font-size="11" fill="{PALE}">the peer's own share: {floor:.1} s</text>"#,
        x,
        TOP - 11.0
    )?;
    svg.push_str("</svg>\n");
    Ok(Some(svg))
}

/// The card with its title and legend.
fn begun(height: f64) -> Result<String> {
    let title =
        "Seconds until an install of Go chaincode is done, on a peer with Docker and with Peitho";
    let mut svg = String::new();
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WHOLE} {height}" width="{WHOLE}" height="{height}" role="img" aria-label="{title}" font-family="{FONT}" font-size="13">"#
    )?;
    writeln!(svg, "<title>{title}</title>")?;
    writeln!(
        svg,
        r##"<rect x="0.5" y="0.5" width="{}" height="{}" rx="10" fill="#ffffff" stroke="#d5dae1"/>"##,
        WHOLE - 1.0,
        height - 1.0
    )?;
    writeln!(
        svg,
        r#"<text x="20" y="27" font-size="15" font-weight="bold" fill="{INK}">Seconds until an install is done</text>"#
    )?;
    let mut x = 20.0;
    let legend = BARS.map(|(words, _, colour)| (words, colour));
    for (words, colour) in [DOCKER].into_iter().chain(legend) {
        writeln!(
            svg,
            r#"<rect x="{x}" y="40" width="12" height="12" rx="2" fill="{colour}"/><text x="{}" y="50.5" font-size="12" fill="{INK}">{words}</text>"#,
            x + 18.0
        )?;
        x += 48.0 + 6.6 * words.len() as f64;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Report {
        let mut report = Report::default();
        for suffix in ["", "_oci"] {
            let figures = [
                ("dockerd", 26.5),
                ("floor", 1.2),
                ("cold", 26.2),
                ("prewarmed", 12.0),
                ("changed", 4.1),
                ("second_peer", 1.5),
            ];
            for (figure, seconds) in figures {
                report.figure(&format!("install_{figure}{suffix}_s"), seconds, " s", "-");
            }
        }
        report
    }

    #[test]
    fn each_figure_has_a_bar_as_long_as_it_is() {
        let picture = draw(&measured()).unwrap().unwrap();
        let bars = picture.matches(r#"height="16""#).count();
        assert_eq!(bars, GROUPS.len() * (1 + BARS.len()));
        assert!(picture.contains(r#"width="500.0""#), "the longest");
        let half = format!(r#"width="{:.1}""#, 500.0 * 12.0 / 26.5);
        assert_eq!(picture.matches(&half).count(), BARS.len());
        assert!(picture.ends_with("</svg>\n"));
    }

    #[test]
    fn half_a_measure_is_not_drawn() {
        let mut report = Report::default();
        assert_eq!(draw(&report).unwrap(), None);
        report.figure("install_dockerd_s", 26.5, " s", "-");
        report.figure("install_cold_s", 26.2, " s", "-");
        assert_eq!(draw(&report).unwrap(), None);
    }
}
