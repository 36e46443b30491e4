//! The programs of the gateway's skills: it names them, we find them here. Source: spec exec (d.5)
//! "Skills", (f.4); gateway §5.

use super::commands::Commands;
use crate::client::Link;
use crate::exec::matching::SkillBin;
use crate::limits;
use crate::protocol::node::name;
use serde::Deserialize;
use serde_json::json;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// When the gateway of this connection was asked last.
#[derive(Default)]
pub struct Skills(Mutex<Option<Instant>>);

/// Answer to `skills.bins`.
#[derive(Deserialize)]
struct Bins {
    bins: Vec<String>,
}

impl Skills {
    /// Asks the gateway, if a policy counts on its skills and the last answer is old. Blocks for at most
    /// [`limits::SKILLS_WAIT`], also whoever comes meanwhile. A gateway that does not answer changes
    /// nothing.
    pub fn refresh(&self, link: &Link, commands: &Commands) {
        let Some(kept) = commands.policy.skills() else { return };
        let mut asked = lock(&self.0);
        if asked.is_some_and(|asked| asked.elapsed() < limits::SKILLS_TTL) {
            return;
        }
        let answer = link.call(name::SKILLS_BINS, &json!({}), limits::SKILLS_WAIT).map_err(|error| error.to_string());
        *asked = Some(Instant::now());
        match answer.and_then(|answer| serde_json::from_str::<Bins>(answer.get()).map_err(|error| error.to_string())) {
            Ok(Bins { bins }) => *lock(kept) = found(bins, commands),
            Err(error) => crate::log!("node", "the gateway does not say which programs its skills have: {error}"),
        }
    }
}

/// The files of these names; a name that is a path, or that there is no program for, counts for nothing.
fn found(names: Vec<String>, commands: &Commands) -> Vec<SkillBin> {
    let file = |name: String| {
        let path = commands.host.find(&name, Path::new("/")).filter(|_| !name.contains('/'))?;
        Some(SkillBin { path: path.canonicalize().ok()?, name })
    };
    names.into_iter().take(limits::SKILL_BINS).filter_map(file).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
