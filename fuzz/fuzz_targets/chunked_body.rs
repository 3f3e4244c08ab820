//! Feeds libFuzzer's inputs to the oracle [`oracles::chunked_body`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::chunked_body(data);
});
