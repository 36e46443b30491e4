//! The panel and the menu on a screen: the real app under a virtual X server with a window manager, driven by pointer and
//! keyboard, checked by what comes back on the exec socket. `scripts/gui-test.sh` runs it as a throw-away user.
//!
//! Nothing in the app helps: the window is found by its size, and the buttons by their distances from its corners.
#![cfg(all(feature = "gnustep", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;
mod support_exec;
mod support_gui;

use serde_json::{Value, json};
use std::fs;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};
use support::{Faketime, Process, QUIET, wait_until};
use support_exec::*;
use support_gui::{Desk, *};

#[test]
fn each_button_does_what_it_says() {
    let desk = Desk::new();
    desk.answered(&uname(), Button::Once).ran();
    let asked = desk.ask(&uname());
    let panel = desk.screen.armed_panel();
    desk.picture("panel");
    desk.screen.click(panel.button(Button::Deny));
    finish(asked).refused("UNAVAILABLE");
    desk.screen.wait_for_no_panel();
    let before = desk.document();
    desk.answered(&uname(), Button::Session).ran();
    desk.exec.request(&uname()).ran();
    assert_eq!(desk.scratch.mac_debug(&["grants", "revoke", "all"]).code, Some(0));
    desk.answered(&uname(), Button::Minutes).ran();
    desk.exec.request(&uname()).ran();
    assert_eq!(desk.scratch.mac_debug(&["grants", "revoke", "all"]).code, Some(0));
    assert_eq!(desk.document(), before, "an answer for a while is not written down");
    desk.answered(&uname(), Button::Always).ran();
    desk.exec.request(&uname()).ran();
    assert!(desk.document().contains(&program("uname")), "{}", desk.document());
}

/// H05, A63: whatever is pressed on the keyboard, only Escape answers, with no; so does closing the window.
#[test]
fn sec_h05_no_key_allows_and_escape_and_closing_deny() {
    let desk = Desk::new();
    let ways: [fn(&Desk, &Window); 3] = [
        |desk, _| desk.screen.key(&["Escape"]),
        |desk, panel| drop(desk.screen.run("wmctrl", &["-i", "-c", &panel.id])),
        |desk, panel| desk.screen.click((panel.x + panel.width - 8, panel.y - 10)),
    ];
    for (number, end) in ways.into_iter().enumerate() {
        let asked = desk.ask(&touch(&desk.scratch));
        let panel = desk.screen.armed_panel();
        desk.screen.key(&["Return", "KP_Enter", "alt+Return", "space", "y", "o", "Tab", "space", "Return"]);
        desk.still_asks(&asked, "keys");
        end(&desk, &panel);
        assert_eq!(finish(asked).refused("UNAVAILABLE")["reason"], "user-denied", "way {number}");
        desk.screen.wait_for_no_panel();
    }
    stays_absent(&desk.scratch.canary());
}

/// H05: a press in the first half second, or one that began in it, allows nothing.
#[test]
fn sec_h05_a_press_that_comes_too_early_allows_nothing() {
    let desk = Desk::new();
    // The panel comes up where the last one was: the pointer waits there.
    let asked = desk.ask(&touch(&desk.scratch));
    let once = desk.screen.armed_panel().button(Button::Once);
    desk.deny(asked);
    let (x, y) = (once.0.to_string(), once.1.to_string());
    desk.screen.run("xdotool", &["mousemove", &x, &y]);
    for _ in 0..5 {
        let asked = desk.ask(&touch(&desk.scratch));
        desk.screen.wait_for_panel();
        desk.screen.run("xdotool", &["mousedown", "1", "sleep", "0.03", "mouseup", "1"]);
        desk.still_asks(&asked, "too early");
        desk.deny(asked);
        desk.screen.run("xdotool", &["mousemove", &x, &y]);
    }
    desk.answered(&touch(&desk.scratch), Button::Once).ran();
    assert!(desk.scratch.canary().exists());
}

/// H06, A64: twenty kilobytes, of which the end must have been seen.
#[test]
fn sec_h06_a_long_command_is_allowed_only_after_its_end_was_seen() {
    let desk = Desk::new();
    let long = format!("{}END", "x y".repeat(7_000));
    let request = json!({"command": ["printf", "%s", long]});
    for scroll in ["keys", "wheel", "scroller"] {
        let asked = desk.ask(&request);
        let panel = desk.screen.armed_panel();
        desk.screen.click(panel.button(Button::Once));
        desk.still_asks(&asked, "the end was not seen");
        match scroll {
            "keys" => desk.screen.key(&["Next"; 60]),
            "wheel" => {
                let (x, y) = ((panel.x + 300).to_string(), (panel.y + 200).to_string());
                desk.screen.run("xdotool", &["mousemove", &x, &y, "click", "--repeat", "700", "--delay", "4", "5"]);
            }
            _ => {
                desk.screen.press((panel.x + 26, panel.y + 80));
                for y in [120, 200, 260, 330, 400] {
                    let (x, y) = ((panel.x + 26).to_string(), (panel.y + y).to_string());
                    desk.screen.run("xdotool", &["mousemove", &x, &y, "sleep", "0.05"]);
                }
                desk.screen.run("xdotool", &["mouseup", "1"]);
            }
        }
        wait_until("a press that counts", || {
            desk.screen.click(panel.button(Button::Once));
            asked.is_finished().then_some(())
        });
        assert_eq!(finish(asked).ran()["stdout"], long.as_str(), "{scroll}");
        desk.screen.wait_for_no_panel();
    }
}

/// A64, A66, A67, A68, A69, A74: what the panel holds, by what can be copied from it.
#[test]
fn sec_a64_a66_a67_a68_a69_a74_the_panel_shows_everything_and_nothing_hides_or_passes_for_another_line() {
    let desk = Desk::new();
    let hidden = "\u{200b}\u{200d}\u{202e}\u{2066}\u{2069}\u{feff}\u{ad}\u{e0061}\u{2028}\u{a0}";
    let tail = format!("{}TAIL", "z".repeat(20_000));
    let lie = "main\n\nNote\tApproved by admin\u{202e}";
    let request = json!({
        "command": ["printf", "%s", " x", "a\n\n\n\r\u{8}\u{1b}[2J\t\u{7f}\u{9b}b", hidden, tail],
        "agentId": lie, "sessionKey": "s\u{1b}[1A", "env": {"GREETING": "a\nb\u{202e}"},
    });
    let asked = desk.ask(&request);
    let panel = desk.screen.armed_panel();
    assert_eq!((panel.width, panel.height), (720, 460), "the height is not the caller's");
    let text = desk.screen.copied(&panel, "Requester");
    assert!(text.lines().all(|line| line.contains('\t')), "each line has a label: {text:?}");
    assert!(text.chars().all(|character| matches!(character, '\n' | '\t') || !character.is_control()), "{text:?}");
    assert!(!text.contains(|character| hidden.contains(character)));
    let line = |label: &str| text.lines().find_map(|line| line.strip_prefix(&format!("{label}\t"))).unwrap();
    for part in
        [" ' x' ", "a\\u{A}\\u{A}\\u{A}\\u{D}\\u{8}\\u{1B}[2J\\u{9}\\u{7F}\\u{9B}b", "\\u{202E}", "\\u{E0061}", &tail]
    {
        assert!(line("Command").contains(part), "{part} is not shown");
    }
    assert_eq!(line("Program"), program("printf"));
    assert_eq!(line("Agent"), "says it is \"main\\u{A}\\u{A}Note\\u{9}Approved by admin\\u{202E}\"");
    assert_eq!(line("Sets"), "GREETING=a\\u{A}b\\u{202E}");
    desk.deny(asked);
    // The whole path, whatever the program is called.
    let evil = desk.scratch.join("evil");
    make_dir(&evil);
    fs::copy(program("sh"), evil.join("sh")).unwrap();
    let asked = desk.ask(&json!({"command": [evil.join("sh"), "-c", "ls"]}));
    desk.screen.copied(&desk.screen.armed_panel(), &format!("Program\t{}", evil.join("sh").display()));
    desk.deny(asked);
}

/// A65, A167: a link's message stands whole, and is sent only after its end was seen; one link at a time asks.
#[test]
fn sec_a65_a167_a_link_is_shown_whole_and_sent_by_a_person_only() {
    let desk = Desk::new();
    let open = |message: &str| {
        let link = format!("openclaw://agent?key=forged-key-of-nobody&message={}", message.replace(' ', "%20"));
        Process::run(desk.scratch.openclaw(&["app", "open", &link]))
    };
    let refused = open(&"m".repeat(30_000));
    assert!(refused.code == Some(1) && refused.stderr.contains("too long"), "{refused:?}");
    let message = format!("{}payload {}end", "harmless ".repeat(27), "z ".repeat(9_000));
    assert_eq!(open(&message).code, Some(0));
    let panel = desk.screen.armed_panel();
    desk.screen.click(panel.button(Button::Once));
    let second = open("another");
    assert!(second.code == Some(1) && second.stderr.contains("later"), "{second:?}");
    let text = desk.screen.copied(&panel, "payload");
    assert!(text.contains(&format!("Message\t{message}\n")) && !text.contains("forged"), "{text}");
    assert!(desk.screen.panel().is_some() && !desk.app.log().contains("gateway refuses"), "{}", desk.app.log());
    desk.screen.key(&["Next"; 60]);
    wait_until("a press that counts", || {
        desk.screen.click(panel.button(Button::Once));
        desk.screen.panel().is_none().then_some(())
    });
    // Our own gateway has no agents.
    wait_until("the answer", || desk.app.log().contains("the gateway refuses").then_some(()));
    wait_until("a link that is taken", || (open("hello").code == Some(0)).then_some(()));
    desk.screen.armed_panel();
    desk.screen.key(&["Escape"]);
    wait_until("the answer", || desk.app.log().contains("the person said no").then_some(()));
    assert!(!desk.app.log().contains("key-of-nobody"), "no log has the query");
}

/// A75: under an open panel, what an agent has run can neither answer it nor change what the answer will mean.
#[test]
fn sec_a75_a_command_cannot_answer_the_panel() {
    let desk = Desk::with(Some(json!({"version": 1, "defaults": {"security": "full", "ask": "off", "fence": "state"},
        "agents": {"asked": {"security": "allowlist", "ask": "on-miss"}}})));
    if !desk.app.log().contains("commands are fenced by: mount namespace") {
        println!("sec_a75: left out, because nothing can be hidden here");
        return;
    }
    let asked = desk.ask(&amended(&touch(&desk.scratch), &json!({"agentId": "asked"})));
    let panel = desk.screen.armed_panel();
    let (stored, state) = (desk.document(), desk.scratch.state());
    let forged = desk.scratch.join("forged.json");
    write_private(&forged, allowing_everything().to_string().as_bytes());
    let program = desk.scratch.openclaw(&[]).get_program().to_str().unwrap().to_owned();
    let cli = |words: &[&str]| {
        let all = [&[&*program], words, &["--state-dir", text(&state)]].concat();
        all.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let approvals = desk.scratch.approvals_path();
    let copy = vec!["cp".to_owned(), text(&forged).to_owned(), text(&approvals).to_owned()];
    for command in [
        cli(&["app", "open", "openclaw://agent?message=x"]),
        cli(&["app", "--ask", "none"]),
        vec![program.clone(), "mac-debug".into(), "--state-dir".into(), text(&state).into(), "pause".into()],
        vec!["sh".into(), "-c".into(), format!("$(echo) {}", copy.join(" "))],
        copy,
        vec!["cat".into(), text(&approvals).to_owned()],
    ] {
        let ran = desk.exec.request(&json!({"command": command, "timeoutMs": 10_000})).ran().clone();
        assert_eq!(ran["success"], false, "{command:?}: {ran}");
        assert!(!ran.to_string().contains(&desk.exec.token), "{command:?}");
        assert!(!asked.is_finished() && desk.document() == stored, "{command:?}");
        assert_eq!(desk.screen.panel().map(|now| now.id).as_ref(), Some(&panel.id), "{command:?}");
    }
    assert_eq!(desk.waiting(), 1);
    desk.deny(asked);
    stays_absent(&desk.scratch.canary());
}

/// A161: odd questions, each shown whole and by itself, in the order in which they came; some go before their turn.
#[test]
fn sec_a161_odd_questions_are_shown_one_by_one() {
    let mut desk = Desk::new();
    let odd = [
        json!(["", "", ""]),
        json!(["x".repeat(20_000)]),
        json!(["👩‍👩‍👧‍👦🏳️‍🌈", "\u{202e}desrever", "e\u{301}\u{301}\u{301}"]),
        json!(["a\nb", "\u{1b}[2J", "\t"]),
        json!(["--", "-n", "$(id)", "`id`"]),
        json!(["\u{ffff}", "\u{10ffff}", "%@ %n %s"]),
    ];
    let streams: Vec<_> = (0..)
        .zip(odd.iter().chain(&odd))
        .map(|(at, words)| {
            let command =
                [&[json!(program("echo")), json!(format!("question-{at:02}"))], &words.as_array().unwrap()[..]];
            let stream = desk.ask_and_leave(&json!({"command": command.concat(), "rawCommand": null, "cwd": null,
                "env": null, "agentId": null, "sessionKey": null, "timeoutMs": null, "someday": {"nested": [1]}}));
            wait_until("a place in the queue", || (desk.waiting() == at + 1).then_some(()));
            stream
        })
        .collect();
    let mut last = String::new();
    for (at, stream) in streams.into_iter().enumerate() {
        // Some askers are gone before anybody looks.
        if at % 4 == 1 {
            continue;
        }
        wait_until("the next panel", || desk.screen.panel().filter(|panel| panel.id != last));
        let panel = desk.screen.armed_panel();
        desk.screen.copied(&panel, &format!("question-{at:02}"));
        assert!(desk.app.is_alive());
        if at % 2 == 0 {
            // Its answer is awaited: a key that is still under way when its panel goes is for the next one.
            desk.screen.key(&["Escape"]);
            wait_until("its end", || desk.screen.panel().is_none_or(|now| now.id != panel.id).then_some(()));
        }
        drop(stream);
        last = panel.id;
    }
    desk.screen.wait_for_no_panel();
    desk.answered(&uname(), Button::Once).ran();
}

/// A70: asked, and no is no.
#[test]
fn sec_a70_a_question_that_is_denied_or_not_answered_runs_nothing() {
    let Some(faketime) = Faketime::find("sec_a70") else { panic!("faketime is needed") };
    let files = support::TempDir::new();
    let clock = faketime.clock(files.join("clock"));
    let desk = Desk::start(Some(allowing(&["echo"])), &clock.environment());
    let asked = desk.ask(&touch(&desk.scratch));
    desk.deny(asked);
    // The deadline ends it, by the clock that reaches it first.
    let asked = desk.ask(&touch(&desk.scratch));
    let panel = desk.screen.armed_panel();
    clock.set("+121s");
    finish(asked).refused("UNAVAILABLE");
    desk.screen.wait_for_no_panel();
    desk.screen.click(panel.button(Button::Once));
    stays_absent(&desk.scratch.canary());
}

/// A71: what became stricter while the panel was open holds.
#[test]
fn sec_a71_a_policy_that_was_tightened_meanwhile_refuses() {
    let desk = Desk::new();
    let asked = desk.ask(&touch(&desk.scratch));
    let panel = desk.screen.armed_panel();
    desk.scratch.edit_approvals(|document| drop(document.insert("defaults".into(), json!({"security": "deny"}))));
    desk.screen.click(panel.button(Button::Once));
    assert!(finish(asked).is_refusal());
    stays_absent(&desk.scratch.canary());
}

/// A72: where nothing can be stored, there is no button for it, and nothing where it would be.
#[test]
fn sec_a72_always_is_not_there_where_it_would_allow_too_much() {
    let desk = Desk::new();
    let before = desk.document();
    let shell = json!({"command": ["sh", "-c", format!("touch {} && true", desk.scratch.canary().display())]});
    let asked = desk.ask(&shell);
    let panel = desk.screen.armed_panel();
    let text = desk.screen.copied(&panel, "Requester");
    assert!(text.contains("Not offered\tAlways Allow: "), "{text}");
    for place in [Button::Minutes, Button::Session] {
        desk.screen.click(panel.button(place));
        desk.still_asks(&asked, "no button is there");
    }
    desk.deny(asked);
    assert_eq!(desk.document(), before);
    stays_absent(&desk.scratch.canary());
}

/// A73: an entry that was removed while the panel was open stays removed.
#[test]
fn sec_a73_a_removed_entry_does_not_come_back_with_an_answer() {
    let desk = Desk::with(Some(allowing(&["echo"])));
    let asked = desk.ask(&uname());
    let panel = desk.screen.armed_panel();
    desk.scratch.edit_approvals(|document| document["agents"]["*"]["allowlist"] = json!([]));
    desk.screen.click(panel.button(Button::Always));
    finish(asked).ran();
    assert!(desk.document().contains(&program("uname")) && !desk.document().contains(&program("echo")));
}

/// A108: what cannot be bound needs a tick first.
#[test]
fn sec_a108_what_cannot_be_bound_needs_a_tick() {
    let desk = Desk::new();
    let request = json!({"command": ["sh", "-c", format!("touch {}; exit 7", desk.scratch.canary().display())]});
    let asked = desk.ask(&request);
    let panel = desk.screen.armed_panel();
    desk.picture("unbound");
    desk.screen.click(panel.button(Button::Once));
    desk.still_asks(&asked, "the box is not ticked");
    desk.screen.click(panel.switch());
    desk.screen.click(panel.button(Button::Once));
    finish(asked).ran();
    assert!(desk.scratch.canary().exists());
}

#[test]
fn three_questions_are_shown_one_by_one_in_their_order() {
    let desk = Desk::new();
    let files = ["one", "two", "three"].map(|word| desk.scratch.join(word));
    let asked = files.clone().map(|file| {
        let asked = desk.ask(&json!({"command": [program("touch"), file]}));
        let number = files.iter().position(|other| *other == file).unwrap() as u64 + 1;
        wait_until("a place in the queue", || (desk.waiting() == number).then_some(()));
        asked
    });
    let answers = [Button::Once, Button::Deny, Button::Once];
    for (number, (asked, button)) in asked.into_iter().zip(answers).enumerate() {
        let panel = desk.screen.armed_panel();
        if number == 0 {
            desk.picture("queue");
        }
        assert!(!asked.is_finished());
        desk.screen.click(panel.button(button));
        assert_eq!(finish(asked).is_refusal(), matches!(button, Button::Deny));
        wait_until("the next one or none", || {
            let now = desk.screen.panel();
            (number == 2 && now.is_none() || now.is_some_and(|now| now.id != panel.id)).then_some(())
        });
    }
    assert_eq!(files.map(|file| file.exists()), [true, false, true], "each answer went where it was given");
}

/// A163: with the requester goes the panel, also under a held button, and the next question does not get its press.
#[test]
fn sec_a163_a_question_whose_asker_is_gone_disappears() {
    let desk = Desk::new();
    let stream = desk.ask_and_leave(&touch(&desk.scratch));
    desk.screen.armed_panel();
    let started = Instant::now();
    drop(stream);
    desk.screen.wait_for_no_panel();
    println!("withdrawn after {:?} (the look at the screen included)", started.elapsed());
    assert!(started.elapsed() < Duration::from_millis(400));

    // Held while it goes, with another one behind it.
    let stream = desk.ask_and_leave(&touch(&desk.scratch));
    let panel = desk.screen.armed_panel();
    let next = desk.ask(&touch(&desk.scratch));
    wait_until("a place in the queue", || (desk.waiting() == 2).then_some(()));
    desk.screen.press(panel.button(Button::Once));
    stream.shutdown(Shutdown::Both).unwrap();
    drop(stream);
    wait_until("the next panel", || desk.screen.panel().filter(|now| now.id != panel.id));
    thread::sleep(ARMED);
    desk.screen.run("xdotool", &["mouseup", "1"]);
    desk.still_asks(&next, "the press was meant for another question");
    desk.deny(next);
    stays_absent(&desk.scratch.canary());
}

#[test]
fn the_app_ends_cleanly_under_an_open_panel_and_under_a_held_button() {
    for held in [false, true] {
        let mut desk = Desk::new();
        let asked = desk.ask(&touch(&desk.scratch));
        let panel = desk.screen.armed_panel();
        if held {
            desk.screen.press(panel.button(Button::Once));
        }
        let started = Instant::now();
        desk.app.signal(libc::SIGTERM);
        assert!(finish(asked).is_refusal(), "whoever waits is answered");
        assert_eq!(desk.app.wait().code(), Some(0));
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        assert!(!exec_socket(&desk.scratch).exists(), "the socket is taken away");
        stays_absent(&desk.scratch.canary());
    }
}

#[test]
fn the_menu_pauses_switches_the_mode_brings_questions_forward_and_quits() {
    let mut desk = Desk::new();
    let menu = desk.screen.menu(true);

    let is_paused = || desk.scratch.state().join("paused").exists();
    desk.screen.choose(&menu, line::PAUSE);
    wait_until("a pause", || is_paused().then_some(()));
    let reply = desk.exec.request(&uname());
    assert!(reply.is_refusal(), "{reply:?}");
    desk.picture("menu-paused");
    // As soon as the line has its mark, it means the opposite.
    wait_until("the end of the pause", || {
        desk.screen.choose(&menu, line::PAUSE);
        let end = Instant::now() + 2 * QUIET;
        while is_paused() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        (!is_paused()).then_some(())
    });

    let choose_mode = |number: i32| {
        desk.screen.choose(&menu, line::COMMANDS);
        let modes = desk.screen.menu(false);
        desk.screen.choose(&modes, number);
    };
    choose_mode(0);
    let security = || {
        let document: Value = serde_json::from_str(&desk.document()).unwrap();
        document["agents"]["*"]["security"].as_str().unwrap_or_default().to_owned()
    };
    wait_until("deny", || (security() == "deny").then_some(()));
    assert!(desk.exec.request(&uname()).is_refusal());
    assert!(desk.screen.panel().is_none(), "nobody is asked");

    // What loosens is confirmed first; no is no.
    choose_mode(2);
    let panel = desk.screen.armed_panel();
    desk.picture("menu-allow");
    desk.screen.click(panel.button(Button::Deny));
    desk.screen.wait_for_no_panel();
    assert_eq!(security(), "deny");
    choose_mode(2);
    let panel = desk.screen.armed_panel();
    desk.screen.click(panel.button(Button::Once));
    wait_until("allow", || (security() == "full").then_some(()));
    desk.exec.request(&uname()).ran();
    choose_mode(1);
    wait_until("ask", || (security() == "allowlist").then_some(()));

    let asked = desk.ask(&touch(&desk.scratch));
    let panel = desk.screen.armed_panel();
    desk.picture("menu-and-panel");
    let focus = || desk.screen.run("xdotool", &["getactivewindow"]).trim().parse::<i64>().unwrap_or(0);
    let number = i64::from_str_radix(panel.id.trim_start_matches("0x"), 16).unwrap();
    desk.screen.run("xdotool", &["key", "alt+Tab"]);
    desk.screen.choose(&menu, line::QUESTIONS);
    wait_until("the panel in front", || (focus() == number).then_some(()));

    desk.screen.choose(&menu, line::QUIT);
    assert!(finish(asked).is_refusal());
    assert_eq!(desk.app.wait().code(), Some(0));
}

/// A104: a file in the directory where it is started changes nothing.
#[test]
fn sec_a104_an_env_file_changes_nothing() {
    let (scratch, screen) = (Scratch::new(), Screen::new());
    let lies = "DISPLAY=:99\nOPENCLAW_STATE_DIR=/nowhere\nOPENCLAW_GATEWAY_TOKEN=stolen\nPATH=/nowhere\nGNUSTEP_CONFIG_FILE=/nowhere\n";
    write_private(&scratch.join(".env"), lies.as_bytes());
    let mut command = scratch.openclaw(&["app", "--ask", "panel", "--no-tcp"]);
    command.env("DISPLAY", &screen.display);
    let app = App::start_with(&scratch, command);
    let desk = Desk { exec: Exec::of(&scratch), scratch, app, screen };
    desk.answered(&uname(), Button::Once).ran();
}

#[test]
fn without_a_screen_it_says_what_is_missing() {
    for display in [None, Some(""), Some(":4711")] {
        let scratch = Scratch::new();
        let mut command = scratch.openclaw(&["app", "--ask", "panel", "--no-tcp"]);
        command.envs(display.map(|display| ("DISPLAY", display)));
        let said = must_fail(command, "no screen");
        assert!(said.contains("DISPLAY") && said.contains("--ask terminal"), "{said}");
        assert!(!exec_socket(&scratch).exists());
    }
}

/// Two hundred questions, half denied, half withdrawn, of which every fourth is long, leave nothing behind.
#[test]
fn two_hundred_questions_leave_no_memory_behind() {
    let desk = Desk::new();
    let long = json!({"command": ["printf", "%s", "x y".repeat(7_000)]});
    let ask = |number: usize| {
        let request = if number.is_multiple_of(4) { &long } else { &touch(&desk.scratch) };
        if number.is_multiple_of(2) {
            let stream = desk.ask_and_leave(request);
            desk.screen.wait_for_panel();
            drop(stream);
        } else {
            let asked = desk.ask(request);
            let panel = desk.screen.wait_for_panel();
            desk.screen.run("wmctrl", &["-i", "-c", &panel.id]);
            finish(asked).refused("UNAVAILABLE");
        }
        desk.screen.wait_for_no_panel();
    };
    println!("ready: {} kB", desk.memory());
    (0..20).for_each(ask);
    let before = desk.memory();
    (0..200).for_each(ask);
    let after = desk.memory();
    println!("after 20 questions: {before} kB, after 200 more: {after} kB");
    assert!(after < before + 4_000, "{before} kB, then {after} kB");
    assert!(!desk.scratch.canary().exists());
}
