//! Feeds libFuzzer's inputs to the oracle [`oracles::proxy`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::proxy(data);
});
