//! Feeds libFuzzer's inputs to the oracle [`oracles::usage_sse`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::usage_sse(data);
});
