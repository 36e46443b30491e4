//! A device key's file. Source: spec exec (f.1).

use super::{Care, DocumentLock, StateError, files};
use crate::identity::device::DeviceKey;
use crate::sys::clock;
use std::path::Path;

/// The key that `path` holds, or a new one when there is none. A wrong device id is corrected in
/// place; a file that holds no usable key is kept beside under another name and logged, since
/// every gateway that knew that device will ask for pairing again.
///
/// # Errors
/// The file or its directory is unsafe, or the system refused.
pub fn load_or_create(path: &Path) -> Result<DeviceKey, StateError> {
    let lock = DocumentLock::take(path)?;
    let Some(contents) = files::read(path, Care::Secret)? else { return create(&lock) };
    let read = contents
        .text(path)
        .map_err(|error| error.to_string())
        .and_then(|text| DeviceKey::from_document(text).map_err(ToOwned::to_owned));
    match read {
        Ok(read) => {
            if let Some(corrected) = read.corrected {
                crate::log!("state", "{} named another device id; corrected", path.display());
                files::replace(&lock, corrected.as_bytes())?;
            }
            Ok(read.key)
        }
        Err(why) => {
            keep_aside(path, &why)?;
            create(&lock)
        }
    }
}

fn create(lock: &DocumentLock) -> Result<DeviceKey, StateError> {
    let key = DeviceKey::generate();
    files::replace(lock, key.to_document(clock::wall_ms()).as_bytes())?;
    Ok(key)
}

fn keep_aside(path: &Path, why: &str) -> Result<(), StateError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{name}.broken-{}", clock::wall_ms()));
    std::fs::rename(path, &aside).map_err(|error| StateError::io("rename", path, error))?;
    crate::log!(
        "state",
        "{} holds no usable key ({why}); kept as {}, a new key is made",
        path.display(),
        aside.display()
    );
    Ok(())
}
