//! What a [`Runner`](super::Runner) tells.

use std::fmt;

use crate::Event;
use crate::os::{Death, Error, Tail};

/// Something that happened, for [`Runner::run`](super::Runner::run).
///
/// Its `Display` is a line of a log, with all causes of an [`error`](Self::error); then the last words, a line each.
#[derive(Debug)]
#[non_exhaustive]
pub struct News<'a> {
    /// The service it happened to, where it happened to one.
    pub service: Option<&'a str>,
    /// What happened.
    pub event: &'a Event,
    /// What the kernel tells about a death.
    pub death: Option<&'a Death>,
    /// The last lines of one that died, if they were captured.
    pub last_words: Option<&'a Tail>,
    /// Why a child could not be started, with [`Event::SpawnFailed`].
    pub error: Option<&'a Error>,
}

impl fmt::Display for News<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(service) = self.service {
            write!(f, "{service}: ")?;
        }
        write!(f, "{}", self.event)?;
        if let Some(death) = self.death {
            write!(f, "{death}")?;
        }
        let first: Option<&dyn std::error::Error> = self.error.map(|error| error as _);
        for cause in std::iter::successors(first, |cause| cause.source()) {
            write!(f, ": {cause}")?;
        }
        match self.last_words {
            Some(words) if !words.is_empty() => {
                write!(f, "; its last words:\n{}", words.to_string().trim_end())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::WorkerId;

    #[test]
    fn a_failed_start_is_told_in_one_line_with_all_its_causes() {
        let event =
            Event::SpawnFailed { id: WorkerId::new(0, 1), retry_in: Some(Duration::from_millis(1500)) };
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = Error::Spawn { path: "/no/web".into(), source };
        let news =
            News { service: Some("web"), event: &event, death: None, last_words: None, error: Some(&error) };
        assert_eq!(
            news.to_string(),
            "web: worker 0.1 could not be spawned, next try in 1.5s: could not start /no/web: entity not found"
        );
    }
}
