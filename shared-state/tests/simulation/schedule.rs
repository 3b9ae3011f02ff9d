//! Runs the schedule of a seed, and makes one that fails smaller.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::{Duration, Instant};

use crate::machine::Machine;
use crate::settings::{MOST_REPLICAS, MOST_STEPS};

/// How much a schedule may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) replicas: usize,
    pub(crate) steps: u32,
}

/// What a schedule came to: how long it took by its own clock, the last commit, and what was met.
pub(crate) type Played = (Duration, u64, BTreeSet<&'static str>);

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

impl Budget {
    pub(crate) const WHOLE: Self = Self { replicas: usize::MAX, steps: u32::MAX };

    pub(crate) fn from_environment() -> Self {
        let number = |name| crate::number(name).and_then(|it| u32::try_from(it).ok());
        Self {
            replicas: number("CLUSTER_TEST_REPLICAS").map_or(usize::MAX, |it| it.max(1) as usize),
            steps: number("CLUSTER_TEST_STEPS").unwrap_or(u32::MAX),
        }
    }

    /// Panics where a rule is broken.
    pub(crate) fn play(self, seed: u64, is_told: bool) -> Played {
        let base = Instant::now();
        let mut machine = Machine::new(seed, self.replicas, self.steps, base, is_told);
        for _ in 0..machine.settings.steps {
            machine.step();
        }
        machine.end();
        (machine.now - base, machine.model.revision(), machine.witness.met)
    }

    /// What was met, or how it failed.
    pub(crate) fn run(self, seed: u64) -> Result<BTreeSet<&'static str>, String> {
        be_quiet_when_asked();
        IS_QUIET.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| self.play(seed, false)));
        IS_QUIET.set(false);
        result.map(|(.., met)| met).map_err(|panic| text(&*panic))
    }
}

/// Panics of schedules are caught, and printed once at the end.
fn be_quiet_when_asked() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                usual(info);
            }
        }));
    });
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}

/// Looks for fewer replicas and fewer steps with which that seed fails, and says how to repeat it.
pub(crate) fn shrink(seed: u64, mut failure: String) -> String {
    let mut budget = Budget { replicas: MOST_REPLICAS, steps: MOST_STEPS };
    // Fewer replicas are another schedule altogether, so any of them may fail or not.
    for replicas in 1..MOST_REPLICAS {
        if let Err(it) = (Budget { replicas, ..budget }).run(seed) {
            (budget.replicas, failure) = (replicas, it);
            break;
        }
    }
    // Fewer steps are the beginning of the same schedule.
    let (mut passes, mut fails) = (0, budget.steps);
    while passes + 1 < fails {
        let steps = passes.midpoint(fails);
        match (Budget { steps, ..budget }).run(seed) {
            Ok(_) => passes = steps,
            Err(it) => (fails, failure) = (steps, it),
        }
    }
    budget.steps = fails;
    format!(
        "{failure}\nto repeat: CLUSTER_TEST_SEED={seed} CLUSTER_TEST_REPLICAS={} CLUSTER_TEST_STEPS={} \
         CLUSTER_TEST_TELL=1 cargo test -p cluster-shared-state --test simulation -- --nocapture the_rules",
        budget.replicas, budget.steps
    )
}
