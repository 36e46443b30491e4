//! Every bound in one place, with where it comes from.
//!
//! `spec` = a fact of the original product's wire; `ours` = our own choice.

use std::time::Duration;

// ---- gateway: transport ----

/// Bytes of an HTTP request head that we read before the upgrade. ours
pub const HTTP_HEAD_BYTES: usize = 8 * 1024;
/// Largest frame before login, bytes; a larger one closes with 1009. spec: gateway §2
pub const PRE_AUTH_FRAME_BYTES: usize = 65_536;
/// Largest frame after login, bytes (`policy.maxPayload`). spec: gateway §2
pub const FRAME_BYTES: usize = 26_214_400;
/// Bytes waiting to be sent to one peer (`policy.maxBufferedBytes`). spec: gateway §2
pub const OUTBOX_BYTES: usize = 52_428_800;
/// Bytes waiting to be sent to all peers of this process together. ours
pub const OUTBOX_TOTAL_BYTES: usize = 256 * 1024 * 1024;
/// From accept to `hello-ok`; then close 1000. spec: gateway §2
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(15);
/// Frames that may wait behind `connect`; one more closes with 1008. spec: gateway §2
pub const HANDSHAKE_QUEUED_FRAMES: usize = 15;
/// Sockets of one address that have not logged in. spec: gateway §2
pub const PRE_AUTH_PER_ADDRESS: usize = 32;
/// Sockets of all addresses that have not logged in. ours
pub const PRE_AUTH_TOTAL: usize = 128;
/// Peers that are logged in, all together. ours
pub const PEERS_TOTAL: usize = 8_192;
/// A ping goes out after this silence, and a peer without progress for as long is cut. spec: gateway §2
pub const PING_INTERVAL: Duration = Duration::from_secs(25);
/// `tick` events (`policy.tickIntervalMs`). spec: gateway §2
pub const TICK_INTERVAL: Duration = Duration::from_secs(30);
/// The presence list goes out no more often than this. ours
pub const PRESENCE_INTERVAL: Duration = Duration::from_secs(1);
/// How long we read and discard after our close frame. spec: gateway §2 "Close grace"
pub const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// Bytes we read and discard after our close frame: what is still to come of a frame that was too large. ours
pub const CLOSE_DRAIN_BYTES: usize = 2 * FRAME_BYTES;
/// Bytes of a close reason (RFC 6455 allows 125 with the code). spec: gateway §2
pub const CLOSE_REASON_BYTES: usize = 123;
/// Read buffer of one WebSocket, bytes; tungstenite zero-fills it on each read. ours
pub const WS_READ_BUFFER_BYTES: usize = 4 * 1024;
/// Stack of a peer's thread, bytes. ours, see NOTES "Descriptors, stacks"
pub const PEER_STACK_BYTES: usize = 256 * 1024;
/// Nesting of relayed JSON. spec: security-cases H17 row
pub const RELAYED_JSON_DEPTH: usize = 128;
/// Nesting of JSON that we judge (connect, request envelope, system.run, approvals). spec: H17
pub const STRICT_JSON_DEPTH: usize = 32;
/// Descriptors we ask for at start. ours
pub const OPEN_FILES: u64 = 16_384;
/// Pause after an accept that failed for want of descriptors. ours
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

// ---- gateway: sessions ----

/// Calls of methods that the role may not call, in a row, before the session is closed. spec: gateway §4
pub const UNAUTHORIZED_IN_A_ROW: u32 = 11;
/// Skew of `device.signedAt` either way. spec: gateway §3
pub const DEVICE_SIGNATURE_SKEW: Duration = Duration::from_secs(120);
/// `node.invoke` without `timeoutMs`. spec: gateway §5
pub const INVOKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest `timeoutMs` that a caller may ask for; 0 asks for none and gets this. ours
pub const INVOKE_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Bytes of one `node.invoke.progress` chunk. spec: gateway §5
pub const PROGRESS_CHUNK_BYTES: usize = 16 * 1024;
/// A run that ends sooner has no progress. ours
pub const PROGRESS_AFTER: Duration = Duration::from_secs(1);
/// Pause between two pieces of progress of one run. ours
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes of progress of one invocation: all of its output, each byte decoded to three. ours
pub const PROGRESS_BYTES: usize = 3 * OUTPUT_BYTES;
/// Invocations waiting for one node. ours
pub const INVOKES_PER_NODE: usize = 512;
/// Invocations waiting for all nodes. ours
pub const INVOKES_TOTAL: usize = 4_096;
/// Pairing requests waiting, devices and surfaces each. ours
pub const PAIRING_PENDING: usize = 64;
/// Pending device requests are forgotten after this. spec: exec g.7
pub const PAIRING_PENDING_TTL: Duration = Duration::from_secs(300);
/// Paired devices on record: as many as can be connected. ours
pub const PAIRED_DEVICES: usize = PEERS_TOTAL;
/// Commands, caps or permissions that one node may declare. ours
pub const DECLARED_NAMES: usize = 256;
/// Bytes of a name that a peer declares (display name, command, cap). ours
pub const DECLARED_NAME_BYTES: usize = 256;
/// Wrong shared secrets of one (address, class) inside the window before lock-out. spec: gateway §2, A09
pub const AUTH_FAILURES: usize = 10;
/// Wrong shared secrets of all addresses together inside the window; then nobody may try one over
/// TCP until the oldest leaves it. ours, H19
pub const AUTH_FAILURES_TOGETHER: usize = 100;
/// The window of [`AUTH_FAILURES`] and [`AUTH_FAILURES_TOGETHER`]. spec: gateway §2
pub const AUTH_FAILURE_WINDOW: Duration = Duration::from_secs(60);
/// Lock-out of an address with an allowed Origin. spec: security-cases A09 row
pub const AUTH_LOCKOUT_ORIGIN: Duration = Duration::from_secs(300);
/// Lock-out of a loopback address without Origin. spec: security-cases A09 row
pub const AUTH_LOCKOUT: Duration = Duration::from_secs(60);

// ---- exec socket ----

/// Bytes of one request line. spec: exec b.1
pub const EXEC_LINE_BYTES: usize = 256_000;
/// Bytes of one answer line that a client accepts. spec: gateway §8
pub const EXEC_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// From accept to the first newline. ours, exec b.5
pub const EXEC_LINE_DEADLINE: Duration = Duration::from_secs(5);
/// Skew of `ts` either way. spec: exec b.3
pub const EXEC_TTL: Duration = Duration::from_secs(10);
/// Connections that have not sent their request yet; one more is closed. ours, A116 opens 550
pub const EXEC_READING: usize = 600;
/// Requests under way at once; one more is answered `busy`. ours
pub const EXEC_CONNECTIONS: usize = 128;
/// Bytes of a request's id (the real client sends 36). ours
pub const EXEC_ID_BYTES: usize = 128;
/// Stack of the thread that accepts, bytes. ours, NOTES
pub const EXEC_STACK_BYTES: usize = 256 * 1024;
/// How long a client may take to read its answer. ours
pub const EXEC_ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long a client that wants progress may take to read the rest of a line of it; must be less
/// than [`EXEC_STOP_WAIT`]. ours
pub const EXEC_PROGRESS_DEADLINE: Duration = Duration::from_secs(2);
/// How long a stop waits for requests to end: TERM, KILL and the drain fit in. ours
pub const EXEC_STOP_WAIT: Duration = Duration::from_secs(5);
/// Nonces remembered; when full, new requests are refused. ours, H01
pub const NONCES: usize = 8_192;
/// Bytes of a nonce (the real client sends 32). spec: exec b.5
pub const NONCE_BYTES: usize = 64;
/// A blank line goes to a waiting client this often. ours, NOTES
pub const KEEPALIVE: Duration = Duration::from_secs(1);
/// What a client that names no limit allows for the whole exchange. spec: gateway §8
pub const EXEC_CLIENT_DEADLINE: Duration = Duration::from_secs(20);
/// Shortest token of the exec socket, characters. spec: exec b.5
pub const EXEC_TOKEN_CHARS: usize = 16;
/// Bytes that `sun_path` holds without the NUL.
#[cfg(target_os = "macos")]
pub const SUN_PATH_BYTES: usize = 103;
/// Bytes that `sun_path` holds without the NUL.
#[cfg(not(target_os = "macos"))]
pub const SUN_PATH_BYTES: usize = 107;

// ---- commands ----

/// Elements of argv. ours
pub const ARGV_ELEMENTS: usize = 4_096;
/// Bytes of argv together. ours
pub const ARGV_BYTES: usize = 128 * 1024;
/// Environment overrides in one request. ours
pub const ENV_OVERRIDES: usize = 256;
/// stdout and stderr together, bytes; the rest is discarded. spec: exec e.2
pub const OUTPUT_BYTES: usize = 200_000;
/// UTF-16 units of the output tail in `exec.finished`. spec: exec e.3
pub const EVENT_OUTPUT_UNITS: usize = 20_000;
/// From TERM to KILL. spec: exec e.2
pub const KILL_GRACE: Duration = Duration::from_millis(300);
/// After exit, the pipes are read until this long silent. spec: exec e.2
pub const DRAIN_SILENCE: Duration = Duration::from_millis(100);
/// After exit, the pipes are read at most this long. spec: exec e.2
pub const DRAIN_LIMIT: Duration = Duration::from_secs(1);
/// Longest run. ours
pub const RUN_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Runs under way at once on one host. ours
pub const RUNS_AT_ONCE: usize = 64;
/// Installed versions of node that we look at when the search path is made. ours
pub const NODE_VERSIONS: usize = 64;
/// Bytes read from a command at once. ours
pub const OUTPUT_CHUNK_BYTES: usize = 16 * 1024;
/// After KILL, how long we wait for the end of what the kernel will not let die. ours
pub const KILL_WAIT: Duration = Duration::from_secs(2);
/// Names that one `system.which` may ask for. ours
pub const WHICH_BINS: usize = 1_024;

// ---- approvals ----

/// How long a person has to answer one prompt. ours
pub const PROMPT_DEADLINE: Duration = Duration::from_secs(120);
/// Prompts waiting behind the one that is shown. ours
pub const PROMPTS_QUEUED: usize = 63;
/// Panics in prompts, or in requests, after which that part refuses everything. ours, H22
pub const PANICS: usize = 3;
/// How long a prepared plan may be redeemed. spec: DESIGN "Decisions and edits from outside"
pub const PREPARED_PLAN_TTL: Duration = Duration::from_secs(30 * 60);
/// Prepared plans remembered a connection. ours
pub const PREPARED_PLANS: usize = 256;

/// Life of an approval record without `timeoutMs`, and the longest one. spec: gateway §6
pub const APPROVAL_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How long an ended approval record is known. spec: gateway §6
pub const APPROVAL_KEPT: Duration = Duration::from_secs(15);
/// Bytes of what one approval record shows, as JSON. ours
pub const APPROVAL_REQUEST_BYTES: usize = 64 * 1024;
/// Approval records of one client that wait. ours, A152
pub const APPROVALS_PER_CLIENT: usize = 64;
/// Approval records in all, ended ones included. ours, A152
pub const APPROVALS_TOTAL: usize = 256;
/// Requests that wait for one approval record. ours
pub const APPROVAL_WAITERS: usize = 16;

// ---- state ----

/// Bytes of a document of ours (approvals, config, devices): [`PAIRED_DEVICES`] of 2 KiB. ours, A139
pub const DOCUMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of a token or key file. ours
pub const SECRET_FILE_BYTES: u64 = 64 * 1024;
/// How long we wait for another writer's lock on a document. ours
pub const DOCUMENT_LOCK_WAIT: Duration = Duration::from_secs(5);
/// Shortest shared token or password that we accept, characters. ours, A03
pub const SHARED_SECRET_CHARS: usize = 8;

// ---- client ----

/// Time to connect, to get the challenge, and to get `hello-ok`, each. spec: gateway §2
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(15);
/// A request without a deadline of its own. spec: gateway §2
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// First pause before reconnecting; doubles. spec: gateway §2
pub const RECONNECT_FIRST: Duration = Duration::from_secs(1);
/// Longest pause before reconnecting. spec: gateway §2
pub const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// Requests of one client connection that wait for an answer. ours
pub const REQUESTS_IN_FLIGHT: usize = 1_024;

/// Places whose gateway key is pinned. ours
pub const GATEWAY_PINS: usize = 256;
/// A gateway that sent nothing for this many tick intervals is gone. spec: gateway §2 "Client watchdog"
pub const SILENT_TICKS: u32 = 2;
/// A `policy.tickIntervalMs` below this is taken as this. ours
pub const TICK_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// A `policy.tickIntervalMs` above this is taken as this. ours
pub const TICK_INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// Pause before a node comes back to a gateway that said it restarts (1012). ours
pub const RESTART_PAUSE: Duration = Duration::from_millis(500);

// ---- node ----

/// Invocations that a node works on at once; one more is answered `UNAVAILABLE`. ours
pub const NODE_INVOCATIONS: usize = 128;
/// Bytes of the parameters of a `system.which` that the reading thread answers itself: some twenty
/// names at most, well under a millisecond. ours
pub const QUICK_WHICH_BYTES: usize = 128;
/// Idempotency keys of recent `system.run` requests that a node remembers. ours, exec f.4
pub const NODE_RECENT_RUNS: usize = 1_024;
/// `node.host.stats` goes out this often. spec: gateway §5
pub const HOST_STATS_INTERVAL: Duration = Duration::from_secs(60);
/// An answer about an edit of the policy must leave this long before the gateway gives up. ours
pub const EDIT_ANSWER_MARGIN: Duration = Duration::from_secs(1);
/// Differences of an edit that are told one by one. ours
pub const EDIT_DIFFERENCES: usize = 20;

// ---- threads ----

/// Stack of a thread that works on one thing after the other, bytes; serde_json recurses at most
/// 128 deep. ours, NOTES
pub const WORKER_STACK_BYTES: usize = 256 * 1024;
/// Such threads that wait for more. ours
pub const IDLE_WORKERS: usize = 8;
/// How long they wait. ours
pub const IDLE_WORKER_TIME: Duration = Duration::from_secs(5);

// ---- logs ----

/// Bytes of one log line. ours, A155
pub const LOG_LINE_BYTES: usize = 2_048;

// ---- app ----

/// Times that the app looks what its node waits for at a gateway that ran before it. ours
pub const APPROVAL_LOOKS: usize = 5;
/// Pause before each look. ours
pub const APPROVAL_LOOK_PAUSE: Duration = Duration::from_secs(1);

// ---- exec: part 2 ----

/// How long "for 15 minutes" is. issue part 2, point 4
pub const GRANT_MINUTES: Duration = Duration::from_secs(15 * 60);
/// Longest that "for this session" holds. ours
pub const GRANT_SESSION: Duration = Duration::from_secs(12 * 60 * 60);
/// Bytes of shell text that are analysed; a longer one is not understood. issue part 2
pub const SHELL_TEXT_BYTES: usize = 64 * 1024;
/// Names that the globs of one text may expand to. issue part 2
pub const GLOB_NAMES: usize = 10_000;
/// Time that the globs of one text may take. issue part 2
pub const GLOB_TIME: Duration = Duration::from_millis(100);
/// Transparent wrappers in front of a command. spec: exec d.5
pub const WRAPPERS: usize = 4;

/// Grants remembered; one more forgets the oldest. ours
pub const GRANTS: usize = 256;
/// Bytes of each text that a grant keeps to be told apart in a list. ours
pub const GRANT_TEXT_BYTES: usize = 2 * 1024;
/// A question stands this long before anything that is typed counts. spec: H05
pub const PROMPT_DELAY: Duration = Duration::from_millis(500);
/// How old the event behind a press of the panel's buttons may be. ours: an action follows its event at once
pub const PRESS_AGE: Duration = Duration::from_secs(1);
/// Pause between two looks at what the menu shows. ours
pub const MENU_PAUSE: Duration = Duration::from_secs(1);
/// Pause between two looks whether the app that a link has started is there. ours
pub const LINK_PAUSE: Duration = Duration::from_millis(100);
/// Choices in the menu that wait to be carried out; more are dropped. ours
pub const MENU_CHOICES: usize = 16;
/// Bytes of one request line on the control socket. ours
pub const CONTROL_LINE_BYTES: usize = 64 * 1024;

// ---- audit log ----

/// Bytes of one file of the audit log; the next record begins another. ours
pub const AUDIT_FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Files of the audit log that are kept, the one being written included. ours
pub const AUDIT_FILES: usize = 4;
/// Bytes of a command that the audit log keeps; of a longer one also length and hash. ours
pub const AUDIT_COMMAND_BYTES: usize = 64 * 1024;
/// Bytes of every other text in a record. ours, A155
pub const AUDIT_TEXT_BYTES: usize = 4 * 1024;
/// Bytes of one record: the command and eleven texts, each of which JSON may double. ours
pub const AUDIT_RECORD_BYTES: u64 = 256 * 1024;
/// Notes about an audit log, torn lines for example, that are told one by one. ours
pub const AUDIT_NOTES: usize = 100;
/// Bytes of a file that is bound by its content; a larger one that commands could rewrite does not
/// run. Fits programs with a runtime built in. ours
pub const HASHED_BYTES: u64 = 512 * 1024 * 1024;
/// Files of which the hash, or the `#!` line, is remembered. issue part 2, point 5 asks for a bound; ours
pub const REMEMBERED_FILES: usize = 512;
/// Two changes of a file closer than this may bear the same time. issue part 2, point 5
pub const FILE_CLOCK_STEP: Duration = Duration::from_secs(2);
/// Bytes of a `#!` line without its end. spec: Linux' `BINPRM_BUF_SIZE`
pub const INTERPRETER_LINE_BYTES: usize = 255;
/// `#!` files on the way from a program to a binary. ours
pub const SCRIPT_LEVELS: usize = 2;
/// How long the helper that prepares the fence may take for one step (ours; it takes milliseconds).
pub const FENCE_WAIT: Duration = Duration::from_secs(5);
/// Bytes of one answer of that helper (ours: a path and an error).
pub const FENCE_ANSWER_BYTES: u64 = 8_192;
/// The use of an allowlist entry is noted at most this often. ours
pub const USE_NOTED_EVERY: Duration = Duration::from_secs(60);
// ---- approved runs ----

/// Longest `timeoutMs` of a run that an operator approved without being shown one; the original's
/// own default for a command. ours, security-cases A60 row
pub const APPROVED_RUN_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// States that an argument pattern may compile to; a larger one matches nothing. ours
pub const PATTERN_STATES: usize = 2_000;
/// Groups inside groups of an argument pattern. ours
pub const PATTERN_DEPTH: usize = 32;
/// States × UTF-16 units that one comparison may take; beyond, it does not match. ours
pub const PATTERN_STEPS: usize = 50_000_000;
/// Directories above the working directory in which a package's programs are looked for. ours
pub const PACKAGE_LEVELS: usize = 64;
/// Bytes that we ourselves write in a stage's place: a path and a line's end fit in, and it fits into
/// an empty pipe. ours
pub const SAID_BYTES: usize = 4 * 1024;
/// Bytes that a pipe holds at most, as the system makes it. spec: pipe(7)
pub const PIPE_BYTES: usize = 64 * 1024;
/// Commands of one shell text that are understood. ours
pub const SHELL_COMMANDS: usize = 512;
/// Bytes of a launcher's plan on macOS (ours: over the system's limit of arguments, 1 MiB, and a profile).
pub const FENCE_PLAN_BYTES: u64 = 2 << 20;

/// Commands of one pipeline: each is a process, a thread and a pipe. ours
pub const PIPELINE_STAGES: usize = 64;
// ---- skills ----

/// How long the gateway's answer to `skills.bins` holds. spec: exec f.4
pub const SKILLS_TTL: Duration = Duration::from_secs(90);
/// How long that answer is waited for. ours
pub const SKILLS_WAIT: Duration = Duration::from_secs(5);
/// Names of it that count. ours
pub const SKILL_BINS: usize = 1_024;
/// Directories in the state directory that commands reach. ours
pub const FENCE_GAPS: usize = 64;
// ---- services ----

/// How long `launchctl` or `systemctl` may take for one order; a unit is given 10 s to end. ours
pub const SERVICE_TOOL_WAIT: Duration = Duration::from_secs(30);
/// Bytes of what they print that are read. ours
pub const SERVICE_TOOL_BYTES: u64 = 256 * 1024;
/// How long launchd may take to let go of a job, or to take one up after that. spec: mac-app §1.4
pub const LAUNCHD_WAIT: Duration = Duration::from_secs(5);
/// Between two looks meanwhile. ours
pub const LAUNCHD_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a service's log file under launchd before it is turned over; one older one is kept. spec: mac-app §1.5
pub const LOG_FILE_BYTES: u64 = 5 * 1024 * 1024;
/// Longest label that an owner may give a device. Source: schema of `device.pair.rename` (2026.9.1).
pub const DEVICE_LABEL_BYTES: usize = 64;

// ---- ssh ----

/// How long ssh may take to connect; less than [`CONNECT_DEADLINE`], so that its own word comes first. ours
pub const SSH_CONNECT_SECONDS: u32 = 10;
/// Last bytes of its standard error that are kept. ours
pub const SSH_SAID_BYTES: usize = 2 * 1024;
/// Last bytes of it that are shown: with our sentence they fit into a log line. ours
pub const SSH_SHOWN_BYTES: usize = 1024;
/// Characters of a user name or host in a target. ours; a host name has 253 at most
pub const SSH_NAME_CHARS: usize = 253;
/// Pause after the other machine did not let us in: fewer tries than what is commonly banned, five in
/// ten minutes. ours
pub const SSH_REFUSED_PAUSE: Duration = Duration::from_secs(180);

// ---- setup links ----

/// A setup link is good for this long. spec: exec g.7
pub const SETUP_LINK_TTL: Duration = Duration::from_secs(600);
/// Setup links that wait to be used. ours
pub const SETUP_LINKS: usize = 16;
/// Longest setup link, characters. ours; an official one has 150
pub const SETUP_LINK_BYTES: usize = 4_096;

// ---- what a node tells of itself ----

/// First pause before a refused `node.*.update` is repeated; doubles. spec: gateway §5
pub const UPDATE_RETRY_FIRST: Duration = Duration::from_millis(250);
/// Longest such pause. spec: gateway §5
pub const UPDATE_RETRY_MAX: Duration = Duration::from_secs(5);
/// How long a result waits for the official gateway's word about its event. ours
pub const EVENT_ACKNOWLEDGED: Duration = Duration::from_secs(5);
// ---- app: approvals of the gateway ----

/// Approval records of a gateway that wait for this app's person; more are listed again when these are done. ours
pub const GATEWAY_QUESTIONS: usize = 64;
/// Bytes of one of them; a larger one is not shown here. ours, over what any gateway takes
pub const GATEWAY_QUESTION_BYTES: usize = 256 * 1024;
/// Lines of its warning that are shown as lines; more become one. ours
pub const GATEWAY_WARNING_LINES: usize = 8;
/// Approval events that are noted while the list of records is on its way. ours
pub const GATEWAY_EVENTS: usize = 1_024;
/// Pause before the same record is shown again when there was nobody to show it to. ours
pub const GATEWAY_ASK_AGAIN: Duration = Duration::from_secs(5);
/// Ended records in one answer of `approval.history`. spec: schema ApprovalHistoryParams
pub const APPROVAL_HISTORY: usize = 100;
/// How long work may wait for a node. spec: schema NodePendingEnqueueParams
pub const PENDING_WORK: Duration = Duration::from_secs(24 * 60 * 60);
/// Items of it in one answer; there is one of each kind. spec: schema NodePendingDrainParams
pub const PENDING_WORK_DRAINED: usize = 10;

// --- Abilities ---

/// Pixels of a picture's longer side, whatever is asked for.
pub const PICTURE_PIXELS: u32 = 16_384;
/// Bytes of a picture or film before base64, which adds a third and must fit into a frame with what stands around it.
pub const ABILITY_BYTES: usize = FRAME_BYTES / 4 * 3 - 64 * 1024;
/// How long an ability's own work may take beside what was asked for (a film's length, a camera's delay).
pub const ABILITY_WAIT: Duration = Duration::from_secs(20);
/// Abilities at work at the same time: cameras and screens are not many.
pub const ABILITIES_AT_ONCE: usize = 4;
/// Bytes of a script for the canvas or for AppleScript.
pub const SCRIPT_BYTES: usize = 64 * 1024;

// ---- desktop: macOS ----

/// How long one action may take; less than what the bridge's client waits. ours, spec: security-cases A130
pub const MAC_ACTION: Duration = Duration::from_secs(8);
/// How long a program may take to come to the front or to hide. ours
pub const MAC_SETTLE: Duration = Duration::from_secs(2);
/// Between two looks whether it has. ours
pub const MAC_LOOK: Duration = Duration::from_millis(25);
/// How long the main thread may take to say whether a window of ours has the keyboard. ours
pub const MAC_OWN_KEYS: Duration = Duration::from_secs(1);
/// Between moving the pointer and pressing its button. ours
pub const MAC_HOVER: Duration = Duration::from_millis(30);
/// How long a button is down in a click. ours
pub const MAC_PRESS: Duration = Duration::from_millis(20);
/// How long a key is down. ours
pub const MAC_KEY: Duration = Duration::from_millis(2);
/// Shortest time between two points of a drag: programs must see it as one. ours
pub const MAC_DRAG_STEP: Duration = Duration::from_millis(5);
/// Clicks in a row: a paragraph takes three. ours
pub const MAC_CLICKS: u32 = 3;
/// Characters that are typed at once. ours; more than fit into [`MAC_ACTION`]
pub const MAC_TYPED_CHARS: usize = 10_000;
/// Windows of one program. ours
pub const PROGRAM_WINDOWS: usize = 256;
/// Bytes of one text of an element: a text area's value is a whole document. ours
pub const ELEMENT_TEXT_BYTES: usize = 16 * 1024;
/// Bytes of one file of the canvas.
pub const CANVAS_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Files of a canvas folder that are watched for changes.
pub const CANVAS_FILES: usize = 2_000;
/// How often they are looked at while the canvas is shown.
pub const CANVAS_LOOK: Duration = Duration::from_millis(500);
/// Sessions whose canvas frame is remembered.
pub const CANVAS_FRAMES: usize = 64;
/// Bytes of a camera's picture. Source: mac-app (1.10).
pub const CAMERA_BYTES: usize = 5_000_000;
// ---- the app's life ----

/// Between two looks at the permissions that a node has declared. spec: mac-app (2.1), never closer than 0.5 s
pub const PERMISSIONS_LOOK: Duration = Duration::from_secs(5);
/// How far the clock in an envelope of the official command line may be off. docs: platforms/mac/xpc (2026.9)
pub const CONTROL_TTL: Duration = Duration::from_secs(15);
/// Nonces of such envelopes that are remembered. ours, as the original
pub const CONTROL_NONCES: usize = 1_024;
/// Longest of them. ours, as the original
pub const CONTROL_NONCE_BYTES: usize = 128;
/// Between two lists of what wants in at the gateway, while something does. spec: mac-app (3.4)
pub const PAIRING_LOOK: Duration = Duration::from_secs(15);
/// Before a list that an event asks for. spec: mac-app (3.4)
pub const PAIRING_PAUSE: Duration = Duration::from_millis(250);
/// Characters of a device id that a person compares. spec: mac-app (3.4)
pub const FINGERPRINT_CHARS: usize = 16;
/// Bytes of an `openclaw://` link: its longest message, each character of it percent-encoded, and the rest. ours
pub const DEEP_LINK_BYTES: usize = 256 * 1024;
/// Characters of its message. spec: mac-app (3.6)
pub const DEEP_LINK_MESSAGE_CHARS: usize = 20_000;
/// Characters of any other parameter of it. ours
pub const DEEP_LINK_FIELD_CHARS: usize = 256;
/// Longest `timeoutSeconds` of it. ours
pub const DEEP_LINK_TIMEOUT_SECONDS: u64 = 24 * 60 * 60;
/// Between two links that are followed. spec: mac-app (3.6)
pub const DEEP_LINK_PAUSE: Duration = Duration::from_secs(1);
/// Shortest key with which a link asks nobody. ours
pub const DEEP_LINK_KEY_BYTES: usize = 16;
/// Bytes of an Info.plist that are read. ours
pub const INFO_PLIST_BYTES: u64 = 64 * 1024;
// ---- code signatures ----

/// What was found out about a process's signature is believed for this long. spec: mac-app 7.3
pub const SIGNATURE_AGE: Duration = Duration::from_secs(60);
/// Processes whose signatures are remembered. ours
pub const SIGNATURES: usize = 64;

// ---- notifications ----

/// Characters of a notification's title that are shown. ours
pub const NOTIFICATION_TITLE_CHARS: usize = 256;
/// Characters of its text that are shown. ours, over what any system shows
pub const NOTIFICATION_BODY_CHARS: usize = 4_000;
/// Longest name of its sound, bytes. ours
pub const NOTIFICATION_SOUND_BYTES: usize = 128;
/// Notifications within [`NOTIFICATION_WINDOW`]. ours
pub const NOTIFICATIONS: usize = 20;
/// See [`NOTIFICATIONS`]. ours
pub const NOTIFICATION_WINDOW: Duration = Duration::from_secs(60);
/// How long the system may take for one. ours
pub const NOTIFICATION_WAIT: Duration = Duration::from_secs(5);
/// How long the person may take to permit them: as long as an invocation waits. ours
pub const NOTIFICATION_PERMISSION_WAIT: Duration = Duration::from_secs(25);

// ---- discovery ----

/// Records of one DNS message that we read; a message with more is not an honest one. ours
pub const DNS_RECORDS: usize = 256;
/// Keys of one service that we read; the official gateway writes eleven. ours, spec: mac-app §4.2
pub const DNS_TEXTS: usize = 32;
/// Largest DNS datagram. RFC 6762 (17)
pub const DNS_BYTES: usize = 9_000;
/// Gateways that one look around lists. ours
pub const DISCOVERED: usize = 64;
/// Network interfaces that it asks on. ours
pub const DISCOVERY_INTERFACES: usize = 16;
/// How long it listens, unless told; and the least. spec: mac-app §4.1
pub const DISCOVERY_WINDOW_MS: u64 = 2_000;
/// See there.
pub const DISCOVERY_WINDOW_MS_MIN: u64 = 100;
/// Longest window of it and of a `connect` check. ours
pub const INSPECTION_MS_MAX: u64 = 600_000;
/// Name servers of resolv.conf that count. resolv.conf(5), MAXNS
pub const NAME_SERVERS: usize = 3;
/// How long one of them may take. ours, half of resolv.conf(5)'s
pub const NAME_SERVER_WAIT: Duration = Duration::from_millis(2_500);

// ---- mac-debug watch, trace, logs ----

/// Bytes of a recording of `mac-debug trace`. ours
pub const TRACE_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Connections that one trace relays at the same time. ours
pub const TRACE_CONNECTIONS: usize = 16;
/// How long a relayed peer may take nothing. as a slow consumer of the gateway
pub const TRACE_STALL: Duration = Duration::from_secs(25);
/// Bytes of one line of a recording: a frame, and what is written around it. ours
pub const TRACE_LINE_BYTES: u64 = 2 * FRAME_BYTES as u64;
/// Differences that `mac-debug replay` shows of one answer. ours
pub const REPLAY_DIFFERENCES: usize = 20;
/// Events that wait until `mac-debug watch` has printed those before them. ours
pub const WATCH_EVENTS: usize = 1_024;
/// How often `mac-debug watch` and `logs --follow` look at files and waiting approvals. ours
pub const WATCH_GLANCE: Duration = Duration::from_millis(500);
/// Pause between its attempts to reach a gateway that is away. ours
pub const WATCH_RETRY: Duration = Duration::from_secs(5);
/// Bytes of the newest end of a log file that `mac-debug logs` and `watch` read at once. ours
pub const LOG_TAIL_BYTES: u64 = 1024 * 1024;
/// Less free space than this is a disk that is about to be full. ours
pub const DISK_FREE_BYTES: u64 = 16 * 1024 * 1024;
/// A shared secret with fewer characters can be guessed. ours; the one that we make has 48 or more
pub const STRONG_SECRET_CHARS: usize = 24;
// ---- desktop: X11 ----

/// How long one action may take, its place in the queue included; less than what the bridge's client waits. ours, spec:
/// security-cases A130
pub const X11_ACTION: Duration = Duration::from_secs(8);
/// How much longer the server may take before the connection is given up. ours
pub const X11_GRACE: Duration = Duration::from_millis(500);
/// Actions that may wait for one connection. ours
pub const X11_JOBS: usize = 64;
/// Connections of this process, those included that a server never answered. ours
pub const X11_CONNECTIONS: usize = 8;
/// Levels of windows that are looked through. ours; toolkits have a dozen
pub const X11_DEPTH: usize = 64;
/// Bytes of one property of a window. ours
pub const X11_PROPERTY_BYTES: usize = 4 * 1024 * 1024;
/// Windows of a toplevel that are looked through for the program's own; window managers put it right inside. ours
pub const X11_FRAME_WINDOWS: usize = 64;
/// Windows in a list. ours
pub const X11_WINDOWS: usize = 1_024;
/// How long the clipboard's owner may take for its answer, or for the next piece of it. ours
pub const X11_CLIPBOARD_ANSWER: Duration = Duration::from_secs(2);
/// Longest text on the clipboard, bytes. ours; with big requests a server takes it in one
pub const CLIPBOARD_BYTES: usize = 1024 * 1024;
/// How long our text stays on the clipboard. ours
pub const CLIPBOARD_HOLD: Duration = Duration::from_secs(3600);
/// Pixels of one capture: an 8K screen twice. ours
pub const CAPTURE_PIXELS: u64 = 2 * 7680 * 4320;
/// Between moving the pointer and pressing its button. ours
pub const X11_HOVER: Duration = Duration::from_millis(15);
/// How long a button is down in a click. ours
pub const X11_PRESS: Duration = Duration::from_millis(15);
/// How long a key is down. ours
pub const X11_KEY: Duration = Duration::from_millis(1);
/// Shortest time between two points of a drag: programs must see it as one. ours
pub const X11_DRAG_STEP: Duration = Duration::from_millis(5);
/// Between two looks at where a held key goes. ours
pub const X11_HELD_LOOK: Duration = Duration::from_millis(10);
/// How long a key that was lent a character keeps it at most after the last press. ours
pub const X11_KEYS_SETTLE: Duration = Duration::from_secs(1);
/// Looks in a row at which a program that was typed to has not run. ours
pub const X11_QUIET_LOOKS: u32 = 5;
/// How long a window manager may take to give a window the keyboard. ours
pub const X11_SETTLE: Duration = Duration::from_secs(2);
/// Longest side of a window, pixels: the wire has 16 bits. spec: X11 protocol
pub const X11_LONGEST: u32 = 32_767;
/// Characters that are typed at once. ours; more than fit into [`X11_ACTION`]
pub const X11_TYPED_CHARS: usize = 10_000;
// ---- bridge ----

/// Bytes of one request and of one answer. spec: peekaboo-bridge §1
pub const BRIDGE_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of requests that are being read or worked on, all together: four of the largest. ours
pub const BRIDGE_REQUEST_BYTES: usize = 4 * BRIDGE_MESSAGE_BYTES;
/// Values in one message, counted as commas and opening brackets: some 64 MiB of memory. ours
pub const BRIDGE_VALUES: usize = 1 << 20;
/// Bytes that are read and discarded from a client that was refused. security-cases A129 row
pub const BRIDGE_REFUSED_BYTES: usize = 64 * 1024;
/// From accept to the end of the request. spec: peekaboo-bridge §1
pub const BRIDGE_READ_DEADLINE: Duration = Duration::from_secs(10);
/// How long an operation may take: the client waits for 10 s. security-cases A130 row
pub const BRIDGE_OPERATION_DEADLINE: Duration = Duration::from_secs(9);
/// How long looking for elements may take: the client waits for 30 s. security-cases A130 row
pub const BRIDGE_DETECTION_DEADLINE: Duration = Duration::from_secs(28);
/// How long a client may take to read its answer. ours
pub const BRIDGE_WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// Operations under way at once, those that hang included; one more is answered `serverBusy`. ours
pub const BRIDGE_OPERATIONS: usize = 256;
/// Snapshots that are kept. spec: peekaboo-bridge §6
pub const BRIDGE_SNAPSHOTS: usize = 50;
/// Bytes of what they were made of, all together; then the one that was used least recently goes. ours
pub const BRIDGE_SNAPSHOT_BYTES: usize = 64 * 1024 * 1024;
/// A snapshot that was not used for this long is forgotten. spec: peekaboo-bridge §6
pub const BRIDGE_SNAPSHOT_TTL: Duration = Duration::from_secs(600);
/// Characters of a snapshot's id. ours
pub const BRIDGE_SNAPSHOT_ID: usize = 128;
/// Points of one movement of the pointer. ours
pub const BRIDGE_POINTER_STEPS: usize = 10_000;
/// Pause between two looks for an element. spec: peekaboo-bridge §6
pub const BRIDGE_LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Levels, elements and children that one look for elements takes in at most. ours; usual are 12, 400 and 50
pub const BRIDGE_TREE: (usize, usize, usize) = (64, 10_000, 5_000);
/// Characters of an action's name. spec: peekaboo-bridge §6
pub const BRIDGE_ACTION_CHARS: usize = 128;
/// A refusal of the same reason is logged at most this often. ours
pub const BRIDGE_REFUSAL_LOGGED: Duration = Duration::from_secs(1);
/// How long a client waits to be connected. ours
pub const BRIDGE_CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// How long a client waits for an answer. spec: peekaboo-bridge §1
pub const BRIDGE_CALL_DEADLINE: Duration = Duration::from_secs(10);
/// How long it waits for an answer about elements. spec: peekaboo-bridge §1
pub const BRIDGE_DETECTION_CALL_DEADLINE: Duration = Duration::from_secs(30);
// ---- permissions, abilities in the app ----

/// How long a status that may hang is waited for; a later one is used next time. ours
pub const PERMISSION_PATIENCE: Duration = Duration::from_millis(500);
/// How long it may take before it counts as unknown. spec: mac-app (2.2)
pub const PERMISSION_LIMIT: Duration = Duration::from_secs(5);
/// How long its last answer is used without another look; less than [`PERMISSIONS_LOOK`]. ours
pub const PERMISSION_FRESH: Duration = Duration::from_secs(4);
/// How long a request waits for the person; what they say later is seen by the next look. ours, less than
/// [`EXEC_ANSWER_DEADLINE`], after which the control socket's client gives up
pub const PERMISSION_ANSWER: Duration = Duration::from_secs(7);
/// How long the system may take to ask about the location before its pane is opened. spec: mac-app (2.1)
pub const LOCATION_PROMPT: Duration = Duration::from_secs(3);
/// Between an answer about a link out of a canvas and the next one that is asked about. ours: a page can try at any time
pub const CANVAS_LINK_PAUSE: Duration = Duration::from_secs(10);
/// Bytes of such a link. ours, as most browsers
pub const CANVAS_LINK_BYTES: usize = 2_048;
/// Between two looks at the switches that the bridge follows. ours
pub const SWITCHES_LOOK: Duration = Duration::from_secs(1);

// ---- computer.act ----

/// Screenshots whose coordinates may still be used, of all callers together. ours
pub const COMPUTER_FRAMES: usize = 16;
/// How long they may: an agent that thinks takes a minute or two. ours
pub const COMPUTER_FRAME_TTL: Duration = Duration::from_secs(300);
/// Characters of one `type`. ours; typed one by one, they take half a minute
pub const COMPUTER_TEXT_CHARS: usize = 5_000;
/// Longest `hold_key` and drag, below [`X11_ACTION`]. ours; the original's tool asks for 10 s at most
pub const COMPUTER_HOLD: Duration = Duration::from_secs(7);
/// Notches of the wheel in one `scroll`. spec: nodes/computer-use (the original's tool sends no more)
pub const COMPUTER_NOTCHES: u32 = 100;
/// Windows in one answer. ours
pub const COMPUTER_WINDOWS: usize = 200;
