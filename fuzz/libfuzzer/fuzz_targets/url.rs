//! See `pregon_fuzz::url`.

#![no_main]

libfuzzer_sys::fuzz_target!(init: pregon_libfuzzer::watch(), |data: &[u8]| {
    pregon_fuzz::url(data);
});
