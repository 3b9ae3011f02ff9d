//! The output of children, captured line by line.

mod lines;
mod stream;
mod tail;

pub use self::lines::{Lines, Piece};
pub use self::stream::Stream;
pub use self::tail::{Tail, TailLine};
