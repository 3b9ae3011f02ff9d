//! Chance that can be repeated: SplitMix64 (Steele, Lea, Flood, 2014), from a seed that is printed.

pub(crate) struct Random(u64);

impl Random {
    /// From the seed in `CLUSTER_TEST_SEED`, or another each time.
    pub(crate) fn announced(what: &str) -> Self {
        let given = std::env::var("CLUSTER_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            time.map_or(1, |time| time.as_nanos() as u64)
        });
        eprintln!("{what}: CLUSTER_TEST_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
