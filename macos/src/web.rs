//! The canvas: a panel with a web view that shows one folder by a scheme of our own (mac-app §8.7). What a path may mean is
//! decided by whoever opens it; here the answer only goes to WebKit.

use crate::appkit::menu::NSImage;
use crate::appkit::panel::{NSPanel, NSScreen, NSWindow};
use crate::block::Unanswered;
use crate::class::{self, Method};
use crate::completion;
use crate::foundation::{self, NSData, NSURL, string};
use crate::image::{Format, dictionary};
use crate::library::Missing;
use crate::runtime::{self, Id, Imp, NIL, NSObject, Owned, Point, Rect, Sel, Shared, Size, allocate};
use crate::{MainThread, When, on_main};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

objc_class! {
    WKWebViewConfiguration from WebKit {
        - init = "init" () -> Id;
        - set_scheme_handler = "setURLSchemeHandler:forURLScheme:" (handler: Id, scheme: Id);
        - set_store = "setWebsiteDataStore:" (store: Id);
    }
}

objc_class! {
    WKWebsiteDataStore from WebKit {
        + transient = "nonPersistentDataStore" () -> Id;
    }
}

objc_class! {
    WKWebView from WebKit {
        - init = "initWithFrame:configuration:" (frame: Rect, configuration: Id) -> Id;
        - load = "loadRequest:" (request: Id) -> Id;
        - evaluate = "evaluateJavaScript:completionHandler:" (script: Id, handler: Id);
        - set_navigation_delegate = "setNavigationDelegate:" (delegate: Id);
        - snapshot = "takeSnapshotWithConfiguration:completionHandler:" (configuration: Id, handler: Id);
        - reload = "reload" () -> Id;
    }
}

objc_class! {
    WKNavigationAction from WebKit {
        - request = "request" () -> Id;
    }
}

objc_class! {
    WKSnapshotConfiguration from WebKit {
        - init = "init" () -> Id;
        - set_width = "setSnapshotWidth:" (width: Id);
    }
}

objc_class! {
    /// The protocol WKURLSchemeTask: what it is an object of is WebKit's.
    WKURLSchemeTask from WebKit {
        - request = "request" () -> Id;
        - respond = "didReceiveResponse:" (response: Id);
        - receive = "didReceiveData:" (data: Id);
        - finish = "didFinish" ();
    }
}

objc_class! {
    NSURLRequest from Foundation {
        + with_url = "requestWithURL:" (url: Id) -> Id;
        - url = "URL" () -> Id;
    }
}

objc_class! {
    NSHTTPURLResponse from Foundation {
        - init = "initWithURL:statusCode:HTTPVersion:headerFields:" (url: Id, status: isize, version: Id, headers: Id) -> Id;
    }
}

/// NSWindowStyleMaskTitled | NSWindowStyleMaskClosable | NSWindowStyleMaskResizable | NSWindowStyleMaskNonactivatingPanel
const STYLE: usize = 1 | 2 | 8 | 128;
/// NSBackingStoreBuffered
const BUFFERED: usize = 2;
/// NSFloatingWindowLevel: below every prompt of ours.
const LEVEL: isize = 3;
/// NSWindowCollectionBehaviorCanJoinAllSpaces | NSWindowCollectionBehaviorFullScreenAuxiliary
const BEHAVIOR: usize = 1 | 256;
/// WKNavigationActionPolicyCancel
const CANCEL: isize = 0;
/// WKNavigationActionPolicyAllow
const ALLOW: isize = 1;

/// The panel's first size, and its least. Source: mac-app (8.7).
const FIRST: Size = Size { width: 520.0, height: 680.0 };
const LEAST: Size = Size { width: 360.0, height: 360.0 };
/// From the screen's edges.
const MARGIN: f64 = 8.0;
/// Canvases at the same time; the least recently made goes.
const CANVASES: usize = 8;

/// What a path of the canvas leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// HTTP status.
    pub status: u16,
    /// MIME type.
    pub mime: String,
    /// What may be loaded from where: `Content-Security-Policy`.
    pub policy: String,
    /// The content.
    pub bytes: Vec<u8>,
}

/// Who decides for one canvas. Called on the main thread, so it must be quick.
pub trait Site: Send + Sync {
    /// What stands at this URL of the canvas's scheme.
    fn serve(&self, url: &str) -> Served;
    /// Whether the view may go there. A link that may not is the caller's to offer elsewhere.
    fn may_open(&self, url: &str) -> bool;
}

/// Why the canvas did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanvasError {
    /// This system has no WebKit.
    Missing(Missing),
    /// It has not been shown yet.
    NotShown,
    /// WebKit did not answer in time.
    TimedOut,
    /// What WebKit or the script said.
    Failed(String),
}

impl fmt::Display for CanvasError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(missing) => missing.fmt(f),
            Self::NotShown => f.write_str("the canvas is not shown; use canvas.present first"),
            Self::TimedOut => f.write_str("the canvas did not answer in time"),
            Self::Failed(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for CanvasError {}

impl From<Unanswered> for CanvasError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::TimedOut => Self::TimedOut,
            Unanswered::Missing(missing) => Self::Missing(missing),
        }
    }
}

impl From<Missing> for CanvasError {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

struct Canvas {
    panel: Owned,
    view: Owned,
    site: Arc<dyn Site>,
    made: u64,
}

thread_local! {
    /// The main thread's canvases by name.
    static CANVASES_BY_NAME: RefCell<HashMap<String, Canvas>> = RefCell::new(HashMap::new());
}

/// Whether this system has WebKit.
pub fn is_here() -> bool {
    !WKWebView::class().is_null()
}

/// The scheme of a canvas's own URLs: `openclaw-canvas://name/path`.
pub const SCHEME: &str = "openclaw-canvas";

/// Does `work` on the main thread and waits for what it gives.
fn on_main_now<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce(MainThread) -> Result<T, CanvasError> + Send + 'static,
) -> Result<T, CanvasError> {
    let (sender, answer) = sync_channel(1);
    on_main(When::Now, move |main| {
        let _left = sender.try_send(work(main));
    })?;
    answer.recv_timeout(patience).map_err(|_| CanvasError::TimedOut)?
}

/// Shows the canvas `name`, made when there is none, with `url` if given, at `frame` if given (points, y upwards); gives the
/// frame it has now.
///
/// # Errors
/// See [`CanvasError`].
pub fn present(
    name: &str,
    site: Arc<dyn Site>,
    url: Option<String>,
    placed: impl FnOnce(Rect) -> Rect + Send + 'static,
    patience: Duration,
) -> Result<Rect, CanvasError> {
    let name = name.to_owned();
    on_main_now(patience, move |main| {
        CANVASES_BY_NAME.with_borrow_mut(|canvases| {
            if !canvases.contains_key(&name) {
                make_room(canvases);
                let made = make(main, &name, site)?;
                canvases.insert(name.clone(), made);
            }
            let canvas = canvases.get(&name).ok_or(CanvasError::NotShown)?;
            // SAFETY: live panel and view, on the main thread.
            unsafe {
                let frame = placed(NSWindow::frame(canvas.panel.id()));
                NSWindow::set_frame(canvas.panel.id(), within_reason(frame), true.into());
                if let Some(url) = url {
                    load(canvas.view.id(), &url)?;
                }
                NSWindow::order_front_regardless(canvas.panel.id());
                Ok(NSWindow::frame(canvas.panel.id()))
            }
        })
    })
}

fn make_room(canvases: &mut HashMap<String, Canvas>) {
    while canvases.len() >= CANVASES {
        let Some(oldest) = canvases.iter().min_by_key(|(_, canvas)| canvas.made).map(|(name, _)| name.clone()) else {
            return;
        };
        if let Some(canvas) = canvases.remove(&oldest) {
            // SAFETY: the live panel, on the main thread.
            unsafe { NSWindow::order_out(canvas.panel.id(), NIL) };
        }
    }
}

/// No size below the least, and none that would make AppKit raise.
fn within_reason(frame: Rect) -> Rect {
    let finite =
        |value: f64, otherwise: f64| if value.is_finite() { value.clamp(-20_000.0, 20_000.0) } else { otherwise };
    Rect {
        origin: Point { x: finite(frame.origin.x, 0.0), y: finite(frame.origin.y, 0.0) },
        size: Size {
            width: finite(frame.size.width, FIRST.width).max(LEAST.width),
            height: finite(frame.size.height, FIRST.height).max(LEAST.height),
        },
    }
}

/// # Safety
/// A live web view, on the main thread.
unsafe fn load(view: Id, url: &str) -> Result<(), CanvasError> {
    // SAFETY: as the caller promises; a text that is no URL gives nil.
    unsafe {
        let parsed = NSURL::with_string(string(url));
        if parsed.is_null() {
            return Err(CanvasError::Failed("that is no URL".to_owned()));
        }
        WKWebView::load(view, NSURLRequest::with_url(parsed));
    }
    Ok(())
}

fn make(_: MainThread, name: &str, site: Arc<dyn Site>) -> Result<Canvas, CanvasError> {
    if !is_here() {
        return Err(Missing { name: "WebKit".to_owned() }.into());
    }
    let delegate = delegate()?;
    let nothing = || CanvasError::Missing(Missing { name: "a web view".to_owned() });
    // SAFETY: on the main thread; each object is used between its making and its end; the delegate lives for ever; the
    // scheme is ours alone and registered once in a fresh configuration (else it raises).
    unsafe {
        let configuration = runtime::new(WKWebViewConfiguration::class()).ok_or_else(nothing)?;
        WKWebViewConfiguration::set_store(configuration.id(), WKWebsiteDataStore::transient());
        WKWebViewConfiguration::set_scheme_handler(configuration.id(), delegate.0, string(SCHEME));
        let frame = Rect { size: FIRST, ..Rect::default() };
        let view = Owned::adopt(WKWebView::init(allocate(WKWebView::class()), frame, configuration.id()));
        let view = view.ok_or_else(nothing)?;
        WKWebView::set_navigation_delegate(view.id(), delegate.0);
        let made =
            NSWindow::init_with_content(allocate(NSPanel::class()), first_frame(), STYLE, BUFFERED, false.into());
        let panel = Owned::adopt(made).ok_or_else(nothing)?;
        NSWindow::set_title(panel.id(), string(&format!("OpenClaw canvas: {name}")));
        NSWindow::set_level(panel.id(), LEVEL);
        NSWindow::set_collection_behavior(panel.id(), BEHAVIOR);
        NSWindow::set_released_when_closed(panel.id(), false.into());
        NSWindow::set_hides_on_deactivate(panel.id(), false.into());
        NSWindow::set_content_min_size(panel.id(), LEAST);
        NSWindow::set_content_view(panel.id(), view.id());
        static MADE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        Ok(Canvas { panel, view, site, made: MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed) })
    }
}

/// At the main screen's upper right corner.
fn first_frame() -> Rect {
    // SAFETY: on the main thread (the caller's); nil gives zeroes.
    let visible = unsafe { NSScreen::visible_frame(NSScreen::main()) };
    let x = visible.origin.x + visible.size.width - FIRST.width - MARGIN;
    let y = visible.origin.y + visible.size.height - FIRST.height - MARGIN;
    Rect { origin: Point { x, y }, size: FIRST }
}

/// Hides a canvas; one that is not shown stays so.
///
/// # Errors
/// See [`CanvasError`].
pub fn hide(name: &str, patience: Duration) -> Result<(), CanvasError> {
    let name = name.to_owned();
    on_main_now(patience, move |_| {
        CANVASES_BY_NAME.with_borrow(|canvases| {
            if let Some(canvas) = canvases.get(&name) {
                // SAFETY: the live panel, on the main thread.
                unsafe { NSWindow::order_out(canvas.panel.id(), NIL) };
            }
        });
        Ok(())
    })
}

/// Loads again what a canvas shows, after its files have changed.
///
/// # Errors
/// There is no main loop.
pub fn reload(name: &str) -> Result<(), Missing> {
    let name = name.to_owned();
    on_main(When::Idle, move |_| {
        CANVASES_BY_NAME.with_borrow(|canvases| {
            if let Some(canvas) = canvases.get(&name) {
                // SAFETY: the live view, on the main thread.
                unsafe { WKWebView::reload(canvas.view.id()) };
            }
        });
    })
}

/// Runs a script in a canvas and describes what it gives; nothing is the empty text.
///
/// # Errors
/// See [`CanvasError`].
pub fn evaluate(name: &str, script: &str, patience: Duration) -> Result<String, CanvasError> {
    let script = script.to_owned();
    let value = ask(name, patience, move |view, handler| {
        // SAFETY: the live view on the main thread; the block takes (object?, NSError?).
        unsafe { WKWebView::evaluate(view, string(&script), handler) };
    })?;
    // SAFETY: the retained value, a plain object of Foundation.
    Ok(value.map_or_else(String::new, |value| unsafe {
        foundation::text(NSObject::description(value.0.id())).unwrap_or_default()
    }))
}

/// A picture of a canvas, `width` points wide, as TIFF made into `format` and shrunk to `width` pixels.
///
/// # Errors
/// See [`CanvasError`].
pub fn snapshot(
    name: &str,
    width: u32,
    format: Format,
    patience: Duration,
) -> Result<crate::image::Encoded, CanvasError> {
    let picture = ask(name, patience, move |view, handler| {
        // SAFETY: the live view on the main thread; the block takes (NSImage?, NSError?).
        unsafe {
            let how = runtime::new(WKSnapshotConfiguration::class());
            WKWebView::snapshot(view, how.as_ref().map_or(NIL, Owned::id), handler);
        }
    })?;
    let picture = picture.ok_or_else(|| CanvasError::Failed("no picture came".to_owned()))?;
    // SAFETY: the retained picture; its data are the pool's.
    let tiff = runtime::pooled(|| unsafe { foundation::bytes(NSImage::tiff(picture.0.id())) });
    let encoded = crate::image::shrink(&tiff.unwrap_or_default(), width, format)?;
    encoded.ok_or_else(|| CanvasError::Failed("the picture could not be encoded".to_owned()))
}

/// Has the main thread start something that WebKit answers on the main thread later, and waits for the answer here.
fn ask(
    name: &str,
    patience: Duration,
    start: impl FnOnce(Id, Id) + Send + 'static,
) -> Result<Option<completion::Anywhere>, CanvasError> {
    let deadline = Instant::now() + patience;
    let name = name.to_owned();
    let (handler, answer) = completion::object_later()?;
    // The block goes along: it lives until the main thread has handed it over, however late that is.
    on_main_now(patience, move |_| {
        CANVASES_BY_NAME.with_borrow(|canvases| {
            let canvas = canvases.get(&name).ok_or(CanvasError::NotShown)?;
            start(canvas.view.id(), handler.id());
            Ok(())
        })
    })?;
    answer.wait(deadline)?.map_err(CanvasError::Failed)
}

/// The site of the canvas that `url` (`openclaw-canvas://name/…`) belongs to.
fn site_of(url: &str) -> Option<Arc<dyn Site>> {
    let rest = url.strip_prefix(SCHEME)?.strip_prefix("://")?;
    let name = rest.split(['/', '?', '#']).next()?;
    CANVASES_BY_NAME.with_borrow(|canvases| {
        // WebKit may write a host in small letters.
        canvases.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, canvas)| Arc::clone(&canvas.site))
    })
}

/// # Safety
/// A live request or nil.
unsafe fn url_of(request: Id) -> String {
    // SAFETY: as the caller promises.
    unsafe { foundation::text(NSURL::absolute_string(NSURLRequest::url(request))).unwrap_or_default() }
}

/// Answers a task in one go, so that none is ever stopped half-way: a call on a stopped one raises.
extern "C-unwind" fn start_task(_: Id, _: Sel, _: Id, task: Id) {
    class::guarded((), || {
        // SAFETY: the task lives during the call and is answered once: response, data, finish.
        unsafe {
            let request = WKURLSchemeTask::request(task);
            let url = url_of(request);
            let missing = || Served {
                status: 404,
                mime: "text/plain".into(),
                policy: "default-src 'none'".into(),
                bytes: b"not found".to_vec(),
            };
            let served = site_of(&url).map_or_else(missing, |site| site.serve(&url));
            let headers = dictionary(&[
                (string("Content-Type"), string(&served.mime)),
                (string("Content-Security-Policy"), string(&served.policy)),
                (string("X-Content-Type-Options"), string("nosniff")),
                (string("Cache-Control"), string("no-store")),
            ]);
            let made = NSHTTPURLResponse::init(
                allocate(NSHTTPURLResponse::class()),
                NSURLRequest::url(request),
                isize::try_from(served.status).unwrap_or(500),
                string("HTTP/1.1"),
                headers,
            );
            if let Some(response) = Owned::adopt(made) {
                WKURLSchemeTask::respond(task, response.id());
                WKURLSchemeTask::receive(task, NSData::with_bytes(served.bytes.as_ptr().cast(), served.bytes.len()));
                WKURLSchemeTask::finish(task);
            }
        }
    });
}

/// Nothing is under way by then.
extern "C-unwind" fn stop_task(_: Id, _: Sel, _: Id, _: Id) {}

/// Decides where a view may go. The block that is given must be called exactly once.
extern "C-unwind" fn decide(_: Id, _: Sel, view: Id, action: Id, decision: Id) {
    let allowed = class::guarded(false, || {
        // SAFETY: the action lives during the call.
        let url = unsafe { url_of(WKNavigationAction::request(action)) };
        let site = CANVASES_BY_NAME.with_borrow(|canvases| {
            canvases.values().find(|canvas| canvas.view.id() == view).map(|canvas| Arc::clone(&canvas.site))
        });
        site.is_some_and(|site| site.may_open(&url))
    });
    // SAFETY: a block of (NSInteger), whose code stands at offset 16 (mac-app §8.8).
    unsafe {
        let code = decision.cast::<u8>().add(16).cast::<*const c_void>().read();
        let code = std::mem::transmute::<*const c_void, unsafe extern "C-unwind" fn(Id, isize)>(code);
        code(decision, if allowed { ALLOW } else { CANCEL });
    }
}

fn delegate() -> Result<Shared, Missing> {
    static DELEGATE: OnceLock<Result<Shared, Missing>> = OnceLock::new();
    let make = || {
        type Two = unsafe extern "C-unwind" fn(Id, Sel, Id, Id);
        type Three = unsafe extern "C-unwind" fn(Id, Sel, Id, Id, Id);
        // SAFETY: only ever called by the runtime with the type that stands in `types`, which is the code's own.
        let (two, three) = unsafe {
            (|code: Two| std::mem::transmute::<Two, Imp>(code), |code: Three| std::mem::transmute::<Three, Imp>(code))
        };
        let methods = [
            Method { selector: "webView:startURLSchemeTask:", types: "v@:@@", code: two(start_task) },
            Method { selector: "webView:stopURLSchemeTask:", types: "v@:@@", code: two(stop_task) },
            Method {
                selector: "webView:decidePolicyForNavigationAction:decisionHandler:",
                types: "v@:@@@?",
                code: three(decide),
            },
        ];
        let class = class::define("OpenClawCanvas", &["WKURLSchemeHandler", "WKNavigationDelegate"], &methods)?;
        // SAFETY: a class of ours without state.
        Ok(unsafe { class::immortal(class) })
    };
    DELEGATE.get_or_init(make).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_makes_no_sense_becomes_one_that_does() {
        let frame = Rect { origin: Point { x: f64::NAN, y: 1e300 }, size: Size { width: -4.0, height: f64::INFINITY } };
        let sane = within_reason(frame);
        assert_eq!((sane.origin.x, sane.origin.y), (0.0, 20_000.0));
        assert_eq!((sane.size.width, sane.size.height), (LEAST.width, FIRST.height));
    }
}
