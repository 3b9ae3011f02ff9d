//! Room for bytes and descriptors in one place, taken before something is kept there and given back when it goes.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::session::Window;

/// What keeping something costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) bytes: usize,
    pub(super) descriptors: usize,
}

impl Cost {
    pub(super) fn of(body: &[u8], descriptors: &[OwnedFd]) -> Self {
        Self { bytes: body.len(), descriptors: descriptors.len() }
    }
}

/// The room of one place. Cheap to clone; clones share it.
///
/// Who waits for room gets it in the order of asking: what is large is not overtaken for ever by what is small.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    bytes: Meter,
    descriptors: Meter,
}

/// What something has of a place's room, until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the room back"]
pub(super) struct Share {
    _bytes: Option<OwnedSemaphorePermit>,
    _descriptors: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub(super) fn new(most: Window) -> Self {
        Self { bytes: Meter::new(most.bytes), descriptors: Meter::new(most.descriptors) }
    }

    /// Takes room if there is some now.
    pub(super) fn try_take(&self, cost: Cost) -> Option<Share> {
        Some(Share {
            _bytes: self.bytes.try_take(cost.bytes)?,
            _descriptors: self.descriptors.try_take(cost.descriptors)?,
        })
    }

    /// Takes room, and waits until there is some. Cancel-safe.
    pub(super) async fn take(&self, cost: Cost) -> Share {
        // Always in this order: nobody waits in a circle.
        Share {
            _bytes: self.bytes.take(cost.bytes).await,
            _descriptors: self.descriptors.take(cost.descriptors).await,
        }
    }
}

/// One currency.
#[derive(Clone, Debug)]
struct Meter {
    left: Arc<Semaphore>,
    most: u32,
}

impl Meter {
    fn new(most: u64) -> Self {
        // With none at all nothing would ever have to wait.
        let most = u32::try_from(most).unwrap_or(u32::MAX).max(1);
        Self { left: Arc::new(Semaphore::new(most as usize)), most }
    }

    /// What is larger than the place takes all of it: it goes in alone.
    fn price(&self, cost: usize) -> u32 {
        u32::try_from(cost).unwrap_or(u32::MAX).min(self.most)
    }

    fn try_take(&self, cost: usize) -> Option<Option<OwnedSemaphorePermit>> {
        match self.price(cost) {
            0 => Some(None),
            price => Arc::clone(&self.left).try_acquire_many_owned(price).ok().map(Some),
        }
    }

    async fn take(&self, cost: usize) -> Option<OwnedSemaphorePermit> {
        match self.price(cost) {
            0 => None,
            // It fails when the semaphore is closed, and nobody does that.
            price => Arc::clone(&self.left).acquire_many_owned(price).await.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    const BYTES: usize = 100;
    const DESCRIPTORS: usize = 10;

    fn budget() -> Budget {
        Budget::new(Window { bytes: BYTES as u64, messages: 1, descriptors: DESCRIPTORS as u64 })
    }

    #[derive(Clone, Debug)]
    enum Op {
        Try(Cost),
        Wait(Cost),
        /// Who began to wait so many before the last one gives up.
        GiveUp(usize),
        /// One of those that have room goes.
        Go(usize),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let cost =
            || (0..150_usize, 0..14_usize).prop_map(|(bytes, descriptors)| Cost { bytes, descriptors });
        let op = prop_oneof![
            cost().prop_map(Op::Try),
            cost().prop_map(Op::Wait),
            any::<usize>().prop_map(Op::GiveUp),
            any::<usize>().prop_map(Op::Go),
            any::<usize>().prop_map(Op::Go),
        ];
        proptest::collection::vec(op, 0..200)
    }

    type Waiting = Pin<Box<dyn Future<Output = Share>>>;

    /// What there is, with what it costs.
    #[derive(Default)]
    struct World {
        inside: Vec<(Cost, Share)>,
        waiting: VecDeque<(Cost, Waiting)>,
    }

    impl World {
        /// Those that have got room come in.
        fn turn(&mut self) {
            let mut cx = Context::from_waker(Waker::noop());
            for (cost, mut waiting) in std::mem::take(&mut self.waiting) {
                match waiting.as_mut().poll(&mut cx) {
                    Poll::Ready(share) => self.inside.push((cost, share)),
                    Poll::Pending => self.waiting.push_back((cost, waiting)),
                }
            }
        }

        fn check(&self) {
            for (most, of) in [
                (BYTES, (|cost: &Cost| cost.bytes) as fn(&Cost) -> usize),
                (DESCRIPTORS, |cost: &Cost| cost.descriptors),
            ] {
                let costs: Vec<_> =
                    self.inside.iter().map(|(cost, _)| of(cost)).filter(|cost| *cost > 0).collect();
                let sum: usize = costs.iter().sum();
                assert!(
                    sum <= most || costs.len() == 1,
                    "{costs:?} of {most}: more than there is room for, and not alone"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn no_more_is_inside_than_there_is_room_for_and_the_first_who_waits_comes_in_when_all_have_gone(ops in ops()) {
            let (budget, mut world) = (budget(), World::default());
            for op in ops {
                match op {
                    Op::Try(cost) => {
                        let is_free = world.inside.is_empty() && world.waiting.is_empty();
                        match budget.try_take(cost) {
                            Some(share) => world.inside.push((cost, share)),
                            None => prop_assert!(!is_free, "{cost:?} is refused though nothing is there"),
                        }
                    }
                    Op::Wait(cost) => {
                        let budget = budget.clone();
                        world.waiting.push_back((cost, Box::pin(async move { budget.take(cost).await })));
                    }
                    Op::GiveUp(which) if !world.waiting.is_empty() => {
                        world.waiting.remove(which % world.waiting.len());
                    }
                    Op::Go(which) if !world.inside.is_empty() => {
                        drop(world.inside.swap_remove(which % world.inside.len()));
                    }
                    Op::GiveUp(_) | Op::Go(_) => {}
                }
                world.turn();
                world.check();
                if world.inside.is_empty() {
                    prop_assert!(world.waiting.is_empty(), "somebody waits though nothing is there");
                }
            }
            while !world.inside.is_empty() {
                world.inside.clear();
                world.turn();
                world.check();
            }
            prop_assert!(world.waiting.is_empty());
            // Nothing has got lost.
            let whole = budget.try_take(Cost { bytes: BYTES, descriptors: DESCRIPTORS });
            prop_assert!(whole.is_some(), "some room was never given back");
        }
    }

    #[test]
    fn what_is_large_is_not_overtaken_by_what_is_small() {
        let budget = budget();
        let cost = |bytes| Cost { bytes, descriptors: 0 };
        let first = budget.try_take(cost(10));
        assert!(first.is_some());
        let mut large = Box::pin(budget.take(cost(100)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(large.as_mut().poll(&mut cx).is_pending());
        assert!(budget.try_take(cost(1)).is_none(), "the one that waits is next");
        drop(first);
        assert!(large.as_mut().poll(&mut cx).is_ready());
    }
}
