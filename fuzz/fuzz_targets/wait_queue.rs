//! Feeds libFuzzer's inputs to the oracle [`oracles::wait_queue`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::wait_queue(data);
});
