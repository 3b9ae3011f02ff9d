//! Leases: whose they are, how long they live, and which keys are under them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::{ClientId, CommandError, Epoch, Key, LeaseId};

/// All leases.
#[derive(Debug)]
pub(super) struct Leases {
    epoch: Epoch,
    granted: u64,
    leases: BTreeMap<LeaseId, Lease>,
    owned: BTreeMap<ClientId, BTreeSet<LeaseId>>,
    expiring: BTreeSet<(Instant, LeaseId)>,
}

#[derive(Debug)]
struct Lease {
    owner: ClientId,
    ttl: Option<Duration>,
    expires: Option<Instant>,
    keys: BTreeSet<Key>,
}

impl Leases {
    pub(super) const fn new(epoch: Epoch) -> Self {
        Self { epoch, granted: 0, leases: BTreeMap::new(), owned: BTreeMap::new(), expiring: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn grant(
        &mut self,
        owner: ClientId,
        ttl: Option<Duration>,
        now: Instant,
        limit: usize,
    ) -> Result<LeaseId, CommandError> {
        let expires = expiry(ttl, now)?;
        if self.owned.get(&owner).map_or(0, BTreeSet::len) >= limit {
            return Err(CommandError::TooManyLeases { limit: limit as u64 });
        }
        self.granted += 1;
        let id = LeaseId::new(self.epoch, self.granted);
        self.leases.insert(id, Lease { owner, ttl, expires, keys: BTreeSet::new() });
        self.owned.entry(owner).or_default().insert(id);
        self.expiring.extend(expires.map(|at| (at, id)));
        Ok(id)
    }

    pub(super) fn keep_alive(
        &mut self,
        owner: ClientId,
        id: LeaseId,
        now: Instant,
    ) -> Result<(), CommandError> {
        self.check(owner, id)?;
        let Some(lease) = self.leases.get_mut(&id) else { return Ok(()) };
        // What could be counted once, but no longer can, lives as long as it did.
        if let Ok(Some(expires)) = expiry(lease.ttl, now) {
            if let Some(before) = lease.expires.replace(expires) {
                self.expiring.remove(&(before, id));
            }
            self.expiring.insert((expires, id));
        }
        Ok(())
    }

    /// Whether the lease is there, and this owner's.
    pub(super) fn check(&self, owner: ClientId, id: LeaseId) -> Result<(), CommandError> {
        match self.owner(id) {
            None => Err(CommandError::NoSuchLease { lease: id }),
            Some(theirs) if theirs != owner => Err(CommandError::ForeignLease { lease: id }),
            Some(_) => Ok(()),
        }
    }

    pub(super) fn owner(&self, id: LeaseId) -> Option<ClientId> {
        self.leases.get(&id).map(|lease| lease.owner)
    }

    pub(super) fn of(&self, owner: ClientId) -> Vec<LeaseId> {
        self.owned.get(&owner).into_iter().flatten().copied().collect()
    }

    pub(super) fn expired(&self, now: Instant) -> Vec<LeaseId> {
        self.expiring.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiring.first().map(|(at, _)| *at)
    }

    /// The lease is no more; returns the keys under it.
    pub(super) fn end(&mut self, id: LeaseId) -> BTreeSet<Key> {
        let Some(lease) = self.leases.remove(&id) else { return BTreeSet::new() };
        if let Some(at) = lease.expires {
            self.expiring.remove(&(at, id));
        }
        if let Some(owned) = self.owned.get_mut(&lease.owner) {
            owned.remove(&id);
            if owned.is_empty() {
                self.owned.remove(&lease.owner);
            }
        }
        lease.keys
    }

    /// The key was under that lease, and is now under this.
    pub(super) fn moved(&mut self, key: &Key, from: Option<LeaseId>, to: Option<LeaseId>) {
        if from == to {
            return;
        }
        if let Some(lease) = from.and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.remove(key);
        }
        if let Some(lease) = to.and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.insert(key.clone());
        }
    }
}

/// When that time to live is over.
pub(super) fn expiry(ttl: Option<Duration>, now: Instant) -> Result<Option<Instant>, CommandError> {
    ttl.map(|ttl| now.checked_add(ttl).ok_or(CommandError::TtlTooLong { ttl })).transpose()
}
