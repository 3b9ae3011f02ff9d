//! Plots for the documentation.

use std::path::Path;

use plotters::prelude::*;

use crate::table::{Row, UNSTABLE};

const SHOWN: [(&str, RGBColor); 6] = [
    ("least-loaded", RGBColor(0x1b, 0x7f, 0x4f)),
    ("power-of-two", RGBColor(0x2b, 0x6c, 0xb0)),
    ("peak-ewma", RGBColor(0x80, 0x5a, 0xd5)),
    ("round-robin", RGBColor(0xc0, 0x56, 0x21)),
    ("random", RGBColor(0xb8, 0x32, 0x80)),
    ("smallest of old figures", RGBColor(0x71, 0x80, 0x96)),
];

/// Writes `p99.svg`: the p99 of some strategies over that of the shortest queue, by scenario.
pub(crate) fn write(folder: &Path, rows: &[Row]) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join("p99.svg");
    let area = SVGBackend::new(&path, (1000, 560)).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(300);
    let (top, bottom) = (40, 60);
    let height = (560 - top - bottom) as f64 / rows.len() as f64;
    let centre = |row: usize| top + ((row as f64 + 0.5) * height) as i32;
    for (index, row) in rows.iter().enumerate() {
        let style = ("sans-serif", 13).into_font().color(&BLACK);
        left.draw(&Text::new(row.scenario.name, (10, centre(index) - 6), style))?;
    }
    // A logarithmic scale from 0.8 to what counts as unstable.
    let (from, to) = (0.8f64.ln(), UNSTABLE.ln());
    let x = |ratio: f64| (20.0 + (ratio.clamp(0.8, UNSTABLE).ln() - from) / (to - from) * 640.0) as i32;
    for mark in [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, UNSTABLE] {
        let line = [(x(mark), top), (x(mark), 560 - bottom)];
        right.draw(&PathElement::new(line, BLACK.mix(if mark == 1.0 { 0.5 } else { 0.15 })))?;
        let label = if mark == UNSTABLE { "unstable".to_owned() } else { format!("{mark} ×") };
        let style = ("sans-serif", 12).into_font().color(&BLACK);
        right.draw(&Text::new(label, (x(mark) - 10, 560 - bottom + 6), style))?;
    }
    for (place, (name, colour)) in SHOWN.into_iter().enumerate() {
        for (index, row) in rows.iter().enumerate() {
            right.draw(&Circle::new((x(row.ratio(name)), centre(index)), 5, colour.filled()))?;
        }
        let at = (20 + 110 * place as i32, 14);
        right.draw(&Circle::new(at, 5, colour.filled()))?;
        let style = ("sans-serif", 12).into_font().color(&BLACK);
        right.draw(&Text::new(name, (at.0 + 9, at.1 - 6), style))?;
    }
    let title = "p99 over that of exact join-the-shortest-queue (left is better)";
    let style = ("sans-serif", 13).into_font().color(&BLACK);
    right.draw(&Text::new(title, (120, 560 - 26), style))?;
    area.present()?;
    Ok(())
}
