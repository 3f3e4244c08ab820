//! Feeds libFuzzer's inputs to the oracle [`oracles::usage_json`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::usage_json(data);
});
