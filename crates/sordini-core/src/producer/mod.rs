//! The control plane.
pub mod io;
