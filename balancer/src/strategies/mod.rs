//! The strategies, one per file.

mod cursor;
mod custom;
mod least_loaded;
mod least_used;
mod maglev;
mod named;
mod peak_ewma;
mod power_of_two;
mod random;
mod rendezvous;
mod round_robin;
mod smooth_weighted;
mod weighted_random;

pub use self::custom::{FromFn, from_fn};
pub use self::least_loaded::LeastLoaded;
pub use self::least_used::LeastUsed;
pub use self::maglev::Maglev;
pub use self::named::{UnknownStrategy, by_name, by_name_seeded, names};
pub use self::peak_ewma::PeakEwma;
pub use self::power_of_two::PowerOfTwoChoices;
pub use self::random::Random;
pub use self::rendezvous::Rendezvous;
pub use self::round_robin::RoundRobin;
pub use self::smooth_weighted::SmoothWeighted;
pub use self::weighted_random::WeightedRandom;
