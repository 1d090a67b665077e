//! What a file is by its first bytes, and whether that is what it says of itself.

use super::media::MediaType;

/// The first bytes of types that have such.
const SIGNATURES: [(&str, &str, &[&[u8]]); 12] = [
    ("application", "gzip", &[b"\x1f\x8b"]),
    ("application", "pdf", &[b"%PDF-"]),
    ("application", "zip", &[b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"]),
    ("audio", "flac", &[b"fLaC"]),
    ("audio", "ogg", &[b"OggS"]),
    ("image", "bmp", &[b"BM"]),
    ("image", "gif", &[b"GIF87a", b"GIF89a"]),
    ("image", "jpeg", &[b"\xff\xd8\xff"]),
    ("image", "png", &[b"\x89PNG\r\n\x1a\n"]),
    ("image", "tiff", &[b"II*\0", b"MM\0*"]),
    ("image", "webp", &[b"RIFF"]),
    ("video", "webm", &[b"\x1a\x45\xdf\xa3"]),
];

/// Whether a file can be of the type that it says. Of types without a signature, every file can.
pub(super) fn is_plausible(media_type: &MediaType, content: &[u8]) -> bool {
    let known = SIGNATURES.iter().find(|(kind, subtype, _)| media_type.is(kind, subtype));
    known.is_none_or(|(_, _, signatures)| signatures.iter().any(|signature| content.starts_with(signature)))
}
