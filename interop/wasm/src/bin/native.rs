//! The scenario, run natively: prints what `run.mjs` prints of the WebAssembly.

#![forbid(unsafe_code)]

use sordini_wasm_scenario::scenario;

fn main() {
    let seen = scenario::run();
    println!("{:016x} {}", seen.hash, seen.written);
}
