//! Feeds libFuzzer's inputs to the oracle [`oracles::retry_after`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::retry_after(data);
});
