//! See `pregon_fuzz::contract`.

#![no_main]

libfuzzer_sys::fuzz_target!(init: pregon_libfuzzer::watch(), |data: &[u8]| {
    pregon_fuzz::contract(data);
});
