//! Changes to an input, chosen by a seed.

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        start..start + self.below((len - start).min(64) + 1)
    }
}

/// Numbers at which something changes.
const EDGES: [u64; 12] = [
    0,
    1,
    253,
    254,
    u8::MAX as u64,
    u16::MAX as u64,
    (1 << 16) + 1,
    1 << 20,
    (1 << 20) + 1,
    u32::MAX as u64,
    i64::MAX as u64,
    u64::MAX,
];

pub(crate) fn mutate(input: &[u8], others: &[(String, Vec<u8>)], seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = input.to_vec();
    for _ in 0..1 + random.below(4) {
        change(&mut bytes, others, &mut random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, others: &[(String, Vec<u8>)], random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(8) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(random.range(bytes.len()))),
        2 => {
            let copied = bytes[random.range(bytes.len())].to_vec();
            bytes.splice(at..at, copied);
        }
        3 => {
            let other = &others[random.below(others.len())].1;
            let copied = other[random.range(other.len())].to_vec();
            bytes.splice(at..at, copied);
        }
        4 => {
            let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
            let width = [1, 2, 4, 8][random.below(4)];
            for (byte, edge) in bytes.iter_mut().skip(at).zip(&edge[..width]) {
                *byte = *edge;
            }
        }
        5 => bytes.extend(std::iter::repeat_n(random.next() as u8, random.below(2000))),
        6 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        _ if !bytes.is_empty() => bytes[at] = random.next() as u8,
        _ => bytes.push(random.next() as u8),
    }
}
