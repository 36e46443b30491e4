//! Notifications: those of agents (`system.notify`), and that a question waits. By UserNotifications on a Mac, by the
//! desktop's own `notify-send` on Linux; at most so many a minute, whoever wants them. Source: spec mac-app (3.1)

use crate::identity::random;
use crate::limits;
use crate::log;
use crate::protocol::notify::{Delivery, Notification, Priority};
use crate::sys::worker;
use openclaw_macos::user_notifications::{self, Content, Interruption, NotificationError};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Why a notification was not shown. The words begin with the spec's code where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotifyError {
    /// The person does not want any of ours.
    NotAuthorized,
    /// More than [`limits::NOTIFICATIONS`] within [`limits::NOTIFICATION_WINDOW`].
    TooMany,
    /// There is nothing here that shows any.
    NotHere,
    /// What the system said.
    Failed(String),
}

impl fmt::Display for NotifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAuthorized => {
                f.write_str("NOT_AUTHORIZED: notifications (allow them in System Settings, Notifications, OpenClaw)")
            }
            Self::TooMany => f.write_str("RATE_LIMITED: too many notifications; try again in a minute"),
            Self::NotHere => f.write_str("notifications cannot be shown here"),
            Self::Failed(words) => write!(f, "the notification was not shown: {words}"),
        }
    }
}

impl std::error::Error for NotifyError {}

/// Whoever shows notifications on this system.
trait Center: Send + Sync {
    /// Shows one. `may_ask`: the person may be asked for the permission first.
    fn post(&self, notification: &Notification, may_ask: bool) -> Result<(), NotifyError>;
}

/// Shows a notification in a window of our own, without waiting; false when it cannot.
pub type Overlay = fn(&Notification) -> bool;

/// What shows notifications, and how many there were lately.
#[derive(Default)]
pub struct Notifications {
    center: Option<Box<dyn Center>>,
    overlay: Option<Overlay>,
    recent: Mutex<VecDeque<Instant>>,
}

impl Notifications {
    /// What this system has. `pressed` is called when the person presses a notification, on any thread.
    pub fn of_this_system(overlay: Option<Overlay>, pressed: fn()) -> Self {
        let center: Option<Box<dyn Center>> = if cfg!(target_os = "macos") {
            match user_notifications::listen(pressed) {
                Ok(()) => Some(Box::new(NotificationCenter)),
                Err(error) => {
                    log!("app", "{error}");
                    None
                }
            }
        } else {
            NotifySend::find().map(|found| Box::new(found) as Box<dyn Center>)
        };
        Self { center, overlay, recent: Mutex::default() }
    }

    /// Whether any can be shown, so that `system.notify` may be declared.
    pub fn are_possible(&self) -> bool {
        self.center.is_some() || self.overlay.is_some()
    }

    /// Shows one where it wants to be shown. May take as long as the person needs to permit it.
    ///
    /// # Errors
    /// See [`NotifyError`].
    pub fn show(&self, notification: &Notification) -> Result<(), NotifyError> {
        if !self.count() {
            return Err(NotifyError::TooMany);
        }
        let system =
            || self.center.as_ref().map_or(Err(NotifyError::NotHere), |center| center.post(notification, true));
        let overlay =
            || if self.overlay.is_some_and(|show| show(notification)) { Ok(()) } else { Err(NotifyError::NotHere) };
        match notification.delivery.unwrap_or_default() {
            Delivery::System => system(),
            Delivery::Overlay => overlay(),
            Delivery::Auto => system().or_else(|error| overlay().map_err(|_| error)),
        }
    }

    /// Tells the person that a question waits, if they allow notifications; waits for nothing. Its text says nothing of
    /// the command: it may be read on a locked screen. Pressing it only brings the question forward.
    pub fn announce_question(self: &Arc<Self>) {
        if self.center.is_none() || !self.count() {
            return;
        }
        let this = Arc::clone(self);
        let announcement = Notification {
            title: "OpenClaw".to_owned(),
            body: "A command waits for your decision.".to_owned(),
            ..Notification::default()
        };
        let _no_thread = worker::start(move || {
            // The question itself is before the person; that this failed does not matter.
            let _shown = this.center.as_ref().map(|center| center.post(&announcement, false));
        });
    }

    /// Whether there may be one more now.
    fn count(&self) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|shown| shown.elapsed() < limits::NOTIFICATION_WINDOW);
        let may = recent.len() < limits::NOTIFICATIONS;
        if may {
            recent.push_back(Instant::now());
        }
        may
    }
}

/// The Mac's.
struct NotificationCenter;

impl Center for NotificationCenter {
    fn post(&self, notification: &Notification, may_ask: bool) -> Result<(), NotifyError> {
        let soon = || Instant::now() + limits::NOTIFICATION_WAIT;
        let failed = |error: NotificationError| NotifyError::Failed(error.to_string());
        let mut permitted = match user_notifications::authorization(soon()).map_err(failed)? {
            user_notifications::Authorization::NotDetermined if may_ask => {
                user_notifications::request(Instant::now() + limits::NOTIFICATION_PERMISSION_WAIT).map_err(failed)?
            }
            said => said.permits(),
        };
        // Somebody else may have asked meanwhile.
        permitted = permitted || user_notifications::authorization(soon()).is_ok_and(|said| said.permits());
        if !permitted {
            return Err(NotifyError::NotAuthorized);
        }
        let content = Content {
            identifier: &random::uuid(),
            title: &notification.title,
            body: &notification.body,
            sound: notification.sound.as_deref(),
            interruption: notification.priority.map(|priority| match priority {
                Priority::Passive => Interruption::Passive,
                Priority::Active => Interruption::Active,
                Priority::TimeSensitive => Interruption::TimeSensitive,
            }),
        };
        user_notifications::post(&content, soon()).map_err(failed)
    }
}

/// Linux: the tool of org.freedesktop.Notifications, by a fixed path.
struct NotifySend {
    program: PathBuf,
}

const NOTIFY_SEND: [&str; 2] = ["/usr/bin/notify-send", "/run/current-system/sw/bin/notify-send"];

impl NotifySend {
    /// The tool, if it is there and there is a session that it could reach.
    fn find() -> Option<Self> {
        let variable = |name| std::env::var_os(name).filter(|value: &std::ffi::OsString| !value.is_empty());
        let bus = variable("XDG_RUNTIME_DIR").map(|directory| Path::new(&directory).join("bus"));
        let has_session = variable("DBUS_SESSION_BUS_ADDRESS").is_some() || bus.is_some_and(|bus| bus.exists());
        let program = NOTIFY_SEND.iter().map(PathBuf::from).find(|path| path.exists());
        program.filter(|_| has_session).map(|program| Self { program })
    }

    /// No shell, and nothing in the texts is read as an option or as markup.
    fn arguments(notification: &Notification) -> Vec<String> {
        let urgency = match notification.priority {
            Some(Priority::Passive) => "low",
            // "critical" stays until it is pressed: that is not an agent's to decide.
            Some(Priority::Active | Priority::TimeSensitive) | None => "normal",
        };
        let mut arguments = vec!["--app-name=OpenClaw".to_owned(), format!("--urgency={urgency}")];
        arguments.extend(notification.sound.as_ref().map(|sound| format!("--hint=string:sound-name:{sound}")));
        let title = if notification.title.is_empty() { "OpenClaw" } else { &notification.title };
        // The tool takes backslashes for escapes in the text only, and the desktop may take the text for markup.
        let body = notification.body.replace('\\', "\\\\");
        let body = body.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        arguments.extend(["--".to_owned(), title.to_owned(), body]);
        arguments
    }
}

impl Center for NotifySend {
    fn post(&self, notification: &Notification, _may_ask: bool) -> Result<(), NotifyError> {
        let failed = |error: std::io::Error| NotifyError::Failed(error.to_string());
        let mut tool = Command::new(&self.program)
            .args(Self::arguments(notification))
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_of_session(name)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let deadline = Instant::now() + limits::NOTIFICATION_WAIT;
        loop {
            match tool.try_wait().map_err(failed)? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(NotifyError::Failed(format!("notify-send: {status}; is there a desktop?"))),
                None if Instant::now() < deadline => std::thread::sleep(GLANCE),
                None => {
                    let _ = tool.kill();
                    let _ = tool.wait();
                    return Err(NotifyError::Failed("notify-send did not end in time".to_owned()));
                }
            }
        }
    }
}

const GLANCE: Duration = Duration::from_millis(5);

/// What the tool needs to find the session, and nothing else of ours.
fn is_of_session(name: &OsStr) -> bool {
    ["DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY", "HOME", "LANG"]
        .iter()
        .any(|known| name == *known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn text(title: &str, body: &str) -> Notification {
        Notification { title: title.to_owned(), body: body.to_owned(), ..Notification::default() }
    }

    struct Says(Result<(), NotifyError>);

    impl Center for Says {
        fn post(&self, _: &Notification, _: bool) -> Result<(), NotifyError> {
            self.0.clone()
        }
    }

    fn over(center: Option<Says>, overlay: Option<Overlay>) -> Notifications {
        Notifications { center: center.map(|center| Box::new(center) as _), overlay, recent: Mutex::default() }
    }

    #[test]
    fn a_notification_is_shown_where_it_wants_to_be() {
        let denied = || Some(Says(Err(NotifyError::NotAuthorized)));
        let works: Option<Overlay> = Some(|_| true);
        let want = |delivery| Notification { delivery: Some(delivery), ..text("t", "") };
        for (notifications, delivery, expected) in [
            (over(denied(), works), Delivery::System, Err(NotifyError::NotAuthorized)),
            (over(denied(), works), Delivery::Overlay, Ok(())),
            (over(denied(), works), Delivery::Auto, Ok(())),
            (over(denied(), None), Delivery::Auto, Err(NotifyError::NotAuthorized)),
            (over(Some(Says(Ok(()))), None), Delivery::Auto, Ok(())),
            (over(None, works), Delivery::System, Err(NotifyError::NotHere)),
            (over(None, Some(|_| false)), Delivery::Overlay, Err(NotifyError::NotHere)),
        ] {
            assert_eq!(notifications.show(&want(delivery)), expected, "{delivery:?}");
        }
        assert!(over(None, works).are_possible() && !Notifications::default().are_possible());
        assert!(NotifyError::NotAuthorized.to_string().starts_with("NOT_AUTHORIZED: notifications"));
    }

    #[test]
    fn there_are_only_so_many_a_minute() {
        let notifications = over(Some(Says(Ok(()))), None);
        for _ in 0..limits::NOTIFICATIONS {
            assert_eq!(notifications.show(&text("t", "b")), Ok(()));
        }
        assert_eq!(notifications.show(&text("t", "b")), Err(NotifyError::TooMany));
    }

    #[test]
    fn texts_reach_the_tool_as_words_not_as_options_or_markup() {
        let shown = NotifySend::arguments(&Notification {
            priority: Some(Priority::Passive),
            sound: Some("bell".to_owned()),
            ..text("--help", "a <b>&\\n")
        });
        let expected = [
            "--app-name=OpenClaw",
            "--urgency=low",
            "--hint=string:sound-name:bell",
            "--",
            "--help",
            "a &lt;b&gt;&amp;\\\\n",
        ];
        assert_eq!(shown, expected);
        assert_eq!(NotifySend::arguments(&text("", "b")).get(3..), Some(&["OpenClaw".to_owned(), "b".to_owned()][..]));
    }

    #[test]
    fn the_tool_is_waited_for_and_its_failure_told() {
        let directory = std::env::temp_dir().join(format!("oc-ns-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (program, out) = (directory.join("tool"), directory.join("out"));
        let script = format!(
            "#!/bin/sh\nprintf '%s|' \"$@\" >'{}'\nenv | grep -c SECRET >&2\n[ \"$4\" != fail ]\n",
            out.display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let tool = NotifySend { program };
        assert_eq!(tool.post(&text("t", "$(id); x"), true), Ok(()));
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "--app-name=OpenClaw|--urgency=normal|--|t|$(id); x|");
        assert!(matches!(tool.post(&text("fail", ""), true), Err(NotifyError::Failed(_))));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
