use proptest::prelude::*;

use super::super::tests::json_text;
use super::super::{Kind, Node, check, compact, write_number};
use super::*;

const DEPTH: usize = 64;

fn forms(text: &str) -> [String; 2] {
    assert_eq!(check(text.as_bytes(), DEPTH), Ok(()), "{text}");
    [stringify(text.as_bytes()), rfc8785(text.as_bytes())]
        .map(|form| String::from_utf8(form).unwrap())
}

/// Both forms of a text in which no names have to change places.
fn both(text: &str) -> String {
    let [first, second] = forms(text);
    assert_eq!(first, second, "{text}");
    first
}

#[test]
fn white_space_goes() {
    assert_eq!(
        both(" \t\r\n[ 1 , { \"a b\" : [ ] , \"b\" : { } } ]\n"),
        r#"[1,{"a b":[],"b":{}}]"#
    );
    assert_eq!(both(" null "), "null");
    assert_eq!(both("[true,false]"), "[true,false]");
}

#[test]
fn numbers_are_written_as_doubles() {
    for (literal, expected) in [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0e9", "0"),
        ("-0.00e-7", "0"),
        ("1.0", "1"),
        ("10.50", "10.5"),
        ("-100", "-100"),
        ("1E2", "100"),
        ("1e+2", "100"),
        ("0.1", "0.1"),
        ("0.05", "0.05"),
        ("0.00", "0"),
        ("0.000001", "0.000001"),
        ("0.0000010", "0.000001"),
        ("0.0000001", "1e-7"),
        ("-0.00000012", "-1.2e-7"),
        ("123456789012345", "123456789012345"),
        ("9007199254740993", "9007199254740992"),
        ("999999999999999999999", "1e+21"),
        ("123456789012345680000", "123456789012345680000"),
        ("1e20", "100000000000000000000"),
        ("1e21", "1e+21"),
        ("1.5e300", "1.5e+300"),
        ("5e-324", "5e-324"),
        ("1e-400", "0"),
        ("-1e-400", "0"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("4.35", "4.35"),
    ] {
        assert_eq!(both(literal), expected, "{literal}");
    }
    let nines = "9".repeat(200);
    assert_eq!(both(&nines), "1e+200");
    assert_eq!(both(&format!("1.{}1", "0".repeat(700))), "1");
}

/// RFC 8785, appendix B: bits of a double, and how it is written.
#[test]
fn the_numbers_of_rfc_8785() {
    for (bits, expected) in [
        (0x0000_0000_0000_0000, "0"),
        (0x8000_0000_0000_0000, "0"),
        (0x0000_0000_0000_0001, "5e-324"),
        (0x8000_0000_0000_0001, "-5e-324"),
        (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
        (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
        (0x4340_0000_0000_0000, "9007199254740992"),
        (0xc340_0000_0000_0000, "-9007199254740992"),
        (0x4430_0000_0000_0000, "295147905179352830000"),
        (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
        (0x44b5_2d02_c7e1_4af6, "1e+23"),
        (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
        (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
        (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
        (0x444b_1ae4_d6e2_ef50, "1e+21"),
        (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
        (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
        (0x41b3_de43_5555_5553, "333333333.3333332"),
        (0x41b3_de43_5555_5554, "333333333.33333325"),
        (0x41b3_de43_5555_5555, "333333333.3333333"),
        (0x41b3_de43_5555_5556, "333333333.3333334"),
        (0x41b3_de43_5555_5557, "333333333.33333343"),
        (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
        (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
    ] {
        let mut out = Vec::new();
        write_number(&mut out, f64::from_bits(bits));
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{bits:016x}");
    }
}

#[test]
fn what_is_not_finite_is_null() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut out = Vec::new();
        write_number(&mut out, value);
        assert_eq!(out, b"null");
    }
}

#[test]
fn strings_are_unescaped_and_escaped_as_little_as_can_be() {
    let text =
        r#""\u0022\u005C\/\u002f\b\t\n\f\r\u0008\u0009\u000A\u000c\u000D\u0000\u001F\u007f""#;
    let expected = "\"\\\"\\\\//\\b\\t\\n\\f\\r\\b\\t\\n\\f\\r\\u0000\\u001f\u{7f}\"";
    assert_eq!(both(text), expected);
    assert_eq!(both(r#""\u00e9\u2028\uFEFF\uD83D\uDE00<>&'""#), "\"é\u{2028}\u{feff}😀<>&'\"");
    assert_eq!(both("\"\u{7f}\u{2029}😀é/\""), "\"\u{7f}\u{2029}😀é/\"");
    assert_eq!(both(r#"["\\","\"]","a\\\\"]"#), r#"["\\","\"]","a\\\\"]"#);
}

#[test]
fn array_indices_come_first_at_every_level() {
    let ordered = |text: &str| forms(text)[0].clone();
    assert_eq!(
        ordered(r#"{"b":1,"10":2,"a":3,"9":4,"0":5}"#),
        r#"{"0":5,"9":4,"10":2,"b":1,"a":3}"#
    );
    assert_eq!(
        ordered(r#"{"z":{"y":[{"x":1,"1":{"k":0,"7":0}}],"3":2},"2":{}}"#),
        r#"{"2":{},"z":{"3":2,"y":[{"1":{"7":0,"k":0},"x":1}]}}"#
    );
    // Compared after unescaping, and written unescaped.
    assert_eq!(ordered(r#"{"a":1,"\u0031":2}"#), r#"{"1":2,"a":1}"#);
    // The last index there is, and what only looks like one.
    for (name, is_index) in [
        ("4294967294", true),
        ("4294967295", false),
        ("4294967296", false),
        ("42949672950", false),
        ("99999999999999999999999", false),
        ("00", false),
        ("01", false),
        ("-1", false),
        ("1.0", false),
        ("1e1", false),
        ("", false),
        (" 1", false),
        ("1 ", false),
        ("\u{661}", false),
    ] {
        let (before, after) = (format!("\"{name}\":1"), "\"a\":0");
        let text = format!("{{{after},{before}}}");
        let expected = if is_index { format!("{{{before},{after}}}") } else { text.clone() };
        assert_eq!(ordered(&text), expected, "{name}");
    }
    assert_eq!(ordered(r#"{"__proto__":{"1":0},"0":1}"#), r#"{"0":1,"__proto__":{"1":0}}"#);
}

/// RFC 8785, section 3.2.3: the example of its order, and where code points would differ.
#[test]
fn rfc_8785_sorts_by_code_units() {
    let text = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh",
        "1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control",
        "\u00f6":"Latin Small Letter O With Diaeresis"}"#;
    let values = |text: &str| -> Vec<String> {
        let form = rfc8785(text.as_bytes());
        let members = Node::of(&form).members();
        members.map(|(_, value)| value.as_str().unwrap().into_owned()).collect()
    };
    let expected = [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ];
    assert_eq!(values(text), expected);
    // The same order where no name is escaped.
    let plain = text.replace("\\r", "\\n").replace("\\u20ac", "€").replace("\\ufb33", "\u{fb33}");
    let plain = plain.replace("\\ud83d\\ude00", "😀").replace("\\u0080", "\u{80}");
    assert_eq!(values(&plain.replace("\\u00f6", "ö")), expected);

    let sorted = |text: &str| forms(text)[1].clone();
    assert_eq!(
        sorted(r#"{"b":{"z":1,"y":[{"d":0,"c":0}]},"10":1,"9":2,"":3}"#),
        r#"{"":3,"10":1,"9":2,"b":{"y":[{"c":0,"d":0}],"z":1}}"#
    );
    assert_eq!(sorted(r#"{"ab":1,"a":2,"aa":3}"#), r#"{"a":2,"aa":3,"ab":1}"#);
}

#[test]
fn large_objects_are_put_in_order() {
    let members: Vec<_> = (0..5000).rev().map(|i| format!("\"{i}\":{{\"x\":{i}}}")).collect();
    let expected: Vec<_> = members.iter().rev().cloned().collect();
    let text = format!("{{{}}}", members.join(","));
    assert_eq!(forms(&text)[0], format!("{{{}}}", expected.join(",")));
}

/// The fewest digits by the standard library, for comparison.
fn shortest(value: f64) -> (String, i32) {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap();
    (digits.replace('.', ""), exponent.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn canonical_texts_mean_the_same_and_stay(text in json_text()) {
        prop_assume!(check(text.as_bytes(), DEPTH).is_ok());
        for form in [stringify, rfc8785] {
            let canonical = form(text.as_bytes());
            prop_assert_eq!(check(&canonical, DEPTH), Ok(()));
            prop_assert_eq!(form(&canonical), &canonical[..]);
            prop_assert_eq!(compact(&canonical), &canonical[..]);
            prop_assert!(same(Node::of(text.as_bytes()), Node::of(&canonical)));
        }
        let sorted = rfc8785(text.as_bytes());
        prop_assert_eq!(rfc8785(&stringify(text.as_bytes())), sorted);
    }

    #[test]
    fn numbers_read_back_and_are_short(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        let mut out = Vec::new();
        write_number(&mut out, value);
        let text = String::from_utf8(out).unwrap();
        prop_assert_eq!(text.parse::<f64>().unwrap(), value);
        prop_assert_eq!(shortest(text.parse().unwrap()), shortest(value));
        let digits = |text: &str| {
            let mantissa = text.trim_start_matches('-').split('e').next().unwrap_or("");
            mantissa.replace('.', "").trim_matches('0').len()
        };
        prop_assert_eq!(digits(&text), digits(&shortest(value).0));
    }

    #[test]
    fn decimals_with_few_digits_stand_as_doubles_do(
        whole in 0u64..1_000_000_000, fraction in "[0-9]{0,8}", negative in any::<bool>(),
    ) {
        let sign = if negative { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        let literal = format!("{sign}{whole}{point}{fraction}");
        let mut out = Vec::new();
        write_number(&mut out, literal.parse().unwrap());
        prop_assert_eq!(stringify(literal.as_bytes()), out, "{}", literal);
    }

    #[test]
    fn unchecked_texts_neither_panic_nor_grow(text in prop::collection::vec(
        prop::sample::select(b"{}[]:,\"\\/ \n0123456789-+.eEu dab\x00\xc3".to_vec()), 0..40)) {
        for form in [stringify, rfc8785] {
            prop_assert!(form(&text).len() <= 24 * text.len());
        }
    }
}

/// Whether two values are the same, whatever the order of members.
fn same(a: Node<'_>, b: Node<'_>) -> bool {
    let number = |node: Node<'_>| std::str::from_utf8(node.source()).ok()?.parse::<f64>().ok();
    a.kind() == b.kind()
        && match a.kind() {
            Kind::Null | Kind::Bool => a.source() == b.source(),
            Kind::Number => number(a) == number(b),
            Kind::String => a.as_str() == b.as_str(),
            Kind::Array => {
                a.elements().count() == b.elements().count()
                    && a.elements().zip(b.elements()).all(|(a, b)| same(a, b))
            }
            Kind::Object => {
                a.members().count() == b.members().count()
                    && a.members().all(|(name, value)| {
                        b.member(&name.text()).is_some_and(|other| same(value, other))
                    })
            }
        }
}
