//! Which encoded bodies are decoded, to what, and which are refused.

use std::io::Write as _;

use data_encoding::HEXLOWER;
use flate2::{Compress, Compression, FlushCompress, GzBuilder, write::ZlibEncoder};
use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const GOOD: &[u8] = br#"{"name":"nail"}"#;

/// What may be decoded in these tests, in bytes.
const LARGEST: u64 = 1024 * 1024;

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

fn gzip_of(content: &[u8]) -> Vec<u8> {
    gzip_with(GzBuilder::new(), content)
}

fn gzip_with(builder: GzBuilder, content: &[u8]) -> Vec<u8> {
    let mut encoder = builder.write(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zlib_of(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// One frame of zstd with this window descriptor, and blocks of 128 KiB that each are one byte many times.
fn zstd_of_zeros(window: u8, blocks: usize) -> Vec<u8> {
    let block = |is_last: u32| {
        let [low, middle, high, _] = (131_072 << 3 | 1 << 1 | is_last).to_le_bytes();
        [low, middle, high, 0]
    };
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window];
    (1..blocks).for_each(|_| frame.extend(block(0)));
    frame.extend(block(1));
    frame
}

/// `GOOD` in each coding.
fn good(coding: ContentCoding) -> Vec<u8> {
    match coding {
        ContentCoding::Brotli => hex("0b07807b226e616d65223a226e61696c227d03"),
        ContentCoding::Deflate => zlib_of(GOOD),
        ContentCoding::Gzip => gzip_of(GOOD),
        ContentCoding::Zstd => hex("28b52ffd240f7900007b226e616d65223a226e61696c227d25785fb3"),
    }
}

const ALL: [ContentCoding; 4] =
    [ContentCoding::Brotli, ContentCoding::Deflate, ContentCoding::Gzip, ContentCoding::Zstd];

#[track_caller]
fn check(coding: ContentCoding, case: &str, encoded: &[u8], expect: Result<&[u8], (Reject, &str)>) {
    let decoded = coding.decode(encoded, LARGEST);
    match (&decoded, expect) {
        (Ok(decoded), Ok(expect)) => assert_eq!(decoded, expect, "{case}"),
        (Err(refusal), Err((reject, detail))) => {
            let expect = format!("body: {}: {detail}", coding.name());
            assert_eq!((refusal.reject, &*refusal.detail), (reject, &*expect), "{case}");
        }
        _ => panic!("{case}: {:?}", decoded.map(|decoded| decoded.len())),
    }
}

#[test]
fn b05_what_is_whole_is_decoded_and_the_rest_refused() {
    let bad = |why| Err((Reject::BadRequest, why));
    for coding in ALL {
        let whole = good(coding);
        check(coding, "good", &whole, Ok(GOOD));
        check(coding, "bytes behind", &[&*whole, b"x"].concat(), bad("has bytes behind its end"));
        for length in 0..whole.len() {
            let cut = coding.decode(whole.get(..length).unwrap(), LARGEST);
            assert_eq!(cut.unwrap_err().reject, Reject::BadRequest, "{coding:?}: {length} bytes of {}", whole.len());
        }
        let twice = [&*whole, &*whole].concat();
        assert_eq!(coding.decode(&twice, LARGEST).unwrap_err().reject, Reject::BadRequest, "{coding:?} twice");
        assert_eq!(coding.decode(GOOD, LARGEST).unwrap_err().reject, Reject::BadRequest, "{coding:?}: not encoded");
    }
    let mut wrong_sum = gzip_of(GOOD);
    let at = wrong_sum.len() - 8;
    wrong_sum[at] ^= 1;
    let mut wrong_length = gzip_of(GOOD);
    let at = wrong_length.len() - 1;
    wrong_length[at] ^= 1;
    let mut wrong_adler = zlib_of(GOOD);
    *wrong_adler.last_mut().unwrap() ^= 1;
    let mut wrong_hash = good(ContentCoding::Zstd);
    *wrong_hash.last_mut().unwrap() ^= 1;
    let named = |name: &str| gzip_with(GzBuilder::new().filename(name), GOOD);
    let extra = gzip_with(GzBuilder::new().extra(&b"&q=<script>"[..]), GOOD);
    let comment = gzip_with(GzBuilder::new().comment(&b"&q=<script>"[..]), GOOD);
    let skippable = [&hex("502a4d1801000000")[..], b"x", &good(ContentCoding::Zstd)].concat();
    for (coding, case, encoded, expect) in [
        (ContentCoding::Gzip, "checksum", wrong_sum, bad("is damaged")),
        (ContentCoding::Gzip, "length", wrong_length, bad("is damaged")),
        (ContentCoding::Deflate, "checksum", wrong_adler, bad("is damaged")),
        (ContentCoding::Zstd, "checksum", wrong_hash, bad("is damaged")),
        (ContentCoding::Gzip, "members", [gzip_of(GOOD), gzip_of(b"x")].concat(), bad("has more than one member")),
        (
            ContentCoding::Zstd,
            "frames",
            [good(ContentCoding::Zstd), good(ContentCoding::Zstd)].concat(),
            bad("has more than one frame"),
        ),
        (ContentCoding::Zstd, "skippable", skippable, bad("does not begin as zstd")),
        (ContentCoding::Gzip, "name", named("my file-1_0.json"), Ok(GOOD)),
        (
            ContentCoding::Gzip,
            "bad name",
            named("a&q=<script>"),
            bad("has a file name with other than letters, digits, \"-\", \".\" and \"_\""),
        ),
        (ContentCoding::Gzip, "extra", extra, bad("has a header with more than a file name")),
        (ContentCoding::Gzip, "comment", comment, bad("has a header with more than a file name")),
        (ContentCoding::Gzip, "of zlib", zlib_of(GOOD), bad("does not begin as gzip")),
        (ContentCoding::Deflate, "of gzip", gzip_of(GOOD), bad("is not in the format of zlib")),
        (ContentCoding::Deflate, "dictionary", vec![0x78, 0xbb, 0, 0, 0, 0, 3, 0], bad("needs a dictionary")),
        (
            ContentCoding::Zstd,
            "dictionary",
            [&hex("28b52ffd0100")[..], &[7, 1, 0, 0]].concat(),
            bad("needs a dictionary"),
        ),
    ] {
        check(coding, case, &encoded, expect);
    }
}

/// A stream of zlib with one block that is not compressed, of 65,534 bytes that begin with these; its length is such that bare
/// deflate reads the header of zlib as a block of one byte, and a block that is not compressed begins in front of the content.
fn readable_as_bare_deflate(begin: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut content = begin.to_vec();
    content.resize(0xfffe, b'a');
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in &content {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    let (header, last) = ([0x78, 0x01, 0x00, 0xfe, 0xff, 0x01, 0x00], [0x01, 0x00, 0x00, 0xff, 0xff]);
    let stream = [&header[..], &content, &last, &(b << 16 | a).to_be_bytes()].concat();
    (stream, content)
}

#[test]
fn b05_what_reads_as_both_kinds_of_deflate_is_refused() {
    let (stream, content) = readable_as_bare_deflate(b"");
    check(ContentCoding::Deflate, "only as zlib", &stream, Ok(&content));
    // For bare deflate: the length of a block, the block, and a last one.
    let (stream, _) = readable_as_bare_deflate(b"\x08\x00\xf7\xff<script>\x01\x00\x00\xff\xff");
    let mut bare = Decoded { bytes: Vec::new(), most: 100 };
    assert!(inflate(&stream, false, &mut bare).is_ok() && bare.bytes == b"\x01<script>");
    check(ContentCoding::Deflate, "both", &stream, Err((Reject::BadRequest, "can be read in two ways")));
}

#[test]
fn b01_bombs_of_every_coding_are_refused() {
    let ratio = Err((Reject::BodyTooLarge, "decodes to more than 100 times its size"));
    let window = Err((Reject::BodyTooLarge, "needs a window of more than 8 MiB"));
    let limit = Err((Reject::BodyTooLarge, "decodes to more than the limit"));
    let zeros = vec![0; 10_000_000];
    // A piece of deflate that can follow itself: 1 MB of zeros each, 10 GB together.
    let mut piece = Vec::with_capacity(100_000);
    let mut deflater = Compress::new(Compression::default(), false);
    deflater.compress_vec(zeros.get(..1_000_000).unwrap(), &mut piece, FlushCompress::Full).unwrap();
    assert_eq!(deflater.total_in(), 1_000_000);
    let many = piece.repeat(10_000);
    let gzip_10_gb = [&hex("1f8b0800000000000003")[..], &many].concat();
    let zlib_10_gb = [&[0x78, 0x9c][..], &many].concat();
    for (coding, case, encoded, expect) in [
        (ContentCoding::Brotli, "10 MB", hex("9f7f9698f82700e2b14020c71113"), ratio),
        (ContentCoding::Deflate, "10 MB", zlib_of(&zeros), ratio),
        (ContentCoding::Gzip, "10 MB", gzip_of(&zeros), ratio),
        (ContentCoding::Zstd, "10 MB", zstd_of_zeros(0x40, 80), ratio),
        (ContentCoding::Deflate, "10 GB", zlib_10_gb, limit),
        (ContentCoding::Gzip, "10 GB", gzip_10_gb, limit),
        (ContentCoding::Zstd, "10 GB", zstd_of_zeros(0x40, 80_000), limit),
        (ContentCoding::Zstd, "window of 16 MiB", zstd_of_zeros(0x70, 1), window),
        (ContentCoding::Zstd, "announced", hex("28b52ffd846800e1f5054c000008000100"), ratio),
    ] {
        check(coding, case, &encoded, expect);
    }
    // Within the limits, also at their edge.
    let text = vec![b'a'; usize::try_from(LARGEST).unwrap()];
    let noise: Vec<u8> = (0_u32..60_000).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    check(ContentCoding::Gzip, "16 KiB of one byte", &gzip_of(&text[..ALWAYS]), Ok(&text[..ALWAYS]));
    check(ContentCoding::Gzip, "noise", &gzip_of(&noise), Ok(&noise));
    let large = [&*noise, &text].concat();
    check(ContentCoding::Gzip, "over the limit", &gzip_of(&large), limit);
    let (exact, _) = large.split_at(text.len());
    check(ContentCoding::Gzip, "at the limit", &gzip_of(exact), Ok(exact));
}

#[test]
fn b05_one_known_coding_and_no_other() {
    for (values, expect) in [
        (&[][..], Ok(None)),
        (&["identity"], Ok(None)),
        (&["gzip"], Ok(Some(ContentCoding::Gzip))),
        (&["X-GZip"], Ok(Some(ContentCoding::Gzip))),
        (&["deflate"], Ok(Some(ContentCoding::Deflate))),
        (&["BR"], Ok(Some(ContentCoding::Brotli))),
        (&["zstd"], Ok(Some(ContentCoding::Zstd))),
        (&["gzip, gzip, gzip"], Err("more than one Content-Encoding")),
        (&["identity, gzip"], Err("more than one Content-Encoding")),
        (&["gzip,"], Err("more than one Content-Encoding")),
        (&["gzip", "identity"], Err("more than one Content-Encoding")),
        (&["gzip", "gzip"], Err("more than one Content-Encoding")),
        (&[""], Err("unknown Content-Encoding")),
        (&["compress"], Err("unknown Content-Encoding")),
        (&["gzip;q=1"], Err("unknown Content-Encoding")),
        (&["gz ip"], Err("unknown Content-Encoding")),
        (&["dcb"], Err("unknown Content-Encoding")),
    ] {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        let found = ContentCoding::of(&headers);
        if let Err(refusal) = &found {
            assert_eq!(refusal.reject, Reject::UnsupportedMediaType, "{values:?}");
        }
        assert_eq!(found.map_err(|refusal| refusal.detail.to_string()), expect.map_err(str::to_owned), "{values:?}");
    }
}

proptest! {
    #[test]
    fn b01_nothing_decodes_to_more_than_its_limits(
        index in 0_usize..4,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        tail in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let coding = ALL[index];
        let mut encoded = good(coding);
        for (at, byte) in changes {
            let at = at.index(encoded.len());
            encoded[at] = byte;
        }
        encoded.extend(tail);
        if let Ok(decoded) = coding.decode(&encoded, 20_000) {
            prop_assert!(decoded.len() <= ALWAYS.min(20_000));
        }
    }
}
