//! When a member was last heard, and how it stands for that.
//!
//! | state \ input | beat    | silent for suspect_after | silent for dead_after |
//! |---------------|---------|--------------------------|-----------------------|
//! | Heard         | -       | Suspect S                | Dead S D              |
//! | Suspect       | Heard R | -                        | Dead D                |
//! | Dead          | Heard R | -                        | -                     |
//!
//! S, D, R are the verdicts that it is suspect, dead, recovered; - changes nothing.
//! With a phi detector its threshold stands for suspect_after, once it knows enough gaps.

use std::time::{Duration, Instant};

use crate::phi::Gaps;
use crate::{Detector, Heartbeat, Silence};

/// How a member stands by its beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    Heard,
    Suspect,
    Dead,
}

/// The beats of one member.
#[derive(Clone, Debug)]
pub(crate) struct Beats {
    rung: Rung,
    /// The last heartbeat, moved on by the monitor's own stalls. Never in the future.
    heard: Instant,
    counter: Option<u64>,
    /// Whether a stall gave it its grace again since it last changed how it stands.
    graced: bool,
    /// Only for a detector that asks for them.
    gaps: Option<Box<Gaps>>,
}

impl Beats {
    pub(crate) fn new(heartbeat: &Heartbeat, now: Instant) -> Self {
        let gaps = match heartbeat.detector() {
            Detector::Fixed => None,
            Detector::PhiExponential { .. } | Detector::PhiNormal { .. } => Some(Box::default()),
        };
        Self { rung: Rung::Heard, heard: now, counter: None, graced: false, gaps }
    }

    pub(crate) fn rung(&self) -> Rung {
        self.rung
    }

    /// When it was heard last.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    /// Ends the silence, which is returned if it was noticed.
    pub(crate) fn beat(&mut self, heartbeat: &Heartbeat, now: Instant) -> Option<Silence> {
        let noticed = self.rung != Rung::Heard;
        let silence = noticed.then(|| self.silence(heartbeat, now));
        if let Some(gaps) = &mut self.gaps {
            gaps.handle_gap(now.saturating_duration_since(self.heard), heartbeat.dead_after());
        }
        self.begin(now);
        silence
    }

    /// Silence begins now, if any: nothing is known of the time before.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.rung = Rung::Heard;
        self.heard = self.heard.max(now);
        self.graced = false;
    }

    /// Whether this reading of its counter proves that it beat. The first one does not: it may be old.
    pub(crate) fn counted(&mut self, value: u64) -> bool {
        let before = self.counter.replace(value);
        before.is_some_and(|before| before != value)
    }

    /// The monitor came late: the time that it missed is not held against the member.
    pub(crate) fn forgive(&mut self, late: Duration, heartbeat: &Heartbeat, now: Instant) {
        let moved = self.heard.checked_add(late).unwrap_or(now);
        let moved = match self.grace_begins(heartbeat, now) {
            // Once per rung: a monitor that is late all the time must still find a member that hangs.
            Some(begins) if moved < begins && !self.graced => {
                self.graced = true;
                begins
            }
            Some(_) | None => moved,
        };
        // Not into the future: it may have beaten during the stall.
        self.heard = self.heard.max(moved.min(now));
    }

    /// The latest beginning of the silence with which the next verdict is as far away as a suspicion
    /// is from a heartbeat.
    ///
    /// Moving by the lateness alone is not enough: a member that was silent almost for too long would be
    /// blamed by the very tick that came late, before it had a chance to beat.
    fn grace_begins(&self, heartbeat: &Heartbeat, now: Instant) -> Option<Instant> {
        let kept = match self.rung {
            Rung::Heard => Duration::ZERO,
            Rung::Suspect => heartbeat.dead_after().saturating_sub(heartbeat.suspect_after()),
            Rung::Dead => return None,
        };
        now.checked_sub(kept)
    }

    /// Steps down by at most one rung, and returns the new one. To be called until it returns `None`.
    pub(crate) fn judge(&mut self, heartbeat: &Heartbeat, now: Instant) -> Option<Rung> {
        let silent_for = now.saturating_duration_since(self.heard);
        self.rung = match self.rung {
            Rung::Heard if self.is_suspicious(silent_for, heartbeat) => Rung::Suspect,
            Rung::Suspect if silent_for >= heartbeat.dead_after() => Rung::Dead,
            Rung::Heard | Rung::Suspect | Rung::Dead => return None,
        };
        self.graced = false;
        Some(self.rung)
    }

    fn is_suspicious(&self, silent_for: Duration, heartbeat: &Heartbeat) -> bool {
        let detector = heartbeat.detector();
        let phi = self.gaps.as_ref().and_then(|gaps| gaps.phi(silent_for, heartbeat.beats_every(), detector));
        match phi {
            // Whatever the gaps were: who is dead was suspect.
            Some(phi) => detector.is_suspicious(phi) || silent_for >= heartbeat.dead_after(),
            None => silent_for >= heartbeat.suspect_after(),
        }
    }

    /// Dead is suspect again, and the way to death as long as ever.
    pub(crate) fn excuse(&mut self, heartbeat: &Heartbeat, now: Instant) {
        if self.rung == Rung::Dead {
            self.rung = Rung::Suspect;
        }
        let begins =
            if self.rung == Rung::Suspect { now.checked_sub(heartbeat.suspect_after()) } else { Some(now) };
        self.heard = self.heard.max(begins.unwrap_or(now));
    }

    pub(crate) fn silence(&self, heartbeat: &Heartbeat, now: Instant) -> Silence {
        Silence { lasted: now.saturating_duration_since(self.heard), interval: heartbeat.beats_every() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_state(state: &str, heartbeat: &Heartbeat, begin: Instant) -> Beats {
        let mut beats = Beats::new(heartbeat, begin);
        let silent = match state {
            "Heard" => Duration::ZERO,
            "Suspect" => heartbeat.suspect_after(),
            "Dead" => heartbeat.dead_after(),
            _ => panic!("unknown state {state}"),
        };
        while beats.judge(heartbeat, begin + silent).is_some() {}
        assert_eq!(format!("{:?}", beats.rung()), state);
        beats
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "tests need one instant to count from")]
    fn every_pair_of_the_table_is_as_it_says() {
        let (begin, heartbeat) = (Instant::now(), Heartbeat::new());
        let lines = include_str!("silence.rs").lines().filter_map(|line| line.strip_prefix("//! |"));
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let rows: Vec<_> = lines.filter(|line| !line.starts_with("--")).map(cells).collect();
        let (head, rows) = rows.split_first().unwrap();
        let mut pairs = 0;
        for row in rows {
            for (input, cell) in head.iter().zip(row).skip(1).filter(|(input, _)| !input.is_empty()) {
                let state = row[0].as_str();
                let mut beats = in_state(state, &heartbeat, begin);
                let silent = match input.as_str() {
                    "beat" | "silent for dead_after" => heartbeat.dead_after(),
                    "silent for suspect_after" => heartbeat.suspect_after(),
                    _ => panic!("unknown input {input}"),
                };
                let mut letters = String::new();
                if input == "beat" {
                    letters.extend(beats.beat(&heartbeat, begin + silent).map(|_| " R"));
                } else {
                    while let Some(rung) = beats.judge(&heartbeat, begin + silent) {
                        letters += if rung == Rung::Dead { " D" } else { " S" };
                    }
                }
                let expected = if cell == "-" { state } else { cell };
                assert_eq!(format!("{:?}{letters}", beats.rung()), expected, "{input} in {state}");
                pairs += 1;
            }
        }
        assert_eq!(pairs, 3 * 3);
    }
}
