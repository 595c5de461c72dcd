//! See `pregon_fuzz::response`.

#![no_main]

libfuzzer_sys::fuzz_target!(init: pregon_libfuzzer::watch(), |data: &[u8]| {
    pregon_fuzz::response(data);
});
