//! Inputs nearly right: what is good, or wrong in a known way, with a few edits.

use seedpod::base::Rng;

/// One of the texts, changed in one to four places.
pub(super) fn mutated(rng: &mut Rng, texts: &[String], words: &[&str]) -> String {
    let mut bytes = choose(rng, texts).clone().into_bytes();
    for _ in 0..=rng.below(4) {
        match rng.below(14) {
            0..5 => edit_bytes(rng, &mut bytes, words),
            5..11 => edit_lines(rng, &mut bytes, words),
            11 => edit_deep(rng, &mut bytes),
            12 => {
                let other = choose(rng, texts).as_bytes();
                bytes.truncate(place(rng, bytes.len()));
                bytes.extend(other.get(place(rng, other.len())..).unwrap_or_default());
            }
            _ => bytes.truncate(place(rng, bytes.len())),
        }
        bytes.truncate(1 << 16);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn choose<'a, T>(rng: &mut Rng, items: &'a [T]) -> &'a T {
    rng.choose(items).expect("there are some")
}

/// Any place in so many bytes, the end among them.
fn place(rng: &mut Rng, length: usize) -> usize {
    rng.below(length as u64 + 1) as usize
}

/// A piece of so many bytes, a short one mostly.
fn piece(rng: &mut Rng, length: usize) -> std::ops::Range<usize> {
    let start = place(rng, length);
    let most = if rng.chance(0.1) { length } else { 12 };
    start..(start + place(rng, most)).min(length)
}

fn edit_bytes(rng: &mut Rng, bytes: &mut Vec<u8>, words: &[&str]) {
    let at = place(rng, bytes.len());
    match rng.below(6) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
        1 => drop(bytes.drain(piece(rng, bytes.len()))),
        2 => {
            let copy = bytes[piece(rng, bytes.len())].to_vec();
            bytes.splice(at..at, copy);
        }
        3 => {
            let word = choose(rng, words).bytes();
            bytes.splice(at..at, word);
        }
        4 => {
            let word = choose(rng, words).bytes();
            bytes.splice(piece(rng, bytes.len()), word);
        }
        _ => {
            // one long word: what is said of it must not be said in full for ever
            let byte = *choose(rng, b"a1-.x\"\n ");
            bytes.splice(at..at, std::iter::repeat_n(byte, rng.below(3000) as usize));
        }
    }
}

fn edit_lines(rng: &mut Rng, bytes: &mut Vec<u8>, words: &[&str]) {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if lines.is_empty() {
        return;
    }
    let (one, other) = (rng.below(lines.len() as u64) as usize, rng.below(lines.len() as u64) as usize);
    match rng.below(6) {
        0 => lines.swap(one, other),
        1 => drop(lines.remove(one)),
        2 => {
            let line = lines[one].clone();
            let copies = if rng.chance(0.1) { rng.below(150) } else { 1 };
            lines.splice(other..other, std::iter::repeat_n(line, copies as usize));
        }
        3 => {
            let blanks = rng.below(4) as usize;
            lines[one].splice(0..0, std::iter::repeat_n(b' ', blanks));
        }
        4 => {
            let blanks = lines[one].iter().take_while(|byte| **byte == b' ').count();
            lines[one].drain(..place(rng, blanks));
        }
        _ => {
            // another value under the same key
            let line = &mut lines[one];
            if let Some(colon) = line.iter().position(|byte| *byte == b':') {
                line.truncate(colon + 1);
                line.push(b' ');
                line.extend(choose(rng, words).bytes());
                line.push(b'\n');
            }
        }
    }
    *bytes = lines.concat();
}

/// Nests something deeper than anybody would.
fn edit_deep(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let at = place(rng, bytes.len());
    let open = choose(rng, &["[", "{a: ", "{\"a\":", "- ", "(", "&a [*a, ", "? "]);
    let depth = if rng.chance(0.5) { rng.below(8) } else { rng.below(300) };
    bytes.splice(at..at, open.repeat(depth as usize).into_bytes());
}
