//! No text from a model may panic, hang or exhaust the stack in what reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parl_mt::python::{decode, literal, syntax, text};

fuzz_target!(|input: &str| {
    let is_known = |name: &str| name.len() % 2 == 0;
    let _ = syntax::forbidden_name(input, is_known);
    let _ = syntax::evaluate(input, is_known);
    let _ = decode::decode_text(input);
    let _ = decode::json_loads(input);
    if let Ok(value) = literal::parse_literal(input) {
        let written = text::repr(&value);
        // Numbers too large for a float read as `inf`, and Python writes `Ellipsis`: names, both.
        if let Ok(again) = literal::parse_literal(&written) {
            assert_eq!(text::repr(&again), written);
        }
    }
});
