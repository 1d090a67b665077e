//! What a file is by its first bytes, and whether that is what it says of itself.

use super::media::MediaType;

/// A type of files, and how they begin.
struct FileType {
    names: &'static [(&'static str, &'static str)],
    /// Bytes and where they stand; one of these sets is there as a whole.
    signatures: &'static [&'static [(usize, &'static [u8])]],
    /// Whether every file of this type begins so.
    is_sure: bool,
}

const fn of(
    names: &'static [(&'static str, &'static str)],
    signatures: &'static [&'static [(usize, &'static [u8])]],
) -> FileType {
    FileType { names, signatures, is_sure: true }
}

/// As [`of`], where other files of the type begin otherwise.
const fn mostly(
    names: &'static [(&'static str, &'static str)],
    signatures: &'static [&'static [(usize, &'static [u8])]],
) -> FileType {
    FileType { names, signatures, is_sure: false }
}

const FILE_TYPES: [FileType; 26] = [
    of(&[("application", "gzip"), ("application", "x-gzip")], &[&[(0, b"\x1f\x8b")]]),
    of(&[("application", "pdf")], &[&[(0, b"%PDF-")]]),
    of(
        &[("application", "zip"), ("application", "x-zip-compressed")],
        &[&[(0, b"PK\x03\x04")], &[(0, b"PK\x05\x06")], &[(0, b"PK\x07\x08")]],
    ),
    of(&[("application", "x-7z-compressed")], &[&[(0, b"7z\xbc\xaf\x27\x1c")]]),
    of(&[("application", "vnd.rar"), ("application", "x-rar-compressed")], &[&[(0, b"Rar!\x1a\x07")]]),
    of(&[("application", "x-bzip2")], &[&[(0, b"BZh")]]),
    of(&[("application", "x-xz")], &[&[(0, b"\xfd7zXZ\0")]]),
    of(&[("application", "zstd")], &[&[(0, b"\x28\xb5\x2f\xfd")]]),
    of(&[("application", "wasm")], &[&[(0, b"\0asm")]]),
    mostly(
        &[("application", "msword"), ("application", "vnd.ms-excel")],
        &[&[(0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")]],
    ),
    of(&[("audio", "flac")], &[&[(0, b"fLaC")]]),
    of(&[("audio", "ogg"), ("video", "ogg"), ("application", "ogg")], &[&[(0, b"OggS")]]),
    mostly(&[("audio", "mpeg")], &[&[(0, b"ID3")], &[(0, b"\xff\xfb")], &[(0, b"\xff\xf3")], &[(0, b"\xff\xf2")]]),
    of(&[("audio", "wav"), ("audio", "x-wav")], &[&[(0, b"RIFF"), (8, b"WAVE")]]),
    of(&[("font", "woff")], &[&[(0, b"wOFF")]]),
    of(&[("font", "woff2")], &[&[(0, b"wOF2")]]),
    of(&[("image", "bmp")], &[&[(0, b"BM")]]),
    of(&[("image", "gif")], &[&[(0, b"GIF87a")], &[(0, b"GIF89a")]]),
    of(&[("image", "jpeg"), ("image", "jpg")], &[&[(0, b"\xff\xd8\xff")]]),
    of(&[("image", "png")], &[&[(0, b"\x89PNG\r\n\x1a\n")]]),
    of(&[("image", "tiff")], &[&[(0, b"II*\0")], &[(0, b"MM\0*")]]),
    of(&[("image", "webp")], &[&[(0, b"RIFF"), (8, b"WEBP")]]),
    mostly(&[("image", "x-icon"), ("image", "vnd.microsoft.icon")], &[&[(0, b"\0\0\x01\0")]]),
    mostly(
        &[("image", "avif"), ("image", "heic"), ("image", "heif"), ("video", "mp4"), ("video", "quicktime")],
        &[&[(4, b"ftyp")]],
    ),
    of(&[("video", "webm"), ("video", "x-matroska")], &[&[(0, b"\x1a\x45\xdf\xa3")]]),
    of(&[("video", "x-msvideo")], &[&[(0, b"RIFF"), (8, b"AVI ")]]),
];

/// In how many bytes a known type must show that it is no text.
const SHOWN: usize = 64;

impl FileType {
    fn begins(&self, content: &[u8]) -> bool {
        let stands = |(at, bytes): &(usize, &[u8])| content.get(*at..).is_some_and(|rest| rest.starts_with(bytes));
        self.signatures.iter().any(|all| all.iter().all(stands))
    }

    fn is(&self, media_type: &MediaType) -> bool {
        self.names.iter().any(|(kind, subtype)| media_type.is(kind, subtype))
    }
}

/// What the content of a file is, beside what it says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy::validate) enum Likeness {
    /// It says that it is no text, and is of a known type that is none.
    Binary,
    /// It says that it is of a type that it cannot be.
    Lying,
    /// Nobody knows.
    Unknown,
}

/// Compares a content with its type.
pub(in crate::policy::validate) fn compare(media_type: &MediaType, content: &[u8]) -> Likeness {
    if !media_type.is_binary() || content.is_empty() {
        return Likeness::Unknown;
    }
    // Some types can begin as text does. What nobody can take for text is something else than its first bytes.
    let start = content.get(..content.len().min(SHOWN)).unwrap_or_default();
    let is_known = FILE_TYPES.iter().any(|known| known.begins(content));
    if is_known && !is_text(start) {
        return Likeness::Binary;
    }
    let is_sure = FILE_TYPES.iter().any(|known| known.is_sure && known.is(media_type));
    if is_sure { Likeness::Lying } else { Likeness::Unknown }
}

/// Whether these are the first bytes of text.
fn is_text(start: &[u8]) -> bool {
    let is_control = |byte: &u8| *byte < b' ' && !matches!(*byte, b'\t' | b'\n' | b'\r' | 0x0c);
    // A character may be cut at the end.
    let is_utf_8 = std::str::from_utf8(start).err().is_none_or(|error| error.error_len().is_none());
    is_utf_8 && !start.iter().any(is_control)
}

/// Whether a file can be of the type that it says. Of types without a signature, every file can; what says that it is text must
/// not be of a known type that is none.
pub(super) fn is_plausible(media_type: &MediaType, content: &[u8]) -> bool {
    if media_type.is_text() {
        let start = content.get(..content.len().min(SHOWN)).unwrap_or_default();
        return is_text(start) || !FILE_TYPES.iter().any(|known| known.begins(content));
    }
    let known = FILE_TYPES.iter().find(|known| known.is_sure && known.is(media_type));
    known.is_none_or(|known| known.begins(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_known_by_its_type_and_its_beginning() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR";
        for (media_type, content, expect) in [
            ("image/png", &png[..], Likeness::Binary),
            ("image/jpeg", png, Likeness::Binary),
            ("application/octet-stream", png, Likeness::Binary),
            ("image/png; name=\"a.png\"", png, Likeness::Binary),
            ("video/mp4", b"\0\0\0\x20ftypisom\0\0", Likeness::Binary),
            ("application/pdf", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", Likeness::Binary),
            ("image/gif", b"GIF89a\x01\0\x01\0", Likeness::Binary),
            ("image/webp", b"RIFF\x24\0\0\0WEBPVP8 ", Likeness::Binary),
            (
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
                b"PK\x03\x04",
                Likeness::Binary,
            ),
            // What says that it is text is text.
            ("text/plain", png, Likeness::Unknown),
            ("application/json", png, Likeness::Unknown),
            ("application/x-www-form-urlencoded", png, Likeness::Unknown),
            ("image/svg+xml", png, Likeness::Unknown),
            ("application/vnd.api+json", png, Likeness::Unknown),
            ("application/javascript", png, Likeness::Unknown),
            // What is no file of its type.
            ("image/png", b"<script>alert(1)</script>", Likeness::Lying),
            ("image/gif", b"GIF89a=1;alert(1)//<script>", Likeness::Lying),
            ("image/bmp", b"BM' or 1=1--", Likeness::Lying),
            ("application/pdf", b"%PDF-1.4 <script>alert(1)</script>", Likeness::Lying),
            ("image/webp", b"RIFF\x24\0\0\0WAVX", Likeness::Lying),
            ("application/octet-stream", b"' or 1=1--", Likeness::Unknown),
            ("image/heic", b"' or 1=1--", Likeness::Unknown),
            ("image/png", b"", Likeness::Unknown),
        ] {
            let media_type = MediaType::read(media_type).unwrap();
            assert_eq!(compare(&media_type, content), expect, "{media_type:?} {content:?}");
        }
    }
}
