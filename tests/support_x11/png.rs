//! Reads the PNG files that we write: one block in the fixed code, rows as differences to the row above.

/// Undoes a zlib stream of one fixed block, by RFC 1951's own tables.
pub fn inflate(zlib: &[u8]) -> Vec<u8> {
    const LENGTHS: [usize; 29] = [
        3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227,
        258,
    ];
    const LENGTH_BITS: [u32; 29] =
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
    const DISTANCES: [usize; 30] = [
        1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097,
        6145, 8193, 12289, 16385, 24577,
    ];
    let mut position = 16;
    let mut bit = || {
        let bit = usize::from(zlib[position / 8] >> (position % 8) & 1);
        position += 1;
        bit
    };
    let extra = |bit: &mut dyn FnMut() -> usize, count: u32| (0..count).fold(0, |value, place| value | bit() << place);
    assert_eq!(extra(&mut bit, 3), 0b011);
    let mut out = Vec::new();
    loop {
        let mut code = (0..7).fold(0, |code, _| code << 1 | bit());
        let symbol = if code < 0b001_1000 {
            256 + code
        } else {
            code = code << 1 | bit();
            match code {
                0x30..=0xBF => code - 0x30,
                0xC0..=0xC7 => 280 + code - 0xC0,
                _ => 144 + (code << 1 | bit()) - 0x190,
            }
        };
        match symbol {
            0..256 => out.push(u8::try_from(symbol).unwrap()),
            256 => break,
            _ => {
                let length = LENGTHS[symbol - 257] + extra(&mut bit, LENGTH_BITS[symbol - 257]);
                let code = (0..5).fold(0, |code, _| code << 1 | bit());
                let bits = u32::try_from(code / 2).unwrap().saturating_sub(1);
                let from = out.len() - DISTANCES[code] - extra(&mut bit, bits);
                (0..length).for_each(|step| out.push(out[from + step]));
            }
        }
    }
    assert_eq!(zlib.len() - position.div_ceil(8), 4, "the check sum ends it");
    out
}

/// Width, height and the pixels.
pub fn decode(file: &[u8]) -> (usize, usize, Vec<[u8; 3]>) {
    let number = |at: usize| usize::try_from(u32::from_be_bytes(file[at..at + 4].try_into().unwrap())).unwrap();
    assert_eq!((&file[..8], &file[12..16], &file[37..41]), (&b"\x89PNG\r\n\x1a\n"[..], &b"IHDR"[..], &b"IDAT"[..]));
    let (width, height) = (number(16), number(20));
    let mut above = vec![0_u8; 3 * width];
    let mut pixels = Vec::new();
    for row in inflate(&file[41..41 + number(33)]).chunks_exact(3 * width + 1) {
        assert_eq!(row[0], 2);
        above.iter_mut().zip(&row[1..]).for_each(|(above, difference)| *above = above.wrapping_add(*difference));
        pixels.extend(above.as_chunks::<3>().0);
    }
    assert_eq!(pixels.len(), width * height);
    (width, height, pixels)
}
