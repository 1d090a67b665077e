//! An upstream that answers 200 to everything, once it has read the request.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use anyhow::Context as _;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// Serves until this program ends.
pub(crate) fn start(port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("port {port}"))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who goes away is no fault.
            thread::spawn(move || drop(serve(&stream)));
        }
    });
    Ok(())
}

fn serve(stream: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut is_chunked, mut is_head, mut count) = (0, false, false, 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            count += 1;
            is_head |= count == 1 && line.starts_with("head ");
            match line.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap_or(0),
                Some(("transfer-encoding", value)) => is_chunked = value == "chunked",
                _ => {}
            }
        }
        if count == 0 {
            return Ok(());
        }
        if is_chunked {
            read_chunks(&mut reader)?;
        } else {
            skip(&mut reader, length)?;
        }
        let answer = if is_head { ANSWER.strip_suffix(b"{}").unwrap_or(ANSWER) } else { ANSWER };
        let mut writer = stream;
        writer.write_all(answer)?;
    }
}

fn read_chunks(reader: &mut BufReader<&TcpStream>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim_end(), 16).unwrap_or(0);
        skip(reader, size + 2)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn skip(reader: &mut BufReader<&TcpStream>, bytes: u64) -> io::Result<()> {
    io::copy(&mut reader.take(bytes), &mut io::sink()).map(drop)
}
