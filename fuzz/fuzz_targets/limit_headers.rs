//! Feeds libFuzzer's inputs to the oracle [`oracles::limit_headers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::limit_headers(data);
});
