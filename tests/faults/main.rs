//! Devices that fail and lie, at every call of a story: every operation is answered right or with an
//! error, and the next mount shows a state that was promised.

mod book;
mod campaign;
mod device;
mod errors;
mod lies;
mod mounted;
mod stage;
mod story;
mod threads;
mod words;
