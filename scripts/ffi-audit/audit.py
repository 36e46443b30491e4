"""ffi-audit: compares what `macos/src` declares of Apple's libraries with the generated bindings.

audit.py VENDORED_CRATES SOURCES ALLOWED [--prove]

Prints what differs, with file and line, and fails then. ALLOWED lists what no binding has: one a line, a kind, a name, and why.
--prove: plants one fault at a time in the sources, in memory, and fails unless each is found.
"""

import pathlib
import re
import sys

from bindings import Bindings, Types, closing, number, split, without_comments

# Libraries of the table in library.rs whose crate has another name than theirs.
CRATES = {"Objc": {"objc2"}, "System": {"libc", "block2", "dispatch2"}, "AVFoundation": {"objc2-av-foundation"}, "IOKit": {"objc2-io-kit"}}
APPLE = re.compile(r"(NS|UN|CG|AX|AV|CF|Sec|SC|WK|AE|CM|CL|SF|kAX|kCG|kCF|kSec|kAE|kVK|errSec|LOCAL_|type)[A-Z_]\w*[a-z]\w*")


def agree(ours, theirs):
    """Whether a value of our type may stand where the header says theirs."""
    if ours == theirs or (ours in ("object", "pointer:void") and theirs in ("object", "pointer:void")):
        return True
    if theirs.startswith("block"):
        return ours == "object"
    if theirs.startswith("function"):
        return ours.startswith("function") or ours == "pointer:void"
    if ours.startswith("pointer:") and theirs.startswith("pointer:"):
        ours, theirs = ours.removeprefix("pointer:"), theirs.removeprefix("pointer:")
        return ours == "void" or theirs in ("void", "struct") or (theirs == "byte" and ours == "byte") or agree(ours, theirs)
    return False


def encoded(text):
    """The kinds that a string of Objective-C type codes lists."""
    codes = {"v": "void", "B": "byte", "c": "byte", "C": "byte", "s": "i16", "S": "u16", "i": "i32", "I": "u32", "q": "i64", "Q": "u64", "f": "f32",
             "d": "f64", "@": "object", "@?": "block", "#": "object", ":": "sel", "*": "pointer:byte"}
    kinds = []
    for code in re.findall(r'\^*\{[^}]*(?:\}[^{}]*)*?\}|\^+.|@\?|@"[^"]*"|[a-zA-Z@#:*]', text):
        kinds.append("object" if code.startswith(("@\"", "^{")) else "pointer:void" if code[0] == "^" else "struct" if code[0] == "{" else codes.get(code, "?" + code))
    return kinds


class Audit:
    """One pass over the sources."""

    def __init__(self, apple, sources, allowed, exported):
        self.apple, self.allowed, self.exported, self.used = apple, allowed, exported, set()
        self.problems, self.counts, self.tables = [], {}, []
        self.texts = {name: re.sub(r"(?s)#\[cfg\((?:all\()?test\b.*", lambda m: re.sub(r"[^\n]", " ", m.group()), text) for name, text in sources.items()}
        self.bare = {name: without_comments(text) for name, text in self.texts.items()}
        self.ours = Types()
        self.ours.types = {"Id": ("object",), "Imp": ("alias", "IMP"), "Block": ("opaque",)}
        for text in self.bare.values():
            for match in re.finditer(r"\btype (\w+)\s*=\s*([^;]+);", text):
                if match.group(1) not in ("Id", "Imp", "Result"):
                    self.ours.types[match.group(1)] = ("alias", match.group(2))
            for match in re.finditer(r"repr\((?:C|transparent)(?:[^()]|\([^()]*\))*\)\]\s*(?:#\[[^\n]*\]\s*)*(?:pub(?:\(\w+\))? )?struct (\w+)\s*([({])", text):
                fields = split(text[match.end():closing(text, match.end() - 1)])
                self.ours.types.setdefault(match.group(1), ("struct", [re.sub(r"pub(\(\w+\))? ", "", field).split(": ", 1)[-1] for field in fields]))
        self.methods = []
        for name in sorted(self.texts):
            if name != "declare.rs":
                self.file, self.text = name, self.bare[name]
                self.classes()
        for name in sorted(self.texts):
            if name != "declare.rs":
                self.file, self.text = name, self.bare[name]
                self.functions()
                self.variables()
                self.names()
                self.made_methods()
                self.blocks()
                self.constants()
                self.structures()
        self.inventory()
        for entry in sorted(set(allowed) - self.used):
            self.problems.append(f"{allowed[entry]}: allowed, but not used: {' '.join(entry)}")

    def say(self, position, words):
        self.problems.append(f"macos/src/{self.file}:{self.text.count(chr(10), 0, position) + 1}: {words}")

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def may(self, kind, name):
        """Whether the list of exceptions has it."""
        if (kind, name) in self.allowed:
            self.used.add((kind, name))
            return True
        return False

    def macro(self, name):
        """Where the bodies of this macro's calls start and end."""
        for match in re.finditer(rf"\b{name}!\s*\{{", self.text):
            yield match.end(), closing(self.text, match.end() - 1)

    def library(self, position, library, crate, name):
        kebab = "objc2-" + re.sub(r"(?<=[a-z])(?=[A-Z])", "-", library).lower()
        if crate not in CRATES.get(library, {kebab, "objc2"}):
            self.say(position, f"{name} is not of {library}, but of {crate}")

    def compare(self, position, what, arguments, result, theirs, their_result):
        """Argument by argument, then the result."""
        if len(arguments) != len(theirs):
            self.say(position, f"{what} takes {len(theirs)} arguments, not {len(arguments)}: {', '.join(theirs) or 'none'}")
            return
        pairs = [(f"argument {index}", mine, its) for index, (mine, its) in enumerate(zip(arguments, theirs), 1)]
        for which, mine, its in [*pairs, ("the result", result, their_result)]:
            one, other = self.ours.kind(mine), self.apple.kind(its)
            if one.startswith("?") or not agree(one, other):
                self.say(position, f"{what}: {which} is {other} ({its}), not {one} ({mine})")

    def classes(self):
        item = re.compile(r"([+-])\s*(\w+)\s*=\s*\"([^\"]+)\"\s*\(([^)]*)\)\s*(?:->\s*([^;]+?)\s*)?;")
        for start, end in self.macro("objc_class"):
            head = re.compile(r"\s*(?:#\[.*?\]\s*)*(\w+) from (\w+)\s*\{").match(self.text, start)
            name, library = head.groups()
            self.tables.append((self.file, head.start(1), name))
            self.count("classes")
            if name in self.apple.classes:
                self.library(head.start(1), library, self.apple.classes[name], name)
            elif name not in self.apple.protocols and not self.may("class", name):
                self.say(head.start(1), f"there is no class {name}")
                continue
            rest = item.sub("", self.text[head.end():end])
            if re.sub(r"#\[[^\]]*\]|[\s}]", "", rest):
                self.say(head.start(1), f"{name}: not understood: {' '.join(rest.split())[:80]}")
            for match in item.finditer(self.text, head.end(), end):
                sign, _, selector, arguments, result = match.groups()
                self.count("selectors")
                method = self.apple.lookup(name, selector)
                if self.may("method", f"{sign}[{name} {selector}]"):
                    continue
                if method is None:
                    self.say(match.start(), f"{name} has no method {selector}")
                    continue
                self.methods.append(method)
                own, theirs, their_result = method
                if own != (sign == "+"):
                    self.say(match.start(), f"{selector} is {'a class' if own else 'an instance'} method of {name}")
                listed = [part.split(":", 1)[1].strip() for part in split(arguments)]
                self.compare(match.start(), f"[{name} {selector}]", listed, result or "()", theirs, their_result)

    def functions(self):
        for start, end in self.macro("functions"):
            head = re.compile(r"\s*(\w+) from (\w+)\s*\{").match(self.text, start)
            self.tables.append((self.file, head.start(1), head.group(1)))
            for match in re.compile(r"\bfn (\w+)\s*\(").finditer(self.text, head.end(), end):
                name, closed = match.group(1), closing(self.text, match.end() - 1)
                result = re.compile(r"\)\s*(?:->\s*([^;]+?)\s*)?;").match(self.text, closed).group(1)
                listed = [part.split(":", 1)[1].strip() for part in split(self.text[match.end():closed])]
                self.count("functions")
                if self.may("function", name):
                    continue
                if name not in self.apple.functions:
                    self.say(match.start(), f"there is no C function {name}")
                    continue
                if head.group(2) == "System" and "_" + name not in self.exported:
                    self.say(match.start(), f"libSystem does not export {name}, by scripts/apple/libsystem-symbols.txt")
                crate, theirs, their_result = self.apple.functions[name]
                self.library(match.start(), head.group(2), crate, name)
                self.compare(match.start(), name, listed, result or "()", theirs, their_result)

    def variables(self):
        for start, end in self.macro("variables"):
            self.tables.append((self.file, start, "VARIABLES"))
            for library in re.compile(r"(\w+)\s*\{([^}]*)\}").finditer(self.text, start, end):
                for match in re.compile(r"(\w+)\s*:\s*([^;]+);").finditer(self.text, library.start(2), library.end(2)):
                    name, mine = match.groups()
                    self.count("variables")
                    if self.may("variable", name):
                        continue
                    if name not in self.apple.variables:
                        self.say(match.start(), f"there is no exported variable {name}")
                        continue
                    crate, its = self.apple.variables[name]
                    self.library(match.start(), library.group(1), crate, name)
                    if not agree(self.ours.kind(mine), self.apple.kind(its)):
                        self.say(match.start(), f"{name} is {self.apple.kind(its)} ({its}), not {self.ours.kind(mine)} ({mine})")

    def names(self):
        """Names looked up one by one: symbols, classes, selectors, protocols."""
        selectors = {selector for _, selector in self.apple.methods}
        known = {"symbol": {*self.apple.functions, *self.apple.variables}, "class_named": self.apple.classes, "selector": selectors, "responds": selectors,
                 "instances_respond": selectors}
        for match in re.finditer(r"\b(symbol|class_named|selector|responds|instances_respond)\(([^()\"]*(?:\(\))?[^()\"]*)\"([^\"]+)\"\s*\)", self.text):
            self.count("names")
            if match.group(3) not in known[match.group(1)] and not self.may("name", match.group(3)) and not self.wired(match.group(3)):
                self.say(match.start(3), f"{match.group(1)}: nothing is called {match.group(3)}")
        for match in re.finditer(r"\bdefine(?:_under)?\(", self.text):
            protocols = re.search(r"&\[([^\]]*)\]", self.text[match.end():closing(self.text, match.end() - 1)])
            for name in re.findall(r'"(\w+)"', protocols.group(1) if protocols else ""):
                self.count("names")
                if name not in self.apple.protocols and not self.may("protocol", name):
                    self.say(match.start(), f"there is no protocol {name}")

    def wired(self, selector):
        """Whether a method of ours is both made and named by this selector somewhere: a target's action."""
        return sum(text.count(f'"{selector}"') for text in self.bare.values()) > 1 and \
            any(re.search(rf'Method::\w+\(\s*"{re.escape(selector)}"|selector:\s*"{re.escape(selector)}"', text) for text in self.bare.values())

    def made_methods(self):
        """Methods of classes made at run time: Apple's delegate methods with Apple's types, or actions of ours."""
        for match in re.finditer(r"\bMethod::(\w+)\(\s*(\"[^\"]+\"|[^,]+),|(?<!struct )(?<!impl )\bMethod\s*\{", self.text):
            if match.group(1):
                maker = re.search(rf"fn {match.group(1)}\(.*?\n    \}}", self.bare.get("class.rs", ""), re.S)
                types = re.findall(r'"([^"]*@:[^"]*)"', maker.group() if maker else "")
                selector = match.group(2)
            else:
                body = self.text[match.end():closing(self.text, match.end() - 1)]
                types = re.findall(r'types:\s*"([^"]+)"', body)
                selector = (re.search(r'selector:\s*("[^"]+"|[^,}]+)', body) or [None, ""])[1]
            self.count("methods of ours")
            expression, selector = selector, self.literal(selector)
            if selector is None or not types:
                if not self.may("own", words := " ".join(expression.split())):
                    self.say(match.start(), f"neither selector nor types can be read here: {words}")
                continue
            for codes in types:
                kinds = encoded(codes)
                if kinds[1:3] != ["object", "sel"] or len(kinds) != 3 + selector.count(":"):
                    self.say(match.start(), f"{selector} does not go with the types {codes}")
                    continue
                theirs = [method for (_, name), method in self.apple.methods.items() if name == selector and not method[0]]
                fits = any(all(agree_encoded(mine, self.apple.kind(its)) for mine, its in zip([*kinds[3:], kinds[0]], [*listed, result])) for _, listed, result in theirs)
                if theirs and not fits:
                    self.say(match.start(), f"{selector} has other types than {codes}: {theirs[0][1]} -> {theirs[0][2]}")
                elif not theirs and not self.wired(selector) and len(re.findall(rf"\b{re.escape(expression)}\b", self.text)) < 3 and not self.may("own", selector):
                    self.say(match.start(), f"{selector} is no method of Apple's, and nothing of ours calls it")

    def literal(self, expression):
        """The text of a string literal or of a constant that is one."""
        expression = expression.strip()
        if not re.fullmatch(r"\w+", expression):
            return expression[1:-1] if expression.startswith('"') else None
        found = re.search(rf'const {expression}: &str = "([^"]+)"', self.text)
        return found and found.group(1)

    def blocks(self):
        """Signatures of blocks: each must be that of a block which a declared method takes."""
        taken = [kind for _, kinds, _ in self.methods for kind in map(self.apple.kind, kinds) if kind.startswith("block")]
        for match in re.finditer(r'c"(\w\d+@\?0(?:[^"\\]|\\.)*)"', self.text):
            kinds = encoded(match.group(1).replace('\\"', '"'))
            self.count("blocks")
            for kind in taken:
                arguments, result = re.fullmatch(r"block\((.*)\)->(.*)", kind).groups()
                theirs = [*arguments.split(",")] if arguments else []
                if len(theirs) == len(kinds) - 2 and all(agree_encoded(mine, its) for mine, its in zip([*kinds[2:], kinds[0]], [*theirs, result])):
                    break
            else:
                if not self.may("block", match.group(1)):
                    self.say(match.start(), f"no declared method takes a block of this signature: {' or '.join(sorted(set(taken))) or 'none takes any'}")

    def constants(self):
        """Numbers whose comment names Apple's constant, or several that are added up."""
        raw = self.texts[self.file]
        item = r"((?:^[ \t]*///[^\n]*\n)+)(?:[ \t]*#\[[^\n]*\]\n)*[ \t]*(?:(?:pub(?:\(\w+\))? )?const (\w+): [^=\n]+|(\w+))\s*=\s*([^;,\n]+)[;,]"
        values = dict(re.findall(r"const (\w+): [^=\n]+ = ([^;]+);", self.text))
        for match in re.finditer(item, raw, re.M):
            words = re.findall(r"`(\w+)`", match.group(1))
            named = [word for word in words if word in self.apple.constants]
            unknown = [word for word in words if APPLE.fullmatch(word) and not named and word not in self.apple.types and word not in self.apple.functions
                       and word not in self.apple.variables and not self.may("constant", word)]
            mine = number(match.group(4), lambda word: number(values[word], lambda _: None) if word in values else {"u32::MAX": 2**32 - 1, "u64::MAX": 2**64 - 1}.get(word))
            if mine is None:
                continue
            name = match.group(2) or match.group(3)
            for word in unknown:
                self.say(match.start(2 if match.group(2) else 3), f"{name}: there is no constant {word}")
            if named:
                self.count("constants")
                theirs = [self.apple.value(word) for word in named]
                total = theirs[0] if len(theirs) == 1 else None if None in theirs else sum(set(theirs))
                if total is None:
                    self.say(match.start(4), f"{name}: the value of {' or '.join(named)} cannot be read")
                elif mine != total and (isinstance(mine, float) or (mine - total) % 2**32):
                    self.say(match.start(4), f"{name} is {mine}, but {' | '.join(named)} is {total}")

    def structures(self):
        raw = self.texts[self.file]
        for match in re.finditer(r"((?:^[ \t]*///[^\n]*\n)*)((?:[ \t]*#\[[^\n]*\]\n)+)[ \t]*(?:pub(?:\(\w+\))? )?struct (\w+)", raw, re.M):
            if "repr(C" not in match.group(2):
                continue
            name = match.group(3)
            self.count("structures")
            if self.may("struct", name):
                continue
            known = lambda words: [word for word in words if self.apple.types.get(word, ("",))[0] in ("struct", "alias")]
            apples = known(re.findall(r"`(\w+)`", match.group(1))) or known([name])
            if not apples:
                self.say(match.start(3), f"{name}: neither it nor its comment names a structure of Apple's")
            for word in apples:
                mine, its = self.ours.kind(name), self.apple.kind(word)
                if len(mine.split(",")) != len(its.split(",")) or not all(agree(a, b) for a, b in zip(*(kind.removeprefix("struct:").split(",") for kind in (mine, its)))):
                    self.say(match.start(3), f"{name} is {mine}, but {word} is {its}")

    def inventory(self):
        """Every table stands in the one list that `selftest` goes through."""
        text = self.bare.get("inventory.rs", "")
        listed = {(file, table) for file, tables in re.findall(r"^    ([a-z_:]+): ([\w\s]+);", text, re.M) for table in tables.split()}
        listed |= {(file, "VARIABLES") for file in re.findall(r"\b([a-z_:]+)::VARIABLES", text)}
        for name, position, table in self.tables:
            file = name.removesuffix(".rs").removesuffix("/mod").replace("/", "::")
            if (file, table) not in listed and not self.may("table", table):
                self.file, self.text = name, self.bare[name]
                self.say(position, f"inventory.rs lacks {file}: {table}")


def agree_encoded(ours, theirs):
    """As `agree`, for a type code; one for a block or structure says no more than that."""
    return theirs.startswith(ours) if ours in ("block", "struct") else ours == "object" if theirs.startswith("function") else agree(ours, theirs)


# Each fault: file, text, what stands there instead, what the audit must say.
FAULTS = [
    ("foundation.rs", '"lengthOfBytesUsingEncoding:"', '"lengthOfBytesUsingEncodings:"', "has no method lengthOfBytesUsingEncodings:"),
    ("foundation.rs", "(encoding: usize) -> usize", "() -> usize", "takes 1 arguments, not 0"),
    ("foundation.rs", "(index: usize) -> Id", "(index: i32) -> Id", "argument 1 is u64"),
    ("foundation.rs", '"doubleValue" () -> f64', '"doubleValue" () -> f32', "the result is f64"),
    ("foundation.rs", '+ main = "mainBundle"', '- main = "mainBundle"', "mainBundle is a class method"),
    ("foundation.rs", "NSDictionary from Foundation", "NSDictionaries from Foundation", "there is no class NSDictionaries"),
    ("foundation.rs", "NSDictionary from Foundation", "NSDictionary from AppKit", "NSDictionary is not of AppKit"),
    ("foundation.rs", "UTF8: usize = 4", "UTF8: usize = 5", "UTF8 is 5, but NSUTF8StringEncoding is 4"),
    ("foundation.rs", "`NSUTF8StringEncoding`", "`NSUTF8StringEncodings`", "there is no constant NSUTF8StringEncodings"),
    ("foundation.rs", "NSDefaultRunLoopMode: Id;", "NSDefaultRunLoopModes: Id;", "there is no exported variable NSDefaultRunLoopModes"),
    ("foundation.rs", "NSDefaultRunLoopMode: Id;", "NSDefaultRunLoopMode: f64;", "NSDefaultRunLoopMode is object"),
    ("runtime.rs", "fn objc_getProtocol(", "fn objc_getProtocols(", "there is no C function objc_getProtocols"),
    ("runtime.rs", "fn objc_getProtocol(name: *const c_char)", "fn objc_getProtocol(name: *const c_char, more: Id)", "takes 1 arguments, not 2"),
    ("runtime.rs", "extra: usize) -> Id", "extra: u32) -> Id", "argument 3 is u64"),
    ("runtime.rs", "pub struct Size {\n    /// Points.\n    pub width: f64", "pub struct Size {\n    /// Points.\n    pub width: f32", "Size is struct:f32,f64"),
    ("runtime.rs", 'selector("alloc")', 'selector("allocs")', "nothing is called allocs"),
    ("block.rs", '"_NSConcreteStackBlock"', '"_NSConcreteStackBlocks"', "nothing is called _NSConcreteStackBlocks"),
    ("main_thread.rs", "run_idle_tasks), Method::action(", 'run_idle_tasks), Method::action("windowShouldClos:", f), Method::action(', "is no method of Apple's"),
    ("main_thread.rs", "run_idle_tasks), Method::action(", 'run_idle_tasks), Method::action("windowShouldClose:", f), Method::action(', "has other types than v@:@"),
    ("inventory.rs", "NSString NSArray", "NSString", "inventory.rs lacks foundation: NSArray"),
]


def main():
    folder, sources, allowed_file = map(pathlib.Path, sys.argv[1:4])
    apple = Bindings(folder)
    texts = {str(file.relative_to(sources)): file.read_text() for file in sorted(sources.rglob("*.rs"))}
    allowed = {}
    for line_number, line in enumerate(allowed_file.read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            entry, _, reason = line.partition("  ")
            if not reason.strip():
                raise SystemExit(f"{allowed_file.name}:{line_number}: no reason given")
            allowed[tuple(entry.split(" ", 1))] = f"{allowed_file.name}:{line_number}"
    exported = set(allowed_file.parent.parent.joinpath("apple/libsystem-symbols.txt").read_text().split())
    audit = Audit(apple, texts, allowed, exported)
    if audit.problems:
        print("\n".join(audit.problems), file=sys.stderr)
        raise SystemExit(f"ffi-audit: {len(audit.problems)} differences")
    if "--prove" in sys.argv:
        for file, old, new, words in FAULTS:
            if texts[file].count(old) < 1:
                raise SystemExit(f"ffi-audit: nowhere to plant in {file}: {old}")
            found = Audit(apple, {**texts, file: texts[file].replace(old, new, 1)}, allowed, exported).problems
            if not any(words in problem for problem in found):
                raise SystemExit(f"ffi-audit: did not notice {new!r} in {file}: {words}\n" + "\n".join(found))
        print(f"ffi-audit: {len(FAULTS)} faults planted, all found")
        return
    print("ffi-audit: as in Apple's headers: " + ", ".join(f"{count} {what}" for what, count in audit.counts.items()) + f"; {len(allowed)} exceptions")


main()
