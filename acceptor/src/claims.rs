//! What one worker listens on.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;

use crate::listen::{At, Listen};

/// What one worker listens on: several times only on port 0, where the n-th listener of every worker is the same one.
///
/// It is the worker's side of [`Listeners::listen`](crate::Listeners::listen), which wants to know the number.
///
/// ```
/// use cluster_acceptor::{Claims, Listen};
///
/// let claims = Claims::default();
/// let (fixed, any) = (Listen::tcp(([127, 0, 0, 1], 80)), Listen::tcp(([127, 0, 0, 1], 0)));
/// assert_eq!((claims.claim(&any), claims.claim(&any)), (Some(0), Some(1)));
/// assert_eq!((claims.claim(&fixed), claims.claim(&fixed)), (Some(0), None));
/// claims.release(&fixed, 0);
/// assert_eq!(claims.claim(&fixed), Some(0));
/// claims.release(&any, 0);
/// assert_eq!(claims.claim(&any), Some(0), "the second one is still there");
/// ```
#[derive(Debug, Default)]
pub struct Claims {
    taken: Mutex<HashMap<At, BTreeSet<u32>>>,
}

impl Claims {
    /// Notes that there is a listener there from now on. Returns its number, the lowest that is free: 0, but for port 0. `None` if there is
    /// one already and can't be another. UDP sockets on a port are one, however many are asked for.
    #[must_use]
    pub fn claim(&self, listen: &Listen) -> Option<u32> {
        let is_any_port = matches!(listen.at, At::Tcp(address) | At::Udp(address) if address.port() == 0);
        if listen.is_udp() && !is_any_port {
            return Some(0);
        }
        let mut taken = self.taken.lock();
        let numbers = taken.entry(listen.at.clone()).or_default();
        if !numbers.is_empty() && !is_any_port {
            return None;
        }
        let nth = (0..u32::MAX).find(|number| !numbers.contains(number))?;
        numbers.insert(nth);
        Some(nth)
    }

    /// Notes that the listener of that number is gone.
    pub fn release(&self, listen: &Listen, nth: u32) {
        let mut taken = self.taken.lock();
        if let Some(numbers) = taken.get_mut(&listen.at) {
            numbers.remove(&nth);
            if numbers.is_empty() {
                taken.remove(&listen.at);
            }
        }
    }
}
