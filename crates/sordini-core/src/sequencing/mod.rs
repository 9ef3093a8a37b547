//! One partition's order: which batches are on their way, which sequence each has, and which may
//! go next.

pub mod line;
pub mod slot;
