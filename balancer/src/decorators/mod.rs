//! Strategies around strategies: each changes what the one inside sees, or what becomes of its answer.

mod bounded_load;
mod fallback;
mod named;
mod panic_threshold;
mod slow_start;
mod sticky;

pub use self::bounded_load::BoundedLoad;
pub use self::fallback::Fallback;
pub use self::named::{Named, key_of_member};
pub use self::panic_threshold::PanicThreshold;
pub use self::slow_start::SlowStart;
pub use self::sticky::Sticky;
