//! The audit log: written through the library, as app and node do; shown and verified by the program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use openclaw::limits;
use openclaw::protocol::policy::{Fence, Refusal};
use openclaw::state::audit::{AuditLog, Decision, End};
use openclaw::state::{Environment, StateDir};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{Finished, Process, TempDir, mode, openclaw, sha256_hex};

/// A state directory and its log.
struct Bench {
    dir: TempDir,
    log: AuditLog,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new();
        let log = open(dir.path());
        Self { dir, log }
    }

    /// With this many records.
    fn with(records: usize) -> Self {
        let bench = Self::new();
        for number in 1..=records {
            bench.allow(&format!("echo {number}"));
        }
        bench
    }

    fn allow(&self, command: &str) {
        drop(self.log.decision(&Decision { command, by: "allowlist entry /bin/echo", ..Decision::default() }).unwrap());
    }

    fn path(&self) -> PathBuf {
        self.dir.join("audit.jsonl")
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.path()).unwrap().lines().map(str::to_owned).collect()
    }

    fn records(&self) -> Vec<Value> {
        self.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Writes into the file as somebody else would.
    fn rewrite(&self, lines: &[String]) {
        fs::write(self.path(), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }

    /// What a writer leaves that was stopped.
    fn append_raw(&self, bytes: &[u8]) {
        fs::OpenOptions::new().append(true).open(self.path()).unwrap().write_all(bytes).unwrap();
    }

    fn audit(&self, arguments: &[&str]) -> Finished {
        let mut command = openclaw(self.dir.path());
        command.args(["mac-debug", "audit"]).args(arguments);
        Process::run(command)
    }

    /// The report; its exit code agrees with it.
    fn verify(&self) -> Value {
        let finished = self.audit(&["verify", "--json"]);
        let report = finished.json();
        assert_eq!(finished.code, Some(i32::from(report["ok"] != true)), "{finished:?}");
        report
    }

    fn assert_whole(&self, records: usize) -> Value {
        let report = self.verify();
        assert_eq!((&report["ok"], &report["records"]), (&json!(true), &json!(records)), "{report}");
        report
    }

    /// Broken at this line of this file, for a reason with these words.
    #[track_caller]
    fn assert_broken(&self, file: &str, line: u64, words: &str) {
        let report = self.verify();
        let place = &report["break"];
        assert!(place["file"].as_str().is_some_and(|path| path.ends_with(&format!("/{file}"))), "{report}");
        assert_eq!(place["line"], line, "{report}");
        assert!(place["why"].as_str().unwrap().contains(words), "{report}");
        let text = self.audit(&["verify"]);
        assert_eq!(text.code, Some(1));
        assert!(text.stdout.contains("BROKEN") && text.stdout.contains(&format!("{file} line {line}:")), "{text:?}");
    }

    fn assert_notes(&self, records: usize, words: &str) {
        let report = self.assert_whole(records);
        let notes = report["notes"].as_array().unwrap();
        assert!(notes.len() == 1 && notes[0].as_str().unwrap().contains(words), "{report}");
    }
}

fn open(dir: &Path) -> AuditLog {
    let environment = Environment { state_dir: Some(dir.to_owned()), ..Environment::default() };
    AuditLog::new(&StateDir::locate(&environment).unwrap())
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_decision_stands_there_before_its_end_and_says_who_what_and_why() {
    let bench = Bench::new();
    let refusal = Refusal::denied("user-denied", "SYSTEM_RUN_DENIED: user denied");
    let decision = Decision {
        requester: "an agent through the gateway",
        agent: Some("main"),
        session: Some("agent:main:7"),
        run_id: Some("run-1"),
        plan_hash: Some("ab12"),
        command: "git status",
        cwd: Some("/tmp"),
        env: vec!["LANG", "PAGER"],
        by: "a person: allow-once",
        fence: Some(Fence::State),
        fence_mechanism: Some("mount namespace"),
        refusal: None,
    };
    let ticket = bench.log.decision(&decision).unwrap();
    assert_eq!(bench.records().len(), 1, "a crash from here on leaves the decision");
    drop(bench.log.decision(&Decision { by: "a person", refusal: Some(&refusal), ..decision.clone() }).unwrap());
    let duration = Duration::from_millis(1_500);
    bench.log.ended(ticket, &End { exit_code: Some(3), timed_out: false, duration, error: None });

    let records = bench.records();
    let mut first = records[0].clone();
    assert!(first.as_object_mut().unwrap().remove("at").unwrap().as_i64().unwrap() > 1_700_000_000_000);
    assert_eq!(
        first,
        json!({"seq": 1, "prev": "0".repeat(64), "kind": "decision", "requester": "an agent through the gateway",
            "agent": "main", "session": "agent:main:7", "runId": "run-1", "planHash": "ab12", "command": "git status",
            "cwd": "/tmp", "env": "LANG PAGER", "by": "a person: allow-once", "fence": "state",
            "fenceMechanism": "mount namespace", "decision": "allowed"})
    );
    assert_eq!(records[1]["decision"], "denied");
    assert_eq!(
        records[1]["refusal"],
        json!({"code": "SYSTEM_RUN_DENIED", "message": "SYSTEM_RUN_DENIED: user denied"})
    );
    assert_eq!((&records[2]["kind"], &records[2]["of"]), (&json!("ended"), &json!(1)));
    assert_eq!(
        (&records[2]["exitCode"], &records[2]["timedOut"], &records[2]["durationMs"], &records[2]["error"]),
        (&json!(3), &json!(false), &json!(1_500), &Value::Null)
    );
    for (number, pair) in bench.lines().windows(2).enumerate() {
        let next: Value = serde_json::from_str(&pair[1]).unwrap();
        assert_eq!(next["prev"], sha256_hex(pair[0].as_bytes()), "record {}", number + 2);
        assert_eq!(next["seq"], number + 2);
    }
    bench.assert_whole(3);

    let shown = bench.audit(&["show"]);
    assert_eq!(shown.code, Some(0));
    let rows: Vec<&str> = shown.stdout.lines().collect();
    assert!(rows[0].starts_with("TIME") && rows.len() == 3, "{}", shown.stdout);
    let words: Vec<&str> = rows[1].split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(words[1..], ["allowed", "a person: allow-once", "3", "1500 ms", "main", "git status"]);
    assert!(words[0].starts_with("20") && words[0].ends_with('Z'));
    let json = bench.audit(&["show", "--last", "1", "--json"]).json();
    assert_eq!(json["decisions"].as_array().unwrap().len(), 1);
    assert_eq!((&json["decisions"][0]["seq"], &json["decisions"][0]["ended"]), (&json!(2), &Value::Null));
    assert_eq!(bench.audit(&["show", "--json"]).json()["decisions"][0]["ended"]["exitCode"], 3);
}

#[test]
fn the_table_tells_a_time_that_people_know() {
    let bench = Bench::with(4);
    let times = [0_i64, 951_782_400_000, 1_709_251_199_000, -1];
    let lines = bench.records().into_iter().zip(times).map(|(mut record, at)| {
        record["at"] = at.into();
        record.to_string()
    });
    bench.rewrite(&lines.collect::<Vec<_>>());
    let shown = bench.audit(&["show"]).stdout;
    let found: Vec<&str> = shown.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(found, ["1970-01-01T00:00:00Z", "2000-02-29T00:00:00Z", "2024-02-29T23:59:59Z", "1969-12-31T23:59:59Z"]);
}

#[test]
fn sec_h21_a_line_that_was_removed_altered_or_moved_is_reported_with_its_place() {
    type Tamper = fn(&mut Vec<String>);
    let cases: [(&str, Tamper, u64, &str); 9] = [
        ("removed", |lines| drop(lines.remove(2)), 3, "record 4 stands where 3 belongs"),
        ("removed first", |lines| drop(lines.remove(0)), 5, ""),
        ("altered", |lines| lines[2] = lines[2].replace("echo 3", "echo X"), 3, "altered"),
        ("hash altered", |lines| lines[2] = lines[2].replace("\"prev\":\"", "\"prev\":\"0"), 2, "altered"),
        ("moved", |lines| lines.swap(2, 3), 3, "record 4 stands where 3 belongs"),
        ("cut", |lines| lines[2].truncate(40), 3, "no record"),
        ("inserted", |lines| lines.insert(2, lines[1].clone()), 3, "record 2 stands where 3 belongs"),
        ("last removed", |lines| drop(lines.pop()), 5, "missing"),
        ("last altered", |lines| lines[5] = lines[5].replace("echo 6", "echo X"), 6, "altered"),
    ];
    for (name, tamper, line, words) in cases {
        let bench = Bench::with(6);
        let mut lines = bench.lines();
        tamper(&mut lines);
        bench.rewrite(&lines);
        if name == "removed first" {
            bench.assert_notes(5, "begins at record 2: older files were removed");
            continue;
        }
        bench.assert_broken("audit.jsonl", line, words);
        // Records that are written later do not cover it up.
        bench.allow("true");
        bench.allow("true");
        assert_eq!(bench.verify()["ok"], false, "{name}");
    }
    let gone = Bench::with(3);
    fs::remove_file(gone.path()).unwrap();
    gone.assert_broken("audit.jsonl", 0, "missing");
    gone.allow("true");
    gone.assert_notes(1, "begins at record 4: older files were removed");
    Bench::with(6).assert_whole(6);
}

/// The largest record that a command can make: each byte of it is doubled by JSON.
fn large() -> String {
    "\"".repeat(limits::AUDIT_COMMAND_BYTES)
}

#[test]
fn sec_h21_rotation_keeps_the_chain() {
    let bench = Bench::new();
    let (large, mut records) = (large(), 0);
    while !bench.dir.join("audit.3.jsonl").exists() {
        bench.allow(&large);
        records += 1;
    }
    for name in ["audit.jsonl", "audit.1.jsonl", "audit.2.jsonl", "audit.3.jsonl"] {
        let path = bench.dir.join(name);
        assert_eq!(mode(&path), 0o600, "{name}");
        assert!(path.metadata().unwrap().len() <= limits::AUDIT_FILE_BYTES, "{name}");
    }
    let report = bench.assert_whole(records);
    assert_eq!((&report["files"], &report["first"], &report["notes"]), (&json!(4), &json!(1), &json!([])));
    let last = bench.audit(&["show", "--last", "2", "--json"]).json();
    assert_eq!(last["decisions"][0]["seq"], records - 1, "over the border between two files");

    // The oldest goes: normal, and told.
    let dropped = fs::read_to_string(bench.dir.join("audit.3.jsonl")).unwrap().lines().count();
    while bench.path().metadata().unwrap().len() + 2 * (large.len() as u64) < limits::AUDIT_FILE_BYTES {
        bench.allow(&large);
        records += 1;
    }
    bench.allow(&large);
    bench.allow("true");
    records += 2;
    bench.assert_notes(records - dropped, &format!("begins at record {}: older files were rotated away", dropped + 1));

    // A writer that was stopped between the files, at its first line, or before the head.
    let head = bench.dir.join(".audit.jsonl.lock");
    for age in [2, 1] {
        fs::rename(bench.dir.join(format!("audit.{age}.jsonl")), bench.dir.join(format!("audit.{}.jsonl", age + 1)))
            .unwrap();
    }
    fs::rename(bench.path(), bench.dir.join("audit.1.jsonl")).unwrap();
    let before = bench.verify()["records"].as_u64().unwrap();
    fs::write(bench.path(), b"{\"seq\":").unwrap();
    set_mode(&bench.path(), 0o600);
    bench.allow("true");
    let report = bench.assert_whole(usize::try_from(before).unwrap() + 1);
    assert!(report["notes"].to_string().contains("a torn line after"), "{report}");
    let newest = fs::read(&head).unwrap();
    bench.allow("true");
    fs::write(&head, newest).unwrap();
    bench.allow("true");
    bench.assert_whole(usize::try_from(before).unwrap() + 3);

    // A file in the middle does not go unnoticed.
    fs::remove_file(bench.dir.join("audit.2.jsonl")).unwrap();
    bench.assert_broken("audit.1.jsonl", 1, "belongs");
}

#[test]
fn several_writers_make_one_chain() {
    const EACH: usize = 250;
    let bench = Bench::new();
    // Another log of the same directory is to the first what another process is: only the file's lock is common.
    let other = open(bench.dir.path());
    std::thread::scope(|scope| {
        for log in [&bench.log, &bench.log, &other, &other] {
            scope.spawn(move || {
                for _ in 0..EACH / 2 {
                    let ticket = log.decision(&Decision { command: "true", ..Decision::default() }).unwrap();
                    log.ended(ticket, &End::default());
                }
            });
        }
    });
    assert_eq!(bench.assert_whole(4 * EACH)["notes"], json!([]));
    let mut open = std::collections::BTreeSet::new();
    for record in bench.records() {
        match record["kind"].as_str().unwrap() {
            "decision" => assert!(open.insert(record["seq"].as_u64().unwrap())),
            _ => assert!(open.remove(&record["of"].as_u64().unwrap()), "{record}"),
        }
    }
    assert!(open.is_empty());
}

#[test]
fn a_torn_line_is_told_and_does_no_harm() {
    let bench = Bench::with(2);
    bench.append_raw(b"{\"seq\":3,\"prev\":\"ab");
    bench.assert_notes(2, "line 3: a torn line after record 2");
    bench.allow("true");
    bench.allow("true");
    bench.assert_notes(4, "line 3: a torn line after record 2");
    let torn = bench.lines();
    let next: Value = serde_json::from_str(&torn[3]).unwrap();
    assert_eq!((&next["torn"], &next["prev"]), (&json!(true), &json!(sha256_hex(torn[2].as_bytes()))));
    // Nobody takes it away, or puts one in.
    let mut without = torn.clone();
    without.remove(2);
    bench.rewrite(&without);
    bench.assert_broken("audit.jsonl", 2, "altered");
    let mut with = torn;
    with.insert(1, "x".to_owned());
    bench.rewrite(&with);
    bench.assert_broken("audit.jsonl", 2, "no record");

    // Torn twice, and zeros as a power failure leaves them.
    let bench = Bench::with(1);
    bench.append_raw(b"{\"se");
    bench.append_raw(b"\n{\"s");
    bench.allow("true");
    bench.append_raw(&[0; 5_000]);
    bench.allow("true");
    let report = bench.assert_whole(3);
    assert_eq!(report["notes"].as_array().unwrap().len(), 3, "{report}");

    // The very first write.
    let bench = Bench::new();
    fs::write(bench.path(), "{").unwrap();
    set_mode(&bench.path(), 0o600);
    bench.allow("true");
    bench.assert_notes(1, "a torn line after record 0");
}

#[test]
fn a_writer_stopped_before_the_end_of_its_line_or_before_the_head_loses_nothing() {
    let bench = Bench::with(2);
    let head = bench.dir.join(".audit.jsonl.lock");
    let second = fs::read(&head).unwrap();
    bench.allow("true");
    fs::write(&head, &second).unwrap();
    bench.assert_whole(3);
    bench.allow("true");
    assert_eq!(bench.assert_whole(4)["notes"], json!([]));

    let fourth = fs::read(&head).unwrap();
    bench.allow("true");
    let bytes = fs::read(bench.path()).unwrap();
    fs::write(bench.path(), &bytes[..bytes.len() - 1]).unwrap();
    fs::write(&head, &fourth).unwrap();
    bench.assert_whole(5);
    bench.allow("true");
    assert_eq!(bench.assert_whole(6)["notes"], json!([]));

    for lost in [Vec::new(), b"nonsense".to_vec(), vec![0; 107]] {
        fs::write(&head, lost).unwrap();
        bench.assert_notes(bench.lines().len(), "cannot be told");
        bench.allow("true");
        bench.assert_whole(bench.lines().len());
    }
}

#[test]
fn sec_a137_a_log_that_is_not_ours_alone_is_refused_and_nothing_starts() {
    let decision = Decision { command: "true", ..Decision::default() };
    let bench = Bench::with(1);
    for name in ["audit.jsonl", ".audit.jsonl.lock"] {
        assert_eq!(mode(&bench.dir.join(name)), 0o600);
    }
    set_mode(&bench.path(), 0o644);
    bench.allow("true");
    assert_eq!(mode(&bench.path()), 0o600, "a loosened one is repaired");

    let victim = bench.dir.join("victim");
    type Plant = fn(&Path, &Path);
    let plants: [(&str, Plant); 5] = [
        ("symbolic link", |victim, path| symlink(victim, path).unwrap()),
        ("second name", |victim, path| fs::hard_link(victim, path).unwrap()),
        ("regular file", |_, path| {
            assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(path).status().unwrap().success());
        }),
        ("directory", |_, path| fs::create_dir(path).unwrap()),
        ("others may", |_, path| {
            fs::write(path, "").unwrap();
            set_mode(path, 0o666);
        }),
    ];
    for (words, plant) in plants {
        fs::write(&victim, "mine").unwrap();
        set_mode(&victim, 0o600);
        fs::remove_file(bench.path()).unwrap();
        plant(&victim, &bench.path());
        let error = bench.log.decision(&decision).unwrap_err().to_string();
        assert!(error.starts_with("the audit log cannot be written: "), "{error}");
        assert!(error.to_lowercase().contains(words) && error.ends_with("; free space or repair it"), "{error}");
        if words != "directory" {
            let verify = bench.audit(&["verify"]);
            assert!(verify.code == Some(1) && verify.stderr.contains(words), "{verify:?}");
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        if bench.path().is_dir() {
            fs::remove_dir(bench.path()).unwrap()
        } else {
            fs::remove_file(bench.path()).unwrap()
        }
        fs::write(bench.path(), "").unwrap();
    }
    set_mode(&bench.path(), 0o600);
    bench.allow("and it goes on");
}

#[test]
fn sec_a144_sec_a155_whatever_a_caller_says_is_one_bounded_line() {
    let bench = Bench::new();
    let hostile = "../../x\r\n{\"seq\":1}\u{1b}]52;c;AAAA\u{7}\u{2028}\u{202e}\u{9b}2J\0";
    let long = format!("{hostile}{}", "\"\\".repeat(512 * 1024));
    let refusal = Refusal::denied("approval-required", long.clone());
    for text in [hostile, long.as_str()] {
        let decision = Decision {
            requester: text,
            agent: Some(text),
            session: Some(text),
            run_id: Some(text),
            plan_hash: Some(text),
            command: text,
            cwd: Some(text),
            env: vec![text; 3],
            by: text,
            fence: Some(Fence::Offline),
            fence_mechanism: Some(text),
            refusal: Some(&refusal),
        };
        let ticket = bench.log.decision(&decision).unwrap();
        bench.log.ended(ticket, &End { error: Some(text.to_owned()), ..End::default() });
    }
    let raw = fs::read_to_string(bench.path()).unwrap();
    assert_eq!(raw.matches('\n').count(), 4);
    assert!(!raw.contains(|c: char| c != '\n' && (c.is_control() || "\u{2028}\u{202e}".contains(c))));
    assert!(bench.lines().iter().all(|line| line.len() as u64 <= limits::AUDIT_RECORD_BYTES));
    bench.assert_whole(4);
    let records = bench.records();
    assert_eq!(records[0].get("commandBytes"), None);
    assert_eq!(records[2]["commandBytes"], long.len());
    assert_eq!(records[2]["commandSha256"], sha256_hex(long.as_bytes()));
    assert!(records[2]["by"].as_str().unwrap().ends_with("…(cut)"));
    // A name is only a text: it names no file.
    let mut names: Vec<_> = fs::read_dir(bench.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".audit.jsonl.lock", "audit.jsonl"]);
    let shown = bench.audit(&["show"]).stdout;
    assert_eq!(shown.lines().count(), 3);
    assert!(shown.contains(&format!("…(cut; {} bytes, SHA-256 {}", long.len(), sha256_hex(long.as_bytes()))));
}

#[test]
fn sec_a159_a_file_that_somebody_made_up_cannot_drive_the_terminal() {
    let bench = Bench::with(1);
    let hostile = "\u{1b}[2J\u{9b}31m\u{202e}\r\n\u{2028}";
    let mut lines = bench.lines();
    for member in ["command", "agent", "by", "decision", "commandSha256", "commandBytes"] {
        lines.push(json!({"kind": "decision", "seq": 9, member: hostile}).to_string());
        lines.push(json!({"kind": "decision", "seq": 9, member: {hostile: [hostile]}}).to_string());
    }
    lines.push(json!({"kind": "ended", "of": 9, "exitCode": hostile, "durationMs": hostile}).to_string());
    lines.push("[".repeat(100_000));
    lines.push("x".repeat(1_000_000));
    bench.rewrite(&lines);
    for verb in ["show", "verify"] {
        let finished = bench.audit(&[verb]);
        let text = format!("{}{}", finished.stdout, finished.stderr);
        assert!(finished.code.is_some() && !finished.stderr.contains("panicked"), "{text}");
        assert!(!text.contains(|c: char| c != '\n' && (c.is_control() || "\u{2028}\u{202e}".contains(c))), "{text:?}");
    }
    assert!(bench.audit(&["show"]).stdout.contains("\\u{1B}[2J\\u{9B}31m\\u{202E}"));
    assert!(bench.audit(&["show", "--json"]).json()["decisions"].is_array());
}

#[test]
fn sec_h25_looking_creates_and_changes_nothing() {
    let dir = TempDir::new();
    let state = dir.join("state");
    let look = |verb: &str| {
        let mut command = openclaw(dir.path());
        command.env("OPENCLAW_STATE_DIR", &state).args(["mac-debug", "audit", verb]);
        Process::run(command)
    };
    for verb in ["show", "verify"] {
        assert_eq!(look(verb).code, Some(0));
        assert!(!state.exists());
    }
    let bench = Bench::with(2);
    // It works where nothing else does.
    fs::write(bench.dir.join("openclaw.json"), "{").unwrap();
    set_mode(&bench.path(), 0o640);
    let seen = || {
        let entry = |entry: fs::DirEntry| (entry.file_name(), mode(&entry.path()), fs::read(entry.path()).unwrap());
        let mut all: Vec<_> = fs::read_dir(bench.dir.path()).unwrap().map(|found| entry(found.unwrap())).collect();
        all.sort();
        all
    };
    let before = seen();
    for verb in ["show", "verify"] {
        assert_eq!(bench.audit(&[verb]).code, Some(0));
    }
    assert_eq!(seen(), before);
    assert_eq!(bench.audit(&["erase"]).code, Some(2));
}
