//! Where payloads come from: files, folders, shipped samples, stdin.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::payload::Payload;
use crate::exit::{Failure, Result};
use crate::samples;

/// The payloads of one file or sample, in order.
#[derive(Debug)]
pub struct Source {
    /// What it is called.
    pub name: String,
    /// The file, where it is one.
    pub path: Option<PathBuf>,
    /// Its payloads.
    pub payloads: Vec<Payload>,
}

/// Finds everything `names` stand for.
pub fn load(names: &[String]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for name in names {
        let path = Path::new(name);
        if name == "-" {
            let mut bytes = Vec::new();
            io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .map_err(|error| Failure::error(format!("cannot read stdin: {error}")))?;
            sources.push(parse("stdin".into(), None, bytes)?);
        } else if path.is_dir() {
            for file in folder(path)? {
                sources.push(read(&file)?);
            }
        } else if path.exists() {
            sources.push(read(path)?);
        } else if let Some(sample) = samples::find(name) {
            sources.push(parse(sample.name.into(), None, sample.text.into())?);
        } else {
            return Err(Failure::not_found(format!("{name} is no file, no folder and no shipped sample"))
                .hint("see the samples: callscope samples ls"));
        }
    }
    Ok(sources)
}

/// The JSON files of a folder, by name; `index.json` lists others and is none.
fn folder(path: &Path) -> Result<Vec<PathBuf>> {
    let wrong = |error: io::Error| Failure::file("read", path, &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(wrong)? {
        let file = entry.map_err(wrong)?.path();
        let is_json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        if is_json && file.is_file() && file.file_name().is_some_and(|name| name != "index.json") {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(Failure::not_found(format!("{} holds no *.json file", path.display())));
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Source> {
    let bytes = fs::read(path).map_err(|error| Failure::file("read", path, &error))?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    parse(name, Some(path.to_owned()), bytes)
}

fn parse(name: String, path: Option<PathBuf>, bytes: Vec<u8>) -> Result<Source> {
    let wrong = |why: String| Failure::error(format!("{name}: {why}"));
    let text = String::from_utf8(bytes).map_err(|_| wrong("not UTF-8, so not JSON".into()))?;
    let payloads = Payload::read(text.strip_prefix('\u{feff}').unwrap_or(&text)).map_err(wrong)?;
    Ok(Source { name, path, payloads })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn every_shipped_sample_is_readable() {
        for sample in samples::all() {
            let sources = load(&[sample.name.to_owned()]).unwrap();
            assert!(!sources[0].payloads.is_empty(), "{}", sample.name);
        }
    }

    #[test]
    fn a_folder_is_its_json_files_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in
            [("b.json", r#"{"type":"b"}"#), ("a.json", r#"{"type":"a"}"#), ("index.json", "[]"), ("x.txt", "")]
        {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let sources = load(&[folder.path().to_string_lossy().into_owned()]).unwrap();
        assert_eq!(sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(), ["a.json", "b.json"]);
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        assert_eq!(load(&["no-such-thing".into()]).unwrap_err().exit, Exit::NotFound);
    }
}
