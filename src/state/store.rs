//! A JSON document as a typed value: the gateway's pairing records and the like.

use super::{Care, DocumentLock, StateError, files};
use crate::limits;
use crate::protocol::strict;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// One document. A file that does not parse is an error every time, and is never overwritten.
pub struct Store<T> {
    path: PathBuf,
    what: PhantomData<fn() -> T>,
}

impl<T: Default + Serialize + DeserializeOwned> Store<T> {
    /// The document at `path`, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self { path, what: PhantomData }
    }

    /// What the document says; the default when there is none. Creates nothing.
    ///
    /// # Errors
    /// The file is unsafe or broken (it stays as it is), or the system refused.
    pub fn load(&self) -> Result<T, StateError> {
        self.read(Care::Document)
    }

    /// Like [`Store::load`] for those who only look: not even a loosened mode is repaired.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn inspect(&self) -> Result<T, StateError> {
        self.read(Care::Inspect)
    }

    /// Reads, changes and writes under the document's lock; nothing is written when `change`
    /// leaves the value as it was.
    ///
    /// # Errors
    /// As [`Store::load`]; or the write failed, and the old document still stands.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, StateError> {
        let lock = DocumentLock::take(&self.path)?;
        let mut value = self.read(Care::Document)?;
        let before = to_text(&self.path, &value)?;
        let result = change(&mut value);
        let after = to_text(&self.path, &value)?;
        if after != before {
            files::replace(&lock, after.as_bytes())?;
        }
        Ok(result)
    }

    fn read(&self, care: Care) -> Result<T, StateError> {
        let Some(contents) = files::read(&self.path, care)? else { return Ok(T::default()) };
        let text = contents.text(&self.path)?;
        strict::check(text, limits::STRICT_JSON_DEPTH)
            .map_err(|error| StateError::broken(&self.path, error.to_string()))?;
        serde_json::from_str(text).map_err(|error| StateError::broken(&self.path, shape_error(&error)))
    }
}

/// Where a document has the wrong shape. serde's own words may quote a value, which may be a secret.
fn shape_error(error: &serde_json::Error) -> String {
    format!("unexpected content at line {} column {}", error.line(), error.column())
}

/// Two-space JSON and a final newline, as all documents of the original. Source: spec exec (a.5).
pub(super) fn to_text(path: &Path, value: &impl Serialize) -> Result<String, StateError> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|error| StateError::broken(path, shape_error(&error)))?;
    text.push('\n');
    Ok(text)
}
