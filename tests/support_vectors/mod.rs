//! The recorded cases and the tree of files that they were recorded on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]

use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// `OPENCLAW_VECTORS_DIR`, else ours.
pub fn directory() -> PathBuf {
    std::env::var_os("OPENCLAW_VECTORS_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"), PathBuf::from)
}

fn read(file: &str) -> String {
    let path = directory().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cases of one file.
pub fn cases(file: &str) -> Vec<Value> {
    // Half of a surrogate pair is no text: ours starts with the next whole character.
    let text =
        read(file).replace(r"(truncated) \udca5", "(truncated) ").replace(r#""\ud800""#, r#""(lone surrogate)""#);
    let cases: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(cases.len() > 3, "{file} is empty");
    cases
}

/// The files of `fixture.json`, made in a directory of their own.
pub struct Fixture {
    root: PathBuf,
}

impl Fixture {
    pub fn new() -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let base = std::env::temp_dir().canonicalize().unwrap();
        let root = base.join(format!("oc-vectors-{}-{number}", std::process::id()));
        std::fs::create_dir(&root).unwrap();
        let description: Value = serde_json::from_str(&read("fixture.json")).unwrap();
        let fixture = Self { root };
        for entry in description["entries"].as_array().unwrap() {
            fixture.make(entry);
        }
        fixture
    }

    fn make(&self, entry: &Value) {
        let path = self.root.join(entry["path"].as_str().unwrap());
        match entry["type"].as_str().unwrap() {
            "dir" => std::fs::create_dir_all(&path).unwrap(),
            "file" => std::fs::write(&path, self.text(&entry["content"]).unwrap()).unwrap(),
            "symlink" => return std::os::unix::fs::symlink(self.text(&entry["target"]).unwrap(), &path).unwrap(),
            other => panic!("{other}"),
        }
        let mode = u32::from_str_radix(entry["mode"].as_str().unwrap(), 8).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }

    /// A path below the root, as text.
    pub fn path(&self, below: &str) -> String {
        self.root.join(below).to_str().unwrap().to_owned()
    }

    /// A text of a case, `$ROOT` replaced.
    pub fn text(&self, value: &Value) -> Option<String> {
        value.as_str().map(|text| text.replace("$ROOT", self.root.to_str().unwrap()))
    }

    /// The command text of a case, generated if it says so.
    pub fn command(&self, input: &Value) -> String {
        let rule = &input["commandGen"];
        let part = |name: &str| self.text(&rule[name]).unwrap();
        match self.text(&input["command"]) {
            Some(text) => text,
            None => part("prefix") + &part("unit").repeat(rule["count"].as_u64().unwrap() as usize) + &part("suffix"),
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
