//! PNG files (W3C PNG, RFC 1950, RFC 1951), fast rather than small: screens are captured more often than kept.
//!
//! Each row is stored as its difference to the one above, and those bytes go through a greedy search for
//! repetitions and the fixed code. Flat areas shrink by more than a hundred.

/// A PNG file of `rgb`, three bytes a pixel, row after row. Rows that are missing are black.
pub fn encode(width: u32, height: u32, rgb: &[u8]) -> Vec<u8> {
    const EIGHT_BITS_RGB: [u8; 5] = [8, 2, 0, 0, 0];
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &EIGHT_BITS_RGB].concat();
    let data = compress(&filter(width, height, rgb));
    let mut file = Vec::with_capacity(data.len() + 64);
    file.extend(b"\x89PNG\r\n\x1a\n");
    append_chunk(&mut file, b"IHDR", &header);
    append_chunk(&mut file, b"IDAT", &data);
    append_chunk(&mut file, b"IEND", &[]);
    file
}

fn append_chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    file.extend(kind);
    file.extend(data);
    file.extend(crc32(&[kind, data]).to_be_bytes());
}

/// Rows as differences to the row above, each behind the number of that filter.
fn filter(width: u32, height: u32, rgb: &[u8]) -> Vec<u8> {
    const UP: u8 = 2;
    let [width, height] = [width, height].map(|pixels| usize::try_from(pixels).unwrap_or(0));
    let row = 3 * width;
    let mut out = Vec::with_capacity((row + 1) * height);
    let black = vec![0; row];
    let mut above: &[u8] = &black;
    for line in rgb.chunks_exact(row.max(1)).chain(std::iter::repeat(black.as_slice())).take(height) {
        out.push(UP);
        out.extend(line.iter().zip(above).map(|(here, above)| here.wrapping_sub(*above)));
        above = line;
    }
    out
}

/// A zlib stream of one block in the fixed code.
fn compress(data: &[u8]) -> Vec<u8> {
    const FASTEST: [u8; 2] = [0x78, 0x01];
    let mut bits = Bits { out: Vec::with_capacity(data.len() / 16 + 64), waiting: 0, count: 0 };
    bits.out.extend(FASTEST);
    bits.put(0b011, 3); // the last block, with the fixed code
    repetitions(data, &mut bits);
    bits.put(0, 7); // its end
    let mut out = bits.finish();
    out.extend(adler32(data).to_be_bytes());
    out
}

/// Longest repetition.
const LONGEST: usize = 258;
/// How far back one may lie.
const WINDOW: usize = 32_768;
/// The search compares this many bytes at once.
const SHORTEST: usize = 4;

/// Writes `data` as bytes and repetitions of what came before.
fn repetitions(data: &[u8], bits: &mut Bits) {
    const HASH_BITS: u32 = 15;
    // One place for each hash of four bytes: where they were seen last.
    let mut seen = vec![usize::MAX; 1 << HASH_BITS];
    let (mut at, mut misses) = (0, 0);
    while let Some(rest) = data.get(at..).filter(|rest| !rest.is_empty()) {
        let word = rest.first_chunk::<SHORTEST>();
        let hash = word.map_or(0, |word| u32::from_le_bytes(*word).wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS));
        let place = usize::try_from(hash).ok().and_then(|hash| seen.get_mut(hash));
        let before = place.map_or(usize::MAX, |place| std::mem::replace(place, at));
        let length = match data.get(before..) {
            Some(earlier) if at - before <= WINDOW && word.is_some() => common(earlier, rest),
            _ => 0,
        };
        if length >= SHORTEST {
            bits.put_repetition(length, at - before);
            (at, misses) = (at + length, 0);
        } else {
            // Where nothing repeats, as in photographs, it looks less often.
            misses += 1;
            let step = 1 + misses / 32;
            for byte in rest.get(..step).unwrap_or(rest) {
                bits.put_byte(*byte);
            }
            at += step;
        }
    }
}

/// How many bytes both begin with, at most [`LONGEST`].
fn common(earlier: &[u8], rest: &[u8]) -> usize {
    let rest = rest.get(..LONGEST).unwrap_or(rest);
    let (left, right) = (earlier.as_chunks::<8>().0, rest.as_chunks::<8>().0);
    let equal = left.iter().zip(right).take_while(|(left, right)| left == right).count() * 8;
    let tails = earlier.iter().skip(equal).zip(rest.iter().skip(equal));
    equal + tails.take_while(|(left, right)| left == right).count()
}

/// Bits, the lowest of each byte first.
struct Bits {
    out: Vec<u8>,
    waiting: u64,
    count: u32,
}

impl Bits {
    /// At most 32 bits at once.
    fn put(&mut self, value: u32, count: u32) {
        self.waiting |= u64::from(value) << self.count;
        self.count += count;
        if self.count >= 32 {
            let [a, b, c, d, ..] = self.waiting.to_le_bytes();
            self.out.extend([a, b, c, d]);
            self.waiting >>= 32;
            self.count -= 32;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let bytes = self.waiting.to_le_bytes();
        self.out.extend(bytes.iter().take(self.count.div_ceil(8) as usize));
        self.out
    }

    /// A byte as it is: 8 bits below 144, 9 from there (RFC 1951 3.2.6). Codes are written from their highest bit.
    fn put_byte(&mut self, byte: u8) {
        #[allow(clippy::indexing_slicing)] // The compiler does this.
        const CODES: [(u32, u32); 256] = {
            let mut codes = [(0, 0); 256];
            let mut byte = 0;
            while byte < 256 {
                let value = byte as u32;
                codes[byte] =
                    if value < 144 { (reverse(0x30 + value, 8), 8) } else { (reverse(0x190 + value - 144, 9), 9) };
                byte += 1;
            }
            codes
        };
        let (code, count) = CODES.get(usize::from(byte)).copied().unwrap_or_default();
        self.put(code, count);
    }

    /// `length` bytes again that came `distance` before.
    fn put_repetition(&mut self, length: usize, distance: usize) {
        let [length, distance] = [length, distance].map(|value| u32::try_from(value).unwrap_or(0));
        // Codes 257–264 stand for 3–10; then four codes for each further extra bit; 258 has one of its own.
        let (code, extra, bits) = match length {
            258 => (285, 0, 0),
            _ => {
                let (group, extra, bits) = split(length.saturating_sub(3), 4);
                (257 + group, extra, bits)
            }
        };
        if code < 280 {
            self.put(reverse(code - 256, 7), 7)
        } else {
            self.put(reverse(0xC0 + code - 280, 8), 8)
        }
        self.put(extra, bits);
        let (code, extra, bits) = split(distance.saturating_sub(1), 2);
        self.put(reverse(code, 5), 5);
        self.put(extra, bits);
    }
}

/// The number of the code for `value`, the extra bits and how many: `each` codes (a power of two) a number of extra bits,
/// the first two times as many (RFC 1951 3.2.5).
fn split(value: u32, each: u32) -> (u32, u32, u32) {
    let bits = (value / each).checked_ilog2().unwrap_or(0);
    (bits * each + (value >> bits), value & ((1 << bits) - 1), bits)
}

const fn reverse(code: u32, bits: u32) -> u32 {
    code.reverse_bits() >> (32 - bits)
}

/// RFC 1950 8.2
fn adler32(data: &[u8]) -> u32 {
    const PRIME: u32 = 65_521;
    /// So many bytes cannot overflow 32 bits.
    const AT_ONCE: usize = 5_552;
    let (low, high) = data.chunks(AT_ONCE).fold((1, 0), |sums, chunk| {
        let (low, high) = chunk.iter().fold(sums, |(low, high), byte| {
            let low = low + u32::from(*byte);
            (low, high + low)
        });
        (low % PRIME, high % PRIME)
    });
    high << 16 | low
}

/// PNG annex D.
fn crc32(parts: &[&[u8]]) -> u32 {
    #[allow(clippy::indexing_slicing)] // The compiler does this.
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { 0xEDB8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !parts.iter().copied().flatten().fold(u32::MAX, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        TABLE.get(usize::from(low ^ byte)).copied().unwrap_or(0) ^ (crc >> 8)
    })
}

#[cfg(test)]
#[path = "../../tests/support_x11/png.rs"]
mod reader;

#[cfg(test)]
mod tests {
    use super::reader::{decode, inflate};
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_is_compressed_comes_out_again() {
        let periodic = |period: usize| noise(period).into_iter().cycle().take(3 * period + 7).collect::<Vec<_>>();
        for data in [vec![], vec![7], vec![1, 2, 3, 4, 1, 2, 3, 4], vec![0; 1_000], noise(9_000), (0..=255).collect()] {
            assert_eq!(inflate(&compress(&data)), data);
        }
        // Every length of a repetition, and distances up to the window's end and past it.
        for length in 3..=600 {
            assert_eq!(inflate(&compress(&vec![9; length])), vec![9; length]);
        }
        for period in [1, 2, 5, 31, 257, 4_096, 24_600, 32_767, 32_768, 32_769, 40_000] {
            assert_eq!(inflate(&compress(&periodic(period))), periodic(period));
        }
    }

    #[test]
    fn check_sums_are_the_standards() {
        assert_eq!(adler32(b"Wikipedia"), 0x11E6_0398);
        assert_eq!(adler32(&vec![255; 100_000]), 0x149A_302C);
        assert_eq!(crc32(&[b"1234", b"56789"]), 0xCBF4_3926);
    }

    #[test]
    fn a_file_has_its_three_chunks_and_all_rows_even_of_too_few_pixels() {
        let file = encode(2, 3, &[1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16]);
        assert_eq!(&file[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(&file[12..29], b"IHDR\0\0\0\x02\0\0\0\x03\x08\x02\0\0\0");
        let length = usize::try_from(u32::from_be_bytes(file[33..37].try_into().unwrap())).unwrap();
        let rows = inflate(&file[41..41 + length]);
        assert_eq!(rows, [2, 1, 2, 3, 4, 5, 6, 2, 10, 10, 10, 10, 10, 10, 2, 245, 244, 243, 242, 241, 240]);
        assert_eq!(&file[file.len() - 8..], b"IEND\xae\x42\x60\x82");
        assert_eq!(decode(&file), (2, 3, vec![[1, 2, 3], [4, 5, 6], [11, 12, 13], [14, 15, 16], [0; 3], [0; 3]]));
        assert!(encode(0, 0, &[]).len() > 50);
    }
}
