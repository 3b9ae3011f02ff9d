//! Where what workers print goes.

use std::fmt;

use cluster_supervisor::WorkerId;
use cluster_supervisor::os::{Capture, CaptureLimits, Line, Prefixed, Sink, Stdio};

use crate::Result;

/// Where the stdout and stderr of workers go: for [`Builder::output`](crate::Builder::output).
///
/// What is read line by line is never waited for by a worker for long: a sink that is too slow loses lines, and is told how many.
/// The last lines of each worker are kept, and told with its death ([`PostMortem`](crate::PostMortem)).
///
/// ```
/// use cluster::{Cluster, Output};
///
/// // [0.1 out] the second life of slot 0 would be 0.2
/// let builder = Cluster::builder().output(Output::prefixed());
///
/// let builder = Cluster::builder().output(Output::lines(|line: cluster::Line<'_>| {
///     let worker = line.source();
///     println!("slot {} says on {}: {}", worker.slot(), line.stream(), line.to_text());
/// }));
/// # let _ = builder;
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct Output(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Inherit,
    Discard,
    Lines(CaptureLimits, Lines),
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inherit => "Inherit",
            Self::Discard => "Discard",
            Self::Lines(..) => "Lines",
        })
    }
}

impl Output {
    /// To where that of this process goes. The default; nothing is kept for post-mortems.
    pub fn inherit() -> Self {
        Self(Kind::Inherit)
    }

    /// Nowhere.
    pub fn discard() -> Self {
        Self(Kind::Discard)
    }

    /// Line by line to the same stream of this process, with the worker and the stream before each: `[0.1 err] `.
    pub fn prefixed() -> Self {
        Self::lines(Prefixed::new(|id: WorkerId, stream| format!("[{id} {stream}] ")))
    }

    /// Line by line to a sink, which may be a closure. It is called on a thread of its own.
    pub fn lines(sink: impl Sink<WorkerId> + 'static) -> Self {
        Self(Kind::Lines(CaptureLimits::new(), Lines(Box::new(sink))))
    }

    /// How long lines may be, how many of the last are kept, and how much may wait for the sink. For what is read line by line.
    pub fn limits(mut self, limits: CaptureLimits) -> Self {
        if let Kind::Lines(current, _) = &mut self.0 {
            *current = limits;
        }
        self
    }

    /// What a child is started with, and what reads it.
    pub(crate) fn start(self) -> Result<(Stdio, Option<Capture<WorkerId>>)> {
        Ok(match self.0 {
            Kind::Inherit => (Stdio::Inherit, None),
            Kind::Discard => (Stdio::Null, None),
            Kind::Lines(limits, lines) => (Stdio::Piped, Some(Capture::start(limits, lines)?)),
        })
    }
}

/// A sink behind a pointer.
struct Lines(Box<dyn Sink<WorkerId>>);

impl Sink<WorkerId> for Lines {
    fn line(&mut self, line: Line<'_, WorkerId>) {
        self.0.line(line);
    }

    fn flush(&mut self) {
        self.0.flush();
    }
}
