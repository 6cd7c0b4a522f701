//! The context file: servers by name, each with its login.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use serde::{Deserialize, Serialize};

use crate::exit::{Failure, Result};
use crate::secret::{Secret, is_open_to_others};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Config {
    /// The context in use, for commands that do not name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
    /// Fields of other versions, which are written back unchanged.
    #[serde(flatten)]
    rest: toml::Table,
}

/// A server and its login.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Context {
    pub(crate) server: String,
    /// A file that holds the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// The access token itself, as `login` keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<StoredToken>,
    /// Fields of other versions, which are written back unchanged.
    #[serde(flatten)]
    rest: toml::Table,
}

/// A token in the context file. `Debug` does not print it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct StoredToken(String);

impl std::fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}

impl Context {
    pub(crate) fn new(server: String) -> Self {
        Self { server, token_file: None, token: None, rest: toml::Table::new() }
    }

    /// Replaces the token or token file by `token`.
    pub(crate) fn store(&mut self, token: &Secret) {
        self.token = Some(StoredToken(token.expose().to_owned()));
        self.token_file = None;
    }

    /// Returns the stored token, or reads it from the token file.
    pub(crate) fn token(&self) -> Result<Option<Secret>> {
        match (&self.token, &self.token_file) {
            (Some(StoredToken(token)), _) => Ok(Some(Secret::new(token))),
            (None, Some(path)) => Secret::read(path).map(Some),
            (None, None) => Ok(None),
        }
    }
}

impl Config {
    /// Reads the user's file, or returns an empty config if there is none.
    pub(crate) fn load() -> Result<Self> {
        path().map_or_else(|| Ok(Self::default()), |path| Self::read(&path))
    }

    fn read(path: &Path) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Self::default());
            }
            Err(error) => return Err(Failure::file("read", path, &error)),
        };
        toml::from_str(&text).map_err(|error: toml::de::Error| {
            // The text of the parser error is dropped, because it quotes the line, which may hold a token.
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            Failure::usage(format!("{} cannot be read: line {line} is not of the right form", path.display()))
                .hint(format!("mend or remove it: {}", path.display()))
        })
    }

    /// Writes the user's file atomically, readable only for the user.
    pub(crate) fn save(&self) -> Result<PathBuf> {
        let path = path().ok_or_else(|| {
            Failure::usage("there is no place for contexts: neither XDG_CONFIG_HOME nor HOME is set")
                .hint("set HOME, or do without: --server URL --token-file FILE")
        })?;
        self.write(&path).map_err(|error| Failure::file("write", &path, &error))?;
        Ok(path)
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        // If the file is a symbolic link, as dotfiles often are, its target is written.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&path).map(drop).map_err(|error| error.error)
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Context> {
        self.contexts.get(name).ok_or_else(|| unknown_context(name))
    }
}

pub(crate) fn unknown_context(name: &str) -> Failure {
    Failure::not_found(format!("no context is called {name:?}")).hint("see which there are: callscope context ls")
}

/// Returns the path of the file, below `XDG_CONFIG_HOME` or else `~/.config`. `None` if neither is set.
pub(crate) fn path() -> Option<PathBuf> {
    // The XDG specification says that a relative path is ignored.
    let folder = |variable| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(base.join("callscope").join("config.toml"))
}

/// Returns the path of the file if other users may read it.
pub(crate) fn path_if_open_to_others() -> Option<PathBuf> {
    path().filter(|path| is_open_to_others(path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_written_reads_back_for_the_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("config.toml");
        let mut config = Config::default();
        config.contexts.insert("desk".into(), Context::new("https://calls.example".into()));
        config.contexts.get_mut("desk").unwrap().store(&Secret::new("a.b.c\n"));
        config.current = Some("desk".into());
        config.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Config::read(&path).unwrap();
        assert_eq!(read.current.as_deref(), Some("desk"));
        assert_eq!(read.get("desk").unwrap().token().unwrap().unwrap().expose(), "a.b.c");
        assert!(!format!("{read:?}").contains("a.b.c"));
        assert_eq!(read.get("other").unwrap_err().exit, crate::exit::Exit::NotFound);
    }

    #[test]
    fn what_another_version_wrote_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "new = 1\n[contexts.a]\nserver = 'http://a'\ncolour = 'red'\n").unwrap();
        Config::read(&path).unwrap().write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("new = 1") && text.contains("colour = \"red\""), "{text}");
    }

    #[test]
    fn errors_name_the_line_and_keep_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        for text in ["[contexts.a]\nserver = 'x'\ntoken = hunter2\n", "[contexts]\n\na = 'hunter2'\n"] {
            fs::write(&path, text).unwrap();
            let failure = Config::read(&path).unwrap_err();
            assert!(failure.message.contains("line 3"), "{failure:?}");
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
    }
}
