//! Feeds libFuzzer's inputs to the oracle [`oracles::state_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::state_file(data);
});
