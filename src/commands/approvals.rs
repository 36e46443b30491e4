//! `openclaw mac-debug approvals`: what waits for a word, and the document that needs none.

use super::mac_debug::print;
use crate::client::Endpoint;
use crate::inspect::policy::{self, Host};
use crate::inspect::{InspectError, Target, approvals};
use crate::limits;
use crate::protocol::policy::{Ask, Decision, Fence, Security};
use crate::state::approvals::change::{Change, List};
use crate::state::{Environment, StateDir};
use argh::{ArgsInfo, FromArgs};
use std::io::Read;
use std::process::ExitCode;

/// Two things. Commands that wait for an operator's answer: list, allow-once, allow-always, deny. And the approvals
/// document, which says what runs without a question and what never runs: get, set, allowlist, denylist, mode, fence.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "approvals",
    note = "The document is this machine's, unless --gateway or --node names another; this machine's needs no gateway. A change counts from the next command on.",
    example = "openclaw mac-debug approvals allowlist add /usr/bin/git"
)]
pub struct Flags {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum Verb {
    List(Waiting),
    AllowOnce(AllowOnce),
    AllowAlways(AllowAlways),
    Deny(Deny),
    Get(Get),
    Set(Set),
    Allowlist(Allowlist),
    Denylist(Denylist),
    Mode(Mode),
    Fence(FenceLevel),
}

/// Show the commands that wait for an operator's answer (there are some when the app runs with `--ask operator`).
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "list", example = "openclaw mac-debug approvals list --json")]
struct Waiting {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// A verb that answers one waiting command.
macro_rules! answer {
    ($(#[$about:meta])* $name:ident) => {
        #[derive(FromArgs, ArgsInfo)]
        $(#[$about])*
        struct $name {
            /// print JSON
            #[argh(switch)]
            json: bool,
            /// which one: the id that list shows
            #[argh(positional)]
            id: String,
        }
    };
}

answer! {
    /// Let one waiting command run, this once.
    #[argh(subcommand, name = "allow-once", example = "openclaw mac-debug approvals allow-once 3f2a")]
    AllowOnce
}
answer! {
    /// Let one waiting command run, and the same command (program, arguments, directory) from now on.
    #[argh(subcommand, name = "allow-always", example = "openclaw mac-debug approvals allow-always 3f2a")]
    AllowAlways
}
answer! {
    /// Refuse one waiting command.
    #[argh(subcommand, name = "deny", example = "openclaw mac-debug approvals deny 3f2a")]
    Deny
}

/// Whose document, and how to print.
struct Where {
    gateway: bool,
    node: Option<String>,
    json: bool,
}

/// A verb about a document.
macro_rules! about_document {
    ($(#[$about:meta])* $name:ident { $($member:tt)* }) => {
        #[derive(FromArgs, ArgsInfo)]
        $(#[$about])*
        struct $name {
            $($member)*
            /// the document of the gateway's machine
            #[argh(switch)]
            gateway: bool,
            /// the document of a node: its id, the beginning of its id, or its name
            #[argh(option)]
            node: Option<String>,
            /// print JSON
            #[argh(switch)]
            json: bool,
        }

        impl $name {
            fn place(&self) -> Where {
                Where { gateway: self.gateway, node: self.node.clone(), json: self.json }
            }
        }
    };
}

about_document! {
    /// Show the approvals document. Changes nothing.
    #[argh(subcommand, name = "get", example = "openclaw mac-debug approvals get")]
    Get {}
}

about_document! {
    /// Replace the whole approvals document by another one (JSON, as get --json shows under "file").
    #[argh(subcommand, name = "set", example = "openclaw mac-debug approvals set approvals.json")]
    Set {
        /// refuse if the document has another hash by now (get shows it)
        #[argh(option)]
        base_hash: Option<String>,
        /// read the new document from standard input
        #[argh(switch)]
        stdin: bool,
        /// file with the new document
        #[argh(positional)]
        file: Option<String>,
    }
}

/// Change what runs without a question.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "allowlist", example = "openclaw mac-debug approvals allowlist add /usr/bin/git")]
struct Allowlist {
    #[argh(subcommand)]
    verb: AllowlistVerb,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum AllowlistVerb {
    Add(AllowlistAdd),
    Remove(AllowlistRemove),
}

about_document! {
    /// Let a program run without a question.
    #[argh(subcommand, name = "add", example = "openclaw mac-debug approvals allowlist add --arg-pattern '^status( |$)' git")]
    AllowlistAdd {
        /// only if this regular expression is found in its arguments, joined by blanks; say ^ and $ for all of them
        #[argh(option)]
        arg_pattern: Option<String>,
        /// for this agent only (default: *, all agents)
        #[argh(option, default = "everybody()")]
        agent: String,
        /// the program's full path, where * stands for any text without / and ** for any text; or a name, for the
        /// program that is found under it
        #[argh(positional)]
        pattern: String,
    }
}

about_document! {
    /// Take a program off the allowlist.
    #[argh(subcommand, name = "remove", example = "openclaw mac-debug approvals allowlist remove 3f2a")]
    AllowlistRemove {
        /// for this agent only (default: *, all agents)
        #[argh(option, default = "everybody()")]
        agent: String,
        /// pattern or id of the entry
        #[argh(positional)]
        pattern: String,
    }
}

/// Change what never runs, whatever else allows it.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "denylist", example = "openclaw mac-debug approvals denylist add /usr/bin/curl")]
struct Denylist {
    #[argh(subcommand)]
    verb: DenylistVerb,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum DenylistVerb {
    Add(DenylistAdd),
    Remove(DenylistRemove),
}

about_document! {
    /// Refuse a program, or every command that looks like a pattern.
    #[argh(subcommand, name = "add", example = "openclaw mac-debug approvals denylist add --command 'git push *'")]
    DenylistAdd {
        /// instead of a program: a pattern for the whole command as prompts show it, where * stands for any text and ?
        /// for one character
        #[argh(option)]
        command: Option<String>,
        /// for this agent only (default: *, all agents)
        #[argh(option, default = "everybody()")]
        agent: String,
        /// the program's full path (* and ** as in allowlist add), or a name, for every program of that name
        #[argh(positional)]
        pattern: Option<String>,
    }
}

about_document! {
    /// Take an entry off the denylist.
    #[argh(subcommand, name = "remove", example = "openclaw mac-debug approvals denylist remove /usr/bin/curl")]
    DenylistRemove {
        /// instead of a program: the entry's pattern for whole commands
        #[argh(option)]
        command: Option<String>,
        /// for this agent only (default: *, all agents)
        #[argh(option, default = "everybody()")]
        agent: String,
        /// pattern or id of the entry
        #[argh(positional)]
        pattern: Option<String>,
    }
}

about_document! {
    /// Say how strict: deny = nothing runs; ask = what the allowlist names runs, for the rest a person is asked; allow =
    /// EVERYTHING runs and nobody is asked, only the denylist still refuses.
    #[argh(subcommand, name = "mode", example = "openclaw mac-debug approvals mode ask")]
    Mode {
        /// for this agent only (default: *, all agents)
        #[argh(option, default = "everybody()")]
        agent: String,
        /// deny, ask or allow
        #[argh(positional, from_str_fn(mode_of))]
        mode: (Security, Ask),
    }
}

about_document! {
    /// Say what commands are kept from: state (the default) = openclaw's own files and sockets; workspace = also writing
    /// outside their working directory and the temporary folder; offline = also the network; none = nothing.
    #[argh(subcommand, name = "fence", example = "openclaw mac-debug approvals fence workspace")]
    FenceLevel {
        /// for this agent only (default: *, all agents)
        #[argh(option, default = "everybody()")]
        agent: String,
        /// none, state, workspace or offline
        #[argh(positional, from_str_fn(fence_of))]
        level: Fence,
    }
}

fn everybody() -> String {
    crate::state::approvals::EVERY_AGENT.to_owned()
}

/// Source: spec exec (a.7).
fn mode_of(word: &str) -> Result<(Security, Ask), String> {
    match word {
        "deny" => Ok((Security::Deny, Ask::Off)),
        "ask" => Ok((Security::Allowlist, Ask::OnMiss)),
        "allow" => Ok((Security::Full, Ask::Off)),
        _ => Err("say deny, ask or allow".to_owned()),
    }
}

fn fence_of(word: &str) -> Result<Fence, String> {
    Fence::from_word(word).ok_or_else(|| "say none, state, workspace or offline".to_owned())
}

/// From where the documents are reached.
pub struct Way {
    /// This machine's state.
    pub state: StateDir,
    /// For the way to the gateway.
    pub environment: Environment,
    /// Another gateway than ours.
    pub other: Option<Endpoint>,
}

impl Way {
    fn target(self) -> Result<Target, InspectError> {
        Target::new(self.state, &self.environment, self.other)
    }

    fn host(self, place: &Where) -> Result<Host, InspectError> {
        match (&place.node, place.gateway) {
            (Some(_), true) => Err(InspectError::Usage("say --gateway or --node, not both".to_owned())),
            (Some(node), false) => Ok(Host::Node(Box::new(self.target()?), node.clone())),
            (None, true) => Ok(Host::Gateway(Box::new(self.target()?))),
            (None, false) if self.other.is_some() => {
                Err(InspectError::Usage("with --url or --ssh, say whose document: --gateway or --node".to_owned()))
            }
            (None, false) => Ok(Host::Here(self.state)),
        }
    }
}

/// Does it.
///
/// # Errors
/// See [`InspectError`].
pub fn run(flags: Flags, way: Way) -> Result<ExitCode, InspectError> {
    let change = |way: Way, place: Where, agent: &str, change: &Change, base_hash: Option<&str>| {
        let answer = policy::change(&way.host(&place)?, change, agent, base_hash)?;
        Ok(print(&answer, place.json, policy::effect_text))
    };
    match flags.verb {
        Verb::List(flags) => Ok(print(&approvals::list(&way.target()?)?, flags.json, approvals::text)),
        Verb::AllowOnce(flags) => answer(way, &flags.id, Decision::AllowOnce, flags.json),
        Verb::AllowAlways(flags) => answer(way, &flags.id, Decision::AllowAlways, flags.json),
        Verb::Deny(flags) => answer(way, &flags.id, Decision::Deny, flags.json),
        Verb::Get(flags) => {
            let place = flags.place();
            Ok(print(&policy::get(&way.host(&place)?)?, place.json, policy::text))
        }
        Verb::Set(flags) => {
            let new = policy::replacement(&read(flags.file.as_deref(), flags.stdin)?)?;
            change(way, flags.place(), &everybody(), &new, flags.base_hash.as_deref())
        }
        Verb::Allowlist(Allowlist { verb: AllowlistVerb::Add(flags) }) => {
            let mut members = vec![("pattern", flags.pattern.clone())];
            members.extend(flags.arg_pattern.clone().map(|text| ("argPattern", text)));
            change(way, flags.place(), &flags.agent, &Change::Add(List::Allow, members), None)
        }
        Verb::Allowlist(Allowlist { verb: AllowlistVerb::Remove(flags) }) => {
            let what = Change::Remove(List::Allow, "pattern", flags.pattern.clone());
            change(way, flags.place(), &flags.agent, &what, None)
        }
        Verb::Denylist(Denylist { verb: DenylistVerb::Add(flags) }) => {
            let named = deny_entry(flags.pattern.clone(), flags.command.clone())?;
            change(way, flags.place(), &flags.agent, &Change::Add(List::Deny, vec![named]), None)
        }
        Verb::Denylist(Denylist { verb: DenylistVerb::Remove(flags) }) => {
            let (member, text) = deny_entry(flags.pattern.clone(), flags.command.clone())?;
            change(way, flags.place(), &flags.agent, &Change::Remove(List::Deny, member, text), None)
        }
        Verb::Mode(flags) => change(way, flags.place(), &flags.agent, &Change::Mode(flags.mode.0, flags.mode.1), None),
        Verb::Fence(flags) => change(way, flags.place(), &flags.agent, &Change::Fence(flags.level), None),
    }
}

fn answer(way: Way, id: &str, decision: Decision, json: bool) -> Result<ExitCode, InspectError> {
    let answer = approvals::resolve(&way.target()?, id, decision.word())?;
    Ok(print(&answer, json, |_| format!("answered: {}\n", decision.word())))
}

fn deny_entry(pattern: Option<String>, command: Option<String>) -> Result<(&'static str, String), InspectError> {
    match (pattern, command) {
        (Some(pattern), None) => Ok(("pattern", pattern)),
        (None, Some(command)) => Ok(("command", command)),
        _ => Err(InspectError::Usage("say a program's pattern, or --command and a glob".to_owned())),
    }
}

fn read(file: Option<&str>, stdin: bool) -> Result<String, InspectError> {
    let unread = |error| InspectError::Usage(format!("cannot read the new document: {error}"));
    let source: Box<dyn Read> = match file {
        // `-` reaches us only behind `--`: before it looks like an option.
        None | Some("-") if stdin || file.is_some() => Box::new(std::io::stdin()),
        Some(path) if !stdin => Box::new(std::fs::File::open(path).map_err(unread)?),
        _ => return Err(InspectError::Usage("say a file, or --stdin".to_owned())),
    };
    let mut text = String::new();
    source.take(limits::DOCUMENT_BYTES + 1).read_to_string(&mut text).map_err(unread)?;
    Ok(text)
}
