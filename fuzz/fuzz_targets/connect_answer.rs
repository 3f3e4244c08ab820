//! Feeds libFuzzer's inputs to the oracle [`oracles::connect_answer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::connect_answer(data);
});
