//! Replays the fuzz target's corpus, and what becomes of each of its frames when bytes of it are changed.

extern crate std;
use std::{eprintln, format, fs, path::PathBuf, string::String, vec::Vec};

use super::agreement::disagreement;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus/packet");

/// How often each frame is changed.
const CHANGED: usize = 2_000;

/// What the changes follow from: the same in every run, so that a failure is one everywhere.
const SEED: u64 = 0x5eed_0f0f_c0ff_ee05;

/// Values that decide something in some header.
const TELLING: [u8; 24] =
    [0, 1, 4, 6, 8, 17, 43, 44, 50, 51, 58, 60, 0x45, 0x46, 0x60, 0x81, 0x86, 0x88, 0x91, 0xa8, 0xdd, 0xfe, 0xff, 135];

/// Numbers that look like chance and are the same each time (splitmix64, by Sebastiano Vigna).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((number ^ (number >> 31)) >> 33).unwrap() % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

/// The frame with one to four things wrong.
fn changed(frame: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(frame.len());
        match numbers.below(8) {
            0 => frame.truncate(at),
            1 if frame.len() >= 12 => {
                let tag = [[0x81, 0, 0, 1], [0x88, 0xa8, 0, 1], [0x91, 0, 0, 1]][numbers.below(3)];
                frame.splice(12..12, tag);
            }
            2 => {
                let byte = numbers.byte();
                frame.insert(at, byte);
            }
            3 if !frame.is_empty() => {
                frame.remove(at);
            }
            4 if !frame.is_empty() => frame[at] ^= 1 << numbers.below(8),
            5 if !frame.is_empty() => frame[at] = numbers.byte(),
            _ if !frame.is_empty() => frame[at] = TELLING[numbers.below(TELLING.len())],
            _ => {}
        }
    }
    frame
}

/// Keeps a frame that the parsers disagree about, where the next run and the fuzzer begin.
fn keep(frame: &[u8]) -> String {
    // FNV-1a: the name need only tell frames apart.
    let hash = frame
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let path = format!("{CORPUS}/disagreement-{hash:016x}");
    match fs::write(&path, frame) {
        Ok(()) => format!("kept as {path}"),
        Err(error) => format!("could not be kept as {path}: {error}"),
    }
}

#[test]
fn x05_the_corpus_and_what_is_near_it_have_the_same_source_in_both() {
    let mut paths: Vec<PathBuf> = fs::read_dir(CORPUS).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 12, "{CORPUS} has {} frames: it was more than a dozen", paths.len());
    eprintln!("seed {SEED:#x}, {} frames, each changed {CHANGED} times", paths.len());
    for path in paths {
        let frame = fs::read(&path).unwrap();
        if let Err(what) = disagreement(&frame) {
            std::panic!("{}: {what}", path.display());
        }
        let mut numbers = Numbers(SEED);
        for count in 0..CHANGED {
            let frame = changed(&frame, &mut numbers);
            if let Err(what) = disagreement(&frame) {
                std::panic!("{}, change {count} of seed {SEED:#x}, {}: {what}", path.display(), keep(&frame));
            }
        }
    }
}
