//! Feeds libFuzzer's inputs to the oracle [`oracles::response_head`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::response_head(data);
});
