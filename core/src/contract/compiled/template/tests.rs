use super::*;

#[test]
fn literals_are_json_scalars_as_they_stand() {
    for good in ["0", "-1.50", "1E400", "true", "false", "null"] {
        assert_eq!(Template::literal(good), Ok(Template::Literal(JsonLiteral(good.into()))));
    }
    for bad in ["", "01", "1.", "+1", "NaN", "nul", "\"a\"", "[]", "{}", " 1", "1 ", "1,2", "tru e"]
    {
        assert!(Template::literal(bad).is_err(), "{bad}");
    }
}
