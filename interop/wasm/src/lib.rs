//! One run of the core from the first record to its acknowledgement and the close, against a
//! scripted broker: natively and as WebAssembly under Node, which has no clock, thread or socket
//! to offer. Both must see the same events; their hash is compared by `cargo xtask test wasm`.

pub mod scenario;

/// Runs the scenario; the hash of its events.
#[unsafe(no_mangle)]
#[allow(unsafe_code, reason = "the name is the interface to JavaScript; nothing else has it")]
pub extern "C" fn sordini_scenario() -> u64 {
    scenario::run().hash
}

/// Runs the scenario; how many records were acknowledged, so that an equal hash of two runs that
/// did nothing cannot pass.
#[unsafe(no_mangle)]
#[allow(unsafe_code, reason = "the name is the interface to JavaScript; nothing else has it")]
pub extern "C" fn sordini_scenario_records() -> u64 {
    scenario::run().written
}
