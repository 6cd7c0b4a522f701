//! Where payloads come from: files, folders, shipped samples, stdin.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use crate::exit::{Failure, Result};
use crate::payload::Payload;
use crate::samples;

/// The payloads of one file or sample, in order.
#[derive(Debug)]
pub(crate) struct Source {
    /// The name of the source in messages.
    pub(crate) name: String,
    /// The path, if the source is a file.
    pub(crate) path: Option<PathBuf>,
    pub(crate) payloads: Vec<Payload>,
}

impl Source {
    /// Whether one of the payloads is of this kind: a webhook's type, or `turn`.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.payloads.iter().any(|payload| payload.is(kind))
    }
}

/// Loads the sources that `names` stand for: files, folders, samples, or `-` for `stdin`.
pub(crate) fn load(names: &[String], stdin: Option<&str>) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for name in names {
        let path = Path::new(name);
        if let (true, Some(text)) = (name == "-", stdin) {
            sources.push(from_text("stdin".into(), text)?);
        } else if path.is_dir() {
            for file in json_files(path)? {
                sources.push(read_file(&file)?);
            }
        } else if path.exists() {
            sources.push(read_file(path)?);
        } else if let Some(sample) = samples::find(name) {
            sources.push(parse(sample.name.into(), None, sample.text.into())?);
        } else {
            return Err(no_source(name));
        }
    }
    Ok(sources)
}

/// Returns the name and the text of every body that `names` stand for, also of bodies that are not payloads.
pub(crate) fn bodies(names: &[String], stdin: Option<&str>) -> Result<Vec<(String, String)>> {
    let mut bodies = Vec::new();
    for name in names {
        let path = Path::new(name);
        let is_sample = !path.exists() && name != "-";
        let files = if path.is_dir() { json_files(path)? } else { vec![path.to_owned()] };
        for file in files {
            let (name, text) = match (stdin.filter(|_| name == "-"), is_sample) {
                (Some(text), _) => ("stdin".to_owned(), text.to_owned()),
                (None, false) => {
                    let bytes = fs::read(&file).map_err(|error| Failure::file("read", &file, &error))?;
                    (file.display().to_string(), String::from_utf8_lossy(&bytes).into_owned())
                }
                (None, true) => {
                    let sample = samples::find(name).ok_or_else(|| no_source(name))?;
                    (name.clone(), sample.text.to_owned())
                }
            };
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            bodies.extend(each_body(text).into_iter().enumerate().map(|(place, (body, many))| {
                (if many { format!("{name}#{}", place + 1) } else { name.clone() }, body)
            }));
        }
    }
    Ok(bodies)
}

/// Returns the bodies in a text, each with whether the text has several.
fn each_body(text: &str) -> Vec<(String, bool)> {
    if let Ok(payloads) = Payload::read(text) {
        let many = payloads.len() > 1;
        return payloads.into_iter().map(|payload| (payload.body, many)).collect();
    }
    match serde_json::from_str::<Vec<Box<RawValue>>>(text) {
        Ok(items) => items.into_iter().map(|item| (item.get().to_owned(), true)).collect(),
        Err(_) => vec![(text.to_owned(), false)],
    }
}

fn no_source(name: &str) -> Failure {
    Failure::not_found(samples::with_suggestion(format!("{name} is not a file, a folder or a shipped sample"), name))
        .hint("see the samples: callscope samples ls")
}

/// Reads stdin to its end.
pub(crate) fn read_stdin() -> Result<String> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|error| Failure::error(format!("cannot read stdin: {error}")))?;
    String::from_utf8(bytes).map_err(|_| Failure::error("stdin: not UTF-8, so not JSON"))
}

/// Parses the payloads in a text.
pub(crate) fn from_text(name: String, text: &str) -> Result<Source> {
    parse(name, None, text.as_bytes().to_vec())
}

/// Returns the JSON and NDJSON files of a folder, ordered by name. An `index.json` is left out: it lists the others.
fn json_files(path: &Path) -> Result<Vec<PathBuf>> {
    let cannot_read = |error: io::Error| Failure::file("read", path, &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(cannot_read)? {
        let file = entry.map_err(cannot_read)?.path();
        let is_json = file
            .extension()
            .is_some_and(|end| ["json", "ndjson", "jsonl"].iter().any(|known| end.eq_ignore_ascii_case(known)));
        if is_json && file.is_file() && file.file_name().is_some_and(|name| name != "index.json") {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(Failure::not_found(format!("{} holds no *.json or *.ndjson file", path.display())));
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> Result<Source> {
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
            let sources = load(&[sample.name.to_owned()], None).unwrap();
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
        let sources = load(&[folder.path().to_string_lossy().into_owned()], None).unwrap();
        assert_eq!(sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(), ["a.json", "b.json"]);
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        assert_eq!(load(&["no-such-thing".into()], None).unwrap_err().exit, Exit::NotFound);
    }
}
