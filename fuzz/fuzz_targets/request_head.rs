//! Feeds libFuzzer's inputs to the oracle [`oracles::request_head`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::request_head(data);
});
