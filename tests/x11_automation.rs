//! The X11 desktop, on a virtual X server with real programs: what is seen, and what an action does.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support_x11;

use openclaw::desktop::automation::{
    Ability, ApplicationChange, Area, Automation, Button, Direction, Expected, Failure, Key, Modifiers, Point, Pointer,
    Rect, Scale, Scroll, Size, Window, WindowChange,
};
use openclaw::desktop::x11::X11;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};
use support_x11::{Display, OwnClient, Program, png, wait_until};

const ANY: Expected = Expected { pid: None, window: None };
const CONTROL: Modifiers = Modifiers { command: false, control: true, option: false, shift: false, function: false };
const NONE: Modifiers = Modifiers { control: false, ..CONTROL };

fn desk(display: &Display) -> X11 {
    X11::new(Some(&display.name))
}

fn point(x: i32, y: i32) -> Point {
    Point { x: x.into(), y: y.into() }
}

fn rect(x: i32, y: i32, width: i32, height: i32) -> Rect {
    Rect { origin: point(x, y), size: Size { width: width.into(), height: height.into() } }
}

fn click(at: Point) -> Pointer {
    Pointer::Click { at, button: Button::Left, count: 1 }
}

/// The window of a program, once it is on the screen and has settled.
fn window_of(desk: &X11, program: &Program) -> Window {
    let find = || desk.windows().unwrap().into_iter().find(|window| window.pid == program.pid() && window.on_screen);
    wait_until("the program's window", || {
        let first = find()?;
        std::thread::sleep(Duration::from_millis(50));
        (find()? == first).then_some(first)
    })
}

/// A colour at a point of the screen.
fn colour(desk: &X11, x: i32, y: i32) -> [u8; 3] {
    let image = desk.capture(Area::Rect(rect(x, y, 1, 1)), Scale::Native).unwrap();
    png::decode(&image.png).2[0]
}

#[test]
fn what_is_captured_is_what_is_on_the_screen() {
    let Some(display) = Display::start("640x480x24") else { return };
    let desk = desk(&display);
    assert_eq!(desk.screens().unwrap().len(), 1);
    assert_eq!(desk.screens().unwrap()[0].bounds, rect(0, 0, 640, 480));
    display.tool("xsetroot", &["-solid", "#336699"]);
    let xterm = display.program(
        "xterm",
        &["-bg", "#102030", "-fg", "#102030", "-cr", "#102030", "-bw", "0", "-geometry", "20x5+100+50", "-e", "cat"],
    );
    let window = window_of(&desk, &xterm);
    assert_eq!((window.bounds.origin, window.pid), (point(100, 50), xterm.pid()));

    let whole = desk.capture(Area::Screen(0), Scale::Native).unwrap();
    let (width, height, pixels) = png::decode(&whole.png);
    assert_eq!((width, height, whole.width, whole.height), (640, 480, 640, 480));
    for (index, pixel) in pixels.iter().enumerate() {
        let (x, y) = (i32::try_from(index % 640).unwrap(), i32::try_from(index / 640).unwrap());
        let expected = if window.bounds.contains(point(x, y)) { [0x10, 0x20, 0x30] } else { [0x33, 0x66, 0x99] };
        assert_eq!(*pixel, expected, "at {x}, {y}");
    }
    let image = desk.capture(Area::Window(window.id), Scale::Native).unwrap();
    let (width, height, pixels) = png::decode(&image.png);
    assert_eq!((width as f64, height as f64), (window.bounds.size.width, window.bounds.size.height));
    assert!(pixels.iter().all(|pixel| *pixel == [0x10, 0x20, 0x30]));
    // Partly outside: what is inside. Wholly outside, or no such thing: a refusal.
    let corner = desk.capture(Area::Rect(rect(-20, 470, 40, 40)), Scale::Native).unwrap();
    assert_eq!((corner.width, corner.height), (20, 10));
    assert!(matches!(desk.capture(Area::Rect(rect(640, 0, 10, 10)), Scale::Native), Err(Failure::Invalid(_))));
    assert!(matches!(desk.capture(Area::Screen(1), Scale::Native), Err(Failure::Invalid(_))));
    assert!(matches!(desk.capture(Area::Window(12345), Scale::Native), Err(Failure::NotFound(_))));
    drop(xterm);
    wait_until("the window's end", || desk.windows().unwrap().is_empty().then_some(()));
    assert!(matches!(desk.capture(Area::Window(window.id), Scale::Native), Err(Failure::NotFound(_))));
}

#[test]
fn every_depth_of_a_screen_is_captured() {
    for screen in ["64x48x8", "64x48x15", "64x48x16", "64x48x24", "64x48x30"] {
        let Some(display) = Display::start(screen) else { return };
        display.tool("xsetroot", &["-solid", "#ff8000"]);
        let [red, green, blue] = colour(&desk(&display), 10, 10);
        assert!(red >= 0xf8 && green.abs_diff(0x80) <= 8 && blue <= 8, "{screen}: {red} {green} {blue}");
    }
}

#[test]
fn a_button_of_a_real_program_is_clicked() {
    let Some(display) = Display::start("640x480x24") else { return };
    let desk = desk(&display);
    let mut asks = display.program("xmessage", &["-buttons", "Yes:7,No:8", "-geometry", "+100+100", "Shall it be?"]);
    let window = window_of(&desk, &asks);
    assert_eq!((window.title.as_str(), window.pid), ("xmessage", asks.pid()));
    let application =
        desk.applications().unwrap().into_iter().find(|application| application.pid == asks.pid()).unwrap();
    assert_eq!((application.name.as_str(), application.bundle_id.as_deref()), ("Xmessage", Some("Xmessage")));
    assert_eq!(desk.window_at(point(150, 135)).unwrap().unwrap().id, window.id);
    assert_eq!(desk.window_at(point(600, 400)).unwrap(), None);
    // Its second button, by its place in the window.
    let no = Point { x: window.bounds.origin.x + 53.0, y: window.bounds.origin.y + 39.0 };
    // sec_a136: whoever means another window or program hits nothing.
    for other in [Expected { window: Some(1), ..ANY }, Expected { pid: Some(1), ..ANY }] {
        assert!(matches!(desk.pointer(&click(no), None, other), Err(Failure::Stale(_))));
    }
    assert_eq!(asks.ended(), None);
    desk.pointer(&click(no), None, Expected { pid: Some(asks.pid()), window: Some(window.id) }).unwrap();
    assert_eq!(wait_until("the answer", || asks.ended()), 8);
    for outside in [point(-1, 5), point(640, 5), Point { x: f64::NAN, y: 0.0 }] {
        assert!(matches!(desk.pointer(&click(outside), None, ANY), Err(Failure::Invalid(_))));
    }
    assert!(matches!(desk.pointer(&click(no), Some(1), ANY), Err(Failure::NotSupported(_))));
}

#[test]
fn any_text_is_typed_and_a_hotkey_ends_it() {
    let Some(display) = Display::start("800x600x24") else { return };
    let desk = desk(&display);
    let file = std::env::temp_dir().join(format!("oc-x11-typed-{}", std::process::id()));
    let mut xterm = display.program("xterm", &["-u8", "-e", "sh", "-c", &format!("cat > {}", file.display())]);
    let window = window_of(&desk, &xterm);
    let before = display.tool("xmodmap", &["-pke"]);
    desk.change_window(window.id, WindowChange::Focus).unwrap();
    let line = "Hello, World! ~|{}[]\\ grün, naïve: 10 € — 漢字 Ωψ мир 🦀\n";
    // More different characters than keys can be lent at once.
    let many: String = ('\u{4e00}'..'\u{4e00}').chain((0x4e00..0x4e40).filter_map(char::from_u32)).collect();
    let text = format!("{line}{many}\n");
    let expected = Expected { pid: Some(xterm.pid()), window: Some(window.id) };
    assert!(matches!(desk.type_text("x", Duration::ZERO, Expected { pid: Some(1), ..ANY }), Err(Failure::Stale(_))));
    desk.type_text(&text, Duration::ZERO, expected).unwrap();
    desk.type_text("wrong", Duration::ZERO, ANY).unwrap();
    desk.press(Key::Character('u'), CONTROL, Duration::ZERO, None, expected).unwrap();
    // With Caps Lock on, the same comes out.
    desk.press(Key::CapsLock, NONE, Duration::ZERO, None, ANY).unwrap();
    desk.type_text("aB\n", Duration::ZERO, ANY).unwrap();
    desk.press(Key::CapsLock, NONE, Duration::ZERO, None, ANY).unwrap();
    desk.press(Key::Character('d'), CONTROL, Duration::ZERO, None, expected).unwrap();
    wait_until("the program's end", || xterm.ended());
    let typed = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(typed, format!("{text}aB\n"));
    assert_eq!(display.tool("xmodmap", &["-pke"]), before, "every key means again what it meant");
    assert!(matches!(desk.type_text("\u{1b}[2J", Duration::ZERO, ANY), Err(Failure::Invalid(_))));
}

#[test]
fn the_pointer_moves_drags_and_scrolls_as_a_program_sees_it() {
    let Some(display) = Display::start("640x480x24") else { return };
    let desk = desk(&display);
    let watcher = display.program(
        "stdbuf",
        &["-oL", "xev", "-geometry", "400x300+20+20", "-event", "mouse", "-event", "button", "-event", "keyboard"],
    );
    let window = window_of(&desk, &watcher);
    let (from, to) = (point(100, 100), point(200, 150));
    desk.pointer(
        &Pointer::Drag { path: vec![from, point(150, 120), to], pause: Duration::ZERO, modifiers: CONTROL },
        None,
        ANY,
    )
    .unwrap();
    desk.scroll(
        &Scroll { at: Some(from), direction: Direction::Down, ticks: 3, smooth: false, pause: Duration::ZERO },
        ANY,
    )
    .unwrap();
    desk.pointer(
        &Pointer::Click { at: from, button: Button::Right, count: 2 },
        None,
        Expected { window: Some(window.id), ..ANY },
    )
    .unwrap();
    assert_eq!(desk.pointer_position().unwrap(), from);
    let told = wait_until("all events", || {
        Some(watcher.said()).filter(|told| told.matches("button 3, same_screen").count() == 4)
    });
    let presses: Vec<_> = told.lines().filter(|line| line.contains("state") && line.contains("button ")).collect();
    let buttons: Vec<_> =
        presses.iter().map(|line| line.split("button ").nth(1).unwrap().split(',').next().unwrap()).collect();
    assert_eq!(buttons, ["1", "1", "5", "5", "5", "5", "5", "5", "3", "3", "3", "3"]);
    let held = told.matches("state 0x104, is_hint").count();
    assert!(held >= 2, "motion with Control and the first button down: {held}\n{told}");
    assert!(presses[0].contains("(100,100)") || told.contains("root:(100,100)"));
    assert!(matches!(
        desk.pointer(&Pointer::Drag { path: vec![], pause: Duration::ZERO, modifiers: NONE }, None, ANY),
        Err(Failure::Invalid(_))
    ));
}

#[test]
fn the_clipboard_goes_both_ways() {
    let Some(display) = Display::start("320x240x24") else { return };
    let desk = desk(&display);
    assert!(matches!(desk.clipboard(), Err(Failure::NotFound(_))));
    desk.set_clipboard("first").unwrap();
    desk.set_clipboard("grün 🦀\n").unwrap();
    assert_eq!(display.tool("xclip", &["-o", "-selection", "clipboard"]), "grün 🦀\n");
    assert!(display.tool("xclip", &["-o", "-selection", "clipboard", "-t", "TARGETS"]).contains("UTF8_STRING"));
    assert_eq!(desk.clipboard().unwrap(), "grün 🦀\n");
    let copy = |text: &str| {
        let mut xclip = display.command("xclip", &["-i", "-selection", "clipboard"]);
        let mut xclip = xclip.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        xclip.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        xclip.wait().unwrap();
    };
    copy("from another program");
    wait_until("the other program's text", || (desk.clipboard().unwrap() == "from another program").then_some(()));
    // In pieces (INCR), and more than we take.
    let long: String = ('a'..='z').cycle().take(900_000).collect();
    copy(&long);
    wait_until("the long text", || (desk.clipboard().unwrap() == long).then_some(()));
    copy(&long.repeat(2));
    wait_until("the refusal", || desk.clipboard().err());
    desk.set_clipboard(&long).unwrap();
    assert!(display.tool("xclip", &["-o", "-selection", "clipboard"]) == long);
    assert!(desk.set_clipboard(&"x".repeat(2 << 20)).is_err());
}

#[test]
fn windows_are_managed_through_the_window_manager() {
    let Some(display) = Display::start("800x600x24") else { return };
    let desk = desk(&display);
    let _manager = display.manager();
    let mut first = display.program("xterm", &["-geometry", "40x10+50+50", "-e", "cat"]);
    let one = window_of(&desk, &first);
    let second = display.program("xmessage", &["-geometry", "+300+300", "two"]);
    let two = window_of(&desk, &second);
    let look = |id| desk.windows().unwrap().into_iter().find(|window| window.id == id);
    let becomes = |what: &str, id: u32, like: &dyn Fn(&Window) -> bool| {
        wait_until(what, || look(id).filter(|window| like(window)))
    };
    desk.change_window(one.id, WindowChange::Focus).unwrap();
    assert!(look(one.id).unwrap().focused && desk.windows().unwrap()[0].id == one.id);
    assert!(desk.change_application(second.pid(), ApplicationChange::Activate).unwrap());
    becomes("the other one's turn", two.id, &|window| window.focused);
    assert_eq!(desk.applications().unwrap()[0].pid, second.pid());

    let wanted = rect(200, 120, 420, 300);
    desk.change_window(one.id, WindowChange::Place(Some(wanted.origin), Some(wanted.size))).unwrap();
    // xterm has whole characters only.
    let near =
        |window: &Window| window.bounds.origin == wanted.origin && (window.bounds.size.width - 420.0).abs() < 16.0;
    let placed = becomes("its place", one.id, &near);
    // The frame is part of it, in lists, captures and clicks alike.
    let image = desk.capture(Area::Window(one.id), Scale::Native).unwrap();
    assert_eq!(
        (f64::from(image.width), f64::from(image.height)),
        (placed.bounds.size.width, placed.bounds.size.height)
    );
    let title_bar = Point { x: placed.bounds.center().x, y: placed.bounds.origin.y + 8.0 };
    assert_eq!(desk.window_at(title_bar).unwrap().unwrap().id, one.id);
    desk.pointer(&click(title_bar), None, Expected { window: Some(one.id), ..ANY }).unwrap();
    becomes("a click on the title bar", one.id, &|window| window.focused);

    desk.change_window(one.id, WindowChange::Maximize).unwrap();
    becomes("all of the screen", one.id, &|window| window.bounds.size.width > 750.0);
    desk.change_window(one.id, WindowChange::Minimize).unwrap();
    becomes("out of sight", one.id, &|window| window.minimized && !window.on_screen);
    let put_away = desk.capture(Area::Window(one.id), Scale::Native).err();
    assert!(matches!(put_away, Some(Failure::NotFound(_))), "{put_away:?}");
    desk.change_window(one.id, WindowChange::Focus).unwrap();
    becomes("back again", one.id, &|window| window.focused && window.on_screen);
    desk.change_window(one.id, WindowChange::Close).unwrap();
    wait_until("its end", || first.ended().map(|_| ()).or_else(|| look(one.id).is_none().then_some(())));
    assert!(matches!(desk.change_window(one.id, WindowChange::Focus), Err(Failure::NotFound(_) | Failure::Stale(_))));
}

/// H04, at each action and by each way: by point, on the way of a drag, by focus, by window, by process; with a window
/// manager's frame around ours, and without one.
#[test]
fn sec_h04_nothing_reaches_a_window_of_this_process() {
    let Some(display) = Display::start("800x600x24") else { return };
    let desk = desk(&display);
    for managed in [false, true] {
        let _manager = managed.then(|| display.manager());
        let other = display.program("xterm", &["-geometry", "40x10+400+350", "-e", "cat"]);
        let foreign = window_of(&desk, &other);
        let mut own = OwnClient::connect(&display);
        let prompt = own.window([100, 100, 200, 150], false);
        let seen = wait_until("our window", || {
            desk.windows().unwrap().into_iter().find(|window| window.id == prompt && window.on_screen)
        });
        let refused = |what: &str, done: Result<(), Failure>| {
            assert_eq!(done, Err(Failure::OwnPrompt), "{what}, managed: {managed}")
        };
        let middle = seen.bounds.center();
        let outside = foreign.bounds.center();
        refused("click", desk.pointer(&click(middle), None, ANY));
        refused("click, ours expected", desk.pointer(&click(middle), None, Expected { window: Some(prompt), ..ANY }));
        refused(
            "right click",
            desk.pointer(&Pointer::Click { at: middle, button: Button::Right, count: 1 }, None, ANY),
        );
        refused("move", desk.pointer(&Pointer::Move { path: vec![middle], pause: Duration::ZERO }, None, ANY));
        for path in [vec![middle, outside], vec![outside, middle], vec![outside, middle, outside]] {
            refused("drag", desk.pointer(&Pointer::Drag { path, pause: Duration::ZERO, modifiers: NONE }, None, ANY));
        }
        let scroll =
            Scroll { at: Some(middle), direction: Direction::Down, ticks: 1, smooth: false, pause: Duration::ZERO };
        refused("scroll", desk.scroll(&scroll, ANY));
        // Where a press on another program has moved the keyboard: back to ours.
        let keyboard_to = |own: &mut OwnClient, window: u32| {
            own.focus(window);
            wait_until("the keyboard", || {
                (display.tool("xdotool", &["getwindowfocus"]).trim() == window.to_string()).then_some(())
            });
        };
        keyboard_to(&mut own, prompt);
        refused("type", desk.type_text("\n", Duration::ZERO, ANY));
        for (key, modifiers) in
            [(Key::Return, NONE), (Key::Space, NONE), (Key::Function(4), Modifiers { option: true, ..NONE })]
        {
            refused("press", desk.press(key, modifiers, Duration::ZERO, None, ANY));
        }
        let changes = [
            WindowChange::Focus,
            WindowChange::Close,
            WindowChange::Minimize,
            WindowChange::Maximize,
            WindowChange::Place(Some(point(0, 0)), None),
        ];
        for change in changes {
            refused("window", desk.change_window(prompt, change));
        }
        let own_pid = i32::try_from(std::process::id()).unwrap();
        refused("activate", desk.change_application(own_pid, ApplicationChange::Activate).map(drop));
        // The pointer where it was left by a person: over ours.
        display.tool("xdotool", &["mousemove", &middle.x.to_string(), &middle.y.to_string()]);
        own.settle();
        refused("scroll where the pointer is", desk.scroll(&Scroll { at: None, ..scroll }, ANY));
        if managed {
            let frame = Point { x: middle.x, y: seen.bounds.origin.y + 6.0 };
            assert!(seen.bounds.size.height > 150.0, "there is a frame");
            refused("the frame's title bar", desk.pointer(&click(frame), None, ANY));
        }
        assert_eq!(own.settle(), [0_u8; 0], "no event has arrived");
        // A menu of ours, which no window manager knows.
        let menu = own.window([500, 20, 80, 40], true);
        refused("our menu", desk.pointer(&click(point(520, 30)), None, ANY));
        assert_eq!(desk.window_at(point(520, 30)).unwrap().unwrap().id, menu);

        // The nearest legitimate actions work, also while our prompt is there.
        desk.pointer(&click(outside), None, Expected { window: Some(foreign.id), ..ANY }).unwrap();
        desk.change_window(foreign.id, WindowChange::Focus).unwrap();
        desk.type_text("ok\n", Duration::ZERO, Expected { pid: Some(other.pid()), ..ANY }).unwrap();
        assert!(own.settle().iter().all(|kind| *kind == 6), "only the pointer's way past it");

        // A prompt that appears just then, over the very place.
        let (x, y) = (outside.x as u16, outside.y as u16);
        let sudden = own.window([x - 50, y - 50, 100, 100], true);
        own.raise(sudden);
        refused(
            "the place that a prompt has taken",
            desk.pointer(&click(outside), None, Expected { window: Some(foreign.id), ..ANY }),
        );
        // And one that takes the keyboard while a key is held.
        std::thread::scope(|scope| {
            let held = scope.spawn(|| desk.press(Key::Character('x'), NONE, Duration::from_secs(5), None, ANY));
            std::thread::sleep(Duration::from_millis(200));
            keyboard_to(&mut own, sudden);
            assert_eq!(held.join().unwrap(), Err(Failure::OwnPrompt));
        });
        assert!(own.settle().iter().filter(|kind| **kind == 2).count() <= 1, "no repetitions of the held key");
    }
}

#[test]
fn a_server_that_is_missing_ends_or_hangs_is_an_error_and_no_more() {
    let nowhere = X11::new(Some(":98765"));
    assert!(nowhere.abilities().is_empty());
    let missing = nowhere.windows().unwrap_err();
    assert!(missing.to_string().contains("DISPLAY"), "{missing}");
    let Some(display) = Display::start("640x480x24") else { return };
    let desk = desk(&display);
    assert!(desk.abilities().contains(&Ability::CaptureScreen));
    let signal = |signal| {
        // SAFETY: kill takes two integers and touches no memory.
        assert_eq!(unsafe { libc::kill(display.server.pid(), signal) }, 0);
    };
    signal(libc::SIGSTOP);
    let started = Instant::now();
    assert_eq!(desk.windows(), Err(Failure::Timeout));
    assert!(started.elapsed() < Duration::from_secs(10));
    signal(libc::SIGCONT);
    wait_until("the same server again", || desk.windows().ok());
    signal(libc::SIGKILL);
    wait_until("the server's end", || desk.windows().err());
    assert!(matches!(desk.windows(), Err(Failure::Internal(_))));
    assert!(desk.capture(Area::Screen(0), Scale::Native).is_err());
}

/// Including the PNG file; with optimisation at least ten a second.
#[test]
fn captures_are_fast() {
    let Some(display) = Display::start("1920x1080x24") else { return };
    let desk = desk(&display);
    display.tool("xsetroot", &["-mod", "16", "16", "-fg", "#446688", "-bg", "#223344"]);
    let list = "find /usr/share -maxdepth 3 | head -500; sleep 1000";
    let xterm = display.program("xterm", &["-fs", "10", "-geometry", "300x75+20+20", "-e", "sh", "-c", list]);
    window_of(&desk, &xterm);
    std::thread::sleep(Duration::from_millis(500));
    let (rounds, started) = (if cfg!(debug_assertions) { 3 } else { 30 }, Instant::now());
    let mut bytes = 0;
    for _ in 0..rounds {
        let image = desk.capture(Area::Screen(0), Scale::Native).unwrap();
        assert_eq!((image.width, image.height), (1920, 1080));
        bytes = image.png.len();
    }
    let rate = f64::from(rounds) / started.elapsed().as_secs_f64();
    println!("{rate:.1} captures a second at 1920x1080, {bytes} bytes each");
    let least = if cfg!(debug_assertions) { 0.5 } else { 10.0 };
    assert!(rate >= least, "{rate:.1} a second");
}
