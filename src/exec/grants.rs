//! Time-boxed grants: the very same command again, for a while, without a question. They live in
//! memory and end with the process.

use super::approval::Span;
use super::display;
use super::plan::Plan;
use crate::limits;
use crate::protocol::text;
use crate::sys::clock::{Expiry, Now};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The grants of this process. One replaces a question that policy asks, and nothing else: what
/// policy denies stays denied, so whoever asks for it here has asked policy before.
#[derive(Default)]
pub struct Grants(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// Oldest first.
    grants: VecDeque<Grant>,
    /// Never used twice, so that a revocation never meets a newer grant.
    last_id: u64,
}

struct Grant {
    key: Key,
    end: Expiry,
    listed: Listed,
}

/// What must be the same again.
#[derive(PartialEq, Eq)]
struct Key {
    /// Without the policy: agent, session, argv, directory, overrides, files, what was understood.
    plan: String,
    /// The hash leaves it out, and the person was told of it.
    needs_screen_recording: bool,
}

impl Key {
    fn of(plan: &Plan) -> Self {
        Self { plan: plan.hash(""), needs_screen_recording: plan.needs_screen_recording }
    }
}

/// A grant for people and tools. Its texts are raw, and shortened to [`limits::GRANT_TEXT_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// What [`Grants::revoke`] takes.
    pub id: String,
    /// The agent's claim.
    pub agent_id: Option<String>,
    /// The session's claim.
    pub session_key: Option<String>,
    /// Quoted, so that arguments can be told apart.
    pub command: String,
    /// "15 minutes", "this session".
    pub span: String,
    /// How much longer it holds, milliseconds.
    pub remaining_ms: u64,
    /// How often it has replaced a question.
    pub uses: u64,
}

impl Grants {
    /// The plan's command may run again until `span` has passed. "For this session" needs a claimed
    /// session; without one nothing is granted.
    pub fn add(&self, plan: &Plan, span: Span) {
        self.add_at(plan, span, Now::read());
    }

    fn add_at(&self, plan: &Plan, span: Span, now: Now) {
        if span == Span::Session && plan.session_key.is_none() {
            return;
        }
        let (key, end) = (Key::of(plan), Expiry::after(now, length(span)));
        let brief = |text: &str| text::prefix(text, limits::GRANT_TEXT_BYTES).to_owned();
        let mut table = self.live(now);
        table.grants.retain(|grant| grant.key != key);
        if table.grants.len() >= limits::GRANTS {
            table.grants.pop_front();
        }
        table.last_id += 1;
        let listed = Listed {
            id: table.last_id.to_string(),
            agent_id: plan.agent_id.as_deref().map(brief),
            session_key: plan.session_key.as_deref().map(brief),
            command: brief(&display::quoted(&plan.argv)),
            span: words(span),
            remaining_ms: 0,
            uses: 0,
        };
        table.grants.push_back(Grant { key, end, listed });
    }

    /// What to log when a grant covers the plan, which counts as a use of it.
    pub fn covers(&self, plan: &Plan) -> Option<String> {
        self.covers_at(plan, Now::read())
    }

    fn covers_at(&self, plan: &Plan, now: Now) -> Option<String> {
        let key = Key::of(plan);
        let mut table = self.live(now);
        let grant = table.grants.iter_mut().find(|grant| grant.key == key)?;
        grant.listed.uses += 1;
        let minutes = grant.end.remaining(now).as_secs().div_ceil(60);
        Some(format!("granted for {} by the person, {minutes} min left", grant.listed.span))
    }

    /// What holds now, oldest first.
    pub fn list(&self) -> Vec<Listed> {
        let now = Now::read();
        let listed = |grant: &Grant| {
            let remaining_ms = u64::try_from(grant.end.remaining(now).as_millis()).unwrap_or(u64::MAX);
            Listed { remaining_ms, ..grant.listed.clone() }
        };
        self.live(now).grants.iter().map(listed).collect()
    }

    /// Ends the grant with this id, or every one for `all`; returns how many that were.
    pub fn revoke(&self, id: &str) -> usize {
        let mut table = self.live(Now::read());
        let before = table.grants.len();
        table.grants.retain(|grant| id != "all" && grant.listed.id != id);
        before - table.grants.len()
    }

    /// The table without what has ended. No code that may panic runs under this lock.
    fn live(&self, now: Now) -> MutexGuard<'_, Table> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.grants.retain(|grant| !grant.end.passed(now));
        table
    }
}

fn length(span: Span) -> Duration {
    match span {
        Span::Minutes => limits::GRANT_MINUTES,
        Span::Session => limits::GRANT_SESSION,
    }
}

fn words(span: Span) -> String {
    match span {
        Span::Minutes => format!("{} minutes", limits::GRANT_MINUTES.as_secs() / 60),
        Span::Session => "this session".to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::exec::plan::{Form, NotUnderstood, Work};
    use std::collections::BTreeMap;

    /// A plan of this command of agent `main` in session `s`.
    pub fn plan(command: &str) -> Plan {
        Plan {
            argv: command.split(' ').map(str::to_owned).collect(),
            executable: None,
            work: Work::Steps(Vec::new()),
            form: Form::Direct,
            cwd: "/tmp".into(),
            cwd_identity: Ok((1, 2)),
            home: "/root".into(),
            env: BTreeMap::new(),
            overrides: BTreeMap::new(),
            command_text: command.to_owned(),
            command_preview: None,
            agent_id: Some("main".into()),
            session_key: Some("s".into()),
            timeout: None,
            needs_screen_recording: false,
        }
    }

    #[test]
    fn a_grant_covers_the_same_again_and_nothing_else() {
        let grants = Grants::default();
        let granted = plan("make test");
        assert_eq!(grants.covers(&granted), None);
        grants.add(&granted, Span::Minutes);
        assert_eq!(grants.covers(&granted).unwrap(), "granted for 15 minutes by the person, 15 min left");
        let other = Some("other".to_owned());
        for different in [
            plan("make  test"),
            plan("make test -j"),
            Plan { agent_id: other.clone(), ..plan("make test") },
            Plan { agent_id: None, ..plan("make test") },
            Plan { session_key: other, ..plan("make test") },
            Plan { session_key: None, ..plan("make test") },
            Plan { cwd: "/".into(), ..plan("make test") },
            Plan { cwd_identity: Ok((1, 3)), ..plan("make test") },
            Plan { overrides: [("A".into(), "b".into())].into(), ..plan("make test") },
            Plan { work: Work::Opaque(NotUnderstood { reason: "x".into(), position: 0 }), ..plan("make test") },
            Plan { needs_screen_recording: true, ..plan("make test") },
        ] {
            assert_eq!(grants.covers(&different), None, "{different:?}");
        }
        // What does not change what runs does not ask again.
        assert!(grants.covers(&Plan { timeout: Some(Duration::from_secs(1)), ..granted }).is_some());
        assert_eq!(grants.list().first().unwrap().uses, 2);
    }

    /// H28: either clock ends it, and setting one back does not bring it back.
    #[test]
    fn sec_h28_a_grant_ends_by_either_clock() {
        for span in [Span::Minutes, Span::Session] {
            let (now, length) = (Now::read(), length(span));
            let shortly_before = now.later(length.saturating_sub(Duration::from_secs(1)));
            for end in [
                now.later(length),
                Now { wall_ms: now.later(length).wall_ms, ..now },
                Now { wall_ms: now.wall_ms - 86_400_000, ..now.later(length) },
            ] {
                let grants = Grants::default();
                grants.add_at(&plan("id"), span, now);
                assert!(grants.covers_at(&plan("id"), shortly_before).unwrap().ends_with(", 1 min left"));
                assert_eq!(grants.covers_at(&plan("id"), end), None, "{span:?} {end:?}");
                assert_eq!(grants.covers_at(&plan("id"), now), None, "what has ended is gone");
            }
        }
        assert!(length(Span::Minutes) < length(Span::Session));
    }

    #[test]
    fn for_this_session_needs_a_session() {
        let grants = Grants::default();
        let nowhere = Plan { session_key: None, ..plan("id") };
        grants.add(&nowhere, Span::Session);
        assert_eq!(grants.covers(&nowhere), None);
        grants.add(&nowhere, Span::Minutes);
        assert!(grants.covers(&nowhere).is_some());
        grants.add(&plan("id"), Span::Session);
        assert!(grants.covers(&plan("id")).unwrap().starts_with("granted for this session by the person, "));
        assert_eq!(grants.covers(&Plan { session_key: Some("next".into()), ..plan("id") }), None);
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_goes() {
        let grants = Grants::default();
        for number in 0..=limits::GRANTS {
            grants.add(&plan(&format!("echo {number}")), Span::Minutes);
        }
        assert_eq!(grants.list().len(), limits::GRANTS);
        assert_eq!(grants.covers(&plan("echo 0")), None);
        assert!(grants.covers(&plan("echo 1")).is_some());
        // The same again takes no second place, and what is kept of a text is bounded.
        let long = plan(&format!("echo {}", "\u{1}".repeat(100_000)));
        grants.add(&long, Span::Minutes);
        grants.add(&long, Span::Session);
        let list = grants.list();
        assert_eq!(list.len(), limits::GRANTS);
        assert!(list.last().unwrap().command.len() <= limits::GRANT_TEXT_BYTES);
        assert!(grants.covers(&plan("echo 2")).is_some());
    }

    #[test]
    fn what_is_listed_can_be_revoked() {
        let grants = Grants::default();
        grants.add(&plan("echo a  b"), Span::Minutes);
        grants.add(&plan("id"), Span::Session);
        grants.covers(&plan("id"));
        let list = grants.list();
        let (first, second) = (&list[0], &list[1]);
        assert_eq!((first.command.as_str(), first.span.as_str(), first.uses), ("echo a '' b", "15 minutes", 0));
        assert_eq!((second.session_key.as_deref(), second.span.as_str(), second.uses), (Some("s"), "this session", 1));
        assert!(first.remaining_ms <= 900_000 && first.remaining_ms > 890_000, "{first:?}");
        for id in ["", "0", "ALL", "3", " 1"] {
            assert_eq!(grants.revoke(id), 0, "{id:?}");
        }
        assert_eq!(grants.revoke(&first.id), 1);
        assert_eq!((grants.revoke(&first.id), grants.covers(&plan("echo a  b"))), (0, None));
        grants.add(&plan("true"), Span::Minutes);
        assert_ne!(grants.list().last().unwrap().id, second.id, "an id names one grant for ever");
        assert_eq!((grants.revoke("all"), grants.revoke("all"), grants.list()), (2, 0, Vec::new()));
    }
}
