//! The primary's side: the store, and a link to each who follows.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};
use tokio::time::timeout;

use super::broadcast::{Bell, Broadcast};
use super::link::{Inbox, Link, LinkError, receive, send};
use crate::{
    Answer, ClientId, Command, CommandError, Cursor, Epoch, Misbehaviour, Publisher, PublisherConfig,
    PublisherEvent,
};

/// Events that a subscriber may lag behind.
const EVENTS: usize = 256;

/// The clock is looked at again at least so often: a timer can't be set to the end of time.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The primary of a shared state, and everyone who follows. Cheap to clone; when the last clone is dropped, and
/// the last future that [serves](Self::serve), the state is gone.
///
/// The primary's own process reads and watches as everybody else does, by a [`SharedState`](super::SharedState) over a
/// [`memory`](super::memory) link; for a write now and then there is [`execute`](Self::execute).
#[derive(Clone, Debug)]
pub struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    /// Something may expire earlier than thought.
    deadline: Arc<Notify>,
    events: broadcast::Sender<PublisherEvent>,
}

#[derive(Debug)]
struct Core {
    publisher: Publisher,
    broadcast: Option<Box<dyn Broadcast>>,
    links: BTreeMap<ClientId, LinkState>,
    deadline: Option<Instant>,
    /// Links have numbers, so that an old one doesn't end its successor.
    issued: u64,
}

#[derive(Debug)]
struct LinkState {
    number: u64,
    /// Wakes who drives it.
    driver: Option<Waker>,
    /// All was handed over: what is new has to be told.
    is_idle: bool,
    cut_off: Option<Misbehaviour>,
    /// Wakes the replica when something was broadcast.
    bell: Option<Arc<dyn Bell>>,
}

/// Who has something to do, once nothing is locked.
#[derive(Default)]
#[must_use = "they wait, and nobody else will wake them"]
struct Woken {
    drivers: Vec<Waker>,
    bells: Vec<Arc<dyn Bell>>,
    /// That of the replica on whose behalf it was done, if it is to hear something: not needed if it is sent something.
    own: Option<Arc<dyn Bell>>,
}

impl Woken {
    fn wake_drivers(&mut self) {
        self.drivers.drain(..).for_each(Waker::wake);
    }

    fn ring_bells(&mut self) {
        self.bells.drain(..).chain(self.own.take()).for_each(|bell| bell.ring());
    }
}

impl Hub {
    /// The primary of an empty state, of this epoch: one that no primary before it had for the same replicas
    /// ([`Epoch::new`] of something random will do).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled: what expires is looked after by a task. (When that runtime ends, nothing expires
    /// any more.)
    pub fn new(epoch: Epoch, config: PublisherConfig) -> Self {
        Self::start(epoch, config, None)
    }

    /// The same, where some replicas listen to that broadcast ([`serve_listening`](Self::serve_listening)). It must be of this hub alone.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn broadcasting(epoch: Epoch, config: PublisherConfig, broadcast: impl Broadcast + 'static) -> Self {
        Self::start(epoch, config, Some(Box::new(broadcast)))
    }

    fn start(epoch: Epoch, config: PublisherConfig, broadcast: Option<Box<dyn Broadcast>>) -> Self {
        // Here is somebody to see the panic; the task would just not be there.
        drop(tokio::time::sleep(Duration::ZERO));
        // Nobody can watch the publisher in here, so it need not keep for watchers what it commits.
        let config = config.watch(config.watch.history(0, 0));
        let core = Core {
            publisher: Publisher::new(epoch, config),
            broadcast,
            links: BTreeMap::new(),
            deadline: None,
            issued: 0,
        };
        let events = broadcast::Sender::new(EVENTS);
        let deadline = Arc::<Notify>::default();
        let shared = Arc::new(Shared { core: Mutex::new(core), deadline: Arc::clone(&deadline), events });
        tokio::spawn(expire(Arc::downgrade(&shared), deadline));
        Self { shared }
    }

    /// Serves a replica at the other end of this link until it ends. Who that is, you know: the replica must say the same. It may
    /// come back over another link; its leases and the answers it has not read are kept until it is [gone](Self::gone).
    ///
    /// The replica is connected from this call on, not from the first poll: a link that it had before ends, as [`LinkError::Ended`].
    /// Cancel safe: dropping the future ends the link.
    ///
    /// # Errors
    ///
    /// Always says why it ended; [`LinkError::CutOff`] if the replica did what it must not, [`LinkError::Gone`] if it is [gone](Self::gone).
    pub fn serve<L: Link>(&self, client: ClientId, link: L) -> impl Future<Output = LinkError> + use<L> {
        self.serve_with(client, link, None)
    }

    /// The same for a replica that listens to the [broadcast](Self::broadcasting), and hears this bell. (Without a broadcast it is served
    /// as all are.)
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    pub fn serve_listening<L: Link, B: Bell + 'static>(
        &self,
        client: ClientId,
        link: L,
        bell: B,
    ) -> impl Future<Output = LinkError> + use<L, B> {
        self.serve_with(client, link, Some(Arc::new(bell)))
    }

    fn serve_with<L: Link>(
        &self,
        client: ClientId,
        link: L,
        bell: Option<Arc<dyn Bell>>,
    ) -> impl Future<Output = LinkError> + use<L> {
        let served = Served::new(&self.shared, client, bell);
        async move {
            let mut link = pin!(link);
            let mut inbox = Inbox::default();
            poll_fn(|cx| served.poll(link.as_mut(), cx, &mut inbox)).await
        }
    }

    /// The replica is gone for good, its process has exited: its leases end at once, in one revision, and its link does.
    pub fn gone(&self, client: ClientId) {
        let former = self.shared.act(|core| {
            core.publisher.handle_gone(client, now());
            core.links.remove(&client)
        });
        former.and_then(|former| former.driver).into_iter().for_each(Waker::wake);
    }

    /// Carries out a command of the primary's own.
    ///
    /// # Errors
    ///
    /// Why it was refused; then it changed nothing.
    pub fn execute(&self, command: impl Into<Command>) -> Result<Answer, CommandError> {
        // What makes it is not ours, and may use the hub.
        let command = command.into();
        self.shared.act(|core| core.publisher.execute(command, now()))
    }

    /// The last revision, and the epoch.
    pub fn cursor(&self) -> Cursor {
        self.shared.core.lock().publisher.cursor()
    }

    /// Looks at the store and who follows. The hub is locked meanwhile: be short, and don't use it in there.
    pub fn inspect<T>(&self, look: impl FnOnce(&Publisher) -> T) -> T {
        look(&self.shared.core.lock().publisher)
    }

    /// What happens to replicas, from now on: who joined, fell behind, was cut off.
    pub fn events(&self) -> broadcast::Receiver<PublisherEvent> {
        self.shared.events.subscribe()
    }
}

impl Shared {
    /// Does something to the publisher, and wakes whose turn it is then.
    fn act<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        let (done, mut woken) = self.with(None, act);
        woken.wake_drivers();
        woken.ring_bells();
        done
    }

    /// Does something to the publisher, on a link's behalf perhaps, and says whose turn it is then.
    fn with<T>(&self, by: Option<ClientId>, act: impl FnOnce(&mut Core) -> T) -> (T, Woken) {
        let mut core = self.core.lock();
        let before = core.publisher.cursor();
        let done = act(&mut core);
        let is_new = core.publisher.cursor() != before;
        let woken = core.settle(self, by, is_new);
        (done, woken)
    }
}

impl Core {
    fn settle(&mut self, shared: &Shared, by: Option<ClientId>, is_new: bool) -> Woken {
        self.broadcast();
        self.tell_events(shared);
        let deadline = self.publisher.poll_timeout();
        if deadline.is_some_and(|at| self.deadline.is_none_or(|known| at < known)) {
            shared.deadline.notify_one();
        }
        self.deadline = deadline;
        let mut woken = Woken::default();
        for (client, link) in &mut self.links {
            let is_own = Some(*client) == by;
            if !is_new && !is_own {
                continue;
            }
            match &link.bell {
                Some(bell) if self.publisher.is_tuned(*client) => {
                    let bell = self.publisher.poll_bell(*client).then(|| Arc::clone(bell));
                    if is_own { woken.own = bell } else { woken.bells.extend(bell) }
                }
                _ if link.is_idle && !is_own => {
                    link.is_idle = false;
                    woken.drivers.extend(link.driver.clone());
                }
                _ => {}
            }
        }
        woken
    }

    /// Says to all who listen what is new, before any of them is answered.
    fn broadcast(&mut self) {
        let Some(broadcast) = &mut self.broadcast else { return };
        while let Some((revision, message)) = self.publisher.poll_broadcast() {
            broadcast.publish(revision, &message);
        }
    }

    fn tell_events(&mut self, shared: &Shared) {
        while let Some(event) = self.publisher.poll_event() {
            if let PublisherEvent::CutOff { client, reason } = &event
                && let Some(link) = self.links.get_mut(client)
            {
                link.cut_off = Some(reason.clone());
            }
            tell(&event);
            // Nobody listening is no error.
            let _ = shared.events.send(event);
        }
    }
}

/// The link of this number, if it is the client's still. Under one lock with what is done for it: another may take its place at
/// any time, and would lose what it is sent, or be taken for who was before.
fn current(
    links: &mut BTreeMap<ClientId, LinkState>,
    client: ClientId,
    number: u64,
) -> Result<&mut LinkState, LinkError> {
    let link = links.get_mut(&client).ok_or(LinkError::Gone)?;
    if link.number == number { Ok(link) } else { Err(LinkError::Ended) }
}

/// A replica is connected for as long as this lives.
struct Served {
    shared: Arc<Shared>,
    client: ClientId,
    number: u64,
}

impl Served {
    fn new(shared: &Arc<Shared>, client: ClientId, bell: Option<Arc<dyn Bell>>) -> Self {
        let mut core = shared.core.lock();
        core.issued += 1;
        let number = core.issued;
        core.publisher.handle_connected(client);
        if bell.is_some() && core.broadcast.is_some() {
            core.publisher.handle_listening(client);
        }
        let state = LinkState { number, driver: None, is_idle: false, cut_off: None, bell };
        let former = core.links.insert(client, state);
        drop(core);
        former.and_then(|former| former.driver).into_iter().for_each(Waker::wake);
        Self { shared: Arc::clone(shared), client, number }
    }

    fn poll<L: Link>(
        &self,
        mut link: Pin<&mut L>,
        cx: &mut Context<'_>,
        inbox: &mut Inbox,
    ) -> Poll<LinkError> {
        // Who is cut off is told why, and not listened to: it may send without pause and read nothing.
        let may_be_more = self.cut_off().is_none() && receive(link.as_mut(), cx, inbox);
        let (handled, mut woken) = self.handle(inbox, cx);
        woken.wake_drivers();
        if let Err(error) = handled {
            woken.ring_bells();
            return Poll::Ready(error);
        }
        let mut own = woken.own.take();
        let sent = send(link, cx, |_| {
            let message = self.poll_transmit()?;
            if message.is_some() {
                // It will look for what was broadcast, too.
                own = None;
            }
            Ok(message)
        });
        // After the answer: whoever waits for that goes first.
        woken.bells.extend(own);
        woken.ring_bells();
        let has_more = match sent {
            Poll::Ready(Err(error)) => return Poll::Ready(inbox.end.take().unwrap_or(error)),
            Poll::Ready(Ok(true)) => true,
            // All was said, the reason included.
            Poll::Ready(Ok(false)) => match self.cut_off() {
                Some(reason) => return Poll::Ready(LinkError::CutOff(reason)),
                None => false,
            },
            Poll::Pending => false,
        };
        if let Some(end) = inbox.end.take() {
            return Poll::Ready(end);
        }
        if may_be_more || has_more {
            // Others had no turn meanwhile.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn handle(&self, inbox: &mut Inbox, cx: &Context<'_>) -> (Result<(), LinkError>, Woken) {
        let (former, woken) = self.shared.with(Some(self.client), |core| {
            // Whoever ends it, by taking its place or by saying that it is gone, wakes it also while it waits for its peer.
            let link = current(&mut core.links, self.client, self.number)?;
            let former = link.driver.replace(cx.waker().clone());
            for message in inbox.messages.drain(..) {
                core.publisher.handle_message(self.client, &message, now());
            }
            Ok(former)
        });
        // A waker may hold anything, and it goes where nothing is locked.
        (former.map(drop), woken)
    }

    fn poll_transmit(&self) -> Result<Option<Bytes>, LinkError> {
        let mut core = self.shared.core.lock();
        let Core { publisher, links, .. } = &mut *core;
        let link = current(links, self.client, self.number)?;
        let message = publisher.poll_transmit(self.client);
        link.is_idle = message.is_none();
        // It may have said that somebody is live.
        core.tell_events(&self.shared);
        Ok(message)
    }

    fn cut_off(&self) -> Option<Misbehaviour> {
        let mut core = self.shared.core.lock();
        current(&mut core.links, self.client, self.number).ok()?.cut_off.clone()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let mut core = self.shared.core.lock();
        if current(&mut core.links, self.client, self.number).is_ok() {
            let former = core.links.remove(&self.client);
            core.publisher.handle_disconnected(self.client);
            drop(core);
            drop(former);
        }
    }
}

/// Deletes what has expired, until the hub is gone.
async fn expire(shared: Weak<Shared>, changed: Arc<Notify>) {
    while let Some(hub) = shared.upgrade() {
        let deadline = hub.core.lock().deadline;
        let wait = deadline.map(|at| at.saturating_duration_since(now()));
        if wait == Some(Duration::ZERO) {
            hub.act(|core| core.publisher.handle_timeout(now()));
            tokio::task::yield_now().await;
            continue;
        }
        // Nobody shall keep the hub only to wait.
        drop(hub);
        match wait {
            Some(wait) => drop(timeout(wait.min(LONGEST_WAIT), changed.notified()).await),
            None => changed.notified().await,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.deadline.notify_one();
    }
}

fn tell(event: &PublisherEvent) {
    match event {
        PublisherEvent::FellBehind { client, next, revision } => {
            tracing::warn!(%client, %next, %revision, "a replica reads so slowly that it needs a snapshot");
        }
        PublisherEvent::CutOff { client, reason } => tracing::warn!(%client, %reason, "a replica is cut off"),
        PublisherEvent::Missed { client, next, revision } => {
            tracing::info!(%client, %next, %revision, "a replica is too slow for the broadcast: it is sent what it missed");
        }
        event => tracing::debug!(?event, "shared state"),
    }
}

/// By the clock of the runtime, which is the one that waits. (A test may have paused it.)
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
