//! All processes of the machine, listed once for all who ask in one turn of the loop.

use crate::os::Error;
use crate::os::procfs::{Process, Procfs};

/// Read when it is first asked for: it takes milliseconds on a busy machine.
#[derive(Debug, Default)]
pub(super) struct Listing(Option<Vec<Process>>);

impl Listing {
    /// What there was when this was first called.
    pub(super) fn get(&mut self) -> Result<&[Process], Error> {
        let listed = match self.0.take() {
            Some(listed) => listed,
            None => Procfs::new().processes()?,
        };
        Ok(self.0.insert(listed))
    }
}
