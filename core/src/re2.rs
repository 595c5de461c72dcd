//! Regular expressions as RE2 reads them, for the engine of the `regex` crate.
//!
//! Both run in linear time and share most of their syntax. Where the engine would answer otherwise
//! without a word, a pattern is rewritten or refused by name:
//!
//! - `\d`, `\s`, `\w` and `\b` are of ASCII letters in RE2, and of Unicode's in the engine: rewritten.
//! - `&&`, `--`, `~~` and `[` within a class are operators in the engine and characters in RE2: refused.
//! - `\B`, half boundaries, `\u` and the flags `x`, `R` and `u`: refused.

use regex_syntax::ast::{
    self, AssertionKind, Ast, ClassPerl, ClassPerlKind, ClassSetBinaryOp, ClassSetItem, ErrorKind,
    Flag, FlagsItemKind, GroupKind, HexLiteralKind, Literal, LiteralKind, Span, Visitor,
};

/// `\b` of ASCII letters, in the engine's syntax.
const ASCII_BOUNDARY: &str = r"(?-u:\b)";
/// Deepest nesting of a pattern.
const NEST: u32 = 100;

/// The pattern in the engine's syntax.
///
/// # Errors
///
/// What of it is no regular expression of RE2, or is not supported.
pub fn translate(source: &str) -> Result<String, String> {
    let ast = parse(source)?;
    Ok(rewritten(source, ast::visit(&ast, Translator::default())?))
}

/// A pattern whose `\b` are of ASCII letters, as in ECMA-262; all else as it was. One that is no
/// regular expression stays as it is.
pub(crate) fn ascii_boundaries(source: &str) -> String {
    let edits = parse(source).ok().and_then(|ast| ast::visit(&ast, Boundaries::default()).ok());
    rewritten(source, edits.unwrap_or_default())
}

/// A text of which some spans, from left to right, read otherwise.
fn rewritten(source: &str, edits: Vec<(Span, &'static str)>) -> String {
    let mut translated = String::with_capacity(source.len());
    let mut from = 0;
    for (span, text) in edits {
        translated.push_str(source.get(from..span.start.offset).unwrap_or_default());
        translated.push_str(text);
        from = span.end.offset;
    }
    translated.push_str(source.get(from..).unwrap_or_default());
    translated
}

/// Reads a pattern; says by name what no engine in linear time has.
///
/// # Errors
///
/// What of it is no regular expression.
#[expect(clippy::wildcard_enum_match_arm, reason = "the foreign enum is non-exhaustive")]
pub(crate) fn parse(source: &str) -> Result<Ast, String> {
    let parsed = ast::parse::ParserBuilder::new().nest_limit(NEST).build().parse(source);
    parsed.map_err(|error| match error.kind() {
        ErrorKind::UnsupportedLookAround => {
            "look-around is not supported: patterns run in linear time".to_owned()
        }
        ErrorKind::UnsupportedBackreference => {
            "back-references are not supported: patterns run in linear time".to_owned()
        }
        kind => format!("not a regular expression: {kind}"),
    })
}

/// Collects `\b`.
#[derive(Default)]
struct Boundaries(Vec<(Span, &'static str)>);

impl Visitor for Boundaries {
    type Output = Vec<(Span, &'static str)>;
    type Err = std::convert::Infallible;

    fn finish(self) -> Result<Self::Output, Self::Err> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        if let Ast::Assertion(assertion) = ast
            && assertion.kind == AssertionKind::WordBoundary
        {
            self.0.push((assertion.span, ASCII_BOUNDARY));
        }
        Ok(())
    }
}

/// Collects what is to be written otherwise, from left to right.
#[derive(Default)]
struct Translator(Vec<(Span, &'static str)>);

impl Translator {
    fn perl(&mut self, class: &ClassPerl, within: bool) {
        let text = match (&class.kind, class.negated, within) {
            (ClassPerlKind::Digit, false, true) => "0-9",
            (ClassPerlKind::Digit, false, false) => "[0-9]",
            (ClassPerlKind::Digit, true, _) => "[^0-9]",
            (ClassPerlKind::Space, false, true) => r"\t\n\f\r ",
            (ClassPerlKind::Space, false, false) => r"[\t\n\f\r ]",
            (ClassPerlKind::Space, true, _) => r"[^\t\n\f\r ]",
            (ClassPerlKind::Word, false, true) => "0-9A-Za-z_",
            (ClassPerlKind::Word, false, false) => "(?-i:[0-9A-Za-z_])",
            (ClassPerlKind::Word, true, true) => "[^0-9A-Za-z_]",
            (ClassPerlKind::Word, true, false) => "(?-i:[^0-9A-Za-z_])",
        };
        self.0.push((class.span, text));
    }
}

impl Visitor for Translator {
    type Output = Vec<(Span, &'static str)>;
    type Err = String;

    fn finish(self) -> Result<Self::Output, String> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), String> {
        match ast {
            Ast::ClassPerl(class) => self.perl(class, false),
            Ast::Literal(literal) => check_literal(literal)?,
            Ast::Flags(set) => check_flags(&set.flags)?,
            Ast::Group(group) => {
                if let GroupKind::NonCapturing(flags) = &group.kind {
                    check_flags(flags)?;
                }
            }
            Ast::Assertion(assertion) => match assertion.kind {
                AssertionKind::WordBoundary => self.0.push((assertion.span, ASCII_BOUNDARY)),
                AssertionKind::StartLine
                | AssertionKind::EndLine
                | AssertionKind::StartText
                | AssertionKind::EndText => {}
                AssertionKind::NotWordBoundary => return Err(unsupported(r"\B")),
                AssertionKind::WordBoundaryStart
                | AssertionKind::WordBoundaryEnd
                | AssertionKind::WordBoundaryStartAngle
                | AssertionKind::WordBoundaryEndAngle
                | AssertionKind::WordBoundaryStartHalf
                | AssertionKind::WordBoundaryEndHalf => {
                    return Err(unsupported("a boundary of one side"));
                }
            },
            Ast::Empty(_)
            | Ast::Dot(_)
            | Ast::ClassUnicode(_)
            | Ast::ClassBracketed(_)
            | Ast::Repetition(_)
            | Ast::Alternation(_)
            | Ast::Concat(_) => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), String> {
        match item {
            ClassSetItem::Perl(class) => self.perl(class, true),
            ClassSetItem::Bracketed(_) => return Err(unsupported("[ within a class; write \\[")),
            ClassSetItem::Literal(literal) => check_literal(literal)?,
            ClassSetItem::Range(range) => {
                check_literal(&range.start)?;
                check_literal(&range.end)?;
            }
            ClassSetItem::Empty(_)
            | ClassSetItem::Ascii(_)
            | ClassSetItem::Unicode(_)
            | ClassSetItem::Union(_) => {}
        }
        Ok(())
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ClassSetBinaryOp) -> Result<(), String> {
        Err(unsupported("&&, -- or ~~ within a class; write each character once"))
    }
}

fn check_literal(literal: &Literal) -> Result<(), String> {
    match literal.kind {
        LiteralKind::HexFixed(HexLiteralKind::UnicodeShort | HexLiteralKind::UnicodeLong)
        | LiteralKind::HexBrace(HexLiteralKind::UnicodeShort | HexLiteralKind::UnicodeLong) => {
            Err(unsupported(r"\u; write \x{…}"))
        }
        LiteralKind::HexFixed(HexLiteralKind::X)
        | LiteralKind::HexBrace(HexLiteralKind::X)
        | LiteralKind::Verbatim
        | LiteralKind::Meta
        | LiteralKind::Superfluous
        | LiteralKind::Octal
        | LiteralKind::Special(_) => Ok(()),
    }
}

fn check_flags(flags: &ast::Flags) -> Result<(), String> {
    for item in &flags.items {
        match item.kind {
            FlagsItemKind::Negation
            | FlagsItemKind::Flag(
                Flag::CaseInsensitive | Flag::MultiLine | Flag::DotMatchesNewLine | Flag::SwapGreed,
            ) => {}
            FlagsItemKind::Flag(Flag::Unicode | Flag::CRLF | Flag::IgnoreWhitespace) => {
                return Err(unsupported("a flag other than i, m, s and U"));
            }
        }
    }
    Ok(())
}

fn unsupported(what: &str) -> String {
    format!("not supported in a pattern: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        regex::Regex::new(&translate(pattern).unwrap()).unwrap().is_match(text)
    }

    /// The answers of RE2.
    #[test]
    fn classes_and_boundaries_are_of_ascii() {
        for (pattern, text, expected) in [
            (r"^\w+$", "naive", true),
            (r"^\w+$", "naïve", false),
            (r"^\W$", "ï", true),
            (r"^[\w-]+$", "a-b", true),
            (r"^[\w-]+$", "ä", false),
            (r"^[^\w]$", "ä", true),
            (r"^[\W\d]+$", "ä1", true),
            (r"^\d+$", "١٢", false),
            (r"^\D+$", "١٢", true),
            (r"^\s$", "\u{a0}", false),
            (r"^\s$", "\u{b}", false),
            (r"^[\s]$", "\t", true),
            (r"^\S$", "\u{a0}", true),
            (r"\bve", "naïve", true),
            (r"\bv", "nave", false),
            (r"(?i)^\w$", "\u{17f}", false),
            (r"(?i)^k$", "\u{212a}", true),
            (r"^\pL+$", "ä", true),
            (r"^[[:alpha:]]$", "ä", false),
            (r"^.$", "ä", true),
            (r"(?P<year>\d{4})-(?:\d\d)", "2024-05", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text:?}");
        }
    }

    #[test]
    fn what_the_engine_reads_otherwise_is_refused_by_name() {
        for (pattern, what) in [
            ("[a&&b]", "&&"),
            ("[a--b]", "--"),
            ("[a~~b]", "~~"),
            ("[a[b]]", "\\["),
            (r"\B", r"\B"),
            (r"\b{start}", "one side"),
            (r"\<", "one side"),
            (r"\u0041", r"\x{"),
            ("(?x)a", "flag"),
            ("(?u:a)", "flag"),
            ("(?=a)", "look-around"),
            ("(?<!a)", "look-around"),
            (r"(a)\1", "back-references"),
            ("^{x}$", "not a regular expression"),
            ("(", "not a regular expression"),
        ] {
            let refused = translate(pattern).unwrap_err();
            assert!(refused.contains(what), "{pattern}: {refused}");
        }
    }
}
