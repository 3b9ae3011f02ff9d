//! The classic BPF program that names the socket for a new connection: random among the eligible.
//!
//! ```text
//!      ld  #random             A = 32 random bits
//!      mod #3                  A = 0, 1 or 2
//!      jeq #0, 0, 1            the first?
//!      ret #1                      socket 1
//!      jeq #1, 0, 1            the second?
//!      ret #4                      socket 4
//!      ret #5                  otherwise: socket 5
//! ```
//!
//! * Jumps are 8 bits wide, so every test skips only the `ret` after it. This works for any number of sockets.
//! * Random, and not the source port modulo n: who connects from Linux gets an even port as long as there are any, so
//!   with an even n half of the sockets would get nothing.
//! * An index that the group does not have makes the kernel fall back to its hash over the *whole* group. So a
//!   program that is out of date never loses a connection; but it is no way to say "nobody" either.
//! * When none is eligible the program is the same as when all are. To refuse is not possible, and whichever socket
//!   gets the connection, it waits there until somebody accepts.

use nix::libc::{
    BPF_ABS, BPF_ALU, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_MAXINSNS, BPF_MOD, BPF_RET, BPF_W, SKF_AD_OFF,
    SKF_AD_RANDOM, sock_filter,
};

/// How many sockets may be eligible at once: two instructions at the beginning, one at the end, two for every other.
///
/// The kernel also bounds the size of the translated program by `net.core.optmem_max` (ENOMEM). With the 20 KiB that
/// older kernels have by default, that is at about 800.
pub(super) const MOST: usize = (BPF_MAXINSNS as usize - 3) / 2 + 1;

/// The program for a group of `sockets` (which is at least one) that picks among the `eligible` indices. Those that
/// the group does not have are left out. `None` when more than [`MOST`] remain.
pub(super) fn choose(sockets: u32, eligible: impl IntoIterator<Item = u32>) -> Option<Vec<sock_filter>> {
    let mut indices: Vec<u32> = eligible.into_iter().filter(|index| *index < sockets).collect();
    // Twice would be twice the share.
    indices.sort_unstable();
    indices.dedup();
    if indices.is_empty() {
        indices.extend(0..sockets);
    }
    if indices.len() > MOST {
        return None;
    }
    let (last, others) = indices.split_last()?;
    let mut code = Vec::with_capacity(2 * indices.len() + 1);
    code.push(statement(BPF_LD | BPF_W | BPF_ABS, (SKF_AD_OFF + SKF_AD_RANDOM).cast_unsigned()));
    code.push(statement(BPF_ALU | BPF_MOD | BPF_K, u32::try_from(indices.len()).ok()?));
    for (place, index) in (0..).zip(others) {
        code.push(sock_filter { jf: 1, ..statement(BPF_JMP | BPF_JEQ | BPF_K, place) });
        code.push(statement(BPF_RET | BPF_K, *index));
    }
    code.push(statement(BPF_RET | BPF_K, *last));
    Some(code)
}

fn statement(code: u32, k: u32) -> sock_filter {
    // All codes are below 256.
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Runs the program as the kernel would, with `random` for the random number.
    fn run(code: &[sock_filter], random: u32) -> u32 {
        let (mut a, mut pc) = (0, 0);
        loop {
            let sock_filter { code: op, jt, jf, k } = code[pc];
            pc += 1;
            match u32::from(op) {
                op if op == BPF_LD | BPF_W | BPF_ABS => {
                    assert_eq!(k, 0xffff_f038, "the only input is the random number");
                    a = random;
                }
                op if op == BPF_ALU | BPF_MOD | BPF_K => a %= k,
                op if op == BPF_JMP | BPF_JEQ | BPF_K => pc += usize::from(if a == k { jt } else { jf }),
                op if op == BPF_RET | BPF_K => return k,
                op => panic!("instruction {op:#x} at {}", pc - 1),
            }
        }
    }

    /// splitmix64; the seed is fixed, so the figures below are the same in every run.
    fn numbers(mut state: u64) -> impl Iterator<Item = u32> {
        std::iter::repeat_with(move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 32) as u32
        })
    }

    #[test]
    fn every_eligible_index_is_hit_evenly_and_no_other_ever() {
        let all: Vec<u32> = (0..64).collect();
        let odd: Vec<u32> = (0..64).filter(|index| index % 2 == 1).collect();
        for (sockets, eligible) in [
            (4, &[1, 3][..]),
            (4, &[2]),
            (6, &[1, 4, 5]),
            (7, &[0, 1, 2, 3, 4, 5, 6]),
            (64, &all),
            (64, &odd),
        ] {
            let code = choose(sockets, eligible.iter().copied()).unwrap();
            let each = 2_000;
            let mut hits: BTreeMap<u32, u32> = BTreeMap::new();
            for random in numbers(u64::from(sockets)).take(each * eligible.len()) {
                *hits.entry(run(&code, random)).or_default() += 1;
            }
            assert!(hits.keys().eq(eligible), "{sockets} sockets, {eligible:?}: hit {:?}", hits.keys());
            let chi_square: f64 =
                hits.values().map(|hits| (f64::from(*hits) - each as f64).powi(2) / each as f64).sum();
            // Mean n - 1, variance 2 (n - 1): four standard deviations.
            let freedom = (eligible.len() - 1) as f64;
            assert!(chi_square <= freedom + 4.0 * (2.0 * freedom).sqrt(), "{eligible:?}: {chi_square}");
        }
    }

    #[test]
    fn when_none_is_eligible_all_are() {
        let all = choose(3, 0..3).unwrap();
        for none in [choose(3, []).unwrap(), choose(3, [3, 64]).unwrap()] {
            let picked: Vec<_> = (0..6).map(|random| run(&none, random)).collect();
            assert_eq!(picked, [0, 1, 2, 0, 1, 2]);
            assert_eq!(none.len(), all.len());
        }
    }

    #[test]
    fn an_index_twice_or_out_of_range_does_not_count() {
        let code = choose(4, [3, 1, 3, 3, 9]).unwrap();
        let picked: Vec<_> = (0..4).map(|random| run(&code, random)).collect();
        assert_eq!(picked, [1, 3, 1, 3]);
    }

    #[test]
    fn the_largest_program_fits_and_one_more_socket_is_refused() {
        let most = u32::try_from(MOST).unwrap();
        let code = choose(most, 0..most).unwrap();
        assert!(code.len() <= BPF_MAXINSNS as usize, "{} instructions", code.len());
        assert_eq!(
            [0, 1, most - 2, most - 1, most].map(|random| run(&code, random)),
            [0, 1, most - 2, most - 1, 0]
        );
        assert!(choose(most + 1, 0..most + 1).is_none());
        // As many sockets as one likes, if not all of them are eligible.
        assert!(choose(most + 1, 0..most).is_some());
        assert!(choose(0, []).is_none(), "there is nothing to choose from");
    }
}
