//! Files of one crate do not import each other in a circle.
//!
//! File A depends on file B when a path in A names an item that B defines: in a `use`, or where the
//! path stands. Re-exports are followed to the file of the item, so a file that only hands names on
//! is on no circle. `mod x;` and a path to a module name no item. A name that stands alone counts
//! where a glob import brings it in.
//!
//! Two things are left out. What only tests are built from is no part of the product. And a module
//! and its folder are one unit: what a file names of the modules that it stands in does not count.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Crates whose circles are let pass.
const EXEMPT: [&str; 0] = [];

type Names = Vec<String>;

/// A module: what it defines, what it imports, and which paths stand in it.
#[derive(Default)]
struct Module {
    file: PathBuf,
    items: BTreeSet<String>,
    imports: BTreeMap<String, Vec<Names>>,
    globs: Vec<Names>,
    paths: BTreeSet<Names>,
}

/// The modules of one crate, each by its path from the root.
#[derive(Default)]
struct Crate(BTreeMap<Names, Module>);

/// Who depends on whom, and the names that tie them.
type Arrows = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string().trim_start_matches("r#").into()),
        Some(TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_)) | None => None,
    }
}

fn is_punct(token: Option<&TokenTree>, mark: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == mark)
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<Vec<TokenTree>> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => {
            Some(group.stream().into_iter().collect())
        }
        Some(_) | None => None,
    }
}

fn is_path_mark(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

/// Whether an attribute leaves its item out of the product: `cfg(test)`, `cfg(all(test, …))`.
fn is_for_tests(attribute: &[TokenTree]) -> bool {
    let names_test = |condition: Vec<TokenTree>| {
        let text = condition.into_iter().collect::<TokenStream>().to_string();
        text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "test")
            && !text.contains("not")
    };
    match ident(attribute.first()).as_deref() {
        Some("cfg") => group(attribute.get(1), Delimiter::Parenthesis).is_some_and(names_test),
        Some("test") => true,
        Some(_) | None => false,
    }
}

/// The items of a file or a module's braces without their attributes, those for tests left out.
fn items(tokens: &[TokenTree]) -> Vec<&[TokenTree]> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let mut product = true;
        while is_punct(tokens.get(at), '#') {
            let inner = usize::from(is_punct(tokens.get(at + 1), '!'));
            let attribute = group(tokens.get(at + 1 + inner), Delimiter::Bracket).unwrap();
            product &= !is_for_tests(&attribute);
            at += 2 + inner;
        }
        let rest = &tokens[at..];
        let length = item_length(rest);
        if product && length > 0 {
            found.push(&rest[..length]);
        }
        at += length;
    }
    found
}

/// Up to the semicolon or the closing brace.
fn item_length(tokens: &[TokenTree]) -> usize {
    let (kind, at) = kind(tokens);
    let is_function = |at: usize| {
        let next = ident(tokens.get(at + 1));
        matches!(next.as_deref(), Some("fn" | "unsafe" | "async" | "extern"))
    };
    let to_semicolon =
        matches!(kind.as_str(), "use" | "type" | "static") || kind == "const" && !is_function(at);
    let ends = |token: &TokenTree| {
        is_punct(Some(token), ';')
            || !to_semicolon && group(Some(token), Delimiter::Brace).is_some()
    };
    tokens.iter().position(ends).map_or(tokens.len(), |last| last + 1)
}

/// The first word of an item behind its visibility, and where it stands.
fn kind(tokens: &[TokenTree]) -> (String, usize) {
    let mut at = 0;
    if ident(tokens.first()).as_deref() == Some("pub") {
        at += 1 + usize::from(group(tokens.get(1), Delimiter::Parenthesis).is_some());
    }
    (ident(tokens.get(at)).unwrap_or_default(), at)
}

/// The name that an item defines.
fn defined(item: &[TokenTree]) -> Option<String> {
    let (mut word, mut at) = kind(item);
    while matches!(word.as_str(), "const" | "unsafe" | "async" | "extern") {
        let next = ident(item.get(at + 1));
        if word == "const" && !matches!(next.as_deref(), Some("fn" | "unsafe" | "async")) {
            return next;
        }
        at += 1 + usize::from(matches!(item.get(at + 1), Some(TokenTree::Literal(_))));
        word = ident(item.get(at)).unwrap_or_default();
    }
    match word.as_str() {
        "struct" | "enum" | "union" | "trait" | "fn" | "type" | "static" => ident(item.get(at + 1)),
        "macro_rules" => ident(item.get(at + 2)),
        // A macro of ours that defines a type names it first in its braces.
        _ if is_punct(item.get(at + 1), '!') => {
            let body = group(item.get(at + 2), Delimiter::Brace)?;
            items(&body).first().and_then(|item| defined(item).or(ident(item.first())))
        }
        _ => None,
    }
}

impl Module {
    /// A tree of `use`, from behind its prefix.
    fn import(&mut self, prefix: &Names, tokens: &[TokenTree]) {
        for tree in tokens.split(|token| is_punct(Some(token), ',')) {
            let (mut path, mut at) = (prefix.clone(), 0);
            loop {
                if let Some(inner) = group(tree.get(at), Delimiter::Brace) {
                    self.import(&path, &inner);
                    break;
                }
                if is_punct(tree.get(at), '*') {
                    self.globs.push(path);
                    break;
                }
                let Some(name) = ident(tree.get(at)) else { break };
                if name != "self" || path.is_empty() {
                    path.push(name.clone());
                }
                if is_path_mark(tree, at + 1) {
                    at += 3;
                    continue;
                }
                let renamed = ident(tree.get(at + 1)).filter(|word| word == "as");
                let alias = renamed.and_then(|_| ident(tree.get(at + 2)));
                let alias = alias.or(path.last().cloned()).unwrap();
                self.paths.insert(path.clone());
                self.imports.entry(alias).or_default().push(path);
                break;
            }
        }
    }

    /// Every path that stands in these tokens, and every import inside a function.
    fn scan(&mut self, tokens: &[TokenTree]) {
        let mut at = 0;
        while at < tokens.len() {
            if let TokenTree::Group(group) = &tokens[at] {
                self.scan(&group.stream().into_iter().collect::<Vec<_>>());
                at += 1;
                continue;
            }
            let Some(name) = ident(tokens.get(at)) else {
                at += 1;
                continue;
            };
            if name == "use" && !is_punct(tokens.get(at + 1), '<') {
                let length = item_length(&tokens[at..]);
                self.import(&Names::new(), &tokens[at + 1..at + length]);
                at += length;
                continue;
            }
            let begins = at == 0 || !is_punct(tokens.get(at - 1), '.');
            let mut path = vec![name];
            while is_path_mark(tokens, at + 1) && ident(tokens.get(at + 3)).is_some() {
                at += 3;
                path.extend(ident(tokens.get(at)));
            }
            if begins {
                self.paths.insert(path);
            }
            at += 1;
        }
    }
}

impl Crate {
    fn read(root: &Path) -> Self {
        let mut found = Self::default();
        let directory = root.parent().unwrap().to_owned();
        found.file(Names::new(), root, &directory);
        found
    }

    /// A module in a file of its own; its children are in `directory`.
    fn file(&mut self, path: Names, file: &Path, directory: &Path) {
        let text = std::fs::read_to_string(file).unwrap();
        let tokens: TokenStream = text.parse().unwrap();
        self.module(path, file, directory, &tokens.into_iter().collect::<Vec<_>>());
    }

    fn module(&mut self, path: Names, file: &Path, directory: &Path, tokens: &[TokenTree]) {
        let mut module = Module { file: file.to_owned(), ..Module::default() };
        for item in items(tokens) {
            let (word, at) = kind(item);
            match (word.as_str(), ident(item.get(at + 1))) {
                ("mod", Some(name)) => {
                    let child = [&path[..], std::slice::from_ref(&name)].concat();
                    let below = directory.join(&name);
                    match group(item.get(at + 2), Delimiter::Brace) {
                        Some(inner) => self.module(child, file, &below, &inner),
                        None => {
                            self.file(child, &directory.join(format!("{name}.rs")), &below);
                        }
                    }
                }
                _ => {
                    module.items.extend(defined(item));
                    module.scan(item);
                }
            }
        }
        self.0.insert(path, module);
    }

    /// The file and name of the item that `path` names where it stands in module `from`.
    fn resolve(&self, from: &Names, path: &[String], depth: usize) -> Option<(&Path, String)> {
        let depth = depth.checked_sub(1)?;
        let (first, rest) = path.split_first()?;
        let parent = &from[..from.len().saturating_sub(1)];
        match first.as_str() {
            "crate" => return self.within(&Names::new(), rest, depth),
            "self" => return self.within(from, rest, depth),
            "super" if rest.first().is_some_and(|next| next == "super") => {
                return self.resolve(&parent.to_vec(), rest, depth);
            }
            "super" => return self.within(&parent.to_vec(), rest, depth),
            _ => {}
        }
        self.within(from, path, depth)
    }

    /// The same for a path that begins with a name of module `from`.
    fn within(&self, from: &Names, path: &[String], depth: usize) -> Option<(&Path, String)> {
        let depth = depth.checked_sub(1)?;
        let (first, rest) = path.split_first()?;
        let module = self.0.get(from)?;
        let child = [&from[..], std::slice::from_ref(first)].concat();
        if !rest.is_empty() && self.0.contains_key(&child) {
            return self.within(&child, rest, depth);
        }
        if module.items.contains(first) {
            return Some((&module.file, first.clone()));
        }
        let imports = module.imports.get(first).into_iter().flatten();
        let mut imports = imports.map(|target| [target, rest].concat());
        imports.find_map(|target| self.resolve(from, &target, depth)).or_else(|| {
            let mut globs = module.globs.iter().map(|glob| [glob, path].concat());
            globs.find_map(|target| self.resolve(from, &target, depth))
        })
    }

    fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (path, module) in &self.0 {
            for named in &module.paths {
                if let Some((file, item)) = self.resolve(path, named, 32)
                    && file != module.file
                    && !is_above(file, &module.file)
                {
                    let from = arrows.entry(module.file.clone()).or_default();
                    from.entry(file.to_owned()).or_default().insert(item);
                }
            }
        }
        arrows
    }
}

/// Whether `file` is that of a module in which the module of `other` stands.
fn is_above(file: &Path, other: &Path) -> bool {
    let root = ["lib.rs", "main.rs"].iter().any(|name| file.ends_with(name));
    let folder = if root { file.with_file_name("") } else { file.with_extension("") };
    other.starts_with(folder)
}

/// All that can be reached from a file.
fn reach<'a>(arrows: &'a Arrows, from: &Path) -> BTreeSet<&'a PathBuf> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&PathBuf> = arrows.get(from).into_iter().flat_map(BTreeMap::keys).collect();
    while let Some(file) = open.pop() {
        if found.insert(file) {
            open.extend(arrows.get(file).into_iter().flat_map(BTreeMap::keys));
        }
    }
    found
}

/// The circles, each with the arrows inside it and their names.
fn circles(arrows: &Arrows) -> Vec<String> {
    let reached: BTreeMap<&PathBuf, _> =
        arrows.keys().map(|file| (file, reach(arrows, file))).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (file, below) in &reached {
        if !below.contains(file) || seen.contains(file) {
            continue;
        }
        let back = |other: &&PathBuf| reached.get(other).is_some_and(|set| set.contains(file));
        let circle: BTreeSet<_> = below.iter().copied().filter(back).collect();
        let mut text = String::new();
        for from in &circle {
            for (to, names) in arrows[*from].iter().filter(|(to, _)| circle.contains(to)) {
                text += &format!("\n  {} -> {}: {names:?}", from.display(), to.display());
            }
        }
        found.push(text);
        seen.extend(circle);
    }
    found
}

/// The file that each crate of the workspace begins with, by the crate's folder.
fn roots() -> Vec<(String, PathBuf)> {
    let manifest = std::fs::read_to_string("Cargo.toml").unwrap();
    let members = manifest.lines().find(|line| line.starts_with("members = [")).unwrap();
    let folders = members.split('"').skip(1).step_by(2).chain([""]);
    let root = |folder: &str| {
        let sources = Path::new(folder).join("src");
        let files = [sources.join("lib.rs"), sources.join("main.rs")];
        files.into_iter().find(|file| file.exists()).unwrap()
    };
    folders.map(|folder| (folder.to_owned(), root(folder))).collect()
}

#[test]
fn files_do_not_import_each_other_in_a_circle() {
    let crates = roots().into_iter().filter(|(folder, _)| !EXEMPT.contains(&&**folder));
    let found: Vec<_> =
        crates.flat_map(|(_, root)| circles(&Crate::read(&root).arrows())).collect();
    assert!(found.is_empty(), "{} circles:{}", found.len(), found.join("\n"));
}

#[test]
fn circles_are_seen_through_what_hands_names_on() {
    let folder = tempfile::tempdir().unwrap();
    let circles_of = |files: &[(&str, &str)]| {
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        circles(&Crate::read(&folder.path().join("lib.rs")).arrows())
    };
    let root = ("lib.rs", "mod a;\nmod b;\npub use a::Down;");
    let down = ("a.rs", "mod x;\npub use x::Down;\npub struct Above;");
    let child = ("a/x.rs", "use super::Above;\npub struct Down(Above, Vec<crate::b::Up>);");
    let tests = ("b.rs", "pub struct Up;\n#[cfg(test)]\nmod tests { use crate::Down; }");
    assert_eq!(circles_of(&[root, down, child, tests]), [""; 0]);
    let named = ("b.rs", "pub struct Up;\nfn up() { use crate::*; let _: Down; }");
    let [circle] = &circles_of(&[named])[..] else { panic!("one circle") };
    assert!(circle.contains("a/x.rs -> ") && circle.contains("{\"Up\"}"), "{circle}");
    assert!(circle.contains("b.rs -> ") && circle.contains("{\"Down\"}"), "{circle}");
}
