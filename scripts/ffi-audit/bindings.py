"""Apple's declarations, read from the text of the generated binding crates."""

import pathlib
import re

# Types of which the crates give no declaration that can be read. 64-bit only, so `isize` and `i64` are one.
KNOWN = {
    "()": "void", "bool": "byte", "Bool": "byte", "u8": "byte", "i8": "byte", "c_char": "byte", "c_uchar": "byte", "c_schar": "byte",
    "BOOL": "byte", "Boolean": "byte", "i16": "i16", "c_short": "i16", "u16": "u16", "c_ushort": "u16", "unichar": "u16", "i32": "i32",
    "c_int": "i32", "u32": "u32", "c_uint": "u32", "i64": "i64", "isize": "i64", "c_long": "i64", "c_longlong": "i64", "NSInteger": "i64",
    "u64": "u64", "usize": "u64", "c_ulong": "u64", "c_ulonglong": "u64", "NSUInteger": "u64", "f32": "f32", "c_float": "f32",
    "f64": "f64", "c_double": "f64", "CGFloat": "f64", "c_void": "void", "Sel": "sel", "SEL": "sel", "Imp": "function", "IMP": "function",
    "AnyObject": "class", "AnyClass": "class", "AnyProtocol": "class", "Self": "class", "CFType": "class", "NSZone": "opaque",
    "DispatchQueue": "class", "CALayer": "class", "CIImage": "class", "CVPixelBuffer": "class", "CVImageBuffer": "class", "FILE": "opaque",
    "pid_t": "i32", "mode_t": "u16", "uid_t": "u32", "gid_t": "u32", "size_t": "u64", "ssize_t": "i64", "socklen_t": "u32",
}
# Of libc only what is Apple's.
FOREIGN = re.compile(r"libc/src/(?!unix/(?:bsd/apple/.*|bsd/mod|mod)\.rs|new/apple/|primitives\.rs)|/tests?(/|\.rs)|/topics/|^bitflags|^objc2-encode")
# What every object can do, which the crates do by other means: (own to the class, parameters, result).
BASICS = {
    "alloc": (True, [], "&AnyObject"), "class": (True, [], "&AnyObject"), "new": (True, [], "&AnyObject"), "init": (False, [], "&AnyObject"),
    "copy": (False, [], "&AnyObject"), "mutableCopy": (False, [], "&AnyObject"), "retain": (False, [], "&AnyObject"),
    "release": (False, [], "()"), "autorelease": (False, [], "&AnyObject"), "retainCount": (False, [], "usize"),
    "description": (False, [], "&AnyObject"), "isEqual:": (False, ["&AnyObject"], "bool"), "hash": (False, [], "usize"),
    "isKindOfClass:": (False, ["&AnyObject"], "bool"), "isMemberOfClass:": (False, ["&AnyObject"], "bool"),
    "respondsToSelector:": (False, ["Sel"], "bool"), "conformsToProtocol:": (False, ["&AnyObject"], "bool"),
}


def without_comments(text):
    """The same text with comments blanked out; every line keeps its number."""
    blank = lambda match: match.group() if match.group()[0] in "\"'bc" else re.sub(r"[^\n]", " ", match.group())
    return re.sub(r'[bc]?"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)\'|//[^\n]*|/\*.*?\*/', blank, text, flags=re.S)


def closing(text, start):
    """The position of the bracket that closes the one at `start`."""
    depth, pairs = 0, {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}
    for match in re.compile(r'"(?:[^"\\]|\\.)*"|[(){}\[\]]').finditer(text, start):
        depth += pairs.get(match.group(), 0)
        if depth == 0:
            return match.start()
    raise ValueError(f"no closing bracket: {text[start:start + 60]!r}")


def split(text):
    """The parts of a list at its commas, not inside brackets. The `>` of an arrow closes nothing."""
    parts, depth, part = [], 0, ""
    for token in re.findall(r"->|.", text.replace("\n", " ")):
        depth += (token in "([{<") - (token in ")]}>")
        if token == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += token
    return [part.strip() for part in [*parts, part] if part.strip()]


def signature(text, start):
    """Parameters (name, type) and result of the function whose `(` is the first after `start`."""
    opened = text.index("(", start)
    end = closing(text, opened)
    result = re.match(r"\)\s*->\s*(.*?)\s*(?:;|\bwhere\b|\{|$)", text[end:], re.S)
    parameters = [re.sub(r"#\[[^\]]*\]\s*", "", part) for part in split(text[opened + 1:end])]
    return [tuple(map(str.strip, part.split(":", 1))) if ":" in part else (part, "") for part in parameters], result.group(1) if result else "()"


class Types:
    """Types by name, and what they are when passed: `i64`, `object`, `pointer:…`, `struct:…`, `block(…)->…`, `function(…)->…`."""

    def __init__(self):
        self.types = {}       # name -> ("alias", type) or ("struct", [types]) or ("class",) or ("opaque",) or ("object",)

    def kind(self, text, inside=()):
        """What this type is; starting with `?` when nothing is known of it."""
        text = " ".join(text.split()).rstrip(", ")
        if inner := re.fullmatch(r"(?:Option|NonNull|Retained|CFRetained|Allocated|ManuallyDrop|UnsafeCell|MaybeUninit|Cell|DispatchRetained)<(.*)>", text):
            if text.startswith(("Option", "ManuallyDrop", "UnsafeCell", "MaybeUninit", "Cell")):
                return self.kind(inner.group(1), inside)
            return self.pointer(inner.group(1), inside)
        if inner := re.fullmatch(r"(?:&(?:'\w+ )?(?:mut )?|\*(?:const|mut) )(.*)", text):
            return self.pointer(inner.group(1), inside)
        if inner := re.fullmatch(r"(?:unsafe )?extern \"C(?:-unwind)?\" fn\((.*)\)(?: -> (.*))?", text):
            return f"function({self.listed(inner.group(1), inside)})->{self.kind(inner.group(2) or '()', inside)}"
        if inner := re.fullmatch(r"\[(.*); (\w+)\]", text):
            return "struct:" + ",".join([self.kind(inner.group(1), inside)] * int(inner.group(2), 0))
        name = re.sub(r"<.*>", "", text).split("::")[-1]
        if name in KNOWN:
            return KNOWN[name]
        found = self.types.get(name)
        if found is None or name in inside:
            return "struct" if found else "?" + text
        if found[0] == "alias":
            return self.kind(found[1], inside)
        if found[0] == "struct":
            fields = ",".join(self.kind(kind, (*inside, name)).removeprefix("struct:") for kind in found[1])
            return fields if len(found[1]) == 1 and "," not in fields else "struct:" + fields
        return found[0]

    def listed(self, text, inside=()):
        return ",".join(self.kind(re.sub(r"^\w+: ", "", part), inside) for part in split(text))

    def pointer(self, text, inside=()):
        """What a pointer to this type is."""
        if block := re.fullmatch(r"(?:block2::)?(?:Dyn|Rc)?Block<\s*dyn Fn\((.*)\)(?: -> (.*?))?(?: \+ .*)?\s*>", text):
            return f"block({self.listed(block.group(1), inside)})->{self.kind(block.group(2) or '()', inside)}"
        if re.match(r"(ProtocolObject|dyn )", text):
            return "object"
        inner = self.kind(text, inside)
        if inner in ("class", "opaque") or (inner[0] == "?" and re.fullmatch(r"\?[A-Z]\w*Type(<.*>)?", inner)):
            return "object"  # a generic parameter such as `ObjectType` too
        return "pointer:" + inner


class Bindings(Types):
    """What the crates say: classes, protocols, methods, functions, variables, constants, types."""

    def __init__(self, folder):
        super().__init__()
        self.parents = {}     # class or protocol -> its superclass, protocols and categories
        self.classes = {"NSObject": "objc2"}  # name -> crate
        self.protocols = {}   # Objective-C name -> the crates' name
        self.methods = {("NSObject", selector): method for selector, method in BASICS.items()}  # (class or protocol, selector) -> (own to the class, [types], result)
        self.functions = {}   # name -> (crate, [types], result)
        self.variables = {}   # name -> (crate, type)
        self.constants = {}   # Apple's name -> (type, expression, enclosing type)
        for crate in sorted(pathlib.Path(folder).iterdir()):
            for file in sorted(crate.rglob("src/**/*.rs")):
                path = str(file.relative_to(folder))
                if not FOREIGN.search(path):
                    self.read(crate.name, without_comments(file.read_text()))
        if not self.classes or not self.functions:
            raise SystemExit("ffi-audit: the binding crates could not be read")

    def read(self, crate, text):
        for match in re.finditer(r"extern_class!\((.*?)pub struct (\w+).*?\);", text, re.S):
            parents = re.search(r"super\(\s*(\w+)", match.group(1))
            self.parents.setdefault(match.group(2), set()).update([parents.group(1)] if parents else [])
            self.classes[match.group(2)] = crate
            self.types[match.group(2)] = ("class",)
        for match in re.finditer(r"unsafe impl(?:\s*<[^{;]*?>)?\s+(\w+)(?:<[^{}]*?>)?\s+for\s+(\w+)", text):
            self.parents.setdefault(match.group(2), set()).add(match.group(1))
        header = re.compile(r"(?:\bimpl(?:<[^{;]*?>)?\s+(\w+)(?:<[^{};]*>)?(?:\s*:\s*\w+)?|((?:#\[[^\n]*\]\s*)*)(?:pub )?(?:unsafe )?trait (\w+)([^{;]*?))\s*(?:where[^{]*)?\{")
        for match in header.finditer(text):
            owner = match.group(1) or match.group(3)
            body = text[match.end() - 1:closing(text, match.end() - 1)]
            if match.group(3):
                named = re.search(r'name = "(\w+)"', match.group(2))
                self.protocols[named.group(1) if named else owner] = owner
                self.parents.setdefault(owner, set()).update(re.findall(r"\w+", match.group(4)))
            self.read_methods(owner, body)
            self.read_constants(owner, body)
        for match in re.finditer(r'extern\s+"C(?:-unwind)?"\s*\{|\bextern_c(?:_unwind)?!\s*\{', text):
            body = text[match.end():closing(text, match.end() - 1)]
            for item in re.finditer(r"\bfn (\w+)\s*(?=\()", body):
                parameters, result = signature(body, item.end())
                self.functions.setdefault(item.group(1), (crate, [kind or "..." for _, kind in parameters], result))
            for item in re.finditer(r"\bstatic (?:mut )?(\w+)\s*:\s*([^;=]+);", body):
                self.variables.setdefault(item.group(1), (crate, item.group(2).strip()))
        for match in re.finditer(r"^pub (?:const|static) (\w+)\s*:\s*([^=;]+?)\s*=\s*([^;]+);", text, re.M):
            self.constants.setdefault(match.group(1), (match.group(2), match.group(3), None))
        self.read_types(text)

    def read_methods(self, owner, body):
        for match in re.finditer(r"#\[unsafe\(method(?:_id)?\(([^)]+)\)\)\]", body):
            selector = re.sub(r"\s", "", match.group(1))
            parameters, result = signature(body, re.compile(r"\bfn \w+").search(body, match.end()).end())
            first = parameters[0] if parameters else ("", "")
            own = not (first[0] in ("&self", "&mut self", "this") or first[0].endswith("self"))
            kinds = [kind for name, kind in parameters[0 if own else 1:] if kind != "MainThreadMarker"]
            if selector.endswith("_"):  # an `NSError **` that the crates give as a `Result`
                selector = selector[:-1]
                kinds.append("*mut *mut AnyObject")
                good = split(re.fullmatch(r"Result<(.*)>", result, re.S).group(1))[0]
                result = "bool" if good == "()" else good
            self.methods.setdefault((owner, selector), (own, kinds, result))

    def read_constants(self, owner, body):
        for match in re.finditer(r'#\[doc\(alias = "(\w+)"\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub )?const (\w+)(?::\s*\w+)?\s*=\s*([^;]+);', body):
            self.constants.setdefault(match.group(1), (owner, match.group(3), owner))
            self.constants.setdefault(f"{owner}::{match.group(2)}", (owner, match.group(3), owner))

    def read_types(self, text):
        for match in re.finditer(r"\btype (\w+)(?:<[^=;]*>)?\s*=\s*([^;]+);", text):
            self.types.setdefault(match.group(1), ("alias", match.group(2)))
        for match in re.finditer(r"repr\(([\w, ()]+)\)\]\s*(?:#\[[^\n]*\]\s*)*pub (struct|union|enum) (\w+)(?:<[^({;]*>)?\s*([({;])", text):
            form, kind, name, opening = match.groups()
            fields = text[match.end():closing(text, match.end() - 1)] if opening != ";" else ""
            kinds = [part.split(":", 1)[-1].replace("pub(crate)", "").replace("pub ", "").strip() for part in split(re.sub(r"#\[[^\]]*\]", "", fields))]
            if kind == "enum":
                self.types.setdefault(name, ("alias", form))
            elif kind == "union" or "[u8; 0]" in kinds or "UnsafeCell" in fields or not kinds:
                self.types.setdefault(name, ("opaque",))
            else:
                self.types.setdefault(name, ("struct", kinds))

    def lookup(self, name, selector):
        """The method of this selector that class `name` has by itself, its superclasses, protocols or categories."""
        seen, queue = set(), [name]
        while queue:
            owner = queue.pop(0)
            if (owner, selector) in self.methods:
                return self.methods[owner, selector]
            if owner not in seen:
                seen.add(owner)
                queue += sorted(self.parents.get(owner, ()))
        return None

    def value(self, name, depth=0):
        """A constant's number or text; none when it is not known, or only to the linker."""
        if name not in self.constants or depth > 8:
            return None
        _, expression, owner = self.constants[name]
        if text := re.search(r'b?"((?:[^"\\]|\\.)*)(?:\\0)?"', expression):
            return text.group(1).removesuffix("\\0")
        return number(expression, lambda word: self.value(f"{owner}::{word}" if owner else word, depth + 1) if f"{owner}::{word}" in self.constants or not owner
                      else self.value(word, depth + 1))


def number(expression, named):
    """The value of an integer or float expression; `named` gives those of names."""
    text = re.sub(r"\bas\s+\w+|\.bits\(\)|\.0\b(?!\d)", " ", expression)
    text = re.sub(r"\b(\w+)::(?:from_bits_retain\b)?", lambda m: "" if m.group(1) == "Self" else m.group(1) + "::", text)
    text = re.sub(r"b'(.)'", lambda m: str(ord(m.group(1))), text)
    text = re.sub(r"\b([A-Z]\w*)(?:::)?\(", "(", text).replace("!", "~")
    text = re.sub(r"(?<=\d)_(?=[\da-fA-F])|(?<=[\da-f])_?(?:[iu](?:8|16|32|64|size)|f32|f64)\b", "", text)

    def replaced(match):
        known = named(match.group())
        if known is None:
            raise KeyError(match.group())
        return f"({known})"

    try:
        text = re.sub(r"(?<![\w.])[A-Za-z_]\w*(?:::\w+)*", replaced, text)
        if not re.fullmatch(r"[\d.xXoa-fA-F\s()|&^~<>+\-*/]+", text):
            return None
        return eval(text, {"__builtins__": {}})  # digits and operators only
    except (KeyError, SyntaxError, TypeError):
        return None
