//! Imports between modules go one way: a table says which module may import which, and no circle of imports exists.
//!
//! The test reads every path that starts at a module of the crate, in `use` trees and in code, and follows `pub use` to
//! the module that defines the name. Code under `#[cfg(test)]` does not count.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// A module's path inside its crate; empty for the crate's root.
type Module = Vec<String>;

/// What a crate's modules import.
struct Crate {
    modules: BTreeMap<Module, Source>,
}

/// One module's file.
#[derive(Default)]
struct Source {
    /// Paths that the code names, as written, from the crate's root.
    paths: Vec<Vec<String>>,
    /// The names that it exports from elsewhere, and where they come from.
    exports: HashMap<String, Vec<String>>,
    text: String,
}

impl Crate {
    fn read(name: &str, root_file: &str) -> Self {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
        let mut modules = BTreeMap::new();
        read_module(&src, &src.join(root_file), Vec::new(), &mut modules);
        assert!(modules.len() > 5, "{name} has no modules");
        Self { modules }
    }

    /// Returns the module that defines what a path leads to. At most `hops` exports are followed.
    fn owner(&self, path: &[String], hops: usize) -> Option<Module> {
        let length = (0..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length]))?;
        let module = &path[..length];
        match path.get(length).and_then(|name| self.modules[module].exports.get(name)) {
            Some(target) if hops > 0 => self.owner(target, hops - 1).or_else(|| Some(module.to_vec())),
            _ => Some(module.to_vec()),
        }
    }

    /// Returns every import of one module by another, with the path that makes it.
    fn arrows(&self) -> impl Iterator<Item = (&Module, Module, String)> {
        self.modules.iter().flat_map(move |(module, source)| {
            source.paths.iter().filter_map(move |path| {
                let owner = self.owner(path, 4).filter(|owner| owner != module)?;
                Some((module, owner, path.join("::")))
            })
        })
    }

    /// Returns which top modules each top module imports, with an example of each import.
    fn imports(&self) -> BTreeMap<&str, BTreeMap<String, String>> {
        let mut imports: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
        for (from, to, path) in self.arrows() {
            let (Some(from_top), Some(to_top)) = (from.first(), to.first()) else { continue };
            if from_top != to_top {
                let example = format!("{} names {path}", from.join("::"));
                imports.entry(from_top).or_default().entry(to_top.clone()).or_insert(example);
            }
        }
        imports
    }

    /// Fails if a top module imports a module that the table does not allow, or does not import one that it allows.
    fn check_table(&self, table: &[(&str, &str)]) {
        let mut faults = Vec::new();
        let mut imports = self.imports();
        for (module, allowed) in table {
            assert!(self.modules.contains_key(&vec![(*module).to_owned()]), "the table names {module}, which is gone");
            let found = imports.remove(module).unwrap_or_default();
            let allowed: BTreeSet<&str> = allowed.split_whitespace().collect();
            faults.extend(found.iter().filter(|(to, _)| !allowed.contains(to.as_str())).map(|(_, path)| path.clone()));
            let unused = allowed.into_iter().filter(|to| !found.contains_key(*to));
            faults.extend(unused.map(|to| format!("{module} does not import {to}, though it may")));
        }
        faults.extend(imports.into_keys().map(|module| format!("the table has no line for {module}")));
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    /// Fails if modules import each other in a circle. A module and the modules inside it count as one, because the
    /// inner modules implement it. Modules beside each other are compared at every depth.
    fn check_circles(&self) {
        let mut edges: BTreeMap<Module, BTreeMap<Module, String>> = BTreeMap::new();
        for (from, to, path) in self.arrows() {
            for depth in 1..=from.len().min(to.len()) {
                // At the first depth at which the paths differ, the two modules lie beside each other.
                let (a, b) = (&from[..depth], &to[..depth]);
                if a != b {
                    let example = format!("{} names {path}", from.join("::"));
                    edges.entry(a.to_vec()).or_default().entry(b.to_vec()).or_insert(example);
                    break;
                }
            }
        }
        let mut circles = Vec::new();
        let mut done = BTreeSet::new();
        for start in edges.keys() {
            circles.extend(circle_from(start, &edges, &mut Vec::new(), &mut done));
        }
        assert!(circles.is_empty(), "modules import each other in circles:\n{}", circles.join("\n"));
    }

    /// Returns the modules whose code contains `word`, outside comments.
    fn modules_with_word(&self, word: &str) -> Vec<String> {
        let names = |text: &str| {
            let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
            code.into_iter().any(|line| {
                let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
                words.any(|found| found == word)
            })
        };
        let found = self.modules.iter().filter(|(_, source)| names(&source.text));
        found.map(|(module, _)| module.join("::")).collect()
    }
}

/// Follows the imports depth first, and describes the first circle that it finds.
fn circle_from(
    at: &Module,
    edges: &BTreeMap<Module, BTreeMap<Module, String>>,
    path: &mut Vec<Module>,
    done: &mut BTreeSet<Module>,
) -> Option<String> {
    if let Some(begin) = path.iter().position(|module| module == at) {
        let circle: Vec<&Module> = path[begin..].iter().chain([at]).collect();
        let steps = circle.windows(2).map(|pair| format!("  {}", edges[pair[0]][pair[1]]));
        return Some(steps.collect::<Vec<_>>().join("\n"));
    }
    if done.contains(at) {
        return None;
    }
    path.push(at.clone());
    let found = edges.get(at).and_then(|next| next.keys().find_map(|to| circle_from(to, edges, path, done)));
    path.pop();
    done.insert(at.clone());
    found
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let words = list.tokens.to_string();
            words.starts_with("test") || words.contains("all (test")
        }
        _ => false,
    })
}

/// Reads a module's file and those of the modules that it declares.
fn read_module(src: &Path, file: &Path, module: Module, modules: &mut BTreeMap<Module, Source>) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let children: BTreeSet<String> = parsed.items.iter().filter_map(child).map(|item| item.ident.to_string()).collect();
    let code = code_of(&text).to_owned();
    let mut reader = Reader { module: module.clone(), children, source: Source { text: code, ..Source::default() } };
    reader.visit_file(&parsed);
    for child in &reader.children {
        let mut path = module.clone();
        path.push(child.clone());
        let place: PathBuf = src.join(path.iter().collect::<PathBuf>());
        let file = [place.with_extension("rs"), place.join("mod.rs")].into_iter().find(|file| file.exists());
        read_module(src, &file.unwrap_or_else(|| panic!("no file for {}", path.join("::"))), path, modules);
    }
    modules.insert(module, reader.source);
}

/// Returns the module that an item declares in a file of its own, unless the module is for tests alone.
fn child(item: &Item) -> Option<&syn::ItemMod> {
    match item {
        Item::Mod(item) if item.content.is_none() && !is_for_tests(&item.attrs) => Some(item),
        _ => None,
    }
}

/// Returns the text without its test module, which is the last item of a file.
fn code_of(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod tests {").map_or(text, |end| &text[..end])
}

/// Collects the paths of one file.
struct Reader {
    module: Module,
    children: BTreeSet<String>,
    source: Source,
}

impl Reader {
    /// Returns the path from the crate's root, or `None` if it leads out of the crate.
    fn rooted(&self, path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let (mut base, mut rest) = match first.as_str() {
            "crate" => (Vec::new(), rest),
            "self" => (self.module.clone(), rest),
            "super" => (self.module[..self.module.len().checked_sub(1)?].to_vec(), rest),
            name if self.children.contains(name) => (self.module.clone(), path),
            _ => return None,
        };
        while rest.first().is_some_and(|segment| segment == "super") {
            base.pop()?;
            rest = &rest[1..];
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    /// Collects the paths of a `use` tree. `prefix` is the part of the path above the tree.
    fn walk(&mut self, tree: &UseTree, prefix: &mut Vec<String>, is_public: bool) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.walk(&path.tree, prefix, is_public);
                prefix.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.walk(tree, prefix, is_public)),
            UseTree::Name(name) => self.bind(&name.ident, &name.ident, prefix, is_public),
            UseTree::Rename(rename) => self.bind(&rename.ident, &rename.rename, prefix, is_public),
            UseTree::Glob(_) => {
                let path = self.rooted(prefix);
                assert!(!is_public || path.is_none(), "{}: a glob hides who defines what", self.module.join("::"));
                self.source.paths.extend(path);
            }
        }
    }

    fn bind(&mut self, name: &syn::Ident, bound: &syn::Ident, prefix: &[String], is_public: bool) {
        let mut path = prefix.to_vec();
        if name != "self" {
            path.push(name.to_string());
        }
        let Some(path) = self.rooted(&path) else { return };
        if is_public {
            self.source.exports.insert(bound.to_string(), path.clone());
        }
        self.source.paths.push(path);
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_public = !matches!(item.vis, syn::Visibility::Inherited);
        self.walk(&item.tree, &mut Vec::new(), is_public);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.source.paths.extend(self.rooted(&segments));
        }
        visit::visit_path(self, path);
    }
}

/// The server's top modules and what each may import. `lib.rs` and `main.rs`, which wire them, import what they need.
const SERVER: &[(&str, &str)] = &[
    ("auth", "clock secret"),
    ("clock", ""),
    ("cluster", "clock ingest live log secret store telemetry"),
    ("embedded", "auth http live settings store"),
    ("http", "auth clock cluster ingest live log policy readiness settings store telemetry transport"),
    ("ingest", "clock log policy secret store telemetry token_bucket"),
    ("live", "auth clock log policy store token_bucket"),
    ("log", ""),
    ("policy", ""),
    ("readiness", "cluster live store"),
    ("retention", "clock log policy store"),
    ("secret", ""),
    ("settings", "cluster log policy secret store"),
    ("shutdown", "live policy telemetry"),
    ("store", "clock log"),
    ("telemetry", "clock"),
    ("testing", "http live"),
    ("token_bucket", ""),
    ("transport", "policy telemetry"),
];

/// The client's top modules and what each may import. They are ordered from the commands down to the leaves.
const CLIENT: &[(&str, &str)] = &[
    (
        "command",
        "api clock config doctor duration exit listen net payload play redact render replay samples secret settings signals \
         speed stream tail term token top webhook",
    ),
    ("doctor", "api clock config duration exit net render settings stream token"),
    ("listen", "api exit net render secret settings state_file stream webhook"),
    ("play", "clock exit settings speed stream tail term"),
    ("tail", "api clock exit net render settings signals state_file stream term"),
    ("top", "api duration exit render term"),
    ("replay", "clock exit net payload render samples speed webhook"),
    ("samples", "clock exit payload"),
    ("payload", "clock"),
    ("redact", ""),
    ("stream", "api exit net secret settings"),
    ("webhook", "api clock exit net render secret"),
    ("api", "exit net secret settings"),
    ("settings", "config exit net render secret"),
    ("config", "exit secret"),
    ("secret", "exit render"),
    ("token", "duration exit secret"),
    ("net", "clock exit render"),
    ("term", "clock exit render signals"),
    ("render", "exit"),
    ("signals", "exit"),
    ("state_file", "exit"),
    ("clock", ""),
    ("duration", ""),
    ("exit", ""),
    ("speed", ""),
];

#[test]
fn each_module_imports_what_the_table_allows() {
    Crate::read("server", "lib.rs").check_table(SERVER);
    Crate::read("cli", "main.rs").check_table(CLIENT);
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    for (name, root_file) in [("server", "lib.rs"), ("cli", "main.rs"), ("common", "lib.rs")] {
        Crate::read(name, root_file).check_circles();
    }
}

/// Some libraries may be named only in a few modules.
#[test]
fn libraries_stay_in_their_rooms() {
    let (server, client) = (Crate::read("server", "lib.rs"), Crate::read("cli", "main.rs"));
    for (program, library, rooms) in [
        (&server, "rocket", &["http", "live::socket"][..]),
        (&server, "sqlx", &["store"]),
        (&server, "rusqlite", &["store"]),
        (&server, "tungstenite", &["live::session"]),
        (&client, "ratatui", &["tail::tui", "term", "top"]),
        (&client, "reqwest", &["api", "doctor::network", "net", "webhook"]),
        (&client, "rustls", &["net"]),
    ] {
        let is_outside = |module: &String| !rooms.iter().any(|room| module.starts_with(room));
        let outside: Vec<String> = program.modules_with_word(library).into_iter().filter(is_outside).collect();
        assert!(outside.is_empty(), "{library} is named in {outside:?}");
    }
}

/// The rules of the log, and the types that both programs share, compile without a runtime, a database or a socket.
#[test]
fn the_rules_and_the_shared_types_do_no_input_and_output() {
    let (server, common) = (Crate::read("server", "lib.rs"), Crate::read("common", "lib.rs"));
    for word in ["tokio", "rocket", "sqlx", "rusqlite", "fs", "net", "SystemTime", "Instant", "thread"] {
        let rules = server.modules_with_word(word).into_iter().filter(|module| module.starts_with("log"));
        assert_eq!(rules.collect::<Vec<_>>(), [""; 0], "{word} in the rules");
        let shared = common.modules_with_word(word).into_iter().filter(|_| word != "SystemTime");
        assert_eq!(shared.collect::<Vec<_>>(), [""; 0], "{word} in the shared types");
    }
}
