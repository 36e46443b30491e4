//! A mutation fuzzer for plain functions over bytes: seeded, so that a run can be had again, and
//! without instrumentation, so that stable Rust will do. What a target returns tells inputs apart: one
//! that leads somewhere new is kept and changed further.
//!
//! `OPENCLAW_FUZZ_SEED`: another seed. `OPENCLAW_FUZZ_SECONDS`: that long instead of a fixed count.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]
#![allow(dead_code, reason = "each test file uses its own part of this module")]

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::{Duration, Instant};

const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
/// Inputs that are kept at most; the corpus always stays.
const POOL: usize = 8_192;
const INPUT_BYTES: usize = 8_192;
/// No input may take longer. Far above what any of them needs: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// xorshift64*: the same numbers everywhere.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        let number = |text: String| text.parse().expect("OPENCLAW_FUZZ_SEED is a decimal number");
        let seed = std::env::var("OPENCLAW_FUZZ_SEED").map_or(SEED, number);
        println!("OPENCLAW_FUZZ_SEED={seed}");
        Self(seed.max(1))
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }
}

/// Tells what an input led to apart from what others led to.
pub fn trace(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Prints the input under which a target fails.
struct Shown<'a>(&'a [u8], usize);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("input {} that fails: b\"{}\"", self.1, self.0.escape_ascii());
        }
    }
}

/// The whole files of `tests/corpus/<name>` and each of their lines.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let content = std::fs::read(entry.unwrap().path()).unwrap();
        seeds.extend(content.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        seeds.push(content);
    }
    seeds.sort();
    seeds.dedup();
    assert!(seeds.len() > 10, "{name} has no corpus");
    seeds
}

/// Repeats `step` this often, or for as long as was asked for.
pub fn for_a_while(name: &str, count: u64, mut step: impl FnMut()) {
    let (started, limit, mut done) = (Instant::now(), seconds(), 0);
    while limit.map_or(done < count, |limit| started.elapsed() < limit) {
        done += 1;
        step();
    }
    println!("{name}: {done} steps, {:?}", started.elapsed());
}

fn seconds() -> Option<Duration> {
    let seconds = std::env::var("OPENCLAW_FUZZ_SECONDS").ok();
    seconds.map(|text| Duration::from_secs(text.parse().expect("OPENCLAW_FUZZ_SECONDS is a number of seconds")))
}

/// Feeds `target` the corpus `name` and `count` mutations. `words` are what inputs are made of.
pub fn fuzz(name: &str, count: u64, words: &[&str], target: impl Fn(&[u8]) -> u64) {
    let started = Instant::now();
    let mut random = Random::new();
    let mut pool = corpus(name);
    let kept = pool.len();
    let mut seen = HashSet::new();
    let mut number = 0;
    let mut slowest = Duration::ZERO;
    let mut run = |input: &[u8]| {
        number += 1;
        let _shown = Shown(input, number);
        let began = Instant::now();
        let is_new = seen.insert(target(input));
        slowest = slowest.max(began.elapsed());
        assert!(began.elapsed() < PATIENCE, "it took {:?}", began.elapsed());
        is_new
    };
    for input in &pool {
        run(input);
    }
    let (mut mutations, limit) = (0, seconds());
    while limit.map_or(mutations < count, |limit| started.elapsed() < limit) {
        mutations += 1;
        let mut input = pool[random.below(pool.len())].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut input, &pool, words, &mut random);
        }
        input.truncate(INPUT_BYTES);
        if run(&input) {
            if pool.len() < POOL {
                pool.push(input);
            } else {
                let place = kept + random.below(POOL - kept);
                pool[place] = input;
            }
        }
    }
    let (traces, took) = (seen.len(), started.elapsed());
    println!("{name}: {kept} of the corpus, {mutations} mutations, {traces} traces, {took:?}, slowest {slowest:?}");
    assert!(traces > 20, "{name}: all inputs look the same to the target");
}

fn mutate(bytes: &mut Vec<u8>, pool: &[Vec<u8>], words: &[&str], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = at + random.below((bytes.len() - at).min(64) + 1);
    match random.below(11) {
        0 => drop(bytes.drain(at..end)),
        1 => bytes.truncate(at),
        2 => bytes.insert(at, random.below(256) as u8),
        3 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        4 | 5 => drop(bytes.splice(at..at, random.pick(words).bytes())),
        6 => drop(bytes.splice(at..end, random.pick(words).bytes())),
        7 => {
            let copy = bytes[at..end].to_vec();
            let times = 1 + random.below(3);
            bytes.splice(at..at, copy.repeat(times));
        }
        8 | 9 => {
            // What stands in quotes is a word of most of these languages.
            let quotes: Vec<usize> = (0..bytes.len()).filter(|place| bytes[*place] == b'"').collect();
            if quotes.len() > 1 {
                let first = random.below(quotes.len() - 1);
                drop(bytes.splice(quotes[first]..=quotes[first + 1], random.pick(words).bytes()));
            }
        }
        _ => {
            let other = &pool[random.below(pool.len())];
            let from = random.below(other.len() + 1);
            let to = from + random.below(other.len() - from + 1);
            bytes.splice(at..end, other[from..to].iter().copied());
        }
    }
}
