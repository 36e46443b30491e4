//! A gateway on another machine, through the system's ssh. `ssh -W` carries one connection on its
//! standard streams: no port and no socket is opened on this machine that somebody else could use, and
//! ssh ends with its streams, whatever becomes of us. Source: spec mac-app §1.8, case A166.

use crate::limits;
use crate::protocol::text;
use crate::sys::fence::Enclosure;
use crate::sys::poll::{self, Interest};
use crate::sys::process;
use crate::sys::spawn::{self, Child, Command, Exit, Program};
use crate::sys::wake::{FireOnDrop, Wake};
use crate::sys::worker;
use crate::transport::stream::Stream;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, PipeReader, Read};
use std::net::Ipv6Addr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The system's own; never looked up in a search path.
const SSH: &str = "/usr/bin/ssh";

/// What no configuration file may change: ssh takes the first value that it sees. Nobody is asked, an
/// unknown or changed host key is refused, nothing is forwarded but the one connection, no other ssh
/// is made use of or left behind. Source: spec mac-app §1.8.
const FIXED: [&str; 17] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=yes",
    "ExitOnForwardFailure=yes",
    "ClearAllForwardings=yes",
    "ControlMaster=no",
    "ControlPath=none",
    "ForkAfterAuthentication=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "ConnectionAttempts=1",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    "TCPKeepAlive=yes",
    "RequestTTY=no",
    // A quieter one would not say why a forwarding failed.
    "LogLevel=INFO",
];

/// How ssh ends when something went wrong. Source: ssh(1) "EXIT STATUS".
const FAILED: Exit = Exit::Code(255);

/// What ssh, its agent and programs of the owner's ssh configuration need.
const ENVIRONMENT: [&str; 5] = ["HOME", "USER", "LOGNAME", "PATH", "SSH_AUTH_SOCK"];

/// `[user@]host[:port]`. Only names that can be neither an option, nor a path, nor anything to a shell
/// or to ssh's own `%` (A166): ssh configurations hand them on to other programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "an ssh target is USER@HOST or USER@HOST:PORT, names of letters, digits, '.', '_' and '-' \
             (an IPv6 address in brackets)"
                .to_owned()
        };
        let (user, place) = text.split_once('@').map_or((None, text), |(user, place)| (Some(user), place));
        let (host, port) = match place.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((address, port))) if address.parse::<Ipv6Addr>().is_ok() => {
                (address, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) })
            }
            Some(_) => return Err(wrong()),
            None => {
                let (host, port) = place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
                if !is_name(host) {
                    return Err(wrong());
                }
                (host, port)
            }
        };
        let port = port.map(|port| super::endpoint::port_number(port).ok_or_else(wrong)).transpose()?;
        if user.is_some_and(|user| !is_name(user)) {
            return Err(wrong());
        }
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port })
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && text.len() <= limits::SSH_NAME_CHARS
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') { write!(f, "[{}]", self.host) } else { f.write_str(&self.host) }?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The way to a gateway behind ssh; each connection is an ssh of its own.
#[derive(Clone, Debug)]
pub struct Tunnel(Arc<Way>);

#[derive(Debug)]
struct Way {
    target: Target,
    gateway_port: u16,
    identity: Option<PathBuf>,
    config: Option<PathBuf>,
    news: Mutex<News>,
}

/// For `status`.
#[derive(Debug, Default)]
struct News {
    /// How many run that carried a login.
    connected: usize,
    /// Why the last one failed.
    trouble: String,
    /// We were not let in; whoever tries is told so until then.
    refused: Option<(Instant, Trouble)>,
}

/// How a tunnel fares.
pub struct Status {
    /// Where it leads.
    pub target: String,
    /// Whether a login went through it and it still runs.
    pub connected: bool,
    /// Why there was none, or why it ended; empty when there is nothing to say.
    pub trouble: String,
}

impl Tunnel {
    /// To the gateway that listens on the loopback port `gateway_port` of `target`. `identity` is the one
    /// key to be used, `config` an ssh configuration instead of the owner's.
    ///
    /// # Errors
    /// A sentence: a file that cannot be handed to ssh as it is.
    pub fn new(
        target: Target,
        gateway_port: u16,
        identity: Option<&Path>,
        config: Option<&Path>,
    ) -> Result<Self, String> {
        let file = |path: Option<&Path>| path.map(whole_path).transpose();
        let (identity, config) = (file(identity)?, file(config)?);
        Ok(Self(Arc::new(Way { target, gateway_port, identity, config, news: Mutex::default() })))
    }

    /// Names the gateway in the store of pinned keys: whoever logs in there, it is the same one.
    pub fn place(&self) -> String {
        let Target { host, port, .. } = &self.0.target;
        let port = port.map_or_else(String::new, |port| port.to_string());
        format!("ssh:[{}]:{port}:{}", host.to_ascii_lowercase(), self.0.gateway_port)
    }

    /// The other machine.
    pub fn target(&self) -> &Target {
        &self.0.target
    }

    /// The port of the gateway, on the other machine.
    pub fn gateway_port(&self) -> u16 {
        self.0.gateway_port
    }

    /// How it fares.
    pub fn status(&self) -> Status {
        let news = self.news();
        Status { target: self.to_string(), connected: news.connected > 0, trouble: news.trouble.clone() }
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.0.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an ssh and returns our end of it, long before it is connected: the first read waits.
    ///
    /// # Errors
    /// It cannot be started, or was refused a moment ago.
    pub fn open(&self) -> Result<(Stream, Arc<Ssh>), Trouble> {
        if let Some((until, trouble)) = &self.news().refused
            && Instant::now() < *until
        {
            return Err(trouble.clone());
        }
        self.begin().map_err(|error| Trouble::new(self, format!("{SSH} cannot be started: {error}")))
    }

    fn begin(&self) -> io::Result<(Stream, Arc<Ssh>)> {
        let (ours, theirs) = UnixStream::pair()?;
        let gone = Arc::new(Wake::new()?);
        let ssh = Arc::new(Ssh {
            tunnel: self.clone(),
            said: Mutex::default(),
            connected: AtomicBool::new(false),
            gone: Arc::clone(&gone),
            failed: AtomicBool::new(false),
            over: Wake::new()?,
        });
        let (started, start) = mpsc::channel();
        let followed = Arc::clone(&ssh);
        // Started by the thread that stays with it, see `Command::ends_with_us`.
        worker::start(move || followed.live(theirs, &started))?;
        start.recv().map_err(io::Error::other)??;
        Ok((Stream::program(ours, FireOnDrop(gone)), ssh))
    }

    fn arguments(&self) -> Vec<OsString> {
        let Way { target, gateway_port, identity, config, .. } = &*self.0;
        let mut arguments = vec![OsString::from("ssh")];
        let mut option = |letter: &str, value: OsString| arguments.extend([letter.into(), value]);
        config.iter().for_each(|file| option("-F", file.into()));
        FIXED.iter().for_each(|setting| option("-o", setting.into()));
        option("-o", format!("ConnectTimeout={}", limits::SSH_CONNECT_SECONDS).into());
        if let Some(file) = identity {
            option("-i", file.into());
            option("-o", "IdentitiesOnly=yes".into());
        }
        target.user.iter().for_each(|user| option("-l", user.into()));
        target.port.iter().for_each(|port| option("-p", port.to_string().into()));
        option("-W", format!("127.0.0.1:{gateway_port}").into());
        option("--", target.host.clone().into());
        arguments
    }

    fn start(&self, theirs: &UnixStream) -> io::Result<(Child, PipeReader)> {
        let (said, error) = io::pipe()?;
        let root = Path::new("/");
        let variable = |name: &&str| std::env::var_os(name).map(|value| (OsString::from(name), value));
        let child = spawn::spawn(&Command {
            program: Program::Path(Path::new(SSH)),
            arguments: &self.arguments(),
            environment: &ENVIRONMENT.iter().filter_map(variable).collect::<Vec<_>>(),
            directory: spawn::open_directory(root)?.as_fd(),
            directory_path: root,
            streams: [theirs.as_fd(), theirs.as_fd(), error.as_fd()],
            open_files: process::found_open_files(),
            fence: &Enclosure::none(),
            ends_with_us: true,
        })?;
        Ok((child, said))
    }
}

/// ssh replaces `%` and `${…}` in some of its paths.
fn whole_path(path: &Path) -> Result<PathBuf, String> {
    let refused = |why: &str| format!("{} cannot be handed to ssh: {why}", text::visible(&path.to_string_lossy()));
    let path = std::path::absolute(path).map_err(|error| refused(&error.to_string()))?;
    if path.to_string_lossy().contains(|letter: char| "%$".contains(letter) || letter.is_control()) {
        return Err(refused("a character in its path means something to ssh"));
    }
    std::fs::File::open(&path).map_err(|error| refused(&error.to_string()))?;
    Ok(path)
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {} of {} (by ssh)", self.0.gateway_port, self.0.target)
    }
}

impl PartialEq for Tunnel {
    fn eq(&self, other: &Self) -> bool {
        let same = |one: &Way, other: &Way| {
            (&one.target, one.gateway_port, &one.identity, &one.config)
                == (&other.target, other.gateway_port, &other.identity, &other.config)
        };
        same(&self.0, &other.0)
    }
}

impl Eq for Tunnel {}

/// One running ssh.
#[derive(Debug)]
pub struct Ssh {
    tunnel: Tunnel,
    /// The last of its standard error.
    said: Mutex<Vec<u8>>,
    /// A login went through it.
    connected: AtomicBool,
    /// Our end was dropped.
    gone: Arc<Wake>,
    /// It ended by itself, not as we wished.
    failed: AtomicBool,
    /// It has ended, and everything that it said is in `said`.
    over: Wake,
}

impl Ssh {
    /// A login went through.
    pub fn connected(&self) {
        let mut news = self.tunnel.news();
        // Under this lock it ends, too.
        if !self.over.is_fired() {
            self.connected.store(true, Ordering::SeqCst);
            *news = News { connected: news.connected + 1, ..News::default() };
        }
    }

    /// Why no login went through, if that lies with ssh.
    pub fn trouble(&self) -> Option<Trouble> {
        let deadline = poll::deadline_in(limits::CLOSE_GRACE + limits::DRAIN_LIMIT);
        let _ = poll::wait_one(self.over.fd(), Interest::Readable, deadline);
        self.failed.load(Ordering::SeqCst).then(|| Trouble::new(&self.tunnel, self.said()))
    }

    /// One line, safe to show: without the frames that ssh draws.
    fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&said);
        let lines = text.lines().map(str::trim).filter(|line| !line.trim_matches('@').is_empty());
        lines.map(text::visible).collect::<Vec<_>>().join(" / ")
    }

    /// From start to end, on a thread of its own.
    fn live(&self, theirs: UnixStream, started: &Sender<io::Result<()>>) {
        let (child, said) = match self.tunnel.start(&theirs) {
            Ok(running) => running,
            Err(error) => return drop(started.send(Err(error))),
        };
        // Otherwise its end would not be the end of the stream.
        drop(theirs);
        let _ = started.send(Ok(()));
        self.follow(&child, said);
        let failed = child.exit() == Some(FAILED);
        self.failed.store(failed, Ordering::SeqCst);
        // Whatever is left of it is killed.
        drop(child);
        let mut news = self.tunnel.news();
        if self.connected.load(Ordering::SeqCst) {
            news.connected -= 1;
            if failed {
                news.trouble = end_of(&self.said()).to_owned();
                crate::log!("ssh", "{}: {}", self.tunnel.0.target, news.trouble);
            }
        }
        self.over.fire();
    }

    /// Listens until it has ended, or nobody wants it any more and it had time to pass on the rest.
    fn follow(&self, child: &Child, mut said: PipeReader) {
        let mut open = true;
        while child.exit().is_none() && !self.gone.is_fired() {
            let mut ends = vec![(child.exited(), Interest::Readable), (self.gone.fd(), Interest::Readable)];
            if open {
                ends.push((said.as_fd(), Interest::Readable));
            }
            match poll::wait(&ends, None) {
                Ok(ready) if ready.get(2) == Some(&true) => open = self.hear(&mut said),
                Ok(_) => {}
                Err(_) => return,
            }
        }
        let _ = poll::wait_one(child.exited(), Interest::Readable, poll::deadline_in(limits::CLOSE_GRACE));
        let end = Instant::now() + limits::DRAIN_LIMIT;
        while open && Instant::now() < end {
            let more = poll::wait_one(said.as_fd(), Interest::Readable, poll::deadline_in(limits::DRAIN_SILENCE));
            open = more.unwrap_or(false) && self.hear(&mut said);
        }
    }

    /// Keeps the last of it; false at its end.
    fn hear(&self, from: &mut PipeReader) -> bool {
        let mut chunk = [0; 1024];
        let count = from.read(&mut chunk).unwrap_or(0);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend(chunk.iter().take(count));
        let surplus = said.len().saturating_sub(limits::SSH_SAID_BYTES);
        said.drain(..surplus);
        count > 0
    }
}

/// What ssh says about a login that did not get through.
#[derive(Clone, Debug)]
pub struct Trouble {
    target: String,
    said: String,
}

impl Trouble {
    /// Noted for `status`, and for the next who tries.
    fn new(tunnel: &Tunnel, said: String) -> Self {
        let trouble = Self { target: tunnel.0.target.to_string(), said };
        let mut news = tunnel.news();
        news.trouble = trouble.to_string();
        news.refused = trouble.is_login().then(|| (Instant::now() + limits::SSH_REFUSED_PAUSE, trouble.clone()));
        trouble
    }

    fn says(&self, words: &str) -> bool {
        self.said.contains(words)
    }

    fn is_host_key(&self) -> bool {
        self.says("Host key verification failed")
    }

    fn is_login(&self) -> bool {
        self.says("Permission denied (") || self.says("Too many authentication failures")
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, said } = self;
        write!(f, "no ssh connection to {target}: ")?;
        if self.says("IDENTIFICATION HAS CHANGED") {
            f.write_str(
                "it showed another host key than the known one, so nothing was sent; it may be another machine that \
                 pretends. If its key was really replaced, its owner can tell, and `ssh-keygen -R` forgets the old one",
            )
        } else if self.is_host_key() {
            f.write_str(
                "its host key is not known here, so nothing was sent; connect once by hand with `ssh`, compare the \
                 fingerprint, then try again",
            )
        } else if self.is_login() {
            f.write_str(
                "it does not let us in; ssh cannot ask for a password here, so it needs a key that the ssh agent holds \
                 or --ssh-identity names, without a passphrase",
            )
        } else if self.says("administratively prohibited") {
            f.write_str("its sshd forbids forwarding (AllowTcpForwarding, PermitOpen)")
        } else if self.says("open failed") {
            f.write_str("we are logged in there, but no gateway listens on that port of its loopback address")
        } else {
            f.write_str("it may be away, or its name or port be wrong")
        }?;
        write!(f, ". ssh says: {}", end_of(said))
    }
}

impl std::error::Error for Trouble {}

/// The reason comes last.
fn end_of(said: &str) -> &str {
    let start = said.ceil_char_boundary(said.len().saturating_sub(limits::SSH_SHOWN_BYTES));
    said.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The positive twins of `sec_a166_…` in `tests/ssh_tunnel.rs`.
    #[test]
    fn targets_are_understood() {
        for (text, shown) in [
            ("me@host", "me@host"),
            ("host", "host"),
            ("Me_1.x-y@Gateway.Example:2222", "Me_1.x-y@Gateway.Example:2222"),
            ("me@192.0.2.1:1", "me@192.0.2.1:1"),
            ("me@[2001:DB8::1]:65535", "me@[2001:DB8::1]:65535"),
            ("[::1]", "[::1]"),
            ("_alias", "_alias"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn ssh_gets_words_and_the_host_last_of_all() {
        let tunnel = Tunnel::new("me@[::1]:22".parse().unwrap(), 18_789, None, None).unwrap();
        let words: Vec<_> = tunnel.arguments().into_iter().map(|word| word.into_string().unwrap()).collect();
        let end = ["-l", "me", "-p", "22", "-W", "127.0.0.1:18789", "--", "::1"];
        assert_eq!(words[words.len() - end.len()..], end);
        assert_eq!(tunnel.place(), "ssh:[::1]:22:18789");
        // What the specification asks for, host keys stricter.
        for setting in
            ["BatchMode=yes", "StrictHostKeyChecking=yes", "ExitOnForwardFailure=yes", "ServerAliveInterval=15"]
        {
            let place = words.iter().position(|word| word == setting).unwrap();
            assert_eq!(words[place - 1], "-o");
        }
    }
}
