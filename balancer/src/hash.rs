//! Hashes that are the same in every process and every run.

use std::hash::{Hash, Hasher};

use xxhash_rust::xxh3::Xxh3;

/// The hash of a key, for [`Request::key`](crate::Request::key): XXH3 with a fixed seed, so that two processes agree on
/// it. (The standard library's default hasher begins with another seed in each.)
///
/// ```
/// assert_eq!(cluster_balancer::hash_of("session 4711"), cluster_balancer::hash_of("session 4711"));
/// assert_ne!(cluster_balancer::hash_of("session 4711"), cluster_balancer::hash_of("session 4712"));
/// ```
pub fn hash_of(key: impl Hash) -> u64 {
    let mut hasher = Xxh3::with_seed(0x636c_7573_7465_7200);
    key.hash(&mut hasher);
    hasher.finish()
}

/// Mixes a number so that each bit of it changes half of the bits of the result: the finaliser of SplitMix64 (Steele, Lea,
/// Flood, 2014).
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_key_never_changes() {
        assert_eq!(hash_of("session 4711"), hash_of(String::from("session 4711")));
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf, "the first output of SplitMix64 from seed 0");
    }
}
