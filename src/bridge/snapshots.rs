//! What clients saw, for clicks that come later. In memory only; paths in it are texts that nobody
//! here opens (A133). Source: spec peekaboo-bridge §6 "Snapshot store".

use crate::desktop::automation::{self, Done, Failure};
use crate::identity::random;
use crate::limits;
use crate::protocol::peekaboo::coding::Date;
use crate::protocol::peekaboo::types::{
    Detection, DetectionMetadata, ElementLists, Snapshot, StoreScreenshot, WindowContext,
};
use crate::sys::clock::{self, Expiry, Now};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The store.
#[derive(Default)]
pub struct Snapshots(Mutex<HashMap<String, Entry>>);

struct Entry {
    created: i64,
    accessed: i64,
    /// Since when it was not accessed, on both clocks.
    unused: Expiry,
    /// Too old to be "the most recent one".
    old: Expiry,
    /// Counts accesses: wall clocks do not tell two quick ones apart.
    turn: u64,
    bytes: usize,
    seen: Seen,
}

/// What is known of one snapshot.
#[derive(Clone, Default)]
pub struct Seen {
    /// As the client, or our own looking, described it.
    pub detection: Option<Detection>,
    /// The elements of our own looking, by the ids in the detection.
    pub found: HashMap<String, automation::Element>,
    screenshot: Option<StoreScreenshot>,
    annotated: Option<String>,
}

impl Seen {
    /// What our own looking found.
    pub fn now(detection: Detection, found: HashMap<String, automation::Element>) -> Self {
        Self { detection: Some(detection), found, ..Self::default() }
    }

    /// Which window was looked at.
    pub fn context(&self) -> WindowContext {
        let detected = self.detection.as_ref().and_then(|detection| detection.metadata.window_context.clone());
        detected.or_else(|| self.screenshot.as_ref().map(context_of)).unwrap_or_default()
    }

    fn is_of(&self, bundle: &str) -> bool {
        let shot = self.screenshot.as_ref().and_then(|shot| shot.application_bundle_id.as_deref());
        shot == Some(bundle) || self.context().application_bundle_id.as_deref() == Some(bundle)
    }

    /// The detection; of a screenshot alone an empty one that says what is known. Source: spec [V]
    fn into_detection(self, id: &str) -> Option<Detection> {
        if self.detection.is_some() {
            return self.detection;
        }
        let plain = self.screenshot.as_ref().map(|shot| shot.screenshot_path.clone());
        let screenshot_path = self.annotated.or(plain)?;
        let context = self.screenshot.as_ref().map(context_of);
        let known = context.clone().unwrap_or_default();
        let bounds = known.window_bounds.and_then(|bounds| serde_json::to_string(&bounds).ok());
        let warnings = [("APP", known.application_name), ("WINDOW", known.window_title), ("BOUNDS", bounds)];
        let warnings: Vec<String> =
            warnings.into_iter().filter_map(|(name, value)| Some(format!("{name}:{}", value?))).collect();
        let metadata = DetectionMetadata {
            detection_time: 0.0,
            element_count: 0,
            method: "memory-cache".to_owned(),
            warnings,
            is_dialog: false,
            window_context: context,
            truncation_info: None,
        };
        Some(Detection { snapshot_id: id.to_owned(), screenshot_path, elements: ElementLists::default(), metadata })
    }
}

fn context_of(shot: &StoreScreenshot) -> WindowContext {
    WindowContext {
        application_name: shot.application_name.clone(),
        application_bundle_id: shot.application_bundle_id.clone(),
        application_process_id: shot.application_process_id,
        window_title: shot.window_title.clone(),
        window_bounds: shot.window_bounds,
        ..WindowContext::default()
    }
}

impl Snapshots {
    /// A new, empty one; its id.
    pub fn create(&self) -> String {
        let mut entries = self.pruned();
        loop {
            let digits = u16::from_le_bytes(random::public_bytes()) % 10_000;
            let id = format!("{}-{digits:04}", clock::wall_ms());
            if !entries.contains_key(&id) {
                touch(&mut entries, &id);
                return id;
            }
        }
    }

    /// Keeps a detection, and what we know ourselves of its elements; `bytes` is about its size.
    ///
    /// # Errors
    /// The id is none.
    pub fn store_detection(
        &self,
        id: &str,
        detection: Detection,
        found: Option<HashMap<String, automation::Element>>,
        bytes: usize,
    ) -> Done {
        self.store(id, bytes, |seen| {
            seen.detection = Some(detection);
            // A client stores what it got from us: then the elements stay what they were.
            if let Some(found) = found {
                seen.found = found;
            }
        })
    }

    /// Keeps where a client has put a screenshot, and of what it is.
    ///
    /// # Errors
    /// The id is none.
    pub fn store_screenshot(&self, shot: StoreScreenshot, bytes: usize) -> Done {
        self.store(&shot.snapshot_id.clone(), bytes, |seen| seen.screenshot = Some(shot))
    }

    /// Keeps where a client has put an annotated screenshot.
    ///
    /// # Errors
    /// The id is none.
    pub fn store_annotated(&self, id: &str, path: String, bytes: usize) -> Done {
        self.store(id, bytes, |seen| seen.annotated = Some(path))
    }

    fn store(&self, id: &str, bytes: usize, change: impl FnOnce(&mut Seen)) -> Done {
        check(id)?;
        let mut entries = self.pruned();
        let entry = touch(&mut entries, id);
        entry.bytes = entry.bytes.saturating_add(bytes);
        change(&mut entry.seen);
        bound(&mut entries);
        Ok(())
    }

    /// What is known of a snapshot; of the most recent one where none is named.
    ///
    /// # Errors
    /// It is unknown, which to whoever wants to act on it means: too old.
    pub fn seen(&self, id: Option<&str>) -> Done<Seen> {
        let id = match id {
            Some(id) => id.to_owned(),
            None => self.most_recent(None).ok_or_else(|| Failure::Stale("there is no recent snapshot".to_owned()))?,
        };
        check(&id)?;
        let mut entries = self.pruned();
        if !entries.contains_key(&id) {
            return Err(Failure::Stale("the snapshot is unknown, or too old".to_owned()));
        }
        Ok(touch(&mut entries, &id).seen.clone())
    }

    /// What was stored under this id.
    ///
    /// # Errors
    /// The id is none.
    pub fn detection(&self, id: &str) -> Done<Option<Detection>> {
        check(id)?;
        let mut entries = self.entries();
        if !entries.contains_key(id) {
            return Ok(None);
        }
        Ok(touch(&mut entries, id).seen.clone().into_detection(id))
    }

    /// The one that was used last, of those that are not old.
    pub fn most_recent(&self, bundle: Option<&str>) -> Option<String> {
        let entries = self.pruned();
        let now = Now::read();
        let fits = |entry: &Entry| !entry.old.passed(now) && bundle.is_none_or(|bundle| entry.seen.is_of(bundle));
        let recent = entries.iter().filter(|(_, entry)| fits(entry)).max_by_key(|(_, entry)| entry.turn);
        recent.map(|(id, _)| id.clone())
    }

    /// All of them, the newest first.
    pub fn list(&self) -> Vec<Snapshot> {
        let entries = self.pruned();
        let mut list: Vec<_> = entries.iter().collect();
        list.sort_by_key(|(_, entry)| std::cmp::Reverse((entry.created, entry.turn)));
        let describe = |(id, entry): (&String, &Entry)| Snapshot {
            id: id.clone(),
            process_id: i32::try_from(std::process::id()).unwrap_or_default(),
            created_at: Date(entry.created / 1_000),
            last_accessed_at: Date(entry.accessed / 1_000),
            size_in_bytes: 0,
            screenshot_count: i64::from(entry.seen.screenshot.is_some()) + i64::from(entry.seen.annotated.is_some()),
            is_active: true,
        };
        list.into_iter().map(describe).collect()
    }

    /// Forgets one, if there is one.
    ///
    /// # Errors
    /// The id is none.
    pub fn clean(&self, id: &str) -> Done {
        check(id)?;
        self.entries().remove(id);
        Ok(())
    }

    /// Forgets those made more than `days` ago, or all; how many those were.
    pub fn clean_older(&self, days: Option<i64>) -> i64 {
        let mut entries = self.entries();
        let before = entries.len();
        let oldest = days.map(|days| clock::wall_ms().saturating_sub(days.max(0).saturating_mul(86_400_000)));
        entries.retain(|_, entry| oldest.is_some_and(|oldest| entry.created >= oldest));
        i64::try_from(before - entries.len()).unwrap_or(i64::MAX)
    }

    fn pruned(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        let mut entries = self.entries();
        let now = Now::read();
        entries.retain(|_, entry| !entry.unused.passed(now));
        bound(&mut entries);
        entries
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry of this id, used just now; a new one where there is none.
fn touch<'a>(entries: &'a mut HashMap<String, Entry>, id: &str) -> &'a mut Entry {
    let (now, turn) = (Now::read(), entries.values().map(|entry| entry.turn).max().unwrap_or_default() + 1);
    let end = Expiry::after(now, limits::BRIDGE_SNAPSHOT_TTL);
    let entry = entries.entry(id.to_owned()).or_insert_with(|| Entry {
        created: now.wall_ms,
        accessed: now.wall_ms,
        unused: end,
        old: end,
        turn,
        bytes: 0,
        seen: Seen::default(),
    });
    (entry.accessed, entry.unused, entry.turn) = (now.wall_ms, end, turn);
    entry
}

/// As long as there are too many, or too large ones, the one that was used least recently goes.
fn bound(entries: &mut HashMap<String, Entry>) {
    let is_too_much = |entries: &HashMap<String, Entry>| {
        entries.len() > limits::BRIDGE_SNAPSHOTS
            || entries.values().map(|entry| entry.bytes).sum::<usize>() > limits::BRIDGE_SNAPSHOT_BYTES
    };
    while is_too_much(entries) {
        let Some(id) = entries.iter().min_by_key(|(_, entry)| entry.turn).map(|(id, _)| id.clone()) else { return };
        entries.remove(&id);
    }
}

/// An id is a name, never a path (A133).
fn check(id: &str) -> Done {
    let is_name = (1..=limits::BRIDGE_SNAPSHOT_ID).contains(&id.len())
        && !id.starts_with('.')
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_name { Ok(()) } else { Err(Failure::Invalid("a snapshot id is letters, digits, -, _ and dots".to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shot(id: &str, bundle: &str) -> StoreScreenshot {
        StoreScreenshot {
            snapshot_id: id.to_owned(),
            screenshot_path: "/nowhere/shot.png".to_owned(),
            application_bundle_id: Some(bundle.to_owned()),
            application_process_id: None,
            application_name: Some("Editor".to_owned()),
            window_title: None,
            window_bounds: None,
        }
    }

    #[test]
    fn sec_a136_the_store_is_bounded_and_the_least_used_goes_first() {
        let store = Snapshots::default();
        let first = store.create();
        for number in 0..limits::BRIDGE_SNAPSHOTS {
            store.store_annotated(&format!("s-{number}"), "x".to_owned(), 1).unwrap();
            // Used again and again, so it stays although it is the oldest.
            store.seen(Some(&first)).unwrap();
        }
        assert_eq!(store.list().len(), limits::BRIDGE_SNAPSHOTS);
        assert!(store.seen(Some(&first)).is_ok() && store.seen(Some("s-0")).is_err());
        store.store_annotated("large", "x".to_owned(), limits::BRIDGE_SNAPSHOT_BYTES).unwrap();
        assert_eq!(store.list().len(), 1);
        assert_eq!(store.clean_older(Some(1)), 0);
        assert_eq!(store.clean_older(None), 1);
    }

    #[test]
    fn sec_a133_an_id_is_never_a_path() {
        let store = Snapshots::default();
        for bad in ["", "../../x", "/etc/passwd", "a\0b", &"x".repeat(10_000), ".hidden", "ä", "a b"] {
            assert!(matches!(store.seen(Some(bad)), Err(Failure::Invalid(_))), "{bad:?}");
            assert!(store.store_annotated(bad, String::new(), 1).is_err());
            assert!(store.clean(bad).is_err() && store.detection(bad).is_err());
        }
        assert!(store.list().is_empty());
    }

    #[test]
    fn a_screenshot_alone_reads_as_an_empty_detection() {
        let store = Snapshots::default();
        assert_eq!(store.detection("s-1").unwrap(), None);
        store.store_screenshot(shot("s-1", "com.example.Editor"), 10).unwrap();
        store.store_screenshot(shot("s-2", "com.example.Other"), 10).unwrap();
        let detection = store.detection("s-1").unwrap().unwrap();
        assert_eq!(detection.metadata.method, "memory-cache");
        assert_eq!(detection.metadata.warnings, ["APP:Editor"]);
        assert_eq!(store.most_recent(Some("com.example.Other")).as_deref(), Some("s-2"));
        assert_eq!(store.most_recent(None).as_deref(), Some("s-1"), "the detection of s-1 was used last");
        assert_eq!(store.most_recent(Some("com.example.Third")), None);
    }
}
