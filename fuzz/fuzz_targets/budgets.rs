//! Feeds libFuzzer's inputs to the oracle [`oracles::budgets`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracles::budgets(data);
});
