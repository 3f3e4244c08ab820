//! Feeds libFuzzer's inputs to the oracle [`oracles::config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::config(data);
});
