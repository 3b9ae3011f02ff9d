//! What a trampoline has inherited, and its program is not to inherit in turn.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::signal::SigSet;
use rustix::io::Errno;

/// Closes all descriptors but the standard streams and those of ours.
///
/// Others were open in the parent and not closed on exec; they would stay with the program, or be in the place of one
/// that it shall have. Nothing here uses them: the trampoline is called before anything else is opened.
pub(super) fn close_others(ours: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut others = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").map_err(|error| errno(&error))? {
        let name = entry.map_err(|error| errno(&error))?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<RawFd>().ok());
        others.extend(number.filter(|number| *number > 2 && ours.iter().all(|fd| fd.as_raw_fd() != *number)));
    }
    for number in others {
        // One of them was the listing's, which is closed by now.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

/// Makes exec give the program every signal with its default action, and none blocked.
///
/// Ignored are those that our parent has been started with (`nohup`, a shell's `&`), and `SIGPIPE`, by Rust's runtime.
/// To set a default action takes `unsafe`; but a handler doesn't, and exec sets whatever is handled to its default.
pub(super) fn reset_signals() -> Result<(), Errno> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| errno(&error))?;
    // Between the classic signals and the real-time ones are the C library's own. Its `posix_spawn` ignores them in each
    // child, and nobody else can set them.
    let c_librarys = 32..nix::libc::SIGRTMIN();
    for signal in ignored(&status).ok_or(Errno::BADMSG)? {
        // What stands for an error of the program can't be handled so; the kernel doesn't let it be ignored, either.
        let is_handled = !signal_hook::consts::FORBIDDEN.contains(&signal) && !c_librarys.contains(&signal);
        if is_handled {
            let handler = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
            handler.map_err(|error| errno(&error))?;
        }
    }
    SigSet::empty().thread_set_mask().map_err(|errno| Errno::from_raw_os_error(errno as i32))
}

/// The signals that `/proc/PID/status` says are ignored.
fn ignored(status: &str) -> Option<impl Iterator<Item = i32>> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    Some((1..=64).filter(move |signal| mask >> (signal - 1) & 1 == 1))
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t8000000000001001\nSigCgt:\t0\n";
        assert_eq!(ignored(status).unwrap().collect::<Vec<_>>(), [1, 13, 64]);
        assert!(ignored("SigIgn:\tx").is_none() && ignored("").is_none());
    }
}
