//! Items that name their member.

use crate::hash_of;
use crate::strategy::{Candidates, Ended, Strategy};

/// Gives an item whose key [names](key_of_member) a member to that member, and all others to whom the inner strategy picks.
///
/// For sessions that begin with their member: it tells the client which member it is, as in a cookie, and the client says so with
/// each further request. Unlike with [`Sticky`](super::Sticky) nothing is remembered here, so nothing is forgotten either: not with
/// time, and not when this process starts anew. (HAProxy calls it cookie persistence, Envoy a stateful session.)
///
/// A member is named by its [identity](crate::Figures::identity), which a successor may have, too. If it is not there, has no
/// room or is unwell, the inner strategy picks; one that is draining still gets what names it. O(n) for an item with a key.
///
/// ```
/// use cluster_balancer::strategy::{LeastLoaded, Named, key_of_member};
/// use cluster_balancer::{Dispatcher, Limits, Request};
///
/// let mut dispatcher = Dispatcher::new(Box::new(Named::new(LeastLoaded::new())), 0);
/// for (key, identity) in [("a", 0), ("b", 1)] {
///     dispatcher.admit(key, Limits::new().identity(identity));
/// }
/// for _ in 0..3 {
///     dispatcher.offer_for(Request::new().key(key_of_member(1)), ()).unwrap();
/// }
/// let batch = dispatcher.poll_batch().unwrap();
/// assert_eq!((batch.key(), batch.tickets().len()), ("b", 3));
/// ```
#[derive(Clone, Debug)]
pub struct Named<S> {
    inner: S,
}

/// The key of items for the member with this [identity](crate::Limits::identity), for [`Named`].
pub fn key_of_member(identity: u64) -> u64 {
    hash_of(("member", identity))
}

impl<S> Named<S> {
    /// Items that name nobody go where `inner` says.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: Strategy> Strategy for Named<S> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        let named = among.key().and_then(|key| {
            let possible = (0..among.len()).filter(|index| {
                let healthy = among.get(*index).is_some_and(|candidate| candidate.is_healthy());
                healthy && among.is_possible(*index)
            });
            // Of a member and its successor the one that may get everything.
            possible
                .filter(|index| key_of_member(among.figures(*index).identity()) == key)
                .max_by_key(|index| among.is_eligible(*index))
        });
        named.or_else(|| self.inner.pick(among))
    }

    fn observe(&mut self, index: usize, ended: Ended) {
        self.inner.observe(index, ended);
    }

    fn ranks_by_load(&self) -> bool {
        self.inner.ranks_by_load()
    }

    fn insists(&self) -> bool {
        true
    }

    fn looks_beyond_health(&self) -> bool {
        self.inner.looks_beyond_health()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::LeastLoaded;
    use crate::{Candidate, Figures, Request};

    fn picks(all: &[Candidate], identities: &[u64], names: Option<u64>) -> Option<usize> {
        let figures: Vec<_> = identities.iter().map(|identity| Figures::new(*identity)).collect();
        let request = names.map_or_else(Request::new, |identity| Request::new().key(key_of_member(identity)));
        Named::new(LeastLoaded::new()).pick(&Candidates::new(all).with_figures(&figures).for_request(request))
    }

    #[test]
    fn whoever_is_named_gets_it_if_it_can() {
        let (busy, idle) = (Candidate::new(9, 1), Candidate::new(0, 1));
        let identities = [4, 5, 6];
        assert_eq!(picks(&[busy, idle, busy], &identities, Some(6)), Some(2));
        assert_eq!(picks(&[busy, idle, busy], &identities, None), Some(1), "it names nobody");
        assert_eq!(
            picks(&[busy, idle, busy], &identities, Some(7)),
            Some(1),
            "it names one who is not there"
        );
        for away in [busy.ineligible(), busy.unhealthy(), busy.with_available(false), busy.withdrawn()] {
            assert_eq!(picks(&[away, busy, idle], &identities, Some(4)), Some(2), "{away:?}");
        }
        assert_eq!(picks(&[busy.draining(), busy, idle], &identities, Some(4)), Some(0));
    }

    #[test]
    fn a_successor_comes_before_its_draining_predecessor() {
        let (old, new) = (Candidate::new(0, 1).draining(), Candidate::new(3, 1));
        assert_eq!(picks(&[old, new], &[4, 4], Some(4)), Some(1));
        assert_eq!(picks(&[new, old], &[4, 4], Some(4)), Some(0));
    }
}
