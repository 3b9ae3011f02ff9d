//! How many items could be assigned now.

use super::member::Member;
use crate::Classes;

/// The free places of all members.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// By what members take: mostly all the same.
    groups: Vec<Group>,
    /// In all groups.
    all: usize,
    /// Of members that get only what sticks to them.
    draining: usize,
    /// Of members that nothing may be given to as long as they are unwell.
    unwell: usize,
    /// The strategy gives to those, too.
    beyond_health: bool,
}

#[derive(Debug)]
struct Group {
    classes: Classes,
    places: usize,
}

/// One member's part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    classes: Classes,
    places: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Usable,
    Draining,
    Unwell,
}

impl Share {
    pub(super) fn of<K: Copy + PartialEq, C>(member: &Member<K, C>) -> Self {
        let kind = match (member.is_healthy(), member.is_draining()) {
            (false, _) => Kind::Unwell,
            (true, true) => Kind::Draining,
            (true, false) => Kind::Usable,
        };
        Self { classes: member.classes(), places: member.room(), kind }
    }
}

impl Room {
    /// For a strategy that gives to those who are unwell, or for one that doesn't.
    pub(super) fn new(beyond_health: bool) -> Self {
        Self { beyond_health, ..Self::default() }
    }

    /// What was `before` is `after` now.
    #[inline]
    pub(super) fn replace(&mut self, before: Share, after: Share) {
        if before != after {
            self.subtract(before);
            self.change(after, |places| places.saturating_add(after.places));
        }
    }

    pub(super) fn subtract(&mut self, share: Share) {
        self.change(share, |places| places.saturating_sub(share.places));
    }

    fn change(&mut self, share: Share, change: impl Fn(usize) -> usize) {
        if share.places == 0 {
            return;
        }
        match share.kind {
            Kind::Draining => self.draining = change(self.draining),
            Kind::Unwell if !self.beyond_health => self.unwell = change(self.unwell),
            Kind::Unwell | Kind::Usable => {
                self.all = change(self.all);
                self.change_group(share.classes, change);
            }
        }
    }

    fn change_group(&mut self, classes: Classes, change: impl Fn(usize) -> usize) {
        let Some(index) = self.groups.iter().position(|group| group.classes == classes) else {
            self.groups.push(Group { classes, places: change(0) });
            return;
        };
        if let Some(group) = self.groups.get_mut(index) {
            group.places = change(group.places);
            if group.places == 0 {
                self.groups.swap_remove(index);
            }
        }
    }

    /// For items of any kind.
    pub(super) fn all(&self) -> usize {
        self.all
    }

    /// For items of one class, or without.
    pub(super) fn of(&self, class: Option<u8>) -> usize {
        let Some(class) = class else { return self.all };
        let groups = self.groups.iter().filter(|group| group.classes.contains(class));
        groups.map(|group| group.places).sum()
    }

    /// For items that stick to somebody who drains.
    pub(super) fn draining(&self) -> usize {
        self.draining
    }

    /// Whether there is any at all, be it where few items may go.
    pub(super) fn is_any(&self) -> bool {
        self.all > 0 || self.draining > 0 || self.unwell > 0
    }
}
