//! DNS messages as far as finding a service needs them: questions out, pointers, places and texts back.
//! Everything that comes in is a stranger's. Source: RFC 1035, RFC 6762 (one-shot queries), RFC 6763.

use crate::limits;
use std::collections::BTreeMap;
use std::fmt;

/// Of an internet address; the only class that services have.
const CLASS_INTERNET: u16 = 1;
/// The bit that makes a message an answer; with the four of the operation, which is 0 for a query.
const ANSWER_BIT: u16 = 0x8000;
const OPERATION_BITS: u16 = 0x7800;
const TRUNCATED_BIT: u16 = 0x0200;
const RECURSION_BIT: u16 = 0x0100;
const CODE_BITS: u16 = 0x000F;
/// Most bytes of a label. Source: RFC 1035 (2.3.4).
const LABEL_BYTES: usize = 63;
/// Most bytes of a name, with lengths and the final zero. Source: RFC 1035 (2.3.4).
const NAME_BYTES: usize = 255;

/// A name, label by label; a label of a service may hold blanks, dots and any letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Vec<String>);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// The names of instances.
    Pointer = 12,
    /// Their keys and values.
    Text = 16,
    /// Their host and port.
    Place = 33,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// An instance of the service that the record is about.
    Pointer(Name),
    /// Keys in lower case, and values.
    Text(BTreeMap<String, String>),
    /// Where it listens.
    Place {
        /// Its host name.
        host: Name,
        /// Its port.
        port: u16,
    },
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub name: Name,
    /// What it says.
    pub data: Data,
}

/// An answer, without the records that we do not read and those that take leave (time to live 0).
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// 0 is none; 3 is that there is no such name.
    pub code: u16,
    /// The rest did not fit.
    pub truncated: bool,
    /// What it says.
    pub records: Vec<Record>,
}

impl Name {
    /// Labels between dots; a final dot may be left out. None when it cannot be a name.
    pub fn from_dotted(text: &str) -> Option<Self> {
        let labels: Vec<String> = text.strip_suffix('.').unwrap_or(text).split('.').map(str::to_owned).collect();
        let fits = labels.iter().all(|label| (1..=LABEL_BYTES).contains(&label.len()));
        let name = Self(labels);
        (fits && name.wire().len() <= NAME_BYTES).then_some(name)
    }

    /// One label in front of this name.
    pub fn with(&self, label: &str) -> Self {
        Self(std::iter::once(label.to_owned()).chain(self.0.iter().cloned()).collect())
    }

    /// Names differ not by the case of A–Z.
    pub fn is(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(one, other)| one.eq_ignore_ascii_case(other))
    }

    /// The one label in front of `parent`.
    pub fn label_below(&self, parent: &Self) -> Option<&str> {
        let (label, rest) = self.0.split_first()?;
        Self(rest.to_vec()).is(parent).then_some(label)
    }

    fn wire(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in &self.0 {
            // Whoever made the name saw to its length.
            bytes.push(u8::try_from(label.len().min(LABEL_BYTES)).unwrap_or_default());
            bytes.extend(label.bytes().take(LABEL_BYTES));
        }
        bytes.push(0);
        bytes
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = |label: &String| label.replace('\\', "\\\\").replace('.', "\\.");
        f.write_str(&self.0.iter().map(escaped).collect::<Vec<_>>().join("."))
    }
}

/// One message that asks; `recursive` for a resolver, not for neighbours.
pub fn query(id: u16, (name, kind): (&Name, Kind), recursive: bool) -> Vec<u8> {
    let flags = if recursive { RECURSION_BIT } else { 0 };
    let head = [id, flags, 1, 0, 0, 0].into_iter().flat_map(u16::to_be_bytes);
    let tail = [kind as u16, CLASS_INTERNET].into_iter().flat_map(u16::to_be_bytes);
    head.chain(name.wire()).chain(tail).collect()
}

/// Reads an answer to the question `id`; none when it is not one, or not well-formed.
pub fn answer(message: &[u8], id: u16) -> Option<Answer> {
    let mut reader = Reader { message, at: 0 };
    let (its_id, flags, questions) = (reader.number()?, reader.number()?, reader.number()?);
    let rows: u32 = (0..3).map(|_| reader.number().map(u32::from)).sum::<Option<u32>>()?;
    if its_id != id || flags & (ANSWER_BIT | OPERATION_BITS) != ANSWER_BIT {
        return None;
    }
    for _ in 0..questions {
        reader.name()?;
        reader.take(4)?;
    }
    let mut records = Vec::new();
    for _ in 0..rows {
        if let Some(record) = reader.record()? {
            records.push(record);
        }
        if records.len() > limits::DNS_RECORDS {
            return None;
        }
    }
    Some(Answer { code: flags & CODE_BITS, truncated: flags & TRUNCATED_BIT != 0, records })
}

/// A row of length-prefixed `key=value`: keys without a value have an empty one, the first of a key counts.
/// Source: RFC 6763 (6.4).
pub fn texts(mut row: &[u8]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    while let Some((length, rest)) = row.split_first() {
        let Some((text, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
        row = rest;
        let text = String::from_utf8_lossy(text);
        let (key, value) = text.split_once('=').unwrap_or((&text, ""));
        if !key.is_empty() && found.len() < limits::DNS_TEXTS {
            found.entry(key.to_ascii_lowercase()).or_insert_with(|| value.to_owned());
        }
    }
    found
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.message.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// A pointer must lead to before where this part of the name began, so that no name goes in circles.
    fn name(&mut self) -> Option<Name> {
        let (mut labels, mut bytes, mut began, mut end) = (Vec::new(), 1, self.at, None);
        loop {
            let length = *self.take(1)?.first()?;
            match length {
                0 => {
                    self.at = end.unwrap_or(self.at);
                    return Some(Name(labels));
                }
                1..=63 => {
                    let label = self.take(usize::from(length))?;
                    bytes += label.len() + 1;
                    if bytes > NAME_BYTES {
                        return None;
                    }
                    labels.push(str::from_utf8(label).ok()?.to_owned());
                }
                0xC0.. => {
                    let low = *self.take(1)?.first()?;
                    let target = usize::from(u16::from_be_bytes([length & 0x3F, low]));
                    if target >= began {
                        return None;
                    }
                    end = end.or(Some(self.at));
                    (began, self.at) = (target, target);
                }
                _ => return None,
            }
        }
    }

    /// The inner none is a record that we do not read.
    fn record(&mut self) -> Option<Option<Record>> {
        let name = self.name()?;
        let (kind, _class) = (self.number()?, self.number()?);
        let leaves = self.take(4)?.iter().all(|byte| *byte == 0);
        let length = usize::from(self.number()?);
        let start = self.at;
        let content = self.take(length)?;
        let end = self.at;
        let mut inside = Self { message: self.message.get(..end)?, at: start };
        let data = match kind {
            _ if kind == Kind::Text as u16 => Data::Text(texts(content)),
            _ if kind == Kind::Pointer as u16 => Data::Pointer(inside.name()?),
            _ if kind == Kind::Place as u16 => {
                inside.take(4)?;
                let port = inside.number()?;
                Data::Place { host: inside.name()?, port }
            }
            _ => return Some(None),
        };
        Some((!leaves).then_some(Record { name, data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_dotted(text).unwrap()
    }

    /// What a responder sends: the question again, then the records, names compressed.
    fn sample() -> Vec<u8> {
        let mut bytes = query(7, (&name("_openclaw-gw._tcp.local"), Kind::Pointer), false);
        bytes[2] = 0x84;
        bytes[7] = 1;
        bytes[11] = 3;
        let row = |to: u16, kind: Kind, content: &[u8]| {
            let length = u16::try_from(content.len()).unwrap();
            let head = [to | 0xC000, kind as u16, 0x8001, 0, 120, length];
            [head.into_iter().flat_map(u16::to_be_bytes).collect(), content.to_vec()].concat()
        };
        let instance = u16::try_from(bytes.len() + 12).unwrap();
        bytes.extend(row(12, Kind::Pointer, b"\x0fStudio.1 \xc3\xa9 (2)\xc0\x0c"));
        bytes.extend(row(instance, Kind::Text, b"\x0edisplayName=Me\x04flag\x02=x\x0eDISPLAYNAME=No\x03s=\xff"));
        bytes.extend(row(instance, Kind::Place, b"\0\0\0\0\x49\x65\x06studio\xc0\x1e"));
        // An address, which is not read.
        bytes.extend([0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        bytes
    }

    #[test]
    fn an_answer_is_read() {
        let found = answer(&sample(), 7).unwrap();
        assert_eq!((found.code, found.truncated, found.records.len()), (0, false, 3));
        let service = name("_OpenClaw-gw._tcp.Local.");
        assert!(found.records[0].name.is(&service));
        let Data::Pointer(instance) = &found.records[0].data else { panic!() };
        assert_eq!(instance.label_below(&service), Some("Studio.1 é (2)"));
        assert_eq!(instance.to_string(), "Studio\\.1 é (2)._openclaw-gw._tcp.local");
        assert_eq!(found.records[1].name, *instance);
        let Data::Text(texts) = &found.records[1].data else { panic!() };
        let seen: Vec<_> = texts.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(seen, [("displayname", "Me"), ("flag", ""), ("s", "\u{FFFD}")]);
        assert_eq!(found.records[2].data, Data::Place { host: name("studio.local"), port: 0x4965 });
        // For somebody else, or no answer at all.
        assert_eq!(answer(&sample(), 8), None);
        assert_eq!(answer(&query(7, (&service, Kind::Text), true), 7), None);
    }

    #[test]
    fn what_takes_leave_is_not_there() {
        let mut bytes = sample();
        let at = bytes.windows(4).position(|part| part == [0, 0, 0, 120]).unwrap();
        bytes[at + 3] = 0;
        assert_eq!(answer(&bytes, 7).unwrap().records.len(), 2);
    }

    #[test]
    fn names_that_go_in_circles_or_on_for_ever_are_refused() {
        let head = |rest: &[u8]| [&[0, 7, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0], rest].concat();
        let tail = [0, 12, 0, 1, 0, 0, 0, 1, 0, 1, 0];
        for name in [
            &b"\xc0\x0c"[..],
            b"\x01a\xc0\x0c",
            b"\xc0\x0e\xc0\x0c",
            b"\xc0\xff",
            b"\xff\xff",
            b"\x40a\0",
            b"\x80a\0",
            b"\x02\xff\xfe\0",
            b"\x3fshort",
        ] {
            assert_eq!(answer(&head(&[name, &tail[..]].concat()), 7), None, "{name:?}");
        }
        assert!(answer(&head(&[&b"\x01a\0"[..], &tail].concat()), 7).is_some());
        // Pointers may chain backwards, but not past the length of a name.
        let long = [&[63][..], &[b'x'; 63]].concat();
        assert_eq!(answer(&head(&[&long.repeat(4)[..], &[0], &tail].concat()), 7), None);
        assert!(answer(&head(&[&long.repeat(3)[..], &[0], &tail].concat()), 7).is_some());
        for text in ["", ".", "a..b", &"x".repeat(64), &"x.".repeat(128)] {
            assert_eq!(Name::from_dotted(text), None, "{text}");
        }
    }

    /// Whatever stands in a message: no panic, and an end.
    #[test]
    fn broken_messages_are_survived() {
        let whole = sample();
        for end in 0..whole.len() {
            let _ = answer(&whole[..end], 7);
        }
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed >> 16).unwrap()
        };
        let mut read = 0;
        for _ in 0..200_000 {
            let mut bytes = whole.clone();
            for _ in 0..=next() % 4 {
                let at = 2 + next() % (bytes.len() - 2);
                bytes[at] = [next() as u8, 0xC0, 0xFF, 0, 12][next() % 5];
            }
            read += usize::from(answer(&bytes, 7).is_some());
        }
        assert!((1..200_000).contains(&read), "the mutations reached nothing: {read}");
        // As many rows as fit, each as short as can be.
        let mut many = vec![0, 7, 0x84, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0];
        many.extend([0, 0, 16, 0, 1, 0, 0, 0, 1, 0, 0].repeat(5_900));
        assert_eq!(answer(&many, 7), None);
    }
}
