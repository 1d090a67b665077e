//! Puts frames together from what a client sends, wherever the reads have cut them (RFC 9113 3.4, 4.1).

use super::frame::{ConnectionError, DATA, FrameHead, HEADER, MAX_PAYLOAD, PREFACE, Reason};

/// How far the client's preface has come, and the frame that is arriving.
#[derive(Default)]
pub(super) struct FrameReader {
    /// How many bytes of the preface have come.
    preface: usize,
    /// The beginning of a frame that is not complete.
    partial: Vec<u8>,
}

/// A complete frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// It came in several reads. Its header stands in front of the payload.
    Joined(FrameHead, Vec<u8>),
    /// It came in one read, where its payload stays.
    Whole(FrameHead, &'a [u8]),
}

impl FrameReader {
    /// Takes the next complete frame off `bytes`. `None`: all of `bytes` is taken, and no frame is complete.
    ///
    /// # Errors
    /// The client does not speak HTTP/2, or sends a frame that is too large.
    #[inline]
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Frame<'a>>, ConnectionError> {
        if self.preface < PREFACE.len() {
            self.read_preface(bytes)?;
        }
        while !bytes.is_empty() {
            if self.partial.is_empty()
                && let Some((head, behind)) = bytes.split_first_chunk()
            {
                let head = read_head(head)?;
                if let Some((payload, behind)) = behind.split_at_checked(head.length) {
                    *bytes = behind;
                    return Ok(Some(Frame::Whole(head, payload)));
                }
            }
            let missing = self.wanted()?.saturating_sub(self.partial.len()).min(bytes.len());
            let (fresh, behind) = bytes.split_at(missing);
            self.partial.extend_from_slice(fresh);
            *bytes = behind;
            if let Some(head) = self.partial.first_chunk() {
                let head = read_head(head)?;
                if self.partial.len() == HEADER + head.length {
                    return Ok(Some(Frame::Joined(head, std::mem::take(&mut self.partial))));
                }
            }
        }
        Ok(None)
    }

    /// Takes back the memory of a [`Frame::Joined`], for the next one.
    pub(super) fn recycle(&mut self, mut joined: Vec<u8>) {
        joined.clear();
        self.partial = joined;
    }

    /// Whether the client has begun something other than DATA and not ended it. Bodies have deadlines of their own.
    pub(super) fn is_within_head(&self) -> bool {
        let is_data = self.partial.get(3).is_some_and(|&kind| kind == DATA);
        !self.partial.is_empty() && !is_data || (1..PREFACE.len()).contains(&self.preface)
    }

    /// Forgets what will never be complete.
    pub(super) fn clear(&mut self) {
        self.partial.clear();
    }

    /// Gives memory back that an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
    }

    fn read_preface(&mut self, bytes: &mut &[u8]) -> Result<(), ConnectionError> {
        let expected = PREFACE.get(self.preface..).unwrap_or_default();
        let length = expected.len().min(bytes.len());
        let (fresh, behind) = bytes.split_at(length);
        if expected.get(..length) != Some(fresh) {
            return Err(ConnectionError::protocol("no preface of HTTP/2"));
        }
        self.preface += length;
        *bytes = behind;
        Ok(())
    }

    /// How long the frame that is arriving will be, as far as is known.
    fn wanted(&self) -> Result<usize, ConnectionError> {
        match self.partial.first_chunk() {
            Some(head) => Ok(HEADER + read_head(head)?.length),
            None => Ok(HEADER),
        }
    }
}

/// Reads the header of a frame. A frame that is too large is not waited for (RFC 9113 4.2).
fn read_head(bytes: &[u8; HEADER]) -> Result<FrameHead, ConnectionError> {
    let head = FrameHead::read(bytes);
    if head.length > MAX_PAYLOAD { Err(ConnectionError(Reason::FrameSize, "frame too large")) } else { Ok(head) }
}

#[cfg(test)]
mod tests {
    use super::{super::frame, *};

    /// The frames of `bytes` in reads of `size`, or what is wrong with them.
    fn read(bytes: &[u8], size: usize) -> Result<Vec<(u8, Vec<u8>)>, ConnectionError> {
        let (mut reader, mut found) = (FrameReader::default(), Vec::new());
        for mut piece in bytes.chunks(size) {
            while let Some(frame) = reader.next(&mut piece)? {
                match frame {
                    Frame::Whole(head, payload) => found.push((head.kind, payload.to_vec())),
                    Frame::Joined(head, joined) => {
                        found.push((head.kind, joined[HEADER..].to_vec()));
                        reader.recycle(joined);
                    }
                }
            }
        }
        Ok(found)
    }

    #[track_caller]
    fn check(bytes: &[u8], expect: &Result<Vec<(u8, Vec<u8>)>, ConnectionError>) {
        for size in 1..=bytes.len() {
            assert_eq!(&read(bytes, size), expect, "in reads of {size}");
        }
    }

    #[test]
    fn frames_are_the_same_wherever_reads_cut_them() {
        let mut bytes = PREFACE.to_vec();
        frame::settings(&[(frame::INITIAL_WINDOW_SIZE, 7)], &mut bytes);
        frame::ping(0, b"12345678", &mut bytes);
        frame::settled(&mut bytes);
        frame::window(3, 9, &mut bytes);
        let expect = vec![
            (frame::SETTINGS, vec![0, 4, 0, 0, 0, 7]),
            (frame::PING, b"12345678".to_vec()),
            (frame::SETTINGS, vec![]),
            (frame::WINDOW_UPDATE, vec![0, 0, 0, 9]),
        ];
        check(&bytes, &Ok(expect.clone()));
        bytes.extend_from_slice(&[0, 0, 5, DATA, 0, 0, 0, 0, 1, b'a']);
        check(&bytes, &Ok(expect));
    }

    #[test]
    fn what_is_no_frame_ends_the_connection() {
        check(b"GET / HTTP/1.1\r\n\r\n", &Err(ConnectionError::protocol("no preface of HTTP/2")));
        let large = [PREFACE, &[0, 0x40, 1, DATA, 0, 0, 0, 0, 1]].concat();
        check(&large, &Err(ConnectionError(Reason::FrameSize, "frame too large")));
    }

    #[test]
    fn heads_that_have_begun_have_a_deadline() {
        for (bytes, expect) in [
            (&b""[..], false),
            (b"PRI", true),
            (PREFACE, false),
            (&[PREFACE, &[0, 0]].concat(), true),
            (&[PREFACE, &[0, 0, 9, frame::HEADERS, 0]].concat(), true),
            (&[PREFACE, &[0, 0, 9, DATA, 0]].concat(), false),
        ] {
            let mut reader = FrameReader::default();
            assert_eq!(reader.next(&mut &*bytes), Ok(None));
            assert_eq!(reader.is_within_head(), expect, "{bytes:?}");
        }
    }
}
