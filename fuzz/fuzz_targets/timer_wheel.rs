//! Feeds libFuzzer's inputs to the oracle [`oracles::timer_wheel`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::timer_wheel(data);
});
