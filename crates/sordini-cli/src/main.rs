//! The command line of Sordini.
fn main() {}
