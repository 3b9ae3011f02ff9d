//! Whether a trampoline may obey: only a parent that could do the same without it.
//!
//! A trampoline does what it is told with all its privileges. So it must have none that its parent lacks, and the
//! parent must be the one who holds the other end of its socket. Then it is of no use to anybody else.

use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::process::{getegid, geteuid, getgid, getppid, getuid};
use rustix::thread::{CapabilitySet, capabilities, capability_is_in_ambient_set};

/// The entry of the auxiliary vector that says whether the kernel gave this program privileges (`getauxval(3)`).
const AT_SECURE: usize = 23;

/// Whether this program has privileges by its file (setuid, setgid, capabilities): whoever started it has fewer.
pub(super) fn is_privileged() -> bool {
    // The kernel's own word, which includes that of security modules. It can't be read where it matters most, in a
    // program with capabilities of its file; so the same is worked out as well.
    let has_kernels_word = std::fs::read("/proc/self/auxv")
        .is_ok_and(|vector| auxiliary(&vector, AT_SECURE).is_some_and(|secure| secure != 0));
    has_kernels_word || getuid() != geteuid() || getgid() != getegid() || has_gained_capabilities()
}

/// Whether it has capabilities that nobody could have passed on to it: over exec, only ambient ones stay.
fn has_gained_capabilities() -> bool {
    if getuid().is_root() {
        return false;
    }
    let Ok(sets) = capabilities(None) else { return true };
    // By bits: the kernel may know more than those with a name.
    let mut present = (0..u64::BITS).map(|bit| 1 << bit).filter(|bit| sets.permitted.bits() & bit != 0);
    present.any(|bit| !capability_is_in_ambient_set(CapabilitySet::from_bits_retain(bit)).unwrap_or(false))
}

/// Whether the socket was made by our parent, with our user.
///
/// The kernel notes who makes a pair, whoever holds its ends later. 0 is a process outside of our pid namespace.
pub(super) fn is_parents(socket: impl AsFd) -> bool {
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    getsockopt(&socket.as_fd(), PeerCredentials)
        .is_ok_and(|maker| maker.pid() == parent && maker.uid() == getuid().as_raw())
}

/// An entry of the auxiliary vector: pairs of a key and a value, each as wide as a pointer.
fn auxiliary(vector: &[u8], key: usize) -> Option<usize> {
    let word = |bytes: &[u8]| bytes.try_into().ok().map(usize::from_ne_bytes);
    let (pairs, _) = vector.as_chunks::<{ 2 * size_of::<usize>() }>();
    let pair = pairs.iter().find(|pair| word(&pair[..size_of::<usize>()]) == Some(key))?;
    word(&pair[size_of::<usize>()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_auxiliary_vector_is_read() {
        let words: [usize; 7] = [3, 1, AT_SECURE, 5, 0, 0, 9];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(auxiliary(&bytes, AT_SECURE), Some(5));
        assert_eq!(auxiliary(&bytes, 3), Some(1));
        assert_eq!(auxiliary(&bytes, 9), None, "cut off");
        let own = std::fs::read("/proc/self/auxv").unwrap();
        assert!(auxiliary(&own, 6).is_some_and(usize::is_power_of_two), "AT_PAGESZ");
    }

    #[test]
    fn a_test_has_no_privileges_by_its_file() {
        assert!(!is_privileged());
    }
}
