//! What `docs/life-of-an-event.md` says is in the code is there.
//!
//! The page names the code in inline code spans: a file (`….rs`, `….lua`) by the end of its path, as far as
//! no other file has it; a function with `()` behind it; a type by its capital. What stands before `::` is
//! the type or the module. A name stands in the file that the section named last before it. What is none
//! of these is no name of the code: a table, a key, a flag.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};

const PAGE: &str = "docs/life-of-an-event.md";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A code span, by what it names.
#[derive(Debug, PartialEq, Eq)]
enum Span<'a> {
    File(&'a str),
    /// With what stands before its name.
    Function(Option<&'a str>, &'a str),
    Type(Option<&'a str>, &'a str),
    /// Nothing of the code.
    Other,
    /// It looks like a name, and says neither what of nor where.
    Unclear,
}

fn is_identifier(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && text.chars().all(word) && !text.starts_with(|c: char| c.is_ascii_digit())
}

fn starts_with_capital(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
}

impl<'a> Span<'a> {
    fn of(text: &'a str) -> Self {
        if text.ends_with(".rs") || text.ends_with(".lua") {
            return Span::File(text);
        }
        let (path, function) = match text.strip_suffix("()") {
            Some(path) => (path, true),
            None => (text, false),
        };
        let (before, name) = match path.rsplit_once("::") {
            Some((before, name)) => (Some(before), name),
            None => (None, path),
        };
        let named = is_identifier(name) && before.is_none_or(is_identifier);
        match (named, function) {
            (true, true) => Span::Function(before, name),
            (true, false) if starts_with_capital(name) => Span::Type(before, name),
            (true, false) if before.is_none() => Span::Other,
            (false, false) if !text.contains("::") => Span::Other,
            (true | false, _) => Span::Unclear,
        }
    }
}

/// What a line of code defines: the keyword and the name.
fn definition(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let keyword = match word {
            "const" if words.peek() == Some(&"fn") => continue,
            "fn" | "function" | "struct" | "enum" | "trait" | "type" | "const" | "static" => word,
            "pub" | "async" | "unsafe" | "local" => continue,
            word if word.starts_with("pub(") || word.ends_with(')') => continue,
            _ => return None,
        };
        let rest = words.next()?;
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        return Some((keyword, &rest[..end.unwrap_or(rest.len())]));
    }
    None
}

/// Lines of code, each with the first line of the block at the left margin that it stands in.
fn lines(code: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut block = "";
    let outside_of_tests = code.lines().take_while(|line| *line != "mod tests {");
    outside_of_tests.filter_map(move |line| {
        let outer = block;
        if line == "}" {
            block = "";
        } else if !line.is_empty()
            && !line.starts_with([' ', '#', '/', ')', '{'])
            && line != "where"
        {
            block = line;
            return Some((line, ""));
        }
        (!line.trim_start().starts_with("//")).then_some((line, outer))
    })
}

/// Whether a block is one of a type: its definition, or an `impl` for it.
fn is_of(block: &str, name: &str) -> bool {
    let words = || block.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let opens =
        block.starts_with("impl") || definition(block).is_some_and(|(what, _)| what != "fn");
    opens && words().any(|word| word == name)
}

/// Whether a file defines what a span names.
fn defines(file: &Path, code: &str, span: &Span<'_>) -> bool {
    let stem = file.file_stem().unwrap().to_str().unwrap();
    let function = |line| match definition(line) {
        Some(("fn" | "function", name)) => Some(name),
        _ => None,
    };
    match span {
        Span::Function(Some(of), name) if starts_with_capital(of) => {
            lines(code).any(|(line, block)| function(line) == Some(name) && is_of(block, of))
        }
        Span::Function(Some(of), name) => {
            stem == *of
                && lines(code).any(|(line, block)| function(line) == Some(name) && block.is_empty())
        }
        Span::Function(None, name) => lines(code).any(|(line, _)| function(line) == Some(name)),
        Span::Type(Some(of), name) if starts_with_capital(of) => {
            lines(code).any(|(line, block)| {
                let variant = line.trim_start().strip_prefix(name);
                let whole =
                    variant.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()));
                whole && definition(block) == Some(("enum", *of))
            })
        }
        Span::Type(of, name) => {
            let there =
                |line| definition(line).is_some_and(|(what, it)| what != "fn" && it == *name);
            of.is_none_or(|of| of == stem) && lines(code).any(|(line, _)| there(line))
        }
        Span::File(_) | Span::Other | Span::Unclear => true,
    }
}

/// Files of ours: not in `target/`, not in hidden directories.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" {
            continue;
        } else if path.is_dir() {
            found.extend(files(&path));
        } else if name.ends_with(".rs") || name.ends_with(".lua") {
            found.push(path);
        }
    }
    found
}

/// What is wrong with a page's names, and how many functions, types and scripts it names.
fn check(page: &str) -> (Vec<String>, [usize; 3]) {
    let (mut faults, mut counts) = (Vec::new(), [0; 3]);
    let (mut file, mut fenced): (Option<(PathBuf, String)>, bool) = (None, false);
    let files = files(&root());
    for (at, line) in page.lines().enumerate() {
        let fence = line.starts_with("```");
        fenced ^= fence;
        if fenced || fence {
            continue;
        }
        if line.starts_with('#') {
            file = None;
        }
        let mut fault = |why: String| faults.push(format!("{PAGE}:{}: {why}", at + 1));
        if line.matches('`').count() % 2 == 1 {
            fault("a code span does not end on its line".into());
        }
        for text in line.split('`').skip(1).step_by(2) {
            let span = Span::of(text);
            match (&span, &file) {
                (Span::Other, _) => continue,
                (Span::Unclear, _) => fault(format!("`{text}`: a function is written with ()")),
                (Span::File(path), _) => {
                    counts[2] += usize::from(path.ends_with(".lua"));
                    let meant =
                        files.iter().filter(|file| file.ends_with(path)).collect::<Vec<_>>();
                    match meant[..] {
                        [one] => file = Some((one.clone(), std::fs::read_to_string(one).unwrap())),
                        _ => fault(format!("`{path}` is {} files", meant.len())),
                    }
                }
                (_, None) => fault(format!("`{text}`: no file is named before it in its section")),
                (_, Some((path, code))) => {
                    counts[usize::from(!matches!(span, Span::Function(..)))] += 1;
                    if !defines(path, code, &span) {
                        fault(format!(
                            "`{text}` is not defined in {}",
                            path.strip_prefix(root()).unwrap().display()
                        ));
                    }
                }
            }
        }
    }
    for (count, what) in counts.iter().zip(["function", "type", "script"]) {
        if *count == 0 {
            faults.push(format!("{PAGE} names no {what}"));
        }
    }
    (faults, counts)
}

#[test]
fn what_the_life_of_an_event_names_exists() {
    let page = std::fs::read_to_string(root().join(PAGE)).unwrap();
    let (faults, counts) = check(&page);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    println!("{} functions, {} types, {} scripts", counts[0], counts[1], counts[2]);
}

#[test]
fn a_page_without_names_does_not_pass() {
    assert_eq!(check("# Nothing\n\nNo `name` at all.\n").0.len(), 3);
}

/// Names that are there, and the same names with one thing wrong.
#[test]
fn a_name_that_is_missing_is_found() {
    let work = "`store/src/api/work.rs`";
    let batch = "`store/src/api/batch.rs`";
    let settle = "`store/src/embedded/work/settle.rs`";
    let script = "`store/src/redis/lua/settle.lua`";
    let right = format!(
        "{work}: `Work::take()`\n{batch}: `Batch`, `Batch::len()`\n\n# A\n\n{settle}: `settle::settle()`, \
         `settle::Prepared`, `place()`, `Place::Range`.\n{script}: `create()`\n"
    );
    let (faults, counts) = check(&right);
    assert_eq!((faults, counts), (Vec::new(), [5, 3, 1]));
    for (there, wrong) in [
        ("`Work::take()`", "`Work::takes()`"),
        ("`Work::take()`", "`Batch::take()`"),
        ("`Work::take()`", "`Work::take`"),
        ("`Batch`", "`Batches`"),
        ("`settle::settle()`", "`moves::settle()`"),
        ("`settle::Prepared`", "`moves::Prepared`"),
        ("`place()`", "`spot()`"),
        ("`Place::Range`", "`Place::Rang`"),
        ("`create()`", "`created()`"),
        (work, "`store/src/api/works.rs`"),
        (work, "`publish.rs`"),
        (settle, "a file"),
    ] {
        let faults = check(&right.replacen(there, wrong, 1)).0;
        assert!(!faults.is_empty(), "{wrong} passed");
    }
}
