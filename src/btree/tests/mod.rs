//! Trees against models: contents, shape, references, and many threads at once.

mod ahead;
mod bench;
mod concurrent;
mod contents;
mod failing;
mod pressed;
mod sharing;
mod speed;
mod waiting;
