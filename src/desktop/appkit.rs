//! The panel and the menu on a screen: brings what other threads ask to the main thread, and what the person does there
//! back to them. What counts as an answer is [`guard`]'s to say.

use super::mac_permissions::MacPermissions;
use super::menu::{Menu, MenuAction, MenuState};
use super::notify::Notifications;
use super::permissions::Permissions;
use super::presence::{Away, Presence};
use super::{Desktop, Place, guard, sheet};
use crate::exec::approval::{Answer, Question};
use crate::limits;
use crate::log;
use crate::protocol::notify::Notification;
use crate::state::approvals::ApprovalsDocument;
use crate::sys::clock::{Expiry, Now};
use crate::sys::poll::{self, Interest};
use crate::sys::wake::Wake;
pub use openclaw_macos::appkit::application::NoScreen;
use openclaw_macos::appkit::application::{self, Hooks, uptime};
use openclaw_macos::appkit::panel::{Happening, Panel, Press, Sheet};
use openclaw_macos::appkit::session::{self, Change};
use openclaw_macos::screen::{self, Session};
use openclaw_macos::{MainThread, Missing, When, appkit, on_main, workspace};
use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Whether there is a screen to show anything on.
///
/// # Errors
/// What is missing.
pub fn check() -> Result<(), NoScreen> {
    application::check()
}

/// Has the system open a URL, or the file at a path.
///
/// # Errors
/// Nothing here opens it.
pub fn open(target: &str) -> Result<(), Missing> {
    workspace::open(target)
}

/// The processes that run as the application with this bundle id.
pub fn instances(bundle_id: &str) -> Vec<u32> {
    workspace::of_bundle_id(bundle_id).into_iter().filter_map(|pid| u32::try_from(pid).ok()).collect()
}

/// Gives this thread, which must be the main one, to the screen. `work` runs on another thread once windows can be shown;
/// when it is over the process ends with its exit code. `quit` is called when the person or the system wants that, `opened`
/// with each link of ours that somebody opens; neither may wait.
///
/// # Errors
/// There is no screen; `work` has not run then.
pub fn run(
    work: impl FnOnce() -> u8 + Send + 'static,
    quit: impl Fn() + 'static,
    opened: impl Fn(String) + 'static,
) -> Result<(), NoScreen> {
    let Some(main) = MainThread::here() else {
        return Err(NoScreen::Session("a screen needs the main thread".to_owned()));
    };
    let launched = move |main: MainThread| {
        watch_screen(main);
        let work = move || {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(1);
            application::leave(code.into());
        };
        if let Err(error) = std::thread::Builder::new().name("app".into()).spawn(work) {
            log!("app", "no thread for the app: {error}");
            application::leave(1);
        }
    };
    application::run(main, Hooks { launched: Box::new(launched), quit: Box::new(quit), opened: Box::new(opened) })
}

/// From now on it is known whether anybody sees the screen.
fn watch_screen(main: MainThread) {
    let told = |change| match change {
        Change::Locked => presence().left(Away::Locked),
        Change::Unlocked => presence().returned(Away::Locked),
        Change::SwitchedOut => presence().left(Away::SwitchedOut),
        Change::SwitchedIn => presence().returned(Away::SwitchedOut),
    };
    if let Err(missing) = session::observe(main, told)
        && cfg!(target_os = "macos")
    {
        log!("app", "a locked screen will not be noticed: {missing}");
    }
    // Only after that: news of what changes meanwhile waits for this thread.
    match screen::session() {
        Session::Locked => presence().left(Away::Locked),
        Session::Away => presence().left(Away::SwitchedOut),
        Session::Active | Session::None => {}
    }
}

/// Whether anybody sees the screen.
fn presence() -> &'static Arc<Presence> {
    static PRESENCE: OnceLock<Arc<Presence>> = OnceLock::new();
    PRESENCE.get_or_init(Arc::default)
}

/// How many questions wait, for all that show it.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Asks in a panel.
pub struct AppKitDesktop {
    document: Arc<ApprovalsDocument>,
}

impl AppKitDesktop {
    /// `document` says which input counts, read at each question.
    pub fn new(document: Arc<ApprovalsDocument>) -> Self {
        Self { document }
    }

    /// Shows a panel until a button is pressed; gives its tag, or why there is none.
    ///
    /// # Errors
    /// [`Answer::TimedOut`], [`Answer::Withdrawn`] or [`Answer::Nobody`].
    pub fn choose(&self, sheet: Sheet, deadline: Expiry, withdrawn: &Wake) -> Result<isize, Answer> {
        let nobody = |error: &dyn std::fmt::Display| Answer::Nobody(format!("the panel cannot be shown: {error}"));
        let reply = Arc::new(Reply::new().map_err(|error| nobody(&error))?);
        let over = Over(Arc::clone(&reply));
        let (asked, any_source) = (Arc::clone(&reply), self.document.accepts_assistive_input());
        on_main(When::Idle, move |main| show(main, &sheet, asked, deadline, any_source))
            .map_err(|error| nobody(&error))?;
        loop {
            if let Some(pressed) = reply.get() {
                return pressed.map_err(|missing| nobody(&missing));
            }
            if withdrawn.is_fired() {
                return Err(Answer::Withdrawn);
            }
            if deadline.passed(Now::read()) {
                return Err(Answer::TimedOut);
            }
            let ends = [(withdrawn.fd(), Interest::Readable), (over.0.pressed.fd(), Interest::Readable)];
            poll::wait(&ends, Some(deadline.next_look())).map_err(|error| nobody(&error))?;
        }
    }
}

impl Desktop for AppKitDesktop {
    fn ask(&self, question: &Question, _place: Place, withdrawn: &Wake) -> Answer {
        let (sheet, answers) = sheet::of(question);
        match self.choose(sheet, question.deadline, withdrawn) {
            Ok(tag) => usize::try_from(tag).ok().and_then(|tag| answers.get(tag).cloned()).unwrap_or(Answer::Withdrawn),
            Err(answer) => answer,
        }
    }

    fn waiting(&self, count: usize) {
        WAITING.store(count, Ordering::Relaxed);
        AppKitMenu.look_again();
    }

    fn presence(&self) -> Arc<Presence> {
        Arc::clone(presence())
    }

    fn menu(&self) -> Option<Arc<dyn Menu>> {
        Some(Arc::new(AppKitMenu))
    }

    fn permissions(&self) -> Arc<dyn Permissions> {
        Arc::new(MacPermissions::default())
    }

    fn notifications(&self) -> Arc<Notifications> {
        let pressed = || drop(on_main(When::Now, |_| bring_forward()));
        Arc::new(Notifications::of_this_system(Some(overlay), pressed))
    }
}

/// What the thread that asks and the main thread share.
struct Reply {
    /// Names it.
    id: u64,
    answer: Mutex<Option<Result<isize, Missing>>>,
    pressed: Wake,
    /// Nobody waits for it any more.
    is_over: AtomicBool,
}

impl Reply {
    fn new() -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { id, answer: Mutex::new(None), pressed: Wake::new()?, is_over: AtomicBool::new(false) })
    }

    fn get(&self) -> Option<Result<isize, Missing>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first answer is the answer.
    fn give(&self, answer: Result<isize, Missing>) {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(answer);
        self.pressed.fire();
    }
}

/// Takes the panel away when nobody waits for it any more, on every way out.
struct Over(Arc<Reply>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
        let id = self.0.id;
        let _gone = on_main(When::Now, move |_| retire(|entry| entry.reply.id == id));
    }
}

/// The question before the person.
struct Entry {
    panel: Panel,
    shown: guard::Shown,
    deadline: Expiry,
    reply: Arc<Reply>,
    /// The guarded buttons are on.
    is_ready: bool,
    /// What its changing lines say.
    lines: (String, String),
}

thread_local! {
    static SHOWN: RefCell<Option<Entry>> = const { RefCell::new(None) };
}

/// Takes the question that is shown if it is this one, before anything else is done: what comes next finds none.
fn take(is_it: impl FnOnce(&Entry) -> bool) -> Option<Entry> {
    SHOWN.with(|slot| {
        let mut slot = slot.try_borrow_mut().ok()?;
        if slot.as_ref().is_some_and(is_it) { slot.take() } else { None }
    })
}

/// Takes the panel away without an answer, if it is this one.
fn retire(is_it: impl FnOnce(&Entry) -> bool) {
    if let Some(entry) = take(is_it) {
        entry.panel.retire();
    }
}

fn show(main: MainThread, sheet: &Sheet, reply: Arc<Reply>, deadline: Expiry, any_source: bool) {
    if reply.is_over.load(Ordering::SeqCst) || deadline.passed(Now::read()) {
        return;
    }
    // One at a time is asked; should there be another, it is not answered here.
    retire(|_| true);
    let panel = match Panel::show(main, sheet, happened) {
        Ok(panel) => panel,
        Err(missing) => return reply.give(Err(missing)),
    };
    let shown = guard::Shown {
        window: panel.number(),
        since: uptime(),
        end_seen: false,
        acknowledged: panel.is_acknowledged(),
        any_source,
    };
    let mut entry = Entry { panel, shown, deadline, reply, is_ready: false, lines: Default::default() };
    entry.look();
    SHOWN.with(|slot| *slot.borrow_mut() = Some(entry));
}

/// The first tag is the refusal, as [`sheet::of`] has it.
const REFUSAL: isize = 0;

fn happened(_: MainThread, happening: Happening) {
    match happening {
        Happening::Tick => tick(),
        // A window that comes up under a hand that is about to press.
        Happening::Focused(window) => SHOWN.with(|slot| {
            if let Ok(mut slot) = slot.try_borrow_mut()
                && let Some(entry) = slot.as_mut()
                && entry.shown.window == window
            {
                entry.shown.since = uptime();
                entry.look();
            }
        }),
        Happening::Closed(window) => decide(window, REFUSAL),
        Happening::Pressed(press) if press.tag == REFUSAL => decide(press.window, REFUSAL),
        Happening::Pressed(press) => pressed(&press),
    }
}

fn decide(window: isize, tag: isize) {
    if let Some(entry) = take(|entry| entry.shown.window == window) {
        entry.reply.give(Ok(tag));
        entry.panel.retire();
    }
}

fn pressed(press: &Press) {
    let judged = SHOWN.with(|slot| {
        let mut slot = slot.try_borrow_mut().ok()?;
        let entry = slot.as_mut()?;
        entry.look();
        let judged = guard::may_allow(&entry.shown, uptime(), press);
        if let Err(refused) = judged
            && refused != guard::Refused::Over
        {
            log!("app", "a press in the panel did not count: {refused}");
            entry.panel.set_notice(&refused.to_string());
        }
        judged.ok()
    });
    if judged.is_some() {
        decide(press.window, press.tag);
    }
}

fn tick() {
    let now = Now::read();
    retire(|entry| entry.deadline.passed(now));
    SHOWN.with(|slot| {
        if let Ok(mut slot) = slot.try_borrow_mut()
            && let Some(entry) = slot.as_mut()
        {
            entry.look();
        }
    });
}

impl Entry {
    /// Looks at the clock and at what has been scrolled to and ticked; says what is still missing.
    fn look(&mut self) {
        self.shown.end_seen |= self.panel.shows_end();
        self.shown.acknowledged = self.panel.is_acknowledged();
        let missing = guard::is_ready(&self.shown, uptime()).err();
        if self.is_ready == missing.is_some() {
            self.is_ready = missing.is_none();
            self.panel.set_enabled(self.is_ready);
        }
        // Half a second needs no words.
        let missing = missing.filter(|missing| *missing != guard::Refused::TooEarly);
        let missing = missing.map_or_else(String::new, |missing| missing.to_string());
        let seconds = self.deadline.remaining(Now::read()).as_secs();
        let status = format!("Ends in {seconds} s. {missing}");
        let waiting = WAITING.load(Ordering::Relaxed);
        let place = if waiting > 1 { format!("OpenClaw \u{2014} 1 of {waiting}") } else { "OpenClaw".to_owned() };
        if self.lines.0 != status {
            self.panel.set_status(&status);
            self.lines.0 = status;
        }
        if self.lines.1 != place {
            self.panel.set_subtitle(&place);
            self.lines.1 = place;
        }
    }
}

/// The menu of the application.
struct AppKitMenu;

/// What was chosen, or nothing where only something to be shown has changed; and where it is fetched.
type Choices = (SyncSender<Option<MenuAction>>, Mutex<Receiver<Option<MenuAction>>>);
static CHOICES: OnceLock<Choices> = OnceLock::new();

fn choices() -> &'static Choices {
    CHOICES.get_or_init(|| {
        let (sender, receiver) = sync_channel(limits::MENU_CHOICES);
        (sender, Mutex::new(receiver))
    })
}

thread_local! {
    /// What the tags of the menu mean that is shown.
    static ACTIONS: RefCell<Vec<MenuAction>> = const { RefCell::new(Vec::new()) };
}

impl Menu for AppKitMenu {
    fn show(&self, state: &MenuState) {
        let ((items, actions), (symbol, meaning)) = (state.items(), state.symbol());
        // Not while the menu is held: what is under the person's hand does not change.
        let _gone = on_main(When::Idle, move |main| {
            if appkit::menu::show(main, symbol, meaning, &items, chosen).is_ok() {
                ACTIONS.set(actions);
            }
        });
    }

    fn next(&self, patience: Duration) -> Option<MenuAction> {
        choices().1.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(patience).ok().flatten()
    }

    fn look_again(&self) {
        // A full queue is a reason to look already.
        let _looks_anyway = choices().0.try_send(None);
    }
}

/// A notification in a window of ours.
fn overlay(notification: &Notification) -> bool {
    let (title, body) = (notification.title.clone(), notification.body.clone());
    on_main(When::Now, move |main| {
        if let Err(missing) = appkit::overlay::show(main, &title, &body) {
            log!("app", "a notification was not shown: {missing}");
        }
    })
    .is_ok()
}

/// Brings the question that is shown before the other windows.
fn bring_forward() {
    SHOWN.with(|slot| {
        if let Ok(slot) = slot.try_borrow()
            && let Some(entry) = &*slot
        {
            entry.panel.bring_forward();
        }
    });
}

fn chosen(_: MainThread, tag: isize) {
    let index = usize::try_from(tag).ok().and_then(|tag| tag.checked_sub(1));
    let action = ACTIONS.with_borrow(|actions| index.and_then(|index| actions.get(index)).cloned());
    match action {
        Some(MenuAction::ShowQuestion) => bring_forward(),
        // A full queue means that the last choices are not carried out yet; the person will choose again.
        Some(action) => drop(choices().0.try_send(Some(action))),
        None => {}
    }
}
