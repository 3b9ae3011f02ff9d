//! Least used: who has most to spare of something that is measured now and then.

use super::cursor::Cursor;
use crate::strategy::{Candidates, Strategy};

/// Picks the member that uses least of what is measured, memory or CPU, without herding.
///
/// The figures are old when they are used: between two measurements the smallest would get everything (p99 20 × least-loaded's
/// with 16 members and figures 10 service times old). So to each figure is added what the items that came since are expected
/// to use, less what those that ended did; what an item uses is learned from the figures themselves. Among those within
/// [`tolerance`](Self::tolerance) of the best, the least loaded gets the item.
///
/// A member thought to be above the [`limit`](Self::limit) is picked only if all are; one without a figure counts as the mean of
/// the others.
///
/// It reads [`Figures::gauge`](crate::Figures::gauge). O(n) per pick, without allocation.
///
/// ```
/// use cluster_balancer::strategy::{Candidate, Candidates, Figures, LeastUsed, Strategy};
///
/// let all = [Candidate::new(1, 1), Candidate::new(1, 1)];
/// let figures = [Figures::new(0).gauge(900 << 20, 1), Figures::new(1).gauge(200 << 20, 1)];
/// let among = Candidates::new(&all).with_figures(&figures);
/// assert_eq!(LeastUsed::memory().pick(&among), Some(1));
/// ```
#[derive(Clone, Debug)]
pub struct LeastUsed {
    name: &'static str,
    limit: u64,
    tolerance: f64,
    /// What one item uses, as far as it is known.
    per_item: f64,
    learned: bool,
    /// The last gauge of each place, what it had then, and who it was.
    last: Vec<Option<(f64, f64, u64)>>,
    cursor: Cursor,
}

/// How far an observation moves what is believed of an item.
const LEARNING: f64 = 0.1;

impl LeastUsed {
    /// By memory: gauges are bytes.
    pub fn memory() -> Self {
        Self::of("least-memory")
    }

    /// By CPU: gauges are thousandths of a core.
    pub fn cpu() -> Self {
        Self::of("least-cpu")
    }

    fn of(name: &'static str) -> Self {
        Self {
            name,
            limit: u64::MAX,
            tolerance: 0.2,
            per_item: 0.0,
            learned: false,
            last: Vec::new(),
            cursor: Cursor::default(),
        }
    }

    /// Who uses more than this gets nothing as long as somebody doesn't. Default: no limit.
    #[must_use]
    pub fn limit(self, used: u64) -> Self {
        Self { limit: used, ..self }
    }

    /// Who uses so much more than the best, as a part of it, is as good. Default: 0.2.
    #[must_use]
    pub fn tolerance(self, part: f64) -> Self {
        Self { tolerance: part.max(0.0), ..self }
    }

    /// A new figure, compared with the one before, says what an item uses: what was there before any item cancels out.
    fn learn(&mut self, among: &Candidates<'_>) {
        self.last.resize(among.len(), None);
        let (mut used, mut items) = (0.0, 0.0);
        for index in 0..among.len() {
            let Some(last) = self.last.get_mut(index) else { continue };
            let figures = among.figures(index);
            let Some(gauge) = figures.gauge else { continue };
            let now = (gauge as f64, f64::from(figures.outstanding_then), figures.identity);
            (used, items) = (used + now.0, items + now.1);
            let Some(before) = last.replace(now).filter(|before| before.0 != now.0 && before.2 == now.2)
            else {
                continue;
            };
            let each = (now.0 - before.0) / (now.1 - before.1);
            if each.is_finite() && each > 0.0 {
                let step = if self.learned { LEARNING } else { 1.0 };
                self.per_item += (each - self.per_item) * step;
                self.learned = true;
            }
        }
        if !self.learned {
            // Nothing is known yet: rather too much, which spreads items evenly.
            self.per_item = used / f64::max(items, 1.0);
        }
    }

    /// What a member uses that has nothing to do, as the mean of those that are known.
    fn idle(&self, among: &Candidates<'_>) -> f64 {
        let (mut sum, mut known) = (0.0, 0.0);
        for figures in (0..among.len()).map(|index| among.figures(index)) {
            if let Some(gauge) = figures.gauge {
                sum += gauge as f64 - self.per_item * f64::from(figures.outstanding_then);
                known += 1.0;
            }
        }
        sum / f64::max(known, 1.0)
    }

    /// What the candidate at `index` is thought to use by now.
    fn expected(&self, among: &Candidates<'_>, index: usize, idle: f64) -> f64 {
        let (figures, now) = (among.figures(index), among.at(index).map_or(0, crate::Candidate::outstanding));
        let (gauge, then) = figures.gauge.map_or((idle, 0), |gauge| (gauge as f64, figures.outstanding_then));
        (gauge + self.per_item * (f64::from(now) - f64::from(then))).max(0.0)
    }
}

impl Strategy for LeastUsed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        self.learn(among);
        let start = self.cursor.start(among);
        let idle = self.idle(among);
        // Before it is known what an item uses, nobody is thought to use more than was measured.
        let used = |index: usize| match among.figures(index).gauge {
            Some(gauge) if !self.learned => gauge as f64,
            _ => self.expected(among, index, idle),
        };
        let within = |index: usize| used(index) <= self.limit as f64;
        let limited = among.eligible_from(0).any(|(index, _)| within(index));
        let all = || among.eligible_from(start).filter(|(index, _)| !limited || within(*index));
        let best = all().map(|(index, _)| self.expected(among, index, idle)).min_by(f64::total_cmp)?;
        let enough = best * (1.0 + self.tolerance);
        let mut chosen: Option<(usize, crate::Candidate)> = None;
        for (index, candidate) in all().filter(|(index, _)| self.expected(among, *index, idle) <= enough) {
            if chosen.is_none_or(|(_, least)| candidate.compare_load(&least).is_lt()) {
                chosen = Some((index, candidate));
            }
        }
        let (index, _) = chosen?;
        self.cursor.pass(among, index);
        Some(index)
    }
}
