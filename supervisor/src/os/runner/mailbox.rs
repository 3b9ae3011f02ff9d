//! What others want of a runner, until its loop takes it. No I/O.
//!
//! | phase \ what  | start, restart | stop      | shutdown            | the loop is done                             |
//! |---------------|----------------|-----------|---------------------|----------------------------------------------|
//! | Open          | kept           | kept      | Closing, all before | Ended, unless something is kept or may come  |
//! | Closing       | refused        | no matter | kept                | Ended, unless a shutdown is kept             |
//! | Ended         | refused        | refused   | refused             | -                                            |
//!
//! In Closing everything ends anyway: what was kept is dropped.

use std::collections::{BTreeMap, VecDeque};

use crate::os::{Error, Stop};

/// How many orders are kept. A loop takes them each time it turns, so more are there only if it stands.
const MAX_ORDERS: usize = 1024;

/// What is wanted of the service in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Start,
    Stop,
    Restart,
}

impl Order {
    /// As a verb phrase.
    fn operation(self) -> &'static str {
        match self {
            Self::Start => "start the service",
            Self::Stop => "stop the service",
            Self::Restart => "restart the service",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// All is to end.
    Closing,
    /// Nobody takes anything out.
    Ended,
}

#[derive(Debug, Default)]
pub(super) struct Mailbox {
    phase: Phase,
    slots: BTreeMap<String, u32>,
    orders: VecDeque<(u32, Order)>,
    shutdown: Option<Stop>,
    /// Of those who may put something in.
    handles: usize,
}

/// Of those who put something in.
impl Mailbox {
    pub(super) fn put(&mut self, name: &str, order: Order) -> Result<(), Error> {
        let operation = order.operation();
        match (self.phase, order) {
            (Phase::Ended, _) | (Phase::Closing, Order::Start | Order::Restart) => {
                return Err(Error::Ended { operation });
            }
            (Phase::Open, _) | (Phase::Closing, Order::Stop) => {}
        }
        let slot = *self.slots.get(name).ok_or_else(|| Error::UnknownService { name: name.to_owned() })?;
        if self.phase == Phase::Closing {
            return Ok(());
        }
        if self.orders.len() >= MAX_ORDERS {
            return Err(Error::Busy { operation });
        }
        self.orders.push_back((slot, order));
        Ok(())
    }

    /// There is always room for it.
    pub(super) fn shut_down(&mut self, stop: Stop) -> Result<(), Error> {
        if self.phase == Phase::Ended {
            return Err(Error::Ended { operation: "shut down" });
        }
        self.close();
        // A graceful one takes nothing back.
        if self.shutdown != Some(Stop::Now) {
            self.shutdown = Some(stop);
        }
        Ok(())
    }

    pub(super) fn add_handle(&mut self) {
        self.handles += 1;
    }

    pub(super) fn drop_handle(&mut self) {
        self.handles -= 1;
    }
}

/// Of the loop.
impl Mailbox {
    pub(super) fn add_service(&mut self, name: &str, slot: u32) {
        self.slots.insert(name.to_owned(), slot);
    }

    /// The loop begins, perhaps once more.
    pub(super) fn open(&mut self) {
        if self.phase == Phase::Ended {
            self.phase = Phase::Open;
        }
    }

    /// Takes all there is, in order.
    pub(super) fn take(&mut self) -> (VecDeque<(u32, Order)>, Option<Stop>) {
        (std::mem::take(&mut self.orders), self.shutdown.take())
    }

    /// All is to end, for whatever reason.
    pub(super) fn close(&mut self) {
        self.phase = Phase::Closing;
        self.orders.clear();
    }

    /// The loop has nothing more to do, unless there is something here; or may be yet, of which it makes use only if it `waits`.
    /// Returns whether it has ended.
    pub(super) fn try_end(&mut self, waits: bool) -> bool {
        let is_empty = self.orders.is_empty() && self.shutdown.is_none();
        if is_empty && !(waits && self.handles > 0) {
            self.end();
            return true;
        }
        false
    }

    /// Nobody takes anything out any more, and no service is known.
    pub(super) fn end(&mut self) {
        *self = Self { phase: Phase::Ended, handles: self.handles, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox() -> Mailbox {
        let mut mailbox = Mailbox::default();
        mailbox.add_service("web", 3);
        mailbox.add_handle();
        mailbox
    }

    fn text(result: Result<(), Error>) -> String {
        result.map_or_else(|error| error.to_string(), |()| "taken".to_owned())
    }

    #[test]
    fn orders_come_out_as_they_went_in() {
        let mut mailbox = mailbox();
        for order in [Order::Stop, Order::Start, Order::Restart] {
            mailbox.put("web", order).unwrap();
        }
        let (orders, shutdown) = mailbox.take();
        assert_eq!(orders, [(3, Order::Stop), (3, Order::Start), (3, Order::Restart)]);
        assert_eq!(shutdown, None);
        assert_eq!(mailbox.take().0, []);
        assert_eq!(text(mailbox.put("wbe", Order::Stop)), "no service is named `wbe`");
    }

    #[test]
    fn a_loop_that_stands_is_asked_no_more_than_it_can_remember_but_can_be_shut_down() {
        let mut mailbox = mailbox();
        for _ in 0..MAX_ORDERS {
            mailbox.put("web", Order::Restart).unwrap();
        }
        let error = mailbox.put("web", Order::Stop).unwrap_err();
        assert!(matches!(error, Error::Busy { operation: "stop the service" }), "{error}");
        mailbox.shut_down(Stop::Graceful).unwrap();
        let (orders, shutdown) = mailbox.take();
        assert_eq!((orders.len(), shutdown), (0, Some(Stop::Graceful)));
    }

    #[test]
    fn nothing_begins_once_all_is_to_end() {
        let refused = "the runner is shutting down or has ended";
        let mut mailbox = mailbox();
        mailbox.close();
        for order in [Order::Start, Order::Restart] {
            assert!(text(mailbox.put("web", order)).ends_with(refused));
        }
        assert_eq!(text(mailbox.put("web", Order::Stop)), "taken");
        assert_eq!(mailbox.take().0, [], "it ends anyway");
        mailbox.shut_down(Stop::Now).unwrap();
        mailbox.shut_down(Stop::Graceful).unwrap();
        assert!(!mailbox.try_end(false), "what was taken is carried out");
        assert_eq!(mailbox.take().1, Some(Stop::Now));
        assert!(mailbox.try_end(false));
        assert!(text(mailbox.put("web", Order::Stop)).ends_with(refused));
        assert!(text(mailbox.shut_down(Stop::Now)).ends_with(refused));
    }

    #[test]
    fn a_loop_that_waits_for_orders_ends_when_nobody_is_left_to_give_any() {
        let mut mailbox = mailbox();
        mailbox.add_handle();
        mailbox.put("web", Order::Stop).unwrap();
        assert!(!mailbox.try_end(false), "there is something");
        mailbox.take();
        for _ in 0..2 {
            assert!(!mailbox.try_end(true), "there may be something yet");
            mailbox.drop_handle();
        }
        assert!(mailbox.try_end(true));
    }
}
