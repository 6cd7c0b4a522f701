//! Lists `samples/*.json` for [`samples`](../src/samples.rs). The binary carries them, so they need no folder when it
//! runs.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut index = String::from("\"[]\"");
    let mut list = String::new();
    for path in files {
        println!("cargo::rerun-if-changed={}", path.display());
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let include = format!("include_str!({path:?})");
        if name == "index" {
            index = include;
        } else {
            let _ = writeln!(list, "    ({name:?}, {include}),");
        }
    }
    let code = format!(
        "/// The samples' titles and kinds, as JSON.\npub(super) const INDEX: &str = {index};\n\
         /// Names and texts, by name.\npub(super) const FILES: &[(&str, &str)] = &[\n{list}];\n"
    );
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("samples.rs"), code)
}
