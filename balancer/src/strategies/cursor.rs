//! Where the next search starts, so that equals take turns.

use crate::Classes;
use crate::strategy::Candidates;

/// One for each class of items: with one for all, items of two classes in turn would always find the same member next.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    any: usize,
    of_class: [usize; Classes::COUNT as usize],
}

impl Default for Cursor {
    fn default() -> Self {
        Self { any: 0, of_class: [0; Classes::COUNT as usize] }
    }
}

impl Cursor {
    /// Where to start: an index, or one beyond the end, which is the beginning.
    #[inline(always)]
    pub(crate) fn start(&self, among: &Candidates<'_>) -> usize {
        match among.class() {
            None => self.any,
            Some(class) => self.of_class.get(usize::from(class)).copied().unwrap_or(0),
        }
    }

    /// The one at `index` was picked.
    #[inline(always)]
    pub(crate) fn pass(&mut self, among: &Candidates<'_>, index: usize) {
        match among.class() {
            None => self.any = index + 1,
            Some(class) => {
                if let Some(start) = self.of_class.get_mut(usize::from(class)) {
                    *start = index + 1;
                }
            }
        }
    }

    /// The least loaded, equals in turn.
    #[inline(always)]
    pub(crate) fn least_loaded(&mut self, among: &Candidates<'_>) -> Option<usize> {
        let index = among.least_loaded_from(self.start(among))?;
        self.pass(among, index);
        Some(index)
    }
}
