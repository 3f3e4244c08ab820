//! Feeds libFuzzer's inputs to the oracle [`oracles::json_scanner`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::json_scanner(data);
});
