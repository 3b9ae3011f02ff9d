//! The plot for the documentation.

use std::path::Path;

use plotters::prelude::*;

use crate::table::Row;
use crate::trace::Trace;

const SHOWN: [Trace; 3] = [Trace::Loaded, Trace::Pauses, Trace::Hourly];
const COLOURS: [RGBColor; 9] = [
    RGBColor(0x1b, 0x7f, 0x4f),
    RGBColor(0xf6, 0xad, 0x55),
    RGBColor(0xdd, 0x6b, 0x20),
    RGBColor(0x9c, 0x42, 0x21),
    RGBColor(0x90, 0xcd, 0xf4),
    RGBColor(0x2b, 0x6c, 0xb0),
    RGBColor(0x2a, 0x43, 0x65),
    RGBColor(0xd5, 0x3f, 0x8c),
    RGBColor(0x80, 0x5a, 0xd5),
];

/// No alarm at all is drawn here, on a logarithmic scale.
const NONE: f64 = 0.003;
const MOST: f64 = 1000.0;
const SLOWEST: f64 = 2.0;

/// Writes `detectors.svg`: false suspicions per hour over the mean time to find a hang, for each trace.
pub(crate) fn write(folder: &Path, rows: &[Row]) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join("detectors.svg");
    let (width, height, legend) = (1000, 480, 90);
    let area = SVGBackend::new(&path, (width, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let text = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
    let (top, bottom) = (30, height as i32 - legend - 50);
    let panel = (width as i32 - 60) / SHOWN.len() as i32;
    let y = |rate: f64| {
        let part = (rate.clamp(NONE, MOST) / NONE).ln() / (MOST / NONE).ln();
        bottom - (part * f64::from(bottom - top)) as i32
    };
    for (at, trace) in (0..).zip(SHOWN) {
        let left = 60 + at * panel;
        let x = |seconds: f64| left + (seconds.min(SLOWEST) / SLOWEST * f64::from(panel - 30)) as i32;
        area.draw(&Text::new(trace.name(), (left, 8), text(14)))?;
        for mark in [NONE, 0.01, 0.1, 1.0, 10.0, 100.0, MOST] {
            let line = [(left, y(mark)), (x(SLOWEST), y(mark))];
            area.draw(&PathElement::new(line, BLACK.mix(if mark == 1.0 { 0.5 } else { 0.15 })))?;
            if at == 0 {
                let label = if mark == NONE { "none".to_owned() } else { format!("{mark}/h") };
                area.draw(&Text::new(label, (14, y(mark) - 6), text(12)))?;
            }
        }
        for mark in [0.0, 0.5, 1.0, 1.5, SLOWEST] {
            area.draw(&PathElement::new([(x(mark), top), (x(mark), bottom)], BLACK.mix(0.1)))?;
            area.draw(&Text::new(format!("{mark} s"), (x(mark) - 8, bottom + 6), text(12)))?;
        }
        for (row, colour) in rows.iter().zip(COLOURS) {
            if let Some(cell) = row.cell(trace) {
                let place = (x(cell.mean().as_secs_f64()), y(cell.suspicions_per_hour()));
                area.draw(&Circle::new(place, 6, colour.filled()))?;
            }
        }
    }
    let title = "false suspicions per hour, over the mean time from hang to suspicion (lower left is better)";
    area.draw(&Text::new(title, (220, bottom + 26), text(13)))?;
    for (place, (row, colour)) in (0..).zip(rows.iter().zip(COLOURS)) {
        let at = (70 + 300 * (place % 3), bottom + 62 + 22 * (place / 3));
        area.draw(&Circle::new(at, 6, colour.filled()))?;
        area.draw(&Text::new(row.contender.name, (at.0 + 12, at.1 - 6), text(13)))?;
    }
    area.present()?;
    Ok(())
}
