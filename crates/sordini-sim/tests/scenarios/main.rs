//! The catalogue of what went wrong with producers, sections A to E, line by line: a script by hand
//! for each line that a world can show, named by its number. It says what goes wrong, finds that
//! it was felt, and breaks no promise. What a world can not show is in [`held`].
mod completion_b;
mod held;
mod memory_c;
mod metadata_d;
mod ordering_a;
mod script;
mod transactions_e;
