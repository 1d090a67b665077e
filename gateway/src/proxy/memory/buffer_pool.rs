//! The buffer pool of a worker: header maps, and buffers that messages are read into and written from. Every exchange
//! needs some, and they are larger than what the allocator hands out cheaply.
//!
//! *Invariant:* what is kept is empty, and bounded in number and in size.

use std::{
    cell::RefCell,
    io,
    task::{Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, request::Parts};
use tokio::io::ReadBuf;

/// How many of each are kept.
const KEPT: usize = 256;

/// The largest header map that is kept, in headers.
const LARGEST_MAP: usize = 64;

/// How large a piece is, in bytes. Larger ones are rare, and worth an allocation of their own.
const PIECE: usize = 4 * 1_024;

/// Smaller pieces are allocated: that is cheap, and a client that reads nothing must not hold much more than its data.
const LEAST: usize = 1_024;

/// What one read may bring, in bytes.
const READ: usize = 32 * 1_024;

thread_local! {
    /// The read buffer: bytes are read into it before their number is known.
    static SPACE: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
    static MAPS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
    #[expect(clippy::vec_box, reason = "they go from hand to hand as boxes")]
    static HEADS: RefCell<Vec<Box<Parts>>> = const { RefCell::new(Vec::new()) };
    static PIECES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty map with room for so many headers.
pub(in crate::proxy) fn map(headers: usize) -> HeaderMap {
    let mut map = MAPS.with_borrow_mut(Vec::pop).unwrap_or_default();
    map.reserve(headers);
    map
}

/// Returns a map to the pool.
pub(in crate::proxy) fn keep(mut map: HeaderMap) {
    if (1..=LARGEST_MAP).contains(&map.capacity()) {
        map.clear();
        MAPS.with_borrow_mut(|maps| {
            if maps.len() < KEPT {
                maps.push(map);
            }
        });
    }
}

/// An empty request head with room for so many headers.
pub(in crate::proxy) fn parts(headers: usize) -> Box<Parts> {
    let mut parts = HEADS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Box::new(Request::new(()).into_parts().0));
    parts.headers.reserve(headers);
    parts
}

/// Returns a request's head to the pool.
pub(in crate::proxy) fn keep_parts(mut parts: Box<Parts>) {
    if parts.headers.capacity() <= LARGEST_MAP && parts.extensions.is_empty() {
        parts.headers.clear();
        (parts.method, parts.uri) = (Method::GET, Uri::default());
        HEADS.with_borrow_mut(|heads| {
            if heads.len() < KEPT {
                heads.push(parts);
            }
        });
    }
}

/// Lends `use_it` the read buffer, with whatever it held before.
pub(in crate::proxy) fn with_space<T>(use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    // Taken out meanwhile, as `use_it` may need a buffer itself.
    let mut space = SPACE.take();
    if space.is_empty() {
        space = vec![0; READ].into();
    }
    let used = use_it(&mut space);
    SPACE.set(space);
    used
}

/// The bytes that `poll` reads; none: the stream is at its end.
pub(in crate::proxy) fn read(poll: impl FnOnce(&mut ReadBuf<'_>) -> Poll<io::Result<()>>) -> Poll<io::Result<Bytes>> {
    with_space(|space| {
        let mut buffer = ReadBuf::new(space);
        ready!(poll(&mut buffer))?;
        Poll::Ready(Ok(copy(buffer.filled())))
    })
}

/// A buffer to write a message into.
pub(in crate::proxy) fn space() -> Vec<u8> {
    PIECES.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(PIECE))
}

/// Returns a buffer to the pool.
pub(in crate::proxy) fn keep_space(mut space: Vec<u8>) {
    if space.capacity() != PIECE {
        return;
    }
    space.clear();
    // The thread's pool may be gone already: thread-locals end in any order.
    let _gone = PIECES.try_with(|pieces| {
        let mut pieces = pieces.borrow_mut();
        if pieces.len() < KEPT {
            pieces.push(space);
        }
    });
}

/// A copy of `bytes`.
pub(in crate::proxy) fn copy(bytes: &[u8]) -> Bytes {
    if !(LEAST..=PIECE).contains(&bytes.len()) {
        return Bytes::copy_from_slice(bytes);
    }
    let mut space = space();
    space.extend_from_slice(bytes);
    Bytes::from_owner(PooledBuffer(space))
}

/// A buffer that returns to the pool once nobody refers to it.
struct PooledBuffer(Vec<u8>);

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        keep_space(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn maps_come_back_empty_and_are_bounded() {
        let mut used = map(9);
        used.insert("authorization", HeaderValue::from_static("secret"));
        let room = used.capacity();
        keep(used);
        let again = map(1);
        assert!(again.is_empty() && again.capacity() == room);
        keep(HeaderMap::with_capacity(LARGEST_MAP * 2));
        keep(HeaderMap::new());
        assert_eq!(MAPS.with_borrow(Vec::len), 0, "too large, or nothing at all");
        (0..KEPT * 2).for_each(|_| keep(HeaderMap::with_capacity(8)));
        assert_eq!(MAPS.with_borrow(Vec::len), KEPT);
    }

    #[test]
    fn heads_come_back_empty_and_are_bounded() {
        let mut used = parts(9);
        used.headers.insert("authorization", HeaderValue::from_static("secret"));
        (used.method, used.uri) = (Method::PUT, Uri::from_static("/secret"));
        keep_parts(used);
        let again = parts(1);
        assert!(again.headers.is_empty() && again.method == Method::GET && again.uri == "/");
        keep_parts(parts(LARGEST_MAP * 2));
        assert_eq!(HEADS.with_borrow(Vec::len), 0, "too large");
        let many: Vec<_> = (0..KEPT * 2).map(|_| parts(8)).collect();
        many.into_iter().for_each(keep_parts);
        assert_eq!(HEADS.with_borrow(Vec::len), KEPT);
    }

    #[test]
    fn pieces_come_back_once_nobody_refers_to_them() {
        let kept = || PIECES.with_borrow(Vec::len);
        let first = vec![b'a'; LEAST];
        let whole = copy(&first);
        let part = whole.slice(9..12);
        drop(whole);
        assert_eq!((&part[..], kept()), (&b"aaa"[..], 0));
        drop(part);
        assert_eq!(kept(), 1);
        let second = vec![b'b'; LEAST + 1];
        assert_eq!(copy(&second), second, "nothing of what was there before");
        for size in [0, 1, LEAST - 1, PIECE + 1] {
            assert_eq!(copy(&vec![7; size]), vec![7; size]);
            assert_eq!(kept(), 1, "{size}");
        }
        let many: Vec<_> = (0..KEPT * 2).map(|_| copy(&first)).collect();
        drop(many);
        assert_eq!(kept(), KEPT);
    }
}
