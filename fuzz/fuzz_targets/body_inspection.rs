//! Feeds libFuzzer's inputs to the oracle [`oracles::body_inspection`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::body_inspection(data);
});
