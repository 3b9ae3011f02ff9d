//! What a trampoline has inherited, and its program is not to inherit in turn.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::io::Errno;

/// Closes all descriptors but the standard streams and those of ours.
///
/// Others were open in the parent and not closed on exec; they would stay with the program, or be in the place of one
/// that it shall have. Nothing here uses them: the trampoline is called before anything else is opened.
pub(super) fn close_others(ours: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let mut others = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<RawFd>().ok());
        others.extend(number.filter(|number| *number > 2 && ours.iter().all(|fd| fd.as_raw_fd() != *number)));
    }
    for number in others {
        // One of them was the listing's, which is closed by now.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}
