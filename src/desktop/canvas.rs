//! What the canvas of a session may show: its own folder, and what was asked for by name. No path leaves the folder, no page
//! loads from elsewhere, no link leads out without a question. Source: spec mac-app (8.7), stricter.

use crate::limits;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// The scheme of a canvas's own URLs.
pub const SCHEME: &str = "openclaw-canvas";

/// What a canvas page may load: itself and what it brings along, nothing from a network.
const POLICY: &str = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self'; form-action 'none'; \
                      frame-ancestors 'none'; base-uri 'none'";

/// Shown when the folder has no index.
const EMPTY: &str = "<!doctype html><meta charset=utf-8><title>OpenClaw canvas</title>\
                     <body style=\"font:15px system-ui;padding:2em\">Nothing here yet. Write an <code>index.html</code>.";

/// By extension; what is not here is bytes.
const TYPES: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("json", "application/json"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/plain; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("ico", "image/x-icon"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("wasm", "application/wasm"),
    ("mp4", "video/mp4"),
    ("mp3", "audio/mpeg"),
    ("pdf", "application/pdf"),
];

/// Where a call wants the canvas to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A URL of the session's own folder.
    Own(String),
    /// A page of the web, asked for by name.
    Web(String),
}

/// An answer to one URL of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// MIME type.
    pub mime: &'static str,
    /// `Content-Security-Policy`.
    pub policy: &'static str,
    /// The content.
    pub bytes: Vec<u8>,
}

/// The folder of one session.
#[derive(Clone, Debug)]
pub struct Folder {
    session: String,
    root: PathBuf,
}

impl Folder {
    /// The folder of `session` under `base`; made when it is not there, for us alone.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(base: &Path, session: &str) -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let root = base.join(session);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        Ok(Self { session: session.to_owned(), root: root.canonicalize()? })
    }

    /// What `text` means: `http(s)`, a file of the folder (path or `file:` URL), else a path of the canvas.
    ///
    /// # Errors
    /// A sentence: another scheme, or a file outside the folder.
    pub fn target(&self, text: &str) -> Result<Target, String> {
        let text = text.trim();
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("http://") || lower.starts_with("https://") {
            return Ok(Target::Web(text.to_owned()));
        }
        // What a caller wrote may have a query; a file's own name may have any character.
        let own = |path: &str| Target::Own(self.url(&encoded(path, b"-._~/?#=&%+@!$,;")));
        let own_file = |path: String| Target::Own(self.url(&encoded(&path, b"-._~/")));
        if let Some(rest) = strip_scheme(text, "file") {
            let path = decoded(rest.strip_prefix("//").unwrap_or(rest)).ok_or_else(|| self.outside())?;
            return self.of_file(&path).map(own_file);
        }
        if let Some(rest) = strip_scheme(text, SCHEME) {
            let (session, path) =
                rest.trim_start_matches('/').split_once('/').unwrap_or((rest.trim_start_matches('/'), ""));
            return if session.eq_ignore_ascii_case(&self.session) { Ok(own(path)) } else { Err(self.outside()) };
        }
        if text.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':')) {
            return Err("a canvas shows http, https and its own files only".to_owned());
        }
        // An absolute path that exists is a file; any other one is a path of the canvas.
        if text.len() > 1 && text.starts_with('/') && Path::new(text).exists() {
            return self.of_file(text).map(own_file);
        }
        Ok(own(text.trim_start_matches('/')))
    }

    fn outside(&self) -> String {
        format!("a canvas shows files of its own folder only: {}", self.root.display())
    }

    /// The path below the root of a file that is given by its whole path.
    fn of_file(&self, path: &str) -> Result<String, String> {
        let real = Path::new(path).canonicalize().map_err(|error| format!("{path}: {error}"))?;
        let below = real.strip_prefix(&self.root).map_err(|_| self.outside())?;
        Ok(below.to_string_lossy().into_owned())
    }

    fn url(&self, path: &str) -> String {
        format!("{SCHEME}://{}/{path}", self.session)
    }

    /// The path of one of our own URLs; none for any other.
    fn own_path<'a>(&self, url: &'a str) -> Option<&'a str> {
        let rest = strip_scheme(url, SCHEME)?.strip_prefix("//")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, path) = rest.split_at_checked(end)?;
        host.eq_ignore_ascii_case(&self.session).then_some(path)
    }

    /// Whether the view may go to `url`: its own folder, or `asked`, the page that was asked for by name.
    pub fn may_open(&self, url: &str, asked: Option<&str>) -> bool {
        self.own_path(url).is_some() || url == "about:blank" || asked.is_some_and(|asked| same_page(asked, url))
    }

    /// What stands at `url`. Never anything outside the folder: the file's real path is compared by its components.
    pub fn serve(&self, url: &str) -> Page {
        let not_found = || page(404, "text/plain; charset=utf-8", b"not found".to_vec());
        let Some(path) = self.own_path(url) else { return not_found() };
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let Some(path) = decoded(path) else { return not_found() };
        let below = Path::new(path.trim_start_matches('/'));
        if below.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return page(403, "text/plain; charset=utf-8", b"outside the canvas".to_vec());
        }
        let found = self.root.join(below);
        let found = if found.is_dir() {
            let index =
                ["index.html", "index.htm"].map(|name| found.join(name)).into_iter().find(|file| file.is_file());
            match index {
                Some(file) => file,
                None if below.as_os_str().is_empty() => return page(200, "text/html; charset=utf-8", EMPTY.into()),
                None => return not_found(),
            }
        } else {
            found
        };
        match found.canonicalize() {
            Ok(real) if !real.starts_with(&self.root) => {
                page(403, "text/plain; charset=utf-8", b"outside the canvas".to_vec())
            }
            Ok(real) => read(&real).map_or_else(not_found, |bytes| page(200, mime(&real), bytes)),
            Err(_) => not_found(),
        }
    }

    /// The newest change of a file in it, and how many there are, as far as [`limits::CANVAS_FILES`] of them.
    pub fn stamp(&self) -> (Option<SystemTime>, usize) {
        let (mut newest, mut count) = (None, 0);
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                count += 1;
                if count > limits::CANVAS_FILES {
                    return (newest, count);
                }
                // Links are not followed: they may lead in circles.
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    folders.push(entry.path());
                }
                newest = newest.max(metadata.modified().ok());
            }
        }
        (newest, count)
    }
}

fn page(status: u16, mime: &'static str, bytes: Vec<u8>) -> Page {
    Page { status, mime, policy: POLICY, bytes }
}

fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (head, rest) = text.split_once(':')?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// The same page but for its fragment and a final slash, which a browser adds.
fn same_page(asked: &str, url: &str) -> bool {
    let plain = |url: &str| url.split('#').next().unwrap_or_default().trim_end_matches('/').to_owned();
    plain(asked) == plain(url)
}

/// Percent signs undone; none for broken ones, for NUL and for what is not UTF-8.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok().filter(|text| !text.starts_with('+'))?, 16).ok()?
        } else {
            byte
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok().filter(|path| !path.contains('\0'))
}

/// As a part of a URL: letters, digits and `kept` stay.
fn encoded(path: &str, kept: &[u8]) -> String {
    path.bytes().fold(String::with_capacity(path.len()), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

fn mime(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    TYPES.iter().find(|(known, _)| *known == extension).map_or("application/octet-stream", |(_, mime)| mime)
}

/// A regular file's bytes; none when it is none, or larger than [`limits::CANVAS_FILE_BYTES`].
fn read(path: &Path) -> Option<Vec<u8>> {
    let file = std::fs::File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > limits::CANVAS_FILE_BYTES {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(limits::CANVAS_FILE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct House(PathBuf);

    impl Drop for House {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn house(name: &str) -> (House, Folder) {
        let base = std::env::temp_dir().join(format!("oc-cv-{}-{name}", std::process::id()));
        fs::create_dir_all(base.join("main-other")).unwrap();
        fs::write(base.join("main-other/secret.txt"), "secret").unwrap();
        fs::write(base.join("secret.txt"), "secret").unwrap();
        let folder = Folder::open(&base, "main").unwrap();
        fs::write(folder.root.join("index.html"), "<h1>hello").unwrap();
        fs::create_dir(folder.root.join("sub")).unwrap();
        fs::write(folder.root.join("sub/a b.js"), "1").unwrap();
        std::os::unix::fs::symlink(base.join("secret.txt"), folder.root.join("link.txt")).unwrap();
        std::os::unix::fs::symlink("/", folder.root.join("root")).unwrap();
        (House(base), folder)
    }

    fn status(folder: &Folder, path: &str) -> u16 {
        folder.serve(&folder.url(path)).status
    }

    #[test]
    fn what_is_in_the_folder_is_served_with_its_type() {
        let (_house, folder) = house("serve");
        assert_eq!(folder.serve("openclaw-canvas://main").bytes, b"<h1>hello");
        assert_eq!(folder.serve("OpenClaw-Canvas://MAIN/?x#y").mime, "text/html; charset=utf-8");
        let script = folder.serve("openclaw-canvas://main/sub/a%20b.js?v=1");
        assert_eq!((script.status, script.mime, &*script.bytes), (200, "text/javascript; charset=utf-8", &b"1"[..]));
        assert!(script.policy.contains("connect-src 'self'"));
        assert_eq!((status(&folder, "none.html"), status(&folder, "sub")), (404, 404));
        fs::remove_file(folder.root.join("index.html")).unwrap();
        assert_eq!(folder.serve("openclaw-canvas://main/").bytes, EMPTY.as_bytes());
    }

    #[test]
    fn no_path_leads_out_of_the_folder() {
        let (_house, folder) = house("out");
        for path in [
            "../secret.txt",
            "%2e%2e/secret.txt",
            "sub/../../secret.txt",
            "..%2fsecret.txt",
            "../main-other/secret.txt",
            "link.txt",
            "root/etc/passwd",
            "//etc/passwd",
            "sub/%00",
            "%",
            "%zz",
            "%+1",
            "sub/..",
            "....//secret.txt",
        ] {
            let page = folder.serve(&folder.url(path));
            assert_ne!(page.status, 200, "{path}");
            assert_ne!(page.bytes, b"secret", "{path}");
        }
        for url in ["openclaw-canvas://other/index.html", "file:///etc/passwd", "openclaw-canvas:main/", "", "x"] {
            assert_eq!(folder.serve(url).status, 404, "{url}");
        }
    }

    #[test]
    fn no_mutation_of_a_path_leads_out_or_panics() {
        let (_house, folder) = house("fuzz");
        let pieces = [
            "..",
            "%2e",
            "/",
            "%2f",
            "\\",
            "a",
            "main-other",
            "secret.txt",
            "%00",
            "link.txt",
            "root",
            "é",
            "%c3",
            ".",
            "?",
            "#",
            ":",
        ];
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut path = String::new();
            for _ in 0..seed % 7 + 1 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                path.push_str(pieces[seed as usize % pieces.len()]);
            }
            assert_ne!(folder.serve(&folder.url(&path)).bytes, b"secret", "{path}");
            let _ = folder.target(&path);
        }
    }

    #[test]
    fn a_target_is_the_web_by_name_or_a_file_of_the_folder() {
        let (house, folder) = house("target");
        let own = |text: &str| folder.target(text).unwrap();
        assert_eq!(own("https://example.com/x"), Target::Web("https://example.com/x".into()));
        assert_eq!(own("/"), Target::Own("openclaw-canvas://main/".into()));
        assert_eq!(own("sub/a b.js"), Target::Own("openclaw-canvas://main/sub/a%20b.js".into()));
        let file = folder.root.join("index.html");
        assert_eq!(own(file.to_str().unwrap()), Target::Own("openclaw-canvas://main/index.html".into()));
        assert_eq!(own(&format!("file://{}", file.display())), Target::Own("openclaw-canvas://main/index.html".into()));
        assert_eq!(own("openclaw-canvas://main/sub"), Target::Own("openclaw-canvas://main/sub".into()));
        let secret = house.0.join("secret.txt");
        let link = folder.root.join("link.txt");
        for outside in [
            secret.to_str().unwrap(),
            "file:///etc/passwd",
            link.to_str().unwrap(),
            "javascript:alert(1)",
            "data:text/html,x",
            "openclaw-canvas://other/",
        ] {
            assert!(folder.target(outside).is_err(), "{outside}");
        }
    }

    #[test]
    fn a_view_stays_where_it_was_sent() {
        let (_house, folder) = house("stay");
        assert!(folder.may_open("openclaw-canvas://main/sub/x", None) && folder.may_open("about:blank", None));
        assert!(!folder.may_open("https://example.com/", None) && !folder.may_open("openclaw-canvas://other/", None));
        assert!(folder.may_open("https://example.com/#top", Some("https://example.com")));
        assert!(!folder.may_open("https://example.com/elsewhere", Some("https://example.com")));
    }

    #[test]
    fn a_change_of_a_file_changes_the_stamp() {
        let (_house, folder) = house("stamp");
        let before = folder.stamp();
        fs::write(folder.root.join("new.html"), "x").unwrap();
        assert_ne!(before, folder.stamp());
    }
}
